//! The life of one jail, from its workspace to its report, on a thread of its own.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use ports::sandbox::{DOOR, JailReport, JailSpec, Network, SandboxError, Stdin};

use crate::cell::{Cell, DYING, Making, SET_UP, Turn};
use crate::descriptor;
use crate::disk::{Space, Watch};
use crate::end::{Cut, Signs, tell};
use crate::enter::{self, Errand};
use crate::first::{Order, Said, Wish};
use crate::group::{Controller, Groups};
use crate::output::{Drain, Queue};
use crate::plan::{self, ProcessBound};
use crate::runtime::{ENV, Toolchain};
use crate::tenancy::Tenant;
use crate::user::{Lodger, Users};
use crate::workspace::{self, Workspace};

/// A jail whose program has ended is gone by then, or ended.
const WIND_UP: Duration = Duration::from_secs(2);
/// A program is ended when it writes more than this many times what is kept of its output.
const OUTPUT_FACTOR: u64 = 64;

/// Everything about one jail.
#[derive(Debug)]
pub(crate) struct Job {
    pub spec: JailSpec,
    pub nsjail: CString,
    pub toolchain: Toolchain,
    pub groups: Groups,
    pub users: Users,
    pub tenant: Tenant,
}

/// The present moment, of a clock that nobody sets.
pub(crate) fn moment() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "time limits of processes are this crate's business")]
    Instant::now()
}

/// Waits on a thread of our own for the kernel, which has no event for what is waited for.
pub(crate) fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "there is nothing to wait on but time")]
    std::thread::sleep(duration);
}

fn set_up(what: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |error| SandboxError::SetUp(format!("{what}: {error}"))
}

/// Runs the jail in a cell of its own; returns when nothing of it is left. Ends it when `stop` becomes
/// readable.
///
/// # Errors
/// When there was no jail.
pub(crate) fn run(job: &Job, stop: &File, queue: &Arc<Queue>) -> Result<JailReport, SandboxError> {
    let spec = &job.spec;
    let policy = job.toolchain.policy().map_err(set_up("the policy"))?;
    let workspace = workspace::open(&spec.workspace, &spec.directory)?;
    let stay = job.tenant.enter(|| job.users.take()).ok_or_else(too_many)?;
    give(&workspace, &stay.owner)?;
    let group = job.groups.lend(&spec.limits).map_err(set_up("its control group"))?;
    let watch = watch(&workspace, spec)?;
    let making = Making {
        nsjail: &job.nsjail,
        policy,
        group,
        lodger: Arc::clone(&stay.owner),
        memory: spec.limits.memory,
        workspace: Some(&spec.workspace),
        turn: Turn::Once,
    };
    let mut cell = Cell::start(making).map_err(|error| not_spawned(&job.nsjail, &error))?;
    let mut running = Running::begin(job, &mut cell, queue)?;
    if let Network::None = spec.network {
        // It waits in the socket; nothing has to be done between the jail and its program.
        running.order()?;
    }
    let report = running.attend(watch, stop)?;
    let Cell { group, .. } = cell;
    job.groups.give_back(group).map_err(set_up("its end"))?;
    stay.leave(|| take_back(&workspace))?;
    report.tell(job)
}

/// The same in a cell that was prepared.
///
/// # Errors
/// When there was no jail; without a reason when this cell is of no use and another one may be.
pub(crate) fn run_in(
    job: &Job,
    cell: &mut Cell,
    stop: &File,
    queue: &Arc<Queue>,
) -> Result<JailReport, Option<SandboxError>> {
    let spec = &job.spec;
    if cell.has_ended() || cell.is_empty() {
        return Err(None);
    }
    let workspace = workspace::open(&spec.workspace, &spec.directory)?;
    let stay = job.tenant.enter_as(&cell.lodger).ok_or(None)?;
    give(&workspace, &stay.owner)?;
    let watch = watch(&workspace, spec)?;
    cell.group.limit(&spec.limits).map_err(|_| None)?;
    let directory = workspace.descriptor().map_err(set_up("the workspace"))?;
    let tree = enter::tree(&directory).map_err(|_| None)?;
    let mut running = Running::begin(job, cell, queue)?;
    running.enter(Some(&tree)).map_err(|error| match error {
        SandboxError::Unavailable(_) => Some(error),
        _ => None,
    })?;
    drop(tree);
    running.order()?;
    let ended = running.attend(watch, stop)?;
    if !ended.signs.started && ended.signs.cut.is_none() {
        // It died while it rested.
        return Err(None);
    }
    stay.leave(|| take_back(&workspace))?;
    Ok(ended.tell(job)?)
}

