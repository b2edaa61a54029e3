//! Starting nsjail, watching it, ending it.
//!
//! Each jail has a thread of its own, which starts nsjail and stays until it is gone: nsjail asks to
//! be killed when *the thread* that made it ends (prctl(2), PR_SET_PDEATHSIG), so also when the
//! thread panics or the server is killed.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::descriptor;
use crate::group::Entrance;

/// What to start.
#[derive(Debug)]
pub(crate) struct Start {
    /// The program, then its arguments, without the program's own name.
    pub command: Vec<CString>,
    /// What becomes descriptor 0, 1, 2 …; all others are closed.
    pub descriptors: Vec<OwnedFd>,
    /// Into which control groups.
    pub entrance: Entrance,
}

/// A child process that is not reaped yet, so that its number is its own.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: OwnedFd,
    reaped: Option<Used>,
}

/// What a process and all its descendants that were waited for have used (getrusage(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// The most memory of any one of them, bytes.
    pub memory: u64,
}

/// Most descriptors that a program can be given.
const MOST_DESCRIPTORS: usize = 16;
const STACK: usize = 64 << 10;
/// Of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

impl Start {
    /// Starts it. The calling thread waits until the program is executed, as with vfork(2), and must
    /// live as long as the process.
    ///
    /// # Errors
    /// When it cannot be executed or the groups cannot be entered.
    pub(crate) fn spawn(&self) -> io::Result<Process> {
        debug_assert!(self.descriptors.len() <= MOST_DESCRIPTORS);
        let mut arguments: Vec<*const libc::c_char> =
            self.command.iter().map(|argument| argument.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let descriptors: Vec<RawFd> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let doors: Vec<RawFd> = match &self.entrance {
            Entrance::Move(doors) => doors.iter().map(AsRawFd::as_raw_fd).collect(),
            Entrance::BeBorn(_) => Vec::new(),
        };
        let (mut failure, failed) = pipe2(OFlag::O_CLOEXEC).map(|(read, write)| (File::from(read), write))?;
        let birth = Birth {
            arguments: &arguments,
            descriptors: &descriptors,
            doors: &doors,
            server: std::process::id(),
            failed: failed.as_raw_fd(),
        };
        let pid = undisturbed(|| match &self.entrance {
            Entrance::Move(_) => share(CloneFlags::empty(), || birth.fail(birth.become_program())),
            Entrance::BeBorn(group) => birth.inside(group),
        })?;
        drop(failed);
        let mut error = [0; 4];
        if failure.read_exact(&mut error).is_ok() {
            let _ = waitpid(pid, None);
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(error)));
        }
        match descriptor::of_process(pid) {
            Ok(descriptor) => Ok(Process { pid, descriptor, reaped: None }),
            Err(error) => {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, None);
                Err(error)
            }
        }
    }
}

/// Does a few system calls in a process of their own, which shares memory and descriptors with the
/// server and nothing else, and ends.
pub(crate) fn aside(mut steps: impl FnMut()) -> io::Result<()> {
    let pid = undisturbed(|| {
        share(CloneFlags::CLONE_FILES, || {
            steps();
            0
        })
    })?;
    wait(pid, 0);
    Ok(())
}

/// No handler of the server may run in a child while it shares the server's memory.
fn undisturbed<T>(what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
    let result = what();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    result
}

/// A process that shares the server's memory until it executes a program or ends.
fn share(more: CloneFlags, body: impl FnMut() -> isize) -> io::Result<Pid> {
    let mut stack = vec![0u8; STACK];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK | more;
    // SAFETY: until the child executes a program or ends, this thread stands still (CLONE_VFORK)
    // and so do the stack and everything borrowed; the child makes system calls only.
    #[expect(
        unsafe_code,
        reason = "a copy of the server's page tables per stage would cost more than the rest"
    )]
    let pid = unsafe { clone(Box::new(body), &mut stack, flags, Some(libc::SIGCHLD)) };
    Ok(pid?)
}

/// What a new process needs to become the program, ready before it is made.
struct Birth<'a> {
    arguments: &'a [*const libc::c_char],
    descriptors: &'a [RawFd],
    doors: &'a [RawFd],
    server: u32,
    /// Where the error number goes if it cannot; closed by the program's start.
    failed: RawFd,
}

