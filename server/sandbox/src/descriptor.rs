//! File descriptors between the server and a jail.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2};

/// A pipe: what is read, what is written. Both close when a program is executed, and the reading
/// side never blocks.
pub(crate) fn pipe() -> io::Result<(File, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(read), write))
}

/// Gives the writing side to the jail's user, who may then open it again by `/dev/stdout`.
pub(crate) fn give(pipe: &OwnedFd, user: Uid, group: Gid) -> io::Result<()> {
    Ok(fchown(pipe, Some(user), Some(group))?)
}

/// Bytes as a file that nobody can change, at its start.
pub(crate) fn constant(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Seek;
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// A file in memory that others write and we read afterwards.
pub(crate) fn notebook(name: &std::ffi::CStr) -> io::Result<(File, OwnedFd)> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    let writer = file.try_clone()?;
    Ok((file, writer.into()))
}

/// What was written into a notebook, at most 16 KiB of it.
pub(crate) fn read_notebook(file: &mut File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    if file.rewind().is_ok() {
        // A shorter log is still a log.
        let _ = file.take(16 << 10).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A descriptor that becomes readable when the process ends (pidfd_open(2)).
pub(crate) fn of_process(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: plain integers in, a new descriptor or -1 out.
    #[expect(unsafe_code, reason = "pidfd_open has no safe wrapper")]
    let descriptor = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, process.as_raw(), 0) };
    owned(descriptor)
}

/// Whether the descriptor became readable in time.
pub(crate) fn wait(descriptor: &OwnedFd, most: Duration) -> bool {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Kills the process behind a descriptor, and never another that got its number.
pub(crate) fn kill(process: &OwnedFd) {
    // SAFETY: plain integers and a null pointer in; no memory is touched.
    #[expect(unsafe_code, reason = "pidfd_send_signal has no safe wrapper")]
    // It fails only when the process is gone already.
    let _ = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            nix::libc::SIGKILL,
            std::ptr::null::<nix::libc::siginfo_t>(),
            0,
        )
    };
}

pub(crate) fn owned(descriptor: i64) -> io::Result<OwnedFd> {
    match i32::try_from(descriptor) {
        // SAFETY: the kernel just gave it to us alone.
        #[expect(unsafe_code, reason = "the kernel gives descriptors as numbers")]
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}