fn watch(workspace: &Workspace, spec: &JailSpec) -> Result<Watch, SandboxError> {
    let directory = workspace.descriptor().map_err(set_up("the workspace"))?;
    Ok(Watch::new(directory, spec.limits.disk, moment()))
}

pub(crate) fn too_many() -> SandboxError {
    SandboxError::Unavailable("too many jails at once".to_owned())
}

fn give(workspace: &Workspace, lodger: &Lodger) -> Result<(), SandboxError> {
    workspace.give(lodger).map_err(|error| set_up("the workspace")(error.into()))
}

fn take_back(workspace: &Workspace) -> Result<(), SandboxError> {
    workspace.take_back().map_err(|error| set_up("taking back the workspace")(error.into()))
}

fn not_spawned(nsjail: &CString, error: &io::Error) -> SandboxError {
    let text = format!("nsjail ({}) could not be started: {error}", nsjail.to_string_lossy());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => SandboxError::Unavailable(text),
        _ => SandboxError::SetUp(text),
    }
}

/// How it went, when nothing is left.
struct Ended {
    signs: Signs,
    report: JailReport,
}

impl Ended {
    fn tell(self, job: &Job) -> Result<JailReport, SandboxError> {
        let program = job.spec.command.first().map(String::as_str).unwrap_or_default();
        let end = tell(&self.signs, program)?;
        Ok(JailReport { end, ..self.report })
    }
}

/// A jail with something in it.
struct Running<'a> {
    job: &'a Job,
    cell: &'a mut Cell,
    /// Until it is given.
    order: Option<Order>,
    /// Whoever serves the door; closes it when dropped.
    door: Option<Box<dyn Send>>,
    drain: Drain,
    signs: Signs,
    /// When the program started and ended.
    times: (Option<Instant>, Option<Instant>),
    /// How long after its deadline it was ended.
    late: Option<Duration>,
}

impl<'a> Running<'a> {
    fn begin(job: &'a Job, cell: &'a mut Cell, queue: &Arc<Queue>) -> Result<Self, SandboxError> {
        let (order, drain) = write_order(job, &cell.lodger, queue).map_err(set_up("its order"))?;
        Ok(Self {
            job,
            cell,
            order: Some(order),
            door: None,
            drain,
            signs: Signs::default(),
            times: (None, None),
            late: None,
        })
    }

    fn order(&mut self) -> Result<(), SandboxError> {
        let Some(order) = self.order.take() else { return Ok(()) };
        match self.cell.first.give(&order) {
            // Nobody is there any more; the log says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            given => given.map_err(set_up("its order")),
        }
    }

    /// Brings the workspace, if it is not there, and opens the door, if there is to be one.
    fn enter(&mut self, tree: Option<&std::os::fd::OwnedFd>) -> Result<(), SandboxError> {
        let Some(process) = self.cell.inside() else { return Ok(()) };
        let address = match (&self.job.spec.network, DOOR) {
            (Network::Door(_), SocketAddr::V4(address)) => Some(address),
            _ => None,
        };
        let errand = Errand { process, tree, door: address };
        let listener = errand.run().map_err(set_up("entering the jail"))?;
        if let (Network::Door(door), Some(listener)) = (&self.job.spec.network, listener) {
            let refused = |error| SandboxError::Unavailable(format!("nobody serves its door: {error}"));
            self.door = Some(door.open(listener).map_err(refused)?);
        }
        Ok(())
    }

