//! The files that a run works on. A run is a branch: each stage begins at the branch's tip and its
//! work is committed on top, so that stages which ran side by side are merged as any two branches are.

use std::path::PathBuf;

use domain::name::Commit;
use domain::run::{Failure, Run};
use ports::source::{MergeSpec, Merged, SnapshotSpec, SourceError};
use tokio::sync::Mutex;

use crate::world::World;

/// The files of one run.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    start: Commit,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tip: Commit,
    /// Directories that nobody uses, and the commit whose files they hold (ignored files too, so that
    /// what one stage installed the next one finds).
    free: Vec<Desk>,
    made: usize,
}

/// A directory that one stage works in.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) path: PathBuf,
    base: Commit,
}

/// How a stage's work is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep<'a> {
    /// The commit's message.
    pub(crate) message: &'a str,
    /// The most bytes that files may have together.
    pub(crate) max_bytes: u64,
}

/// What a stage left.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The run's tip with it.
    pub(crate) commit: Commit,
    /// Whether the tip is now another tree than the run began with.
    pub(crate) changed: bool,
}

impl Workspace {
    /// The workspace of a run whose branch is at `tip`; directories are made when they are needed.
    pub(crate) fn new(world: &World, run: &Run, start: Commit, tip: Commit) -> Self {
        let root = world.settings.work_dir.join(format!("{}-{}", run.id, run.attempt));
        Self { root, start, state: Mutex::new(State { tip, free: Vec::new(), made: 0 }) }
    }

    /// Where the run's branch is.
    pub(crate) async fn tip(&self) -> Commit {
        self.state.lock().await.tip.clone()
    }

    /// Where the run began.
    pub(crate) fn start(&self) -> &Commit {
        &self.start
    }

    /// A directory with the files of the tip.
    pub(crate) async fn take(&self, world: &World, run: &Run) -> Result<Desk, Failure> {
        let (path, base) = {
            let mut state = self.state.lock().await;
            let tip = state.tip.clone();
            if let Some(at) = state.free.iter().position(|desk| desk.base == tip) {
                return Ok(state.free.swap_remove(at));
            }
            for stale in std::mem::take(&mut state.free) {
                remove(&stale.path).await;
            }
            state.made += 1;
            (self.root.join(state.made.to_string()), tip)
        };
        tokio::fs::create_dir_all(&path).await.map_err(|error| disk(&error))?;
        world.source.checkout(run.repository, &base, &path).await.map_err(|error| git(&error))?;
        Ok(Desk { path, base })
    }

    /// Commits what a stage left in its directory and brings it into the run's branch.
    pub(crate) async fn keep(
        &self,
        world: &World,
        run: &Run,
        desk: Desk,
        keep: Keep<'_>,
    ) -> Result<Kept, Failure> {
        let mut state = self.state.lock().await;
        let now = world.clock.now();
        let spec = SnapshotSpec {
            repository: run.repository,
            run: run.id,
            directory: &desk.path,
            parent: &desk.base,
            message: keep.message,
            max_bytes: keep.max_bytes,
            at: now,
        };
        let snapshot = world.source.snapshot(spec).await.map_err(|error| git(&error))?;
        if desk.base == state.tip {
            state.tip = snapshot.commit.clone();
            state.free.push(Desk { path: desk.path, base: snapshot.commit });
        } else {
            let merge = MergeSpec {
                repository: run.repository,
                base: &state.tip,
                head: &snapshot.commit,
                message: keep.message,
                at: now,
            };
            match world.source.merge(merge).await.map_err(|error| git(&error))? {
                Merged::Merged(commit) => {
                    remove(&desk.path).await;
                    world.source.keep(run.repository, &commit).await.map_err(|error| git(&error))?;
                    state.tip = commit;
                }
                Merged::Conflict(paths) => return Err(conflict(&paths)),
            }
        }
        let tip = state.tip.clone();
        drop(state);
        let changed = self.differs(world, run, &tip).await?;
        Ok(Kept { commit: tip, changed })
    }

    /// Whether a commit's tree is another than the one that the run began with.
    pub(crate) async fn differs(&self, world: &World, run: &Run, commit: &Commit) -> Result<bool, Failure> {
        if *commit == self.start {
            return Ok(false);
        }
        let view = ports::source::View::of(run.repository);
        let changes =
            world.source.changes(&view, Some(&self.start), commit).await.map_err(|error| git(&error))?;
        Ok(!changes.is_empty())
    }

    /// Forgets a directory whose files are of no use: the stage is tried again.
    pub(crate) async fn discard(&self, desk: Desk) {
        remove(&desk.path).await;
    }

    /// Removes every directory.
    pub(crate) async fn clear(&self) {
        remove(&self.root).await;
    }
}

async fn remove(path: &std::path::Path) {
    if let Err(error) = tokio::fs::remove_dir_all(path).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a workspace could not be removed");
    }
}

fn disk(error: &std::io::Error) -> Failure {
    Failure::new("workspace_unavailable", format!("the workspace cannot be made: {error}"))
}

fn git(error: &SourceError) -> Failure {
    Failure::new("workspace_unavailable", format!("the workspace cannot be read or recorded: {error}"))
}

fn conflict(paths: &[String]) -> Failure {
    Failure::new(
        "workspace_conflict",
        format!(
            "a stage that ran at the same time changed the same lines of {}; let one of the two `needs` the other",
            paths.join(", ")
        ),
    )
}
