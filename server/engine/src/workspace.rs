//! The files that a run works on. A run is a branch: each stage begins at the branch's tip and its
//! work is committed on top, so that stages which ran side by side are merged as any two branches are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::name::Commit;
use domain::run::{Failure, Run};
use domain::stage::StagePath;
use ports::source::{MergeSpec, Merged, SnapshotSpec, SourceError};
use tokio::sync::Mutex;

use crate::desks::Spare;
use crate::world::World;

/// The files of one run.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// What the names of its directories begin with.
    name: String,
    start: Commit,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The journal's last snapshot: everything that is recorded, and nothing else.
    tip: Commit,
    /// Whether its tree is another than the one that the run began with; nothing when nobody knows yet.
    changed: Option<bool>,
    /// Directories that nobody uses, and the commit whose files they hold (ignored files too, so that
    /// what one stage installed the next one finds).
    free: Vec<Desk>,
    /// Directories of stages that are to be tried again.
    tried: BTreeMap<StagePath, Desk>,
    /// Every directory that it ever had.
    directories: Vec<PathBuf>,
}

/// A directory that one stage works in.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) path: PathBuf,
    /// Where the run's branch was when the stage began.
    from: Commit,
    /// The commit whose files it holds: another than `from` when the stage is tried again.
    base: Commit,
    /// The commit that was checked out here, as long as nothing was touched since.
    checkout: Option<Commit>,
}

impl Desk {
    fn at(path: PathBuf, commit: Commit, checkout: Option<Commit>) -> Self {
        Self { path, from: commit.clone(), base: commit, checkout }
    }
}

/// How a stage's work is committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep<'a> {
    /// The commit's message.
    pub(crate) message: &'a str,
    /// The most bytes that files may have together.
    pub(crate) max_bytes: u64,
}

/// What a stage left, committed beside the run's branch. It becomes a part of the branch together with
/// the stage's entry in the journal: what is not recorded is done again, and must not find itself done.
#[derive(Debug)]
pub(crate) struct Work {
    desk: Desk,
    commit: Commit,
    /// Whether it has another tree than the desk's base.
    changed: bool,
    message: String,
}

impl Work {
    /// The commit of what was left, which is no part of the run's branch yet.
    pub(crate) const fn commit(&self) -> &Commit {
        &self.commit
    }
}

/// The run's branch with a stage's work.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Its tip.
    pub(crate) commit: Commit,
    /// Whether that is another tree than the run began with.
    pub(crate) changed: bool,
}

impl Workspace {
    /// The workspace of a run whose branch is at `tip`; directories are made when they are needed.
    pub(crate) fn new(run: &Run, start: Commit, tip: Commit) -> Self {
        let state = State {
            changed: (tip == start).then_some(false),
            tip,
            free: Vec::new(),
            tried: BTreeMap::new(),
            directories: Vec::new(),
        };
        Self { name: format!("{}-{}", run.id, run.attempt), start, state: Mutex::new(state) }
    }

    /// Where the run's branch is.
    pub(crate) async fn tip(&self) -> Commit {
        self.state.lock().await.tip.clone()
    }

    /// Where the run began.
    pub(crate) fn start(&self) -> &Commit {
        &self.start
    }

    /// A directory with the files of the tip; for a stage that is tried again, the one that it left.
    pub(crate) async fn take(&self, world: &World, run: &Run, stage: &StagePath) -> Result<Desk, Failure> {
        let (path, tip) = {
            let mut state = self.state.lock().await;
            if let Some(desk) = state.tried.remove(stage) {
                return Ok(desk);
            }
            let tip = state.tip.clone();
            if let Some(at) = state.free.iter().position(|desk| desk.base == tip) {
                return Ok(state.free.swap_remove(at));
            }
            for stale in std::mem::take(&mut state.free) {
                remove(&stale.path).await;
            }
            if let Some(path) = world.desks.take(run.repository, &tip) {
                state.directories.push(path.clone());
                return Ok(Desk::at(path, tip.clone(), Some(tip)));
            }
            let path = world.settings.work_dir.join(format!("{}-{}", self.name, state.directories.len()));
            state.directories.push(path.clone());
            (path, tip)
        };
        tokio::fs::create_dir_all(&path).await.map_err(|error| disk(&error))?;
        world.source.checkout(run.repository, &tip, &path).await.map_err(|error| git(&error))?;
        Ok(Desk::at(path, tip.clone(), Some(tip)))
    }