    /// From the order to the end, and a little further: nothing is left when this returns.
    fn attend(mut self, mut watch: Watch, stop: &File) -> Result<Ended, SandboxError> {
        let watched = self.watch(&mut watch, stop);
        self.finish();
        // Nobody is left who could knock.
        self.door = None;
        watched?;
        self.cell.spoiled = self.signs.status.is_none();
        let usage = self.cell.group.usage();
        let used = self.cell.used();
        let mut signs = self.signs;
        signs.memory_kills = usage.memory_kills;
        let space = match signs.status {
            Some(0) => watch.last_look(),
            _ => watch.exact_look(),
        };
        signs.full = space == Space::Full;
        if signs.status.is_none() {
            signs.log = self.cell.log();
        }
        let wall = match self.times {
            (Some(started), Some(ended)) => ended.saturating_duration_since(started),
            _ => Duration::ZERO,
        };
        let report = JailReport {
            end: ports::sandbox::JailEnd::Cancelled,
            wall,
            cpu: usage.cpu.unwrap_or(used.cpu),
            memory_peak: usage.memory_peak.max(used.memory),
            output_bytes: self.drain.seen(),
            output_truncated: self.drain.dropped(),
            policy: self.cell.policy.hash.clone(),
        };
        Ok(Ended { signs, report })
    }

    /// Until the jail is over by itself, or there is a reason to end it.
    fn watch(&mut self, watch: &mut Watch, stop: &File) -> Result<(), SandboxError> {
        let limits = &self.job.spec.limits;
        let begun = moment();
        loop {
            let now = moment();
            while let Some(said) = self.cell.first.hear() {
                self.heard(said, now)?;
            }
            let deadline = match self.times {
                (_, Some(ended)) => ended + WIND_UP,
                (Some(started), None) => started + limits.timeout,
                (None, None) => begun + SET_UP,
            };
            let mut wake = deadline;
            if self.cell.is_empty() {
                return Ok(());
            }
            if self.times.1.is_some() {
                if self.cell.inside().is_none() || now >= deadline {
                    return Ok(());
                }
            } else {
                if watch.next() <= now && watch.look(now, self.cell.group.census()) == Space::Full {
                    self.signs.cut = Some(Cut::DiskFull);
                }
                if self.drain.seen() > limits.output.saturating_mul(OUTPUT_FACTOR) {
                    self.signs.cut = Some(Cut::OutputLimit);
                }
                if now >= deadline {
                    self.signs.cut = Some(Cut::TimedOut);
                    self.late = Some(now - deadline);
                }
                wake = wake.min(watch.next());
            }
            if self.cell.has_ended() {
                return Ok(());
            }
            if self.wait(wake.saturating_duration_since(now), stop) && self.times.1.is_none() {
                self.signs.cut = Some(Cut::Cancelled);
            }
            if self.signs.cut.is_some() {
                return Ok(());
            }
        }
    }

