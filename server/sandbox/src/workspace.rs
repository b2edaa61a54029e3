//! The one directory that a jail shares with the server.
//!
//! What is in it was written by strangers: it is walked by descriptors, links are never followed,
//! nothing in it is opened but directories.

use std::ffi::CStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat, geteuid};
use ports::sandbox::SandboxError;

use crate::disk;
use crate::tree::{self, Entry};
use crate::user::Lodger;

/// A workspace that a jail's user owns.
#[derive(Debug)]
pub(crate) struct Workspace {
    directory: OwnedFd,
}

/// Opens it and sees that `start` is a directory inside.
///
/// # Errors
/// Says which directory is not there, or not open to the jail's user.
pub(crate) fn open(path: &Path, start: &Path) -> Result<Workspace, SandboxError> {
    if !path.is_absolute() {
        return Err(SandboxError::Refused(format!(
            "the workspace {} is not an absolute path",
            path.display()
        )));
    }
    let directory = disk::open(path).map_err(|error| {
        SandboxError::Refused(format!("the workspace {}: {}", path.display(), error.desc()))
    })?;
    if geteuid().is_root() {
        closed_parent(path)?;
    }
    let outside =
        || SandboxError::Refused(format!("the directory `{}` leaves the workspace", start.display()));
    if start.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    if start.components().any(|part| matches!(part, Component::Normal(_))) {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&directory, start, how).map_err(|error| match error {
            Errno::EXDEV | Errno::ELOOP => outside(),
            error => SandboxError::Refused(format!(
                "the directory `{}` of the workspace: {}",
                start.display(),
                error.desc()
            )),
        })?;
    }
    Ok(Workspace { directory })
}

/// nsjail opens what it mounts as the jail's user, who must be let through every directory above.
pub(crate) fn closed_parent(path: &Path) -> Result<(), SandboxError> {
    for above in path.ancestors().skip(1) {
        let open = fs::metadata(above).is_ok_and(|at| at.permissions().mode() & 0o001 != 0);
        if !open {
            return Err(SandboxError::Refused(format!(
                "{} lies in {}, which lets nobody through to it: chmod o+x {}",
                path.display(),
                above.display(),
                above.display()
            )));
        }
    }
    Ok(())
}

impl Workspace {
    /// For counting what is in it.
    pub(crate) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.directory.try_clone()
    }

    /// Makes the jail's user the owner of everything that it does not own yet.
    pub(crate) fn give(&self, lodger: &Lodger) -> nix::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let (user, group) = (lodger.user(), lodger.group());
        own(&self.directory, user, group)?;
        tree::walk(&self.directory, |&Entry { directory, name, ref at }| {
            if at.st_uid != user.as_raw() || at.st_gid != group.as_raw() {
                fchownat(directory, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Makes everything readable and removable for a server that is not root, whatever permissions
    /// the program left. Root needs none.
    pub(crate) fn take_back(&self) -> nix::Result<()> {
        if geteuid().is_root() {
            return Ok(());
        }
        reopen(&self.directory, c".")?;
        tree::walk(&self.directory, |entry| {
            let needed = match entry.kind() {
                SFlag::S_IFDIR => Mode::S_IRWXU,
                SFlag::S_IFREG => Mode::S_IRUSR | Mode::S_IWUSR,
                _ => return Ok(ControlFlow::Continue(())),
            };
            let has = Mode::from_bits_truncate(entry.at.st_mode);
            if !has.contains(needed) {
                // Nobody is left who could put a link in the place of what was just looked at.
                fchmodat(entry.directory, entry.name, has | needed, FchmodatFlags::FollowSymlink)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

fn own(directory: &OwnedFd, user: Uid, group: Gid) -> nix::Result<()> {
    let at = fstat(directory)?;
    if at.st_uid != user.as_raw() || at.st_gid != group.as_raw() {
        fchown(directory, Some(user), Some(group))?;
    }
    Ok(())
}

fn reopen(directory: &OwnedFd, name: &CStr) -> nix::Result<()> {
    let has = Mode::from_bits_truncate(fstat(directory)?.st_mode);
    if !has.contains(Mode::S_IRWXU) {
        fchmodat(directory, name, has | Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}
