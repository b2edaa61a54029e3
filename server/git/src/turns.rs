//! One writer at a time for each repository, among those that take long: pushes, fetches,
//! housekeeping. Quick writes need no turn: git's own locks on refs are enough for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use domain::id::RepositoryId;
use tokio::sync::OwnedMutexGuard;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<RepositoryId, Weak<tokio::sync::Mutex<()>>>>);

/// A turn; it ends when this is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for a turn.
    pub(crate) async fn take(&self, repository: RepositoryId) -> Turn {
        let lock = self.lock_of(repository);
        lock.lock_owned().await
    }

    fn lock_of(&self, repository: RepositoryId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&repository).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(repository, Arc::downgrade(&lock));
        lock
    }
}
