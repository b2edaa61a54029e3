//! Where a watched repository comes from, with what opens it.

use std::time::Duration;

use domain::repository::{Origin, Repository};
use ports::Retry;
use ports::source::{Remote, SourceError};

use crate::world::World;

/// How long one fetch may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The remote of a repository; nothing for one that is hosted here.
///
/// # Errors
/// When what opens it is not to be had.
pub(crate) async fn of(world: &World, repository: &Repository) -> Result<Option<Remote>, SourceError> {
    let Origin::Watched { url, credential, place } = &repository.origin else { return Ok(None) };
    let credential = match (credential, place) {
        (Some(name), _) => {
            let secret = world.secrets.secret(repository.id, name).await;
            let secret = secret.map_err(|error| SourceError::Unauthorized(error.to_string()))?;
            let missing = || SourceError::Unauthorized(format!("the secret `{name}` is not set"));
            Some(secret.ok_or_else(missing)?)
        }
        (None, Some(_)) => {
            let given = world.forge.credential(repository).await;
            given.map_err(|error| match error.retry {
                Retry::Later => SourceError::Unreachable(error.message),
                Retry::Never => SourceError::Unauthorized(error.message),
            })?
        }
        (None, None) => None,
    };
    Ok(Some(Remote { url: url.clone(), credential, policy: world.settings.remotes, timeout: PATIENCE }))
}