    /// Waits for something to happen and takes the output. Says whether the jail is to stop.
    fn wait(&mut self, most: Duration, stop: &File) -> bool {
        // Rounded up: a wait that ends too early would be repeated without pause.
        let timeout = PollTimeout::try_from(most + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut polled = vec![
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.cell.jailer().as_fd(), PollFlags::POLLIN),
        ];
        polled.extend(self.cell.inside().map(|inside| PollFd::new(inside.as_fd(), PollFlags::POLLIN)));
        // After the program's end nothing more is said, but that nobody is there.
        if self.times.1.is_none() {
            polled.push(PollFd::new(self.cell.first.as_fd(), PollFlags::POLLIN));
        }
        polled.extend(self.drain.pipes().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "poll"),
        }
        let stop = polled[0].revents().is_some_and(|events| !events.is_empty());
        drop(polled);
        self.drain.take();
        stop
    }

    fn heard(&mut self, said: Said, now: Instant) -> Result<(), SandboxError> {
        match said {
            Said::Ready(pid) => self.ready(pid)?,
            Said::NotEntered(error) => {
                let why = io::Error::from_raw_os_error(error);
                let directory = self.job.spec.directory.display();
                return Err(SandboxError::Refused(format!(
                    "the directory `{directory}` of the workspace: {why}"
                )));
            }
            Said::Started => {
                self.signs.started = true;
                self.times.0 = Some(now);
            }
            Said::NotStarted(error) => self.signs.not_executed = Some(error),
            Said::Ended(status) => {
                self.signs.status = Some(status);
                self.times.1 = Some(now);
            }
        }
        Ok(())
    }

    fn ready(&mut self, pid: Pid) -> Result<(), SandboxError> {
        // A jail that is over this soon has said, or will not say, why.
        if self.cell.meet(pid).is_ok() && self.order.is_some() {
            self.enter(None)?;
            self.order()?;
        }
        Ok(())
    }

    /// Ends what is left and takes the last output: everybody who could write is gone, so what is in
    /// the pipes is all there is.
    fn finish(&mut self) {
        let before = moment();
        self.order = None;
        self.cell.end();
        self.end_orphan();
        let now = moment();
        if let Some(late) = self.late {
            let name = &self.job.spec.name;
            let (late, took) = (late.as_millis(), now.saturating_duration_since(before).as_millis());
            tracing::info!(
                jail.name = name.as_str(),
                jail.late_ms = u64::try_from(late).unwrap_or(u64::MAX),
                "jail {name} was ended {late} ms after its time was up, and was gone {took} ms later"
            );
        }
        self.hear_out(now);
        while self.drain.take() {}
        self.times.1.get_or_insert(now);
    }

    /// A first process that nobody met before its nsjail was killed ends by itself, but when it likes.
    fn end_orphan(&mut self) {
        while self.cell.inside().is_none() {
            let silent = self.cell.first.is_silent(DYING);
            self.hear_out(moment());
            if self.cell.inside().is_some() {
                self.cell.end();
            }
            if silent {
                return;
            }
        }
    }

    fn hear_out(&mut self, now: Instant) {
        while let Some(said) = self.cell.first.hear() {
            // What could go wrong now went wrong before.
            let _ = self.heard(said, now);
        }
    }
}

fn write_order(job: &Job, lodger: &Lodger, queue: &Arc<Queue>) -> io::Result<(Order, Drain)> {
    let spec = &job.spec;
    let (stdout, stdout_in) = descriptor::pipe()?;
    let (stderr, stderr_in) = descriptor::pipe()?;
    for pipe in [&stdout_in, &stderr_in] {
        descriptor::give(pipe, lodger.user(), lodger.group())?;
    }
    let stdin = match &spec.stdin {
        Stdin::Bytes(bytes) if bytes.is_empty() => File::open("/dev/null")?.into(),
        Stdin::Bytes(bytes) => descriptor::constant(c"stdin", bytes)?,
        Stdin::Pipe(pipe) => {
            let pipe = pipe.try_clone()?;
            descriptor::give(&pipe, lodger.user(), lodger.group())?;
            pipe
        }
    };
    let order = Order::write(Wish {
        directory: &plan::inside(&spec.directory),
        command: &spec.command,
        env: &ENV,
        more_env: &spec.env,
        limits: &plan::rlimits(&spec.limits, process_bound(&job.groups)),
        seconds: plan::net_seconds(&spec.limits),
        standard: [stdin, stdout_in, stderr_in],
    })?;
    Ok((order, Drain::new(stdout, stderr, Arc::clone(queue), spec.limits.output)))
}

/// Without a control group for it, the kernel's own count must do.
pub(crate) fn process_bound(groups: &Groups) -> ProcessBound {
    if groups.missing().iter().any(|missing| missing.controller == Controller::Pids) {
        ProcessBound::Rlimit
    } else {
        ProcessBound::Group
    }
}
