//! What a run may not do that works on a stranger's pull request, and what it does not even see: secrets stay
//! away, nothing is kept, nothing is written but comments and checks where the pull request is, and coding agents
//! take their orders from the repository, not from the pull request.

use std::path::{Path, PathBuf};

use domain::name::Commit;
use domain::run::{Failure, Run};
use manifest::protected::AgentSettings;
use ports::source::{SnapshotSpec, View};

use crate::refusal::{Refusal, RefusalKind};
use crate::world::World;

/// Something that a stage may not have.
pub(crate) fn without(what: &str, code: &str) -> Failure {
    Failure::new(code, format!("the pull request is a stranger's, and {what} stay away from it"))
}

/// Why a comment may not go there.
pub(crate) fn elsewhere() -> String {
    "the run works on a stranger's pull request, and its comments stay there".to_owned()
}

/// The commit that a run's workspace begins with: of a stranger's pull request, one in which the settings of coding
/// agents are those of the daemon's own commit.
pub(crate) async fn start(world: &World, run: &Run) -> Result<Commit, Refusal> {
    let head = run.start();
    if !run.is_for_stranger() {
        return Ok(head.clone());
    }
    let settings = AgentSettings::new();
    let changes = world.source.changes(&View::of(run.repository), Some(&run.commit), head).await?;
    let paths: Vec<String> =
        changes.into_iter().map(|change| change.path).filter(|path| settings.has(path)).collect();
    if paths.is_empty() {
        return Ok(head.clone());
    }
    let directory = |name: &str| world.settings.work_dir.join(format!("{}-{}-{name}", run.id, run.attempt));
    let (theirs, ours) = (directory("theirs"), directory("ours"));
    let start = commit(world, run, (&theirs, &ours), paths).await;
    for directory in [theirs, ours] {
        if let Err(error) = tokio::fs::remove_dir_all(&directory).await {
            tracing::warn!(path = %directory.display(), %error, "a workspace could not be removed");
        }
    }
    start
}

async fn commit(
    world: &World,
    run: &Run,
    (theirs, ours): (&Path, &Path),
    paths: Vec<String>,
) -> Result<Commit, Refusal> {
    for (directory, commit) in [(theirs, run.start()), (ours, &run.commit)] {
        tokio::fs::create_dir_all(directory).await.map_err(|error| disk(&error))?;
        world.source.checkout(run.repository, commit, directory).await?;
    }
    let (from, to) = (ours.to_owned(), theirs.to_owned());
    let put_back = tokio::task::spawn_blocking(move || {
        // First all that is theirs goes: a file of theirs may stand where a directory of ours is.
        paths.iter().try_for_each(|path| remove(&to, path))?;
        paths.iter().try_for_each(|path| put_back(&from, &to, path))
    });
    put_back.await.map_err(|error| disk(&std::io::Error::other(error)))?.map_err(|error| disk(&error))?;
    let message = format!(
        "Settings of coding agents as in {}\n\nSpellbook-Run: {}\n",
        &run.commit.as_str()[..12],
        run.id
    );
    let snapshot = SnapshotSpec {
        repository: run.repository,
        run: run.id,
        directory: theirs,
        parent: run.start(),
        checkout: None,
        message: &message,
        max_bytes: u64::MAX,
        // The same for every attempt, so that each begins with the same commit.
        at: run.created_at,
    };
    Ok(world.source.snapshot(snapshot).await?.commit)
}

/// Removes a file, a link or what is left of a directory.
fn remove(root: &Path, path: &str) -> std::io::Result<()> {
    let Some(file) = inside(root, path) else { return Ok(()) };
    match std::fs::symlink_metadata(&file) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(&file),
        Ok(_) => std::fs::remove_file(&file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies a file or a link, with its mode.
fn put_back(from: &Path, to: &Path, path: &str) -> std::io::Result<()> {
    let source = from.join(path);
    let found = match std::fs::symlink_metadata(&source) {
        Ok(found) if !found.is_dir() => found,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(target) = inside(to, path) else { return Ok(()) };
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if found.is_symlink() {
        return std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target);
    }
    std::fs::copy(&source, &target).map(drop)
}

/// A path below a directory; nothing when something other than a directory stands on the way, as a link of theirs
/// would.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let mut at = root.to_owned();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        if parts.peek().is_some()
            && let Ok(found) = std::fs::symlink_metadata(&at)
            && !found.is_dir()
        {
            return None;
        }
    }
    Some(at)
}

fn disk(error: &std::io::Error) -> Refusal {
    Refusal {
        kind: RefusalKind::Unavailable,
        code: "workspace_unavailable",
        message: format!("the workspace cannot be made: {error}"),
    }
}
