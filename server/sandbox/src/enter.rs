//! Reaching into a jail from outside, before its program runs: bringing the workspace, opening the door.
//!
//! A child process that shares the server's memory and descriptors joins the namespaces of the jail's
//! first process, makes a few system calls there, and ends. Nothing of the server stays inside.

use std::io;
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::geteuid;

use crate::{descriptor, process};

/// Of linux/mount.h.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// Connections that wait until the server takes them.
const BACKLOG: libc::c_int = 128;

/// What is to be done in there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errand<'a> {
    /// The first process of the jail (pidfd_open(2)).
    pub process: &'a OwnedFd,
    /// What is mounted at `/work`: from [`tree`].
    pub tree: Option<&'a OwnedFd>,
    /// Where to listen.
    pub door: Option<SocketAddrV4>,
}

/// A directory with all that is mounted below it, mounted nowhere yet. For root only.
pub(crate) fn tree(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: an empty string that ends in a zero byte, and integers.
    #[expect(unsafe_code, reason = "open_tree has no wrapper")]
    let number = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), c"".as_ptr(), flags) };
    descriptor::owned(number)
}

impl Errand<'_> {
    /// Does it. The listener, if one was asked for.
    pub(crate) fn run(self) -> io::Result<Option<TcpListener>> {
        let mut namespaces = 0;
        if self.tree.is_some() {
            namespaces |= libc::CLONE_NEWNS;
        }
        if self.door.is_some() {
            namespaces |= libc::CLONE_NEWNET;
        }
        if namespaces == 0 {
            return Ok(None);
        }
        // Whoever made the jail's user namespace is almighty in it, but has to be there.
        if !geteuid().is_root() {
            namespaces |= libc::CLONE_NEWUSER;
        }
        let steps = Steps {
            process: self.process.as_raw_fd(),
            namespaces,
            tree: self.tree.map(AsRawFd::as_raw_fd),
            door: self.door.map(address),
        };
        let mut done = Ok(-1);
        process::aside(|| done = steps.take())?;
        let listener = done?;
        if listener < 0 {
            return Ok(None);
        }
        descriptor::owned(i64::from(listener)).map(TcpListener::from).map(Some)
    }
}

struct Steps {
    process: RawFd,
    namespaces: libc::c_int,
    tree: Option<RawFd>,
    door: Option<libc::sockaddr_in>,
}

impl Steps {
    /// In the child: system calls only, no allocation.
    fn take(&self) -> Result<RawFd, Errno> {
        let work = c"/work".as_ptr();
        let null = std::ptr::null();
        // SAFETY: integers, strings that end in zero bytes, and a structure that outlives its call.
        #[expect(unsafe_code, reason = "system calls only: the child shares the server's memory")]
        unsafe {
            Errno::result(libc::setns(self.process, self.namespaces))?;
            if let Some(tree) = self.tree {
                let moved = libc::syscall(
                    libc::SYS_move_mount,
                    tree,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    work,
                    MOVE_MOUNT_F_EMPTY_PATH,
                );
                Errno::result(moved)?;
                let private = libc::MS_PRIVATE | libc::MS_REC;
                Errno::result(libc::mount(null, work, null, private, null.cast()))?;
                let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV;
                Errno::result(libc::mount(null, work, null, flags, null.cast()))?;
            }
            let Some(address) = &self.door else { return Ok(-1) };
            let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
            let socket = Errno::result(libc::socket(libc::AF_INET, kind, 0))?;
            let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            let bound = Errno::result(libc::bind(socket, (&raw const *address).cast(), length))
                .and_then(|_| Errno::result(libc::listen(socket, BACKLOG)));
            match bound {
                Ok(_) => Ok(socket),
                Err(error) => {
                    libc::close(socket);
                    Err(error)
                }
            }
        }
    }
}

fn address(at: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: at.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*at.ip()).to_be() },
        sin_zero: [0; 8],
    }
}