    /// Commits what a stage left in its directory.
    pub(crate) async fn commit(
        &self,
        world: &World,
        run: &Run,
        desk: Desk,
        keep: Keep<'_>,
    ) -> Result<Work, Failure> {
        // One after the other: each also moves the ref of the run.
        let _state = self.state.lock().await;
        let spec = SnapshotSpec {
            repository: run.repository,
            run: run.id,
            directory: &desk.path,
            parent: &desk.base,
            checkout: desk.checkout.as_ref(),
            message: keep.message,
            max_bytes: keep.max_bytes,
            at: world.clock.now(),
        };
        let snapshot = world.source.snapshot(spec).await.map_err(|error| git(&error))?;
        let desk = Desk { checkout: desk.checkout.filter(|_| snapshot.untouched), ..desk };
        let message = keep.message.to_owned();
        Ok(Work { desk, commit: snapshot.commit, changed: snapshot.changed, message })
    }

    /// Whether a stage left other files than it found.
    pub(crate) async fn is_changed(&self, world: &World, run: &Run, work: &Work) -> Result<bool, Failure> {
        let view = ports::source::View::of(run.repository);
        let changes = world.source.changes(&view, Some(&work.desk.from), &work.commit).await;
        Ok(!changes.map_err(|error| git(&error))?.is_empty())
    }

    /// Lets a stage go on from what it left: it is tried again.
    pub(crate) async fn again(&self, stage: &StagePath, work: Work) {
        let desk = Desk { base: work.commit, ..work.desk };
        self.state.lock().await.tried.insert(stage.clone(), desk);
    }

    /// Brings a stage's work into the run's branch.
    pub(crate) async fn join(&self, world: &World, run: &Run, work: Work) -> Result<Joined, Failure> {
        let mut state = self.state.lock().await;
        if work.changed || work.desk.base != state.tip {
            state.changed = None;
        }
        if work.desk.from == state.tip {
            state.tip = work.commit.clone();
            state.free.push(Desk::at(work.desk.path, work.commit, work.desk.checkout));
        } else {
            let merge = MergeSpec {
                repository: run.repository,
                base: &state.tip,
                head: &work.commit,
                message: &work.message,
                at: world.clock.now(),
            };
            match world.source.merge(merge).await.map_err(|error| git(&error))? {
                Merged::Merged(commit) => {
                    remove(&work.desk.path).await;
                    world.source.keep(run.repository, &commit).await.map_err(|error| git(&error))?;
                    state.tip = commit;
                }
                Merged::Conflict(paths) => return Err(conflict(&paths)),
            }
        }
        let commit = state.tip.clone();
        let changed = match state.changed {
            Some(changed) => changed,
            None => self.differs(world, run, &commit).await?,
        };
        state.changed = Some(changed);
        Ok(Joined { commit, changed })
    }

    /// Takes back what was joined last, when the journal did not take it, and lets its stage go on from what it
    /// left: it is tried again. Nothing may have been joined since.
    pub(crate) async fn rewind(&self, stage: &StagePath, before: Commit, joined: &Joined) {
        let mut state = self.state.lock().await;
        if let Some(at) = state.free.iter().position(|desk| desk.base == joined.commit) {
            let desk = state.free.swap_remove(at);
            state.tried.insert(stage.clone(), Desk { from: before.clone(), ..desk });
        }
        state.tip = before;
        state.changed = None;
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

    /// Removes every directory, but for one that the next run of the commit can use.
    pub(crate) async fn clear(&self, world: &World, run: &Run) {
        let (free, directories) = {
            let mut state = self.state.lock().await;
            (std::mem::take(&mut state.free), std::mem::take(&mut state.directories))
        };
        let spare = free.into_iter().find_map(|desk| Some((desk.path, desk.checkout?)));
        for path in directories.iter().filter(|path| spare.as_ref().is_none_or(|(kept, _)| kept != *path)) {
            remove(path).await;
        }
        if let Some((path, commit)) = spare {
            let spare = Spare { repository: run.repository, commit, path, since: world.clock.now() };
            for stale in world.desks.put(spare) {
                remove(&stale).await;
            }
        }
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
