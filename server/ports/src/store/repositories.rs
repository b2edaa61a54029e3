//! Repositories, their branches, and the revisions of their daemons.

use async_trait::async_trait;
use domain::event::{Event, EventKind};
use domain::id::{RepositoryId, RevisionId};
use domain::name::{Branch, Commit, DaemonId, RepositoryPath};
use domain::repository::{BranchHead, BranchRole, Origin, Place, Repository, Sync};
use domain::revision::{Pause, Revision};
use domain::run::RunStatus;
use domain::time::Timestamp;

use super::{Page, Recorded, StoreError};

/// What the server knows of git.
#[async_trait]
pub trait Repositories {
    /// Adds a repository; when its path is taken, says by which.
    async fn repository_create(&self, repository: &Repository) -> Result<Recorded<Repository>, StoreError>;

    /// One repository.
    async fn repository_get(&self, id: RepositoryId) -> Result<Option<Repository>, StoreError>;

    /// The repository of a path; letters are compared without case.
    async fn repository_find(&self, path: &RepositoryPath) -> Result<Option<Repository>, StoreError>;

    /// The repository of a place on a forge, found by the forge's own number for it.
    async fn repository_at(&self, place: &Place) -> Result<Option<Repository>, StoreError>;

    /// Records where a repository comes from now: renamed on its forge, known to it, or no longer.
    async fn repository_origin(&self, id: RepositoryId, origin: &Origin) -> Result<(), StoreError>;

    /// All repositories, newest first.
    async fn repository_list(&self, page: &Page) -> Result<Vec<Repository>, StoreError>;

    /// The watched repositories that are to be looked at by `now`, longest due first.
    async fn repository_due(&self, now: Timestamp, most: u32) -> Result<Vec<Repository>, StoreError>;

    /// Records what came of a look. Whoever was told after `sync.checked_at` to look sooner than
    /// `sync.due_at` is not overruled: the look may have been too early to see why.
    async fn repository_synced(&self, id: RepositoryId, sync: &Sync) -> Result<(), StoreError>;

    /// Records another default branch.
    async fn repository_default_branch(&self, id: RepositoryId, branch: &Branch) -> Result<(), StoreError>;

    /// Makes a watched repository due at `at`, unless it is due sooner.
    async fn repository_hint(&self, id: RepositoryId, at: Timestamp) -> Result<(), StoreError>;

    /// The recorded branches, sorted by name.
    async fn branch_list(&self, repository: RepositoryId) -> Result<Vec<BranchHead>, StoreError>;

    /// Records that a branch moved, what that made of daemons, and the event of it, all or nothing,
    /// and only if the branch is still recorded where the caller believes it is. An identical revision
    /// (same daemon, branch, commit) that is there already stays. On a branch that is gone nothing is
    /// current any more.
    async fn branch_advance(&self, advance: &BranchAdvance) -> Result<Advanced, StoreError>;

    /// The newest revision of a daemon on a branch, removed ones too.
    async fn revision_current(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: &Branch,
    ) -> Result<Option<Revision>, StoreError>;

    /// The newest revision of every daemon on a branch, removed ones too, sorted by daemon.
    async fn revision_currents(
        &self,
        repository: RepositoryId,
        branch: &Branch,
    ) -> Result<Vec<Revision>, StoreError>;

    /// The newest revisions on a branch that are valid and have a trigger of this kind, sorted by
    /// daemon. Its cost goes with what it gives, not with how many daemons there are.
    async fn revision_triggered(
        &self,
        repository: RepositoryId,
        branch: &Branch,
        kind: EventKind,
    ) -> Result<Vec<Revision>, StoreError>;

    /// Whether the newest revision of any daemon on a deploy branch is invalid.
    async fn revision_any_invalid(&self, repository: RepositoryId) -> Result<bool, StoreError>;

    /// One revision.
    async fn revision_get(&self, id: RevisionId) -> Result<Option<Revision>, StoreError>;

    /// A revision of a daemon at exactly this commit, whichever branch.
    async fn revision_at(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        commit: &Commit,
    ) -> Result<Option<Revision>, StoreError>;

    /// The revisions of a daemon, newest first; of one branch or of all.
    async fn revision_history(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: Option<&Branch>,
        page: &Page,
    ) -> Result<Vec<Revision>, StoreError>;

    /// The newest revisions on deploy branches that are valid and have a `schedule` trigger.
    async fn revision_scheduled(&self) -> Result<Vec<Revision>, StoreError>;

    /// The daemons of a repository that were told to rest, sorted by daemon and branch.
    async fn pause_list(&self, repository: RepositoryId) -> Result<Vec<Pause>, StoreError>;

    /// Daemons with what a list shows of them, sorted by repository path, daemon, branch. The cursor
    /// of the page is the revision's id.
    async fn daemon_list(&self, filter: &DaemonFilter, page: &Page) -> Result<Vec<DaemonRow>, StoreError>;
}

/// A branch that moved.
#[derive(Debug, Clone)]
pub struct BranchAdvance {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Which branch.
    pub branch: Branch,
    /// What it is to the server.
    pub role: BranchRole,
    /// Where it is recorded; `None` when it is not.
    pub from: Option<Commit>,
    /// Where it is; `None` when it is gone.
    pub to: Option<Commit>,
    /// The revisions that this makes, oldest first.
    pub revisions: Vec<Revision>,
    /// The event that this is, if it is one.
    pub event: Option<Event>,
    /// When.
    pub at: Timestamp,
}

/// What came of recording it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advanced {
    /// It is recorded.
    Recorded,
    /// The branch is recorded elsewhere: somebody else was first.
    Stale {
        /// Where.
        actual: Option<Commit>,
    },
}

/// Which daemons to list.
#[derive(Debug, Clone, Default)]
pub struct DaemonFilter {
    /// Of one repository only.
    pub repository: Option<RepositoryId>,
    /// On one branch only; without it, on deploy branches.
    pub branch: Option<Branch>,
}

/// What a list shows of a daemon.
#[derive(Debug, Clone)]
pub struct DaemonRow {
    /// Where it lives.
    pub path: RepositoryPath,
    /// Its newest revision on the branch.
    pub revision: Revision,
    /// What the branch is to the server.
    pub role: BranchRole,
    /// The status of the newest run of the daemon on the branch that has ended.
    pub last_run: Option<RunStatus>,
    /// Whether it was told to rest.
    pub pause: Option<Pause>,
}
