//! Git: commits, trees and branches of repositories, whoever hosts them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use domain::files::{File, Files};
use domain::id::{RepositoryId, RunId};
use domain::name::{Branch, Commit, Digest, Tag};
use secrecy::SecretString;

/// Git repositories, one bare mirror each. What comes from outside — trees, names, addresses — is
/// taken for hostile: links are never followed, nothing that a repository holds is ever run.
#[async_trait]
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Makes the bare repository if there is none yet.
    ///
    /// # Errors
    /// When the disk says no.
    async fn create(&self, repository: RepositoryId, default_branch: &Branch) -> Result<(), SourceError>;

    /// Where the bare repository is, for serving it over HTTP.
    fn path(&self, repository: RepositoryId) -> PathBuf;

    /// All branches and where they are, sorted by name.
    ///
    /// # Errors
    /// When the repository cannot be read.
    async fn branches(&self, repository: RepositoryId) -> Result<Vec<(Branch, Commit)>, SourceError>;

    /// The commit that a tag leads to.
    ///
    /// # Errors
    /// When the repository cannot be read.
    async fn tag(&self, repository: RepositoryId, tag: &Tag) -> Result<Option<Commit>, SourceError>;

    /// The commits that came to a branch, oldest first: the first-parent line from `from` (left out)
    /// to `to`. When `from` is not on that line (a force-push) or absent, only `to`; when there are
    /// more than `most`, the newest `most`.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn line(
        &self,
        repository: RepositoryId,
        from: Option<&Commit>,
        to: &Commit,
        most: usize,
    ) -> Result<Vec<Commit>, SourceError>;

    /// What commits say of themselves, in the order given; messages are cut at 4 KiB.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn describe(
        &self,
        repository: RepositoryId,
        commits: &[Commit],
    ) -> Result<Vec<CommitInfo>, SourceError>;

    /// What differs between the trees of two commits; `from` absent is the empty tree. Renames are a
    /// removal and an addition.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn changes(
        &self,
        view: &View,
        from: Option<&Commit>,
        to: &Commit,
    ) -> Result<Vec<PathChange>, SourceError>;

    /// What lies directly below a directory, sorted by name; nothing when there is no such directory.
    ///
    /// # Errors
    /// When the commit is not there.
    async fn list(&self, view: &View, commit: &Commit, directory: &str) -> Result<Vec<Entry>, SourceError>;

    /// One file; `None` when there is none. At most `max_bytes` are read, a larger file is
    /// [`File::Large`].
    ///
    /// # Errors
    /// When the commit is not there.
    async fn file(
        &self,
        view: &View,
        commit: &Commit,
        path: &str,
        max_bytes: u64,
    ) -> Result<Option<File>, SourceError>;

    /// Several directories whole, each with its tree id; directories that are not there are left out.
    /// Files above `max_bytes` each, or past `max_files` in one directory, are [`File::Large`].
    ///
    /// # Errors
    /// When the commit is not there.
    async fn directories(
        &self,
        view: &View,
        commit: &Commit,
        directories: &[String],
        bounds: ReadBounds,
    ) -> Result<Vec<Directory>, SourceError>;

    /// Writes the files of a commit into an empty directory, for a jail: no `.git`, no link that
    /// leads outside, no submodules. Everything is dated as the commit is, so that the same commit
    /// makes the same directory.
    ///
    /// # Errors
    /// When the commit is not there or the disk is full; the directory is then of no use.
    async fn checkout(
        &self,
        repository: RepositoryId,
        commit: &Commit,
        directory: &Path,
    ) -> Result<(), SourceError>;

    /// Records what a directory holds as a commit on `refs/spellbook/runs/<run>`, above `parent`.
    /// The directory was written by a jail: its `.git` and everything in it is ignored, links are
    /// stored as links, nothing is run. The same tree as the parent's still makes a commit.
    ///
    /// # Errors
    /// When the directory is larger than `max_bytes` or cannot be read.
    async fn snapshot(&self, snapshot: SnapshotSpec<'_>) -> Result<Snapshot, SourceError>;

    /// The difference of two commits as a unified diff of at most `max_bytes`.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn diff(
        &self,
        repository: RepositoryId,
        from: &Commit,
        to: &Commit,
        max_bytes: usize,
    ) -> Result<Diff, SourceError>;

    /// Makes one commit above `parent` with the tree of `tree_of`: the whole change in one commit.
    /// The same arguments make the same commit.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn commit(&self, commit: CommitSpec<'_>) -> Result<Commit, SourceError>;

    /// Moves a branch from where the caller believes it is (`None`: it is not there) to `to`
    /// (`None`: remove it).
    ///
    /// # Errors
    /// When the repository cannot be written; a branch that is elsewhere is [`Moved::Stale`].
    async fn move_branch(
        &self,
        repository: RepositoryId,
        branch: &Branch,
        from: Option<&Commit>,
        to: Option<&Commit>,
    ) -> Result<Moved, SourceError>;

    /// Keeps a commit and its history for ever, whatever becomes of the branches that hold it: a run
    /// or a purchase refers to it. Twice is as good as once.
    ///
    /// # Errors
    /// When the commit is not there or the repository cannot be written.
    async fn keep(&self, repository: RepositoryId, commit: &Commit) -> Result<(), SourceError>;

    /// Merges `head` into `base` without touching any branch: fast-forward when possible, else a
    /// merge commit.
    ///
    /// # Errors
    /// When a commit is not there; a conflict is [`Merged::Conflict`].
    async fn merge(&self, merge: MergeSpec<'_>) -> Result<Merged, SourceError>;

    /// The commit at which two histories part; `None` when they have nothing in common.
    ///
    /// # Errors
    /// When a commit is not there.
    async fn merge_base(
        &self,
        repository: RepositoryId,
        one: &Commit,
        other: &Commit,
    ) -> Result<Option<Commit>, SourceError>;

    /// Fetches all branches and tags of a remote into the mirror, pruning what is gone there; commits
    /// that a run or snapshot refers to stay. Cheap when nothing moved: the remote's refs are asked for first.
    ///
    /// # Errors
    /// Says whether the remote may answer later.
    async fn fetch(&self, repository: RepositoryId, remote: &Remote) -> Result<Fetched, SourceError>;

    /// Brings the commit that one ref of a remote names, with its history: a ref that is neither branch nor
    /// tag, as forges keep one for each pull request. It stays reachable here. Cheap when it is here already.
    ///
    /// # Errors
    /// When the remote has no such ref; says whether it may answer later.
    async fn bring(
        &self,
        repository: RepositoryId,
        remote: &Remote,
        reference: &str,
    ) -> Result<Commit, SourceError>;

    /// Moves a branch of a remote from where the caller believes it is (`None`: it is not there) to a commit
    /// of the mirror, which is sent along. Doing it again finds it done.
    ///
    /// # Errors
    /// When the remote refuses; a branch that is elsewhere is [`Moved::Stale`].
    async fn push(&self, push: PushSpec<'_>) -> Result<Moved, SourceError>;
}

/// Which objects are seen: the repository's, or also those of a push that is not accepted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The repository.
    pub repository: RepositoryId,
    /// Where git keeps the objects of a push until its hooks agree (see `git help receive-pack`,
    /// QUARANTINE ENVIRONMENT).
    pub quarantine: Option<PathBuf>,
}

