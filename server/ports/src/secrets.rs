//! Secrets, by name.

use async_trait::async_trait;
use domain::id::RepositoryId;
use domain::name::SecretName;
use secrecy::SecretString;

/// Gives out secrets to the server's own calls, never to a jail.
#[async_trait]
pub trait Secrets: std::fmt::Debug + Send + Sync {
    /// The secret of this name that the repository may use; `None` when there is none.
    ///
    /// # Errors
    /// When the place that keeps them cannot be read.
    async fn secret(
        &self,
        repository: RepositoryId,
        name: &SecretName,
    ) -> Result<Option<SecretString>, SecretsError>;
}

/// The place that keeps secrets cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("secrets cannot be read: {0}")]
pub struct SecretsError(pub String);
