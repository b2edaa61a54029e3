//! Housekeeping: every fetch leaves a pack, every snapshot loose objects; now and then they are put
//! together.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use ports::source::SourceError;

use crate::error::Doing;
use crate::program::{Program, complaint};

/// More packs than this make every look-up slower.
const MOST_PACKS: usize = 50;
/// How many loose objects one of the 256 directories may have: git's own limit of 6,700 in all.
const MOST_LOOSE: usize = 27;

/// Locks are held for milliseconds; one that is so old has lost its owner.
const STALE_LOCK: Duration = Duration::from_secs(60);
/// The same for refs that only this server moves, one at a time: a run goes on under another worker as
/// soon as its lease has lapsed, and must find its ref free.
const STALE_OWN_LOCK: Duration = Duration::from_secs(5);
/// No push and no fetch takes so long.
const STALE_OBJECTS: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what a process that was killed left behind: locks, without which its refs could never be
/// moved again, and objects that were on their way in.
pub(crate) fn sweep(repository: &Path) -> Result<(), SourceError> {
    // The file system's own clock: it is the one that its files are dated by.
    let now = tempfile::tempfile_in(repository.join("objects")).and_then(|file| file.metadata()?.modified());
    let now = now.doing("reading the time of the disk")?;
    remove_old(repository, now, STALE_LOCK, &|name| name.ends_with(".lock"));
    remove_locks(&repository.join("refs"), now, STALE_LOCK);
    remove_locks(&repository.join("refs/spellbook"), now, STALE_OWN_LOCK);
    let is_incoming = |name: &str| name.starts_with("incoming-") || name.starts_with("tmp_");
    remove_old(&repository.join("objects"), now, STALE_OBJECTS, &is_incoming);
    remove_old(&repository.join("objects/pack"), now, STALE_OBJECTS, &|name| name.starts_with("tmp_"));
    Ok(())
}

fn remove_locks(directory: &Path, now: SystemTime, age: Duration) {
    remove_old(directory, now, age, &|name| name.ends_with(".lock"));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_locks(&entry.path(), now, age);
        }
    }
}

/// Whatever cannot be removed is tried again next time.
fn remove_old(directory: &Path, now: SystemTime, age: Duration, is_ours: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|old| old > age)) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            tracing::info!("removed {}, which a process left behind", path.display());
        }
    }
}

/// Whether it is time.
pub(crate) fn is_due(repository: &Path) -> bool {
    let count = |directory: &str, suffix: &str| {
        let entries =
            fs::read_dir(repository.join("objects").join(directory)).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(suffix)).count()
    };
    count("pack", ".idx") > MOST_PACKS || count("17", "") > MOST_LOOSE
}

/// Packs what is referred to, and drops what nothing has referred to for two weeks: younger objects
/// may belong to a snapshot or a push that is being made right now.
pub(crate) fn run(program: &Program, repository: &Path) -> Result<(), SourceError> {
    let output = program
        .git()
        .arg("--git-dir")
        .arg(repository)
        .args(["gc", "--quiet", "--prune=2.weeks.ago"])
        .stderr(Stdio::piped())
        .output()
        .doing("starting git gc")?;
    if output.status.success() {
        return Ok(());
    }
    Err(SourceError::Broken(format!("git gc: {}", complaint(&output.stderr))))
}