impl Birth<'_> {
    /// As a copy of the server, in a group from its first moment on.
    fn inside(&self, group: &OwnedFd) -> io::Result<Pid> {
        let mut arguments = [0u64; 11];
        arguments[0] = CLONE_INTO_CGROUP | u64::from(libc::CLONE_VFORK.unsigned_abs());
        arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
        arguments[10] = u64::try_from(group.as_raw_fd()).unwrap_or_default();
        // SAFETY: the array is `struct clone_args` of clone(2). The child has a copy of this thread and
        // its stack, makes system calls only, and never returns.
        #[expect(unsafe_code, reason = "clone3 has no wrapper")]
        let pid = unsafe {
            let pid = libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments));
            if pid == 0 {
                let code = self.fail(self.become_program());
                libc::_exit(i32::try_from(code).unwrap_or(127));
            }
            pid
        };
        match i32::try_from(pid) {
            Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn fail(&self, error: Errno) -> isize {
        let number = (error as i32).to_ne_bytes();
        // SAFETY: four bytes that are there.
        #[expect(unsafe_code, reason = "between clone and exec there are only system calls")]
        unsafe {
            libc::write(self.failed, number.as_ptr().cast(), number.len());
        }
        127
    }

    /// In the child: system calls only, no allocation.
    fn become_program(&self) -> Errno {
        let environment = [std::ptr::null::<libc::c_char>()];
        // SAFETY: integers, and pointers to arrays that end in a null and outlive the call.
        #[expect(unsafe_code, reason = "between clone and exec there are only system calls")]
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Errno::last();
            }
            if u32::try_from(libc::getppid()) != Ok(self.server) {
                return Errno::ESRCH;
            }
            for &door in self.doors {
                if libc::write(door, c"0".as_ptr().cast(), 1) != 1 {
                    return Errno::last();
                }
            }
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::setsid();
            libc::umask(0o022);
            // First out of the way of each other, then to where they belong.
            let mut copies = [-1; MOST_DESCRIPTORS];
            for (copy, &source) in copies.iter_mut().zip(self.descriptors) {
                *copy = libc::fcntl(source, libc::F_DUPFD, MOST_DESCRIPTORS);
                if *copy < 0 {
                    return Errno::last();
                }
            }
            for (target, &copy) in (0..).zip(&copies).take(self.descriptors.len()) {
                if libc::dup2(copy, target) < 0 {
                    return Errno::last();
                }
            }
            // All others close when the program starts, which `failed` is for.
            libc::syscall(libc::SYS_close_range, self.descriptors.len(), u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            let mut nothing = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut nothing);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, std::ptr::null_mut());
            libc::execve(self.arguments[0], self.arguments.as_ptr(), environment.as_ptr());
            Errno::last()
        }
    }
}

impl Process {
    /// Readable once it has ended.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Tells nsjail to look whether its child has ended: it can miss that and then sleeps on.
    pub(crate) fn nudge(&self) {
        let _ = kill(self.pid, Signal::SIGCHLD);
    }

    /// It does nothing until it is resumed, whatever happens.
    pub(crate) fn pause(&self) {
        let _ = kill(self.pid, Signal::SIGSTOP);
    }

    /// The end of a pause.
    pub(crate) fn resume(&self) {
        let _ = kill(self.pid, Signal::SIGCONT);
    }

