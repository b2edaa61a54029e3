//! A jail without a program: nsjail, and the first process that waits for its order.
//!
//! Everything that takes time is done here: nsjail links, reads its configuration, compiles the system
//! call policy, makes namespaces and mounts. A cell of a program that is known already is used at once.
//! One that was prepared ahead makes another jail when the one before is over ([`Turn::Again`]): nsjail
//! stays, outside, and makes all namespaces, mounts and the first process anew; no jail sees two programs.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::limits::Limits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::first::{First, Said};
use crate::group::Group;
use crate::process::{Process, Start, Used};
use crate::runtime::Prepared;
use crate::supervise::moment;
use crate::user::Lodger;
use crate::{descriptor, plan};

/// Where nsjail finds its configuration.
const CONFIGURATION: &std::ffi::CStr = c"/proc/self/fd/4";
/// A jail that is not set up by then never will be.
pub(crate) const SET_UP: Duration = Duration::from_secs(30);
/// How often nsjail is told to look for its child, which it can miss.
const NUDGE: Duration = Duration::from_millis(20);
/// Processes that were killed are gone by then, on a busy machine too.
pub(crate) const DYING: Duration = Duration::from_secs(10);

/// nsjail and a first process. Dropping it ends both, then the control group.
#[derive(Debug)]
pub(crate) struct Cell {
    process: Process,
    pub first: First,
    /// The first process, once it said that it is there (pidfd_open(2)).
    inside: Option<OwnedFd>,
    log: File,
    pub policy: Arc<Prepared>,
    pub group: Group,
    pub lodger: Arc<Lodger>,
    turn: Turn,
    /// It may still have an order that nobody read.
    pub spoiled: bool,
}

/// How many jails nsjail makes, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Once,
    Again,
}

/// What a cell is made of.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    pub nsjail: &'a CString,
    pub policy: Arc<Prepared>,
    pub group: Group,
    pub lodger: Arc<Lodger>,
    /// Scratch space is a share of it.
    pub memory: u64,
    /// What is `/work`; nothing yet in a cell that is prepared ahead.
    pub workspace: Option<&'a Path>,
    pub turn: Turn,
}

impl Cell {
    /// Starts nsjail; the first process will say that it is ready. The calling thread must live as long.
    pub(crate) fn start(making: Making<'_>) -> io::Result<Self> {
        let Making { nsjail, policy, group, lodger, memory, workspace, turn } = making;
        let instance = plan::cell(memory, lodger.map(), workspace);
        let text = [policy.text.as_str(), &instance.render()].concat();
        let (first, theirs) = First::pair()?;
        let (log, log_in) = descriptor::notebook(c"log")?;
        let mut command = vec![nsjail.clone(), c"--config".to_owned(), CONFIGURATION.to_owned()];
        if turn == Turn::Again {
            command.extend([c"--mode".to_owned(), c"r".to_owned()]);
        }
        let start = Start {
            command,
            descriptors: vec![
                File::open("/dev/null")?.into(),
                log_in.try_clone()?,
                log_in,
                theirs,
                descriptor::constant(c"configuration", text.as_bytes())?,
            ],
            entrance: group.entrance()?,
        };
        let process = start.spawn()?;
        Ok(Self { process, first, inside: None, log, policy, group, lodger, turn, spoiled: false })
    }

    /// Becomes readable when nsjail has ended.
    pub(crate) fn jailer(&self) -> &OwnedFd {
        self.process.descriptor()
    }

    /// Becomes readable when nothing of the jail is left: the first process of a process namespace is
    /// gone only after everybody else in there (pid_namespaces(7)).
    pub(crate) fn inside(&self) -> Option<&OwnedFd> {
        self.inside.as_ref()
    }

    /// The first process said that it is there.
    pub(crate) fn meet(&mut self, pid: Pid) -> io::Result<()> {
        let process = descriptor::of_process(pid)?;
        if !self.process.made(pid) {
            return Err(io::Error::other("the first process of the jail is gone already"));
        }
        self.inside = Some(process);
        Ok(())
    }

    /// Whether a jail that is not of this cell is the same user, and still there.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.lodger) > 1
    }

    /// Whether nsjail has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Whether nothing of the jail is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| descriptor::wait(inside, Duration::ZERO))
    }

    /// Ends whatever is left of the jail; then nsjail, unless it is to make another one.
    pub(crate) fn end(&mut self) {
        let gone = self.inside.as_ref().filter(|inside| {
            descriptor::kill(inside);
            descriptor::wait(inside, DYING)
        });
        match (gone, self.turn) {
            (Some(_), Turn::Again) => {}
            // Its children's time is in its own only if it sees them end.
            (Some(_), Turn::Once) if !self.group.counts_cpu() => self.let_end(),
            (Some(inside), Turn::Once) => self.process.end_after(inside),
            (None, _) => self.process.end(),
        }
    }

    fn let_end(&mut self) {
        let until = moment() + DYING;
        while !self.process.has_ended() && moment() < until {
            self.process.nudge();
            descriptor::wait(self.process.descriptor(), NUDGE);
        }
        self.process.end();
    }

    /// What nsjail and whom it saw end have used.
    pub(crate) fn used(&self) -> Used {
        self.process.used()
    }

    /// What nsjail said.
    pub(crate) fn log(&mut self) -> String {
        descriptor::read_notebook(&mut self.log)
    }

    /// Waits until the first process is ready, then lets everything rest. `stop` ends the waiting.
    ///
    /// # Errors
    /// Says why there is no jail.
    pub(crate) fn settle(&mut self, stop: &File) -> io::Result<()> {
        let until = moment() + SET_UP;
        loop {
            match self.first.hear() {
                Some(Said::Ready(pid)) => {
                    self.meet(pid)?;
                    // It has nothing to do but a timer that ticks, until the jail is over.
                    self.process.pause();
                    self.group.begin();
                    return Ok(());
                }
                Some(said) => return Err(io::Error::other(format!("the first process said {said:?}"))),
                None => {}
            }
            if self.process.has_ended() || moment() >= until {
                return Err(io::Error::other(self.log()));
            }
            self.process.nudge();
            let mut polled = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.first.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.process.descriptor().as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::try_from(NUDGE).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if polled[0].any() == Some(true) {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
        }
    }

    /// Makes another jail, when of the last one nothing is left but nsjail.
    ///
    /// # Errors
    /// When this cell can make none.
    pub(crate) fn renew(&mut self, limits: &Limits, stop: &File) -> io::Result<()> {
        if self.spoiled || !self.is_empty() || self.group.members().len() > 1 {
            return Err(io::Error::other("the last jail left something behind"));
        }
        self.group.forget_peak()?;
        self.group.limit(limits)?;
        self.inside = None;
        self.log.set_len(0)?;
        self.process.resume();
        self.settle(stop)
    }
}