impl View {
    /// What the repository holds for good.
    pub fn of(repository: RepositoryId) -> Self {
        Self { repository, quarantine: None }
    }
}

/// What a commit says of itself. Anyone could have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Which.
    pub commit: Commit,
    /// The whole message.
    pub message: String,
    /// The author's name.
    pub author: String,
    /// When it was written, by the author's own clock.
    pub at: domain::time::Timestamp,
}

/// A path whose entry differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Relative to the root, with `/`.
    pub path: String,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content or mode is another.
    Modified,
    /// It is gone.
    Removed,
}

/// Something that lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its object id.
    pub object: String,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// Another repository.
    Submodule,
}

/// How much of a directory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBounds {
    /// The largest file, bytes.
    pub max_bytes: u64,
    /// The most files in one directory.
    pub max_files: usize,
    /// Bytes of all files of one directory together; a file that would make it more is not read.
    pub max_total: u64,
}

/// A directory at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Relative to the root; empty for the root.
    pub path: String,
    /// Its tree id.
    pub digest: Digest,
    /// Everything below it.
    pub files: Files,
}

/// What to record of a workspace.
#[derive(Debug, Clone)]
pub struct SnapshotSpec<'a> {
    /// In which repository.
    pub repository: RepositoryId,
    /// Of which run.
    pub run: RunId,
    /// What holds the files.
    pub directory: &'a Path,
    /// The commit before.
    pub parent: &'a Commit,
    /// The commit that was checked out there, when nothing else was ever written there.
    pub checkout: Option<&'a Commit>,
    /// The subject, an empty line, and trailers.
    pub message: &'a str,
    /// The most bytes that files may have together.
    pub max_bytes: u64,
    /// The time in the commit.
    pub at: domain::time::Timestamp,
}

