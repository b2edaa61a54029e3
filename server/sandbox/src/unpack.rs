//! Archives of strangers, unpacked into one directory and nowhere else.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

use crate::disk;
use crate::runtime::MADE_HERE;

/// Bytes of an image, at most.
const BYTES: u64 = 32 << 30;
/// Names in an image, at most.
const NAMES: u64 = 4_000_000;
/// A name that begins so hides one of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that the layers below have in this directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The directory that is filled, layer by layer.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    bytes: u64,
    names: u64,
}

/// What one layer put where: a whiteout hides only what the layers below put there.
type Own = BTreeSet<PathBuf>;

impl Tree {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: disk::open(root)?, bytes: 0, names: 0 })
    }

    /// Adds a layer: an archive in the format of tar.
    ///
    /// # Errors
    /// When it is broken, leads outside, or is more than any image.
    pub(crate) fn layer(&mut self, archive: impl Read) -> io::Result<()> {
        let mut own = Own::new();
        let mut archive = Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            self.names += 1;
            if self.names > NAMES {
                return Err(refused(&path, "there are more names than in any image"));
            }
            self.entry(&mut entry, &path, &mut own)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path, own: &mut Own) -> io::Result<()> {
        let Some((above, name)) = place(path)? else { return Ok(()) };
        let full = above.join(&name);
        if full.iter().next().is_some_and(|top| MADE_HERE.iter().any(|made| top == *made)) {
            return Ok(());
        }
        let directory = self.directory(&above)?;
        if name.as_bytes() == OPAQUE {
            return hide_all(&directory, &above, own);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let hidden = OsStr::from_bytes(hidden);
            if hidden.is_empty() || hidden == "." || hidden == ".." {
                return Err(refused(path, "it hides nothing that there could be"));
            }
            if !own.contains(&above.join(hidden)) {
                remove(&directory, hidden)?;
            }
            return Ok(());
        }
        let mode = entry.header().mode()?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_directory(&directory, &name)?;
                let made =
                    openat(&directory, name.as_os_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
                // The server must be able to remove it.
                fchmod(&made, Mode::from_bits_truncate(mode & 0o777) | Mode::S_IRWXU)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                remove(&directory, &name)?;
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mut file =
                    File::from(openat(&directory, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
                let left = BYTES.saturating_sub(self.bytes);
                let size = io::copy(&mut entry.take(left + 1), &mut file)?;
                if size > left {
                    return Err(refused(path, "there is more than in any image"));
                }
                self.bytes += size;
                fchmod(&file, Mode::from_bits_truncate(mode & 0o777) | Mode::S_IRUSR)?;
            }
            EntryType::Symlink => {
                let target = link_target(entry, path)?;
                remove(&directory, &name)?;
                symlinkat(target.as_path(), &directory, name.as_os_str())?;
            }
            EntryType::Link => {
                let target = link_target(entry, path)?;
                let Some((there, of)) = place(&target)? else {
                    return Err(refused(path, "it is another name of a directory"));
                };
                let there = self.directory(&there)?;
                remove(&directory, &name)?;
                linkat(&there, of.as_os_str(), &directory, name.as_os_str(), AtFlags::empty())?;
            }
            // No device or pipe of the image is seen in a jail.
            _ => return Ok(()),
        }
        own.insert(full);
        Ok(())
    }

    /// A directory of the tree, made if it is not there. Links on the way stay in the tree.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(DIRECTORY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut at = self.root.try_clone()?;
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            at = match openat2(self.root.as_fd(), &so_far, how) {
                Err(Errno::ENOENT) => {
                    mkdirat(&at, part, Mode::from_bits_truncate(0o755))?;
                    let made = openat(&at, part, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
                    fchmod(&made, Mode::from_bits_truncate(0o755))?;
                    made
                }
                found => found?,
            };
        }
        Ok(at)
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// The directory and the name of an entry; `None` is the root itself.
fn place(path: &Path) -> io::Result<Option<(PathBuf, OsString)>> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused(path, "it leads upwards")),
        }
    }
    let name = clean.file_name().map(OsStr::to_owned);
    Ok(name.map(|name| (clean.parent().map(Path::to_owned).unwrap_or_default(), name)))
}

fn link_target(entry: &Entry<'_, impl Read>, path: &Path) -> io::Result<PathBuf> {
    let target = entry.link_name()?.filter(|target| !target.as_os_str().is_empty());
    target.map(std::borrow::Cow::into_owned).ok_or_else(|| refused(path, "it is a link to nothing"))
}

fn make_directory(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match kind(directory, name)? {
        Some(SFlag::S_IFDIR) => return Ok(()),
        Some(_) => remove(directory, name)?,
        None => {}
    }
    Ok(mkdirat(directory, name, Mode::from_bits_truncate(0o755))?)
}

/// What it is, if it is there.
fn kind(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<SFlag>> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(at) => Ok(Some(SFlag::from_bits_truncate(at.st_mode) & SFlag::S_IFMT)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Hides what the layers below have in a directory.
fn hide_all(directory: &OwnedFd, path: &Path, own: &Own) -> io::Result<()> {
    for name in names(directory)? {
        if !own.contains(&path.join(&name)) {
            remove(directory, &name)?;
        }
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut listing = Dir::from_fd(openat(directory, ".", DIRECTORY, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(names)
}

/// Removes a name, with all that is below it. Without recursion: a stranger chose how deep.
fn remove(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match kind(directory, name)? {
        None => return Ok(()),
        Some(SFlag::S_IFDIR) => {}
        Some(_) => return Ok(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?),
    }
    let mut waiting = vec![(directory.try_clone()?, name.to_owned())];
    while let Some((above, name)) = waiting.last() {
        match unlinkat(above, name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY) => {}
            result => {
                result?;
                waiting.pop();
                continue;
            }
        }
        let inner = openat(above, name.as_os_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
        let mut deeper = Vec::new();
        for name in names(&inner)? {
            if kind(&inner, &name)? == Some(SFlag::S_IFDIR) {
                deeper.push((inner.try_clone()?, name));
            } else {
                unlinkat(&inner, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        waiting.extend(deeper);
    }
    Ok(())
}
