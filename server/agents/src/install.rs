//! Making an installation: beside where it is to be, then moved there whole. Whoever finds the directory
//! finds everything in it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::catalogue::{Agent, Package};
use crate::source::{Installers, Place};

/// What is asked to be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) agent: &'a Agent,
    pub(crate) package: &'a Package,
    /// Where installations are.
    pub(crate) agents: &'a Path,
    /// What this one is called there.
    pub(crate) directory: &'a str,
}

impl Wanted<'_> {
    /// Where it is, or would be.
    pub(crate) fn path(&self) -> PathBuf {
        self.agents.join(self.directory)
    }

    /// What the names of its temporary directories begin with.
    fn temporary(&self) -> String {
        format!(".new-{}-", self.directory)
    }
}

/// Installs what is not there, one process at a time.
///
/// # Errors
/// With the reason, for people.
pub(crate) async fn install(wanted: Wanted<'_>, installers: &Installers) -> Result<(), String> {
    let at = |error: io::Error| format!("{}: {error}", wanted.agents.display());
    let lock_file = wanted.agents.join(format!(".lock-{}", wanted.name));
    let _lock = lock(lock_file).await.map_err(at)?;
    if wanted.path().is_dir() {
        return Ok(());
    }
    sweep(&wanted).map_err(at)?;
    let temporary = tempfile::Builder::new().prefix(&wanted.temporary()).tempdir_in(wanted.agents);
    let temporary = temporary.map_err(at)?;
    let [work, downloads, root] = ["work", "downloads", "root"].map(|name| temporary.path().join(name));
    for directory in [&work, &downloads, &root] {
        fs::create_dir(directory).map_err(at)?;
    }
    let place = Place { work: &work, downloads: &downloads, root: &root };
    let version = wanted.package.version.as_deref().unwrap_or(&wanted.agent.version);
    let program = installers.bring(wanted.agent.registry, wanted.package, version, &place).await?;
    if !root.join(&program).is_file() {
        return Err(format!("the package has no `{}`", wanted.package.program));
    }
    let files = wanted.agent.files.clone();
    let (target, moved) = (wanted.path(), root.clone());
    let finishing = tokio::task::spawn_blocking(move || {
        for (path, text) in &files {
            write(&moved.join(path), text)?;
        }
        fs::write(moved.join(PROGRAM), program.as_os_str().as_encoded_bytes())?;
        close(&moved)?;
        fs::rename(&moved, &target)?;
        drop::<TempDir>(temporary);
        Ok(())
    });
    finishing.await.map_err(|error| error.to_string())?.map_err(at)
}

/// The file that says where the program is.
const PROGRAM: &str = ".program";

/// Where the program of an installation is, relative to it.
pub(crate) fn program(path: &Path) -> io::Result<PathBuf> {
    fs::read_to_string(path.join(PROGRAM)).map(PathBuf::from)
}

/// Waits until no other process installs this agent.
async fn lock(path: PathBuf) -> io::Result<File> {
    let locking = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    });
    locking.await.map_err(io::Error::other)?
}

/// Removes what installers left that were killed; the lock is held.
fn sweep(wanted: &Wanted<'_>) -> io::Result<()> {
    for entry in fs::read_dir(wanted.agents)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&wanted.temporary()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

/// Everybody may read and run what is there, and nobody write. Links that lead out are removed.
fn close(root: &Path) -> io::Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let at = fs::symlink_metadata(&path)?;
            if at.is_symlink() {
                let inside = fs::canonicalize(&path).is_ok_and(|real| real.starts_with(root));
                if !inside {
                    fs::remove_file(&path)?;
                }
            } else if at.is_dir() {
                open.push(path);
            } else {
                let mode = if at.mode() & 0o111 == 0 { 0o444 } else { 0o555 };
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everybody_reads_nobody_writes_and_nothing_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("root");
        write(&root.join("a/run"), "x").unwrap();
        write(&root.join("a/text"), "x").unwrap();
        fs::set_permissions(root.join("a/run"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(root.join("a/text"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(root.join("a"), Permissions::from_mode(0o700)).unwrap();
        symlink("a/run", root.join("inside")).unwrap();
        symlink("/etc/passwd", root.join("outside")).unwrap();
        close(&root).unwrap();
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/run"), mode("a/text")), (0o755, 0o555, 0o444));
        assert!(root.join("inside").exists() && fs::symlink_metadata(root.join("outside")).is_err());
    }
}