/// A recorded workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: Commit,
    /// Whether its tree is another than its parent's.
    pub changed: bool,
    /// Whether the directory still is just what the checkout made: the same files with the same modes
    /// and dates, and nothing beside them.
    pub untouched: bool,
}

/// The difference of two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// The files that differ.
    pub files: Vec<PathChange>,
    /// A unified diff.
    pub patch: String,
    /// Whether the patch was cut.
    pub truncated: bool,
}

/// A commit to be made.
#[derive(Debug, Clone)]
pub struct CommitSpec<'a> {
    /// In which repository.
    pub repository: RepositoryId,
    /// The commit before.
    pub parent: &'a Commit,
    /// The commit whose tree it has.
    pub tree_of: &'a Commit,
    /// The whole message.
    pub message: &'a str,
    /// The time in the commit.
    pub at: domain::time::Timestamp,
}

/// What came of moving a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is where it was to go.
    Moved,
    /// It was not where the caller believed.
    Stale {
        /// Where it is.
        actual: Option<Commit>,
    },
}

/// A merge to be made.
#[derive(Debug, Clone)]
pub struct MergeSpec<'a> {
    /// In which repository.
    pub repository: RepositoryId,
    /// What is to be changed.
    pub base: &'a Commit,
    /// What is to be brought in.
    pub head: &'a Commit,
    /// The message of a merge commit.
    pub message: &'a str,
    /// The time in the commit.
    pub at: domain::time::Timestamp,
}

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// The commit that holds both.
    Merged(Commit),
    /// These files were changed on both sides.
    Conflict(Vec<String>),
}

/// A branch of a remote to be moved.
#[derive(Debug, Clone)]
pub struct PushSpec<'a> {
    /// The repository whose mirror holds the commit.
    pub repository: RepositoryId,
    /// Where to push to.
    pub remote: &'a Remote,
    /// The branch there.
    pub branch: &'a Branch,
    /// Where the caller believes it is.
    pub from: Option<&'a Commit>,
    /// Where it is to go.
    pub to: &'a Commit,
}

/// A repository elsewhere.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address, without a credential.
    pub url: String,
    /// A token or password, sent as HTTP basic authentication to that host only.
    pub credential: Option<SecretString>,
    /// What the operator's own configuration allows beyond https and ssh.
    pub policy: RemotePolicy,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the operator's own configuration allows beyond https and ssh to public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemotePolicy {
    /// `file://` addresses and absolute paths.
    pub file: bool,
    /// `http://` addresses.
    pub plain_http: bool,
    /// Hosts with private, loopback or link-local addresses.
    pub private_addresses: bool,
}

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Nothing had moved.
    Unchanged,
    /// Something had; the branch that the remote's `HEAD` names, when it says so.
    Updated {
        /// That branch.
        default_branch: Option<Branch>,
    },
}

/// Git said no.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such repository, commit or file.
    #[error("{0}")]
    NotFound(String),
    /// What was asked is not allowed: an address, a tree, a size.
    #[error("{0}")]
    Refused(String),
    /// The remote did not answer, or not now.
    #[error("{0}")]
    Unreachable(String),
    /// The remote wants another credential.
    #[error("{0}")]
    Unauthorized(String),
    /// The disk or git itself failed.
    #[error("{0}")]
    Broken(String),
}
