//! Walking a directory tree that strangers made.
//!
//! One descriptor is open at a time and nothing recurses, so the depth of the tree costs nothing.
//! Every directory is opened from the top with links refused, so a tree that changes meanwhile can
//! lead nowhere else.

use std::ffi::{CStr, CString, OsStr};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstatat};

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub directory: &'a OwnedFd,
    pub name: &'a CStr,
    /// Of the name itself, if it is a link.
    pub at: FileStat,
}

impl Entry<'_> {
    /// Which of `S_IFREG`, `S_IFDIR` … it is.
    pub(crate) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.at.st_mode) & SFlag::S_IFMT
    }
}

/// A directory still to be read. Paths share what they have in common: a stranger chooses how long.
struct Place {
    above: Option<Rc<Place>>,
    name: CString,
}

impl Place {
    fn path(&self) -> PathBuf {
        let mut names = vec![OsStr::from_bytes(self.name.as_bytes())];
        let mut above = self.above.as_deref();
        while let Some(place) = above {
            names.push(OsStr::from_bytes(place.name.as_bytes()));
            above = place.above.as_deref();
        }
        names.iter().rev().collect()
    }
}

/// Visits everything below `top`, a directory before what is in it, until `visit` breaks. Names that
/// vanish meanwhile are passed over.
///
/// # Errors
/// When a directory cannot be read; `ENAMETOOLONG` when its path is longer than the kernel takes.
pub(crate) fn walk(
    top: &OwnedFd,
    mut visit: impl FnMut(&Entry<'_>) -> nix::Result<ControlFlow<()>>,
) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let first = Rc::new(Place { above: None, name: c".".to_owned() });
    let mut waiting = vec![first];
    while let Some(place) = waiting.pop() {
        let directory = match openat2(top.as_fd(), &place.path(), how) {
            // Gone, or something else by now.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            directory => directory?,
        };
        let mut entries = Dir::from_fd(directory.try_clone().map_err(|_| Errno::EMFILE)?)?;
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(at) = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let entry = Entry { directory: &directory, name, at };
            if visit(&entry)?.is_break() {
                return Ok(());
            }
            if entry.kind() == SFlag::S_IFDIR {
                waiting.push(Rc::new(Place { above: Some(Rc::clone(&place)), name: name.to_owned() }));
            }
        }
    }
    Ok(())
}
