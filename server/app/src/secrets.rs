//! Secrets from files: `<directory>/<owner>/<repository>/<NAME>`, one file each, and for a run without
//! a server from the environment: `SPELLBOOK_SECRET_<NAME>`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use domain::id::RepositoryId;
use domain::name::SecretName;
use ports::secrets::{Secrets, SecretsError};
use ports::store::Store;
use secrecy::SecretString;

use crate::tools;

/// Secrets in files that the operator wrote. A line's end at the end of a file is not part of it.
#[derive(Debug)]
pub(crate) struct FileSecrets {
    /// Where they are.
    pub(crate) directory: PathBuf,
    /// Knows the paths of repositories.
    pub(crate) store: Arc<dyn Store>,
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn secret(
        &self,
        repository: RepositoryId,
        name: &SecretName,
    ) -> Result<Option<SecretString>, SecretsError> {
        let known =
            self.store.repository_get(repository).await.map_err(|error| SecretsError(error.to_string()))?;
        let Some(known) = known else { return Ok(None) };
        // Owner, repository and name are parsed names: none of them can leave the directory.
        let file =
            self.directory.join(known.path.owner.as_str()).join(known.path.name.as_str()).join(name.as_str());
        match tokio::fs::read_to_string(&file).await {
            Ok(text) => {
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Some(secret)
                    .filter(|secret| !secret.is_empty())
                    .map(|secret| SecretString::from(secret.to_owned())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SecretsError(format!("{name}: {error}"))),
        }
    }
}

/// Secrets of the person who runs a daemon on their own machine.
#[derive(Debug)]
pub(crate) struct EnvironmentSecrets;

#[async_trait]
impl Secrets for EnvironmentSecrets {
    async fn secret(
        &self,
        _repository: RepositoryId,
        name: &SecretName,
    ) -> Result<Option<SecretString>, SecretsError> {
        Ok(tools::variable(&format!("SPELLBOOK_SECRET_{name}")).map(SecretString::from))
    }
}
