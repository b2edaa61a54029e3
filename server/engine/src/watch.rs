//! Watched repositories: looks at each now and then, sooner when a webhook hints, less often while it
//! does not answer.

pub(crate) mod remote;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::id::RepositoryId;
use domain::repository::{Repository, Sync, SyncStatus};
use domain::time::Timestamp;
use ports::source::Fetched;
use ports::store::StoreError;

use crate::reconcile::{self, Pushed};
use crate::world::World;

/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What came of looking for a repository that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchOutcome {
    /// One was looked at.
    Looked(SyncStatus),
    /// None is due.
    Empty,
}

/// The repositories that watchers of this server look at right now. Clones share it: each looks at
/// another one, and a remote that takes its time holds up nobody else's.
#[derive(Debug, Clone, Default)]
pub struct Watching(Arc<Mutex<BTreeSet<RepositoryId>>>);

impl Watching {
    /// Takes the first that nobody looks at, until the guard is dropped.
    fn take(&self, due: Vec<Repository>) -> Option<(Repository, Look<'_>)> {
        let mut looked_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let repository = due.into_iter().find(|repository| looked_at.insert(repository.id))?;
        let look = Look { watching: self, repository: repository.id };
        Some((repository, look))
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Somebody looks at a repository.
struct Look<'w> {
    watching: &'w Watching,
    repository: RepositoryId,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.watching.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.repository);
    }
}

/// Looks at the watched repository that is longest due and that no other watcher looks at.
///
/// # Errors
/// When the store does not answer; the repository is still due then.
pub async fn next(world: &World, watching: &Watching) -> Result<WatchOutcome, StoreError> {
    let most = u32::try_from(watching.count() + 1).unwrap_or(u32::MAX);
    let due = world.store.repository_due(world.clock.now(), most).await?;
    let Some((repository, _look)) = watching.take(due) else { return Ok(WatchOutcome::Empty) };
    look(world, &repository).await.map(WatchOutcome::Looked)
}

/// Fetches a watched repository and brings the server's picture up to date.
///
/// # Errors
/// When the store does not answer.
pub async fn look(world: &World, repository: &Repository) -> Result<SyncStatus, StoreError> {
    let begun = world.clock.now();
    let fetched = match remote::of(world, repository).await {
        Ok(None) => return Ok(repository.sync.status),
        Ok(Some(remote)) => world.source.fetch(repository.id, &remote).await,
        Err(error) => Err(error),
    };
    match fetched {
        Ok(fetched) => {
            if let Fetched::Updated { default_branch: Some(branch) } = &fetched {
                world.store.repository_default_branch(repository.id, branch).await?;
            }
            // Also when nothing moved: an earlier look may have fetched and not lived to record it.
            let status = match reconcile::repository(world, repository.id, &Pushed::default()).await {
                Ok(reconciled) => Ok(reconciled.status),
                Err(error) => Err(error.to_string()),
            };
            settle(world, repository, begun, status).await
        }
        Err(error) => settle(world, repository, begun, Err(error.to_string())).await,
    }
}

async fn settle(
    world: &World,
    repository: &Repository,
    begun: Timestamp,
    found: Result<SyncStatus, String>,
) -> Result<SyncStatus, StoreError> {
    let (status, message) = match found {
        Ok(status) => (status, None),
        Err(message) => {
            tracing::warn!(repository = %repository.path, "not reached: {message}");
            (SyncStatus::Unreachable, Some(message))
        }
    };
    let failures =
        if status == SyncStatus::Unreachable { repository.sync.failures.saturating_add(1) } else { 0 };
    let unique = world.clock.unique().as_u128();
    let due_at = Some(world.clock.now().after(jittered(wait(world.settings.poll, failures), unique)));
    // From its beginning: what happened on the remote since then may not have been seen.
    let sync = Sync { status, message, checked_at: Some(begun), due_at, failures };
    world.store.repository_synced(repository.id, &sync).await?;
    Ok(status)
}

/// The wait before the next look: doubled for each failure in a row, at most an hour.
fn wait(poll: Duration, failures: u32) -> Duration {
    poll.saturating_mul(1 << failures.min(12)).min(LONGEST_WAIT.max(poll))
}

/// Ten per cent more or less, so that many repositories are not looked at in the same moment.
fn jittered(wait: Duration, unique: u128) -> Duration {
    let permille = 900 + u32::try_from(unique % 201).unwrap_or(100);
    wait * permille / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_fails_is_left_alone_for_longer() {
        let poll = Duration::from_secs(60);
        let waits: Vec<u64> =
            [0, 1, 2, 6, 40].iter().map(|failures| wait(poll, *failures).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 3_600, 3_600]);
        for unique in 0..500 {
            let wait = jittered(poll, unique).as_millis();
            assert!((54_000..=66_000).contains(&wait), "{wait}");
        }
    }
}
