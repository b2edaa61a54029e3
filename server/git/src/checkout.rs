//! The files of a commit, written for a jail: bytes as they are in git, no filters, no line-end
//! conversions, no hooks, nothing outside the directory.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    let mut links = Vec::new();
    write_tree(repo, tree, directory, 0, &mut links)?;
    // Last, so that nothing is ever written through one.
    for (path, target) in links {
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), &path).doing("writing a link")?;
    }
    Ok(())
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

fn write_tree(
    repo: &gix::Repository,
    tree: ObjectId,
    directory: &Path,
    depth: usize,
    links: &mut Vec<(PathBuf, Vec<u8>)>,
) -> Result<(), SourceError> {
    if depth > MOST_DEPTH {
        return refused(format!("directories lie more than {MOST_DEPTH} deep"));
    }
    for (name, (mode, id)) in Tree::read(repo, tree)?.entries {
        if !is_safe_name(name.as_ref()) {
            return refused(format!("the tree {tree} names `{name}`, which is not a safe file name"));
        }
        let path = directory.join(std::ffi::OsStr::from_bytes(&name));
        match mode.kind() {
            Mode::Tree => {
                fs::create_dir(&path).doing("writing a directory")?;
                write_tree(repo, id, &path, depth + 1, links)?;
            }
            Mode::Blob => write_file(repo, id, &path, 0o666)?,
            Mode::BlobExecutable => write_file(repo, id, &path, 0o777)?,
            Mode::Link => {
                let target = repo.find_object(id).doing("reading a link")?;
                if is_safe_link(&target.data, depth) {
                    links.push((path, target.data.clone()));
                }
            }
            // Another repository: not ours to bring.
            Mode::Commit => {}
        }
    }
    Ok(())
}

fn write_file(repo: &gix::Repository, id: ObjectId, path: &Path, mode: u32) -> Result<(), SourceError> {
    let blob = repo.find_object(id).doing("reading a file")?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).doing("writing a file")?;
    file.write_all(&blob.data).doing("writing a file")
}
