//! The files of a commit, written for a jail: bytes as they are in git, no filters, no line-end
//! conversions, no hooks, nothing outside the directory.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::name::Commit;
use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::objs::tree::EntryKind as Mode;
use ports::source::SourceError;

use crate::error::{Doing, refused};
use crate::object;
use crate::tree::{MOST_DEPTH, Tree};

/// Writes the files of a commit into an empty directory.
pub(crate) fn checkout(repo: &gix::Repository, commit: &Commit, directory: &Path) -> Result<(), SourceError> {
    let tree = object::tree(repo, commit)?;
    if fs::read_dir(directory).doing("opening the directory for a checkout")?.next().is_some() {
        return refused("a checkout needs an empty directory");
    }
    let date = date(repo, commit)?;
    let mut writing = Writing { repo, date, directories: Vec::new(), links: Vec::new() };
    writing.tree(tree, directory, 0)?;
    // Last, so that nothing is ever written through one.
    for (path, target) in &writing.links {
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path).doing("writing a link")?;
    }
    // After what was written into them.
    for directory in &writing.directories {
        let opened = fs::File::open(directory).doing("dating a directory")?;
        opened.set_modified(date).doing("dating a directory")?;
    }
    Ok(())
}

/// Archives and compilers know no date before this: 1980-01-02.
const OLDEST: u64 = 315_619_200;

/// What the files of a commit are dated: as the commit.
pub(crate) fn date(repo: &gix::Repository, commit: &Commit) -> Result<SystemTime, SourceError> {
    let seconds = object::find(repo, commit)?.time().doing("reading a commit")?.seconds;
    // A hostile date is a date.
    let seconds = u64::try_from(seconds).unwrap_or(0).clamp(OLDEST, u64::from(u32::MAX));
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Whether a name of an entry may exist below a directory of ours. Refuses what git's own check
/// refuses (`verify_path`): `..`, `.git` and every spelling of it on other systems, separators.
pub(crate) fn is_safe_name(name: &BStr) -> bool {
    let options = gix::validate::path::component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    name.find_byte(0).is_none() && gix::validate::path::component(name, None, options).is_ok()
}

/// Whether a link in a directory `depth` names below the root stays inside, whatever other links it
/// leads through. `..` is good only at the front, where it climbs real directories; after another
/// name it could climb out of what that name links to.
pub(crate) fn is_safe_link(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) || target.len() > 4_000 {
        return false;
    }
    let mut climbs = 0;
    let mut descended = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if descended => return false,
            b".." => climbs += 1,
            _ => descended = true,
        }
    }
    climbs <= depth
}

struct Writing<'r> {
    repo: &'r gix::Repository,
    date: SystemTime,
    directories: Vec<PathBuf>,
    links: Vec<(PathBuf, Vec<u8>)>,
}

impl Writing<'_> {
    fn tree(&mut self, tree: ObjectId, directory: &Path, depth: usize) -> Result<(), SourceError> {
        if depth > MOST_DEPTH {
            return refused(format!("directories lie more than {MOST_DEPTH} deep"));
        }
        for (name, (mode, id)) in Tree::read(self.repo, tree)?.entries {
            if !is_safe_name(name.as_ref()) {
                return refused(format!("the tree {tree} names `{name}`, which is not a safe file name"));
            }
            let path = directory.join(std::ffi::OsStr::from_bytes(&name));
            match mode.kind() {
                Mode::Tree => {
                    fs::create_dir(&path).doing("writing a directory")?;
                    self.tree(id, &path, depth + 1)?;
                }
                Mode::Blob => self.file(id, &path, 0o666)?,
                Mode::BlobExecutable => self.file(id, &path, 0o777)?,
                Mode::Link => {
                    let target = self.repo.find_object(id).doing("reading a link")?;
                    if is_safe_link(&target.data, depth) {
                        self.links.push((path, target.data.clone()));
                    }
                }
                // Another repository: not ours to bring.
                Mode::Commit => {}
            }
        }
        self.directories.push(directory.to_owned());
        Ok(())
    }

    fn file(&self, id: ObjectId, path: &Path, mode: u32) -> Result<(), SourceError> {
        let blob = self.repo.find_object(id).doing("reading a file")?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .doing("writing a file")?;
        file.write_all(&blob.data).doing("writing a file")?;
        file.set_modified(self.date).doing("dating a file")
    }
}
