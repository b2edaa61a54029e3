//! Spare desks: directories that a run left as they were checked out. Most stages only read their
//! workspace; the next run of the same commit finds its files there, and nothing is written anew.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::id::RepositoryId;
use domain::name::Commit;
use domain::time::Timestamp;

/// So many are kept; the one that waits longest goes first.
const MOST: usize = 8;
/// One that nobody wanted for so long only takes up room.
const PATIENCE: Duration = Duration::from_secs(600);

/// The spare desks of this server.
#[derive(Debug, Default)]
pub struct Desks(Mutex<Vec<Spare>>);

/// A directory with the untouched files of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) repository: RepositoryId,
    pub(crate) commit: Commit,
    pub(crate) path: PathBuf,
    /// Since when nobody uses it.
    pub(crate) since: Timestamp,
}

impl Desks {
    /// The files of a commit, if they are there. Whoever takes them owns the directory.
    pub(crate) fn take(&self, repository: RepositoryId, commit: &Commit) -> Option<PathBuf> {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |spare: &Spare| spare.repository == repository && spare.commit == *commit;
        let at = spares.iter().rposition(fits)?;
        Some(spares.remove(at).path)
    }

    /// Keeps a directory for the next run; gives those that are to be removed in its place.
    pub(crate) fn put(&self, spare: Spare) -> Vec<PathBuf> {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = spare.since;
        spares.push(spare);
        let surplus = spares.len().saturating_sub(MOST);
        let mut position = 0;
        let stale = spares.extract_if(.., |spare| {
            position += 1;
            position <= surplus || now.since(spare.since) > PATIENCE
        });
        stale.map(|spare| spare.path).collect()
    }
}

#[cfg(test)]
mod tests {
    use ports::clock::Clock;
    use testkit::{FixedClock, build};

    use super::*;

    #[test]
    fn a_desk_serves_its_commit_once_and_not_for_ever() {
        let (clock, desks) = (FixedClock::new(), Desks::default());
        let repository = RepositoryId::new(clock.unique());
        let spare = |number: u32| Spare {
            repository,
            commit: build::commit(number),
            path: number.to_string().into(),
            since: clock.now(),
        };
        assert!(desks.put(spare(1)).is_empty());
        assert_eq!(desks.take(RepositoryId::new(clock.unique()), &build::commit(1)), None);
        assert_eq!(desks.take(repository, &build::commit(2)), None);
        assert_eq!(desks.take(repository, &build::commit(1)), Some("1".into()));
        assert_eq!(desks.take(repository, &build::commit(1)), None);

        for number in 0..8 {
            assert!(desks.put(spare(number)).is_empty());
        }
        assert_eq!(desks.put(spare(8)), [PathBuf::from("0")]);
        clock.advance(PATIENCE + Duration::from_secs(1));
        assert_eq!(desks.put(spare(9)).len(), 8);
        assert_eq!(desks.take(repository, &build::commit(9)), Some("9".into()));
    }
}
