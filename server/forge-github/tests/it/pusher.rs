//! Git for a GitHub that has branches and no commits: only pushing is asked of it here. What git itself does
//! with a push is tested in the crate `git`, against real remotes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domain::files::File;
use domain::id::RepositoryId;
use domain::name::{Branch, Commit, Tag};
use ports::source::{
    CommitInfo, CommitSpec, Diff, Directory, Entry, Fetched, MergeSpec, Merged, Moved, PathChange, PushSpec,
    ReadBounds, Remote, Snapshot, SnapshotSpec, Source, SourceError, View,
};

use crate::gate::Gate;

/// Pushes to a hub.
#[derive(Debug)]
pub(crate) struct Pusher(pub(crate) Arc<Gate>);

type Answer<T> = Result<T, SourceError>;

fn unasked<T>() -> Answer<T> {
    Err(SourceError::Broken("only pushing is offered here".to_owned()))
}

#[async_trait]
impl Source for Pusher {
    async fn push(&self, push: PushSpec<'_>) -> Answer<Moved> {
        self.0.push(&push).map_err(SourceError::Unreachable)
    }

    async fn create(&self, _: RepositoryId, _: &Branch) -> Answer<()> {
        unasked()
    }

    fn path(&self, _: RepositoryId) -> PathBuf {
        PathBuf::new()
    }

    async fn branches(&self, _: RepositoryId) -> Answer<Vec<(Branch, Commit)>> {
        unasked()
    }

    async fn tag(&self, _: RepositoryId, _: &Tag) -> Answer<Option<Commit>> {
        unasked()
    }

    async fn line(&self, _: RepositoryId, _: Option<&Commit>, _: &Commit, _: usize) -> Answer<Vec<Commit>> {
        unasked()
    }

    async fn describe(&self, _: RepositoryId, _: &[Commit]) -> Answer<Vec<CommitInfo>> {
        unasked()
    }

    async fn changes(&self, _: &View, _: Option<&Commit>, _: &Commit) -> Answer<Vec<PathChange>> {
        unasked()
    }

    async fn list(&self, _: &View, _: &Commit, _: &str) -> Answer<Vec<Entry>> {
        unasked()
    }

    async fn file(&self, _: &View, _: &Commit, _: &str, _: u64) -> Answer<Option<File>> {
        unasked()
    }

    async fn directories(&self, _: &View, _: &Commit, _: &[String], _: ReadBounds) -> Answer<Vec<Directory>> {
        unasked()
    }

    async fn checkout(&self, _: RepositoryId, _: &Commit, _: &Path) -> Answer<()> {
        unasked()
    }

    async fn snapshot(&self, _: SnapshotSpec<'_>) -> Answer<Snapshot> {
        unasked()
    }

    async fn diff(&self, _: RepositoryId, _: &Commit, _: &Commit, _: usize) -> Answer<Diff> {
        unasked()
    }

    async fn commit(&self, _: CommitSpec<'_>) -> Answer<Commit> {
        unasked()
    }

    async fn move_branch(
        &self,
        _: RepositoryId,
        _: &Branch,
        _: Option<&Commit>,
        _: Option<&Commit>,
    ) -> Answer<Moved> {
        unasked()
    }

    async fn keep(&self, _: RepositoryId, _: &Commit) -> Answer<()> {
        unasked()
    }

    async fn merge(&self, _: MergeSpec<'_>) -> Answer<Merged> {
        unasked()
    }

    async fn merge_base(&self, _: RepositoryId, _: &Commit, _: &Commit) -> Answer<Option<Commit>> {
        unasked()
    }

    async fn fetch(&self, _: RepositoryId, _: &Remote) -> Answer<Fetched> {
        unasked()
    }

    async fn bring(&self, _: RepositoryId, _: &Remote, _: &str) -> Answer<Commit> {
        unasked()
    }
}
