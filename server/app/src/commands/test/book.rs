//! The repository that a test runs in: the daemon without its tests, the daemons that it calls, and the files
//! that the test brings. Nothing else of the person's repository is in it, so that no test depends on that.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use domain::files::File;
use manifest::test::{TESTS, Test};

use crate::commands::worktree::{LocalDaemon, Worktree};
use crate::exit::CommandError;

/// Writes it below a directory that is there and empty.
pub(super) fn write(
    into: &Path,
    worktree: &Worktree,
    daemon: &LocalDaemon,
    test: &Test,
) -> Result<(), CommandError> {
    let unwritable = |error: io::Error| {
        CommandError::failed("unwritable", format!("{} cannot be written", into.display())).because(error)
    };
    if let Some(own) = worktree.own_file() {
        fs::write(into.join(own.name), &own.text).map_err(unwritable)?;
    }
    let mut done = BTreeSet::new();
    copy(into, worktree, daemon).map_err(unwritable)?;
    done.insert(daemon.location.id.clone());
    let mut open = vec![daemon.check(worktree.spellbook(), None).value];
    while let Some(manifest) = open.pop() {
        let mut called = Vec::new();
        for id in manifest.iter().flat_map(|manifest| manifest.callees()) {
            if !done.insert(id.clone()) {
                continue;
            }
            let Some(callee) = worktree.daemon(id)? else { continue };
            copy(into, worktree, &callee).map_err(unwritable)?;
            called.push(callee.check(worktree.spellbook(), None).value);
        }
        open.extend(called);
    }
    for (path, bytes) in &test.files {
        put(&into.join(path), bytes).map_err(unwritable)?;
    }
    Ok(())
}

/// Copies a daemon as it lies on the disk, with its modes; links stay links.
fn copy(into: &Path, worktree: &Worktree, daemon: &LocalDaemon) -> io::Result<()> {
    let directory = Path::new(&daemon.location.directory);
    let is_test = |path: &str| path.strip_prefix(TESTS).is_some_and(|rest| rest.starts_with('/'));
    for path in daemon.files.paths().filter(|path| !is_test(path)) {
        let (from, to) = (worktree.root().join(directory).join(path), into.join(directory).join(path));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        match daemon.files.get(path) {
            Some(File::Regular(_) | File::Large(_)) => drop(fs::copy(from, to)?),
            Some(File::Symlink) => std::os::unix::fs::symlink(fs::read_link(from)?, to)?,
            Some(File::Submodule) | None => {}
        }
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Whatever is there makes room: it is the copy of a daemon, and may be a link.
    if path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        fs::remove_file(path)?;
    }
    fs::write(path, bytes)
}