    /// Ends a process whose only child has ended, and waits for it.
    pub(crate) fn end_after(&mut self, child: &OwnedFd) {
        if self.reaped.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
            self.reaped = Some(wait(self.pid, 0).unwrap_or_default());
        }
        inherit(child);
    }

    /// Whether it made this process, which is still there. One that it left behind when it was killed
    /// is known by being the first of a process namespace.
    pub(crate) fn made(&mut self, child: Pid) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        // proc_pid_status(5): the parent, and the numbers from our namespace to its own.
        let last = |key| status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().last());
        let number = |key| last(key).and_then(|number| number.parse().ok());
        number("PPid:") == Some(self.pid.as_raw()) || self.has_ended() && number("NSpid:") == Some(1)
    }

    /// Reaps the process if it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.reaped = self.reaped.or_else(|| wait(self.pid, libc::WNOHANG));
        self.reaped.is_some()
    }

    /// What it used, once it has ended.
    pub(crate) fn used(&self) -> Used {
        self.reaped.unwrap_or_default()
    }

    /// Ends the process and its children, and waits for them. For nsjail that is all of the jail:
    /// its only child is the first process of a process namespace, and that one's end is complete
    /// only when everybody in there is gone (pid_namespaces(7)).
    ///
    /// The process is stopped before its children are listed, so it can neither make another one nor
    /// reap one and free its number.
    pub(crate) fn end(&mut self) {
        if self.reaped.is_some() {
            return;
        }
        let _ = kill(self.pid, Signal::SIGSTOP);
        let _ =
            waitid(Id::Pid(self.pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let children: Vec<OwnedFd> =
            children(self.pid).into_iter().filter_map(|child| descriptor::of_process(child).ok()).collect();
        for child in &children {
            descriptor::kill(child);
        }
        for child in &children {
            descriptor::wait(child, Duration::from_secs(10));
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        self.reaped = Some(wait(self.pid, 0).unwrap_or_default());
        children.iter().for_each(inherit);
    }
}

/// Reaps what a process left behind that we ended before it reaped it. It is ours if we are the first
/// process, as in a container, and somebody else's if not.
fn inherit(child: &OwnedFd) {
    let _ = waitid(Id::PIDFd(child.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
}

/// Reaps a child; `None` when it has not ended. A child that is not ours to reap has ended.
fn wait(process: Pid, options: libc::c_int) -> Option<Used> {
    loop {
        // SAFETY: the structure is plain numbers, for which all zeros are a value; the kernel fills it.
        #[expect(unsafe_code, reason = "wait4 has no safe wrapper")]
        let (result, usage) = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            (libc::wait4(process.as_raw(), std::ptr::null_mut(), options, &raw mut usage), usage)
        };
        match result {
            0 => return None,
            -1 if Errno::last() == Errno::EINTR => {}
            _ => {
                let time = |at: libc::timeval| {
                    let micros = at.tv_sec.saturating_mul(1_000_000).saturating_add(at.tv_usec);
                    Duration::from_micros(micros.try_into().unwrap_or_default())
                };
                let memory = u64::try_from(usage.ru_maxrss).unwrap_or_default() << 10;
                return Some(Used { cpu: time(usage.ru_utime) + time(usage.ru_stime), memory });
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The children of a process, from all its threads.
fn children(process: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|number| number.parse().ok()).map(Pid::from_raw));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::Path;

    use super::Start;
    use crate::descriptor;
    use crate::group::Entrance;

    /// What `/bin/sh` writes, or the error of starting the program.
    fn check(
        program: &std::ffi::CStr,
        script: &std::ffi::CStr,
        entrance: Entrance,
    ) -> std::io::Result<String> {
        let (reader, writer) = descriptor::pipe().unwrap();
        let null = || File::open("/dev/null").unwrap().into();
        let command = vec![program.to_owned(), c"-c".to_owned(), script.to_owned()];
        let mut process = Start { command, descriptors: vec![null(), writer, null()], entrance }.spawn()?;
        assert!(descriptor::wait(process.descriptor(), std::time::Duration::from_secs(20)));
        assert!(process.has_ended());
        let mut text = String::new();
        let mut reader: File = reader;
        reader.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn the_program_has_its_descriptors_and_no_others() {
        let none = || Entrance::Move(Vec::new());
        // 3 is the directory that is read.
        assert_eq!(check(c"/bin/sh", c"ls /proc/self/fd | tr '\\n' ' '", none()).unwrap(), "0 1 2 3 ");
        assert_eq!(check(c"/bin/sh", c"env | grep -v -e PWD -e SHLVL -e _=", none()).unwrap(), "");
        assert_eq!(check(c"/nonexistent", c"", none()).unwrap_err().raw_os_error(), Some(2));
        let closed = Entrance::Move(vec![File::open("/dev/null").unwrap().into()]);
        assert_eq!(check(c"/bin/sh", c"true", closed).unwrap_err().raw_os_error(), Some(9));
    }

    #[test]
    fn a_process_is_born_in_its_group() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let tree =
            mounts.lines().find(|line| line.contains(" cgroup2 ")).and_then(|line| line.split(' ').nth(1));
        let name = format!("spellbook-born-{}", std::process::id());
        let Some(group) =
            tree.map(|tree| Path::new(tree).join(&name)).filter(|group| fs::create_dir(group).is_ok())
        else {
            // Without such a tree, or the right to make groups in it, the other way in is taken.
            let missing = File::open("/").unwrap().into();
            assert!(check(c"/bin/sh", c"true", Entrance::BeBorn(missing)).is_err());
            return;
        };
        let found = check(
            c"/bin/sh",
            c"grep ^0 /proc/self/cgroup",
            Entrance::BeBorn(File::open(&group).unwrap().into()),
        );
        let missing = check(c"/nonexistent", c"", Entrance::BeBorn(File::open(&group).unwrap().into()));
        fs::remove_dir(&group).unwrap();
        assert!(found.unwrap().trim_end().ends_with(&format!("/{name}")));
        assert_eq!(missing.unwrap_err().raw_os_error(), Some(2));
    }
}
