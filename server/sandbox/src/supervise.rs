//! The life of one jail, from its control group to its report, on a thread of its own.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ports::sandbox::{JailReport, JailSpec, SandboxError};

use crate::descriptor;
use crate::disk::{Space, Watch};
use crate::end::{Cut, Signs, tell};
use crate::group::{Controller, Group, Groups};
use crate::output::{Drain, Queue};
use crate::plan::{self, ProcessBound};
use crate::process::{Process, Start};
use crate::root::INIT_PATH;
use crate::runtime::Toolchain;
use crate::user::{Lodger, Users};
use crate::workspace;

/// What the first process expects to find open: status, then the program's input, output and error.
const PASSED: [i32; 4] = [3, 4, 5, 6];
/// Where nsjail finds its configuration.
const CONFIGURATION: &str = "/proc/self/fd/7";
/// A jail that is not set up by then never will be.
const SET_UP: Duration = Duration::from_secs(30);
/// A jail whose program has ended is gone by then, or ended.
const WIND_UP: Duration = Duration::from_secs(2);
/// How often nsjail is told to look for its child, first and later.
const NUDGE: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(20)];
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

/// Runs the jail; returns when nothing of it is left. Ends it when `stop` becomes readable.
///
/// # Errors
/// When there was no jail.
pub(crate) fn run(job: &Job, stop: &File, queue: &Arc<Queue>) -> Result<JailReport, SandboxError> {
    let spec = &job.spec;
    let set_up = |what: &'static str| move |error: io::Error| SandboxError::SetUp(format!("{what}: {error}"));
    let policy = job.toolchain.policy().map_err(set_up("the policy"))?;
    let workspace = workspace::open(&spec.workspace, &spec.directory)?;
    let lodger =
        job.users.take().ok_or_else(|| SandboxError::Unavailable("too many jails at once".to_owned()))?;
    workspace.give(&lodger).map_err(|error| set_up("the workspace")(error.into()))?;
    let group = job.groups.create(&spec.name, &spec.limits).map_err(set_up("its control group"))?;
    let directory = workspace.descriptor().map_err(set_up("the workspace"))?;
    let mut watch = Watch::new(directory, spec.limits.disk, moment());

    let mut running = Running::start(job, &policy.text, &lodger, &group, queue)?;
    running.watch(&spec.limits, &group, &mut watch, stop);
    running.finish(&spec.name);
    let signs = &mut running.signs;
    let usage = group.usage();
    signs.memory_kills = usage.memory_kills;
    let space = match signs.status {
        Some(0) => watch.last_look(moment()),
        _ => watch.exact_look(moment()),
    };
    signs.full = space == Space::Full;
    signs.log = descriptor::read_notebook(&mut running.log);
    group.remove().map_err(set_up("its end"))?;
    workspace.take_back().map_err(|error| set_up("taking back the workspace")(error.into()))?;

    let program = spec.command.first().map(String::as_str).unwrap_or_default();
    let end = tell(signs, program)?;
    let used = running.process.used();
    Ok(JailReport {
        end,
        wall: running.wall(),
        cpu: usage.cpu.unwrap_or(used.cpu),
        memory_peak: usage.memory_peak.max(used.memory),
        output_bytes: running.drain.seen(),
        output_truncated: running.drain.dropped(),
        policy: policy.hash.clone(),
    })
}

/// A jail with something in it.
struct Running {
    process: Process,
    status: File,
    /// Of a message that came in part.
    partial: Vec<u8>,
    drain: Drain,
    log: File,
    signs: Signs,
    /// When the program started and ended.
    times: (Option<Instant>, Option<Instant>),
    /// How long after its deadline it was ended.
    late: Option<Duration>,
}

impl Running {
    fn start(
        job: &Job,
        policy: &str,
        lodger: &Lodger,
        group: &Group,
        queue: &Arc<Queue>,
    ) -> Result<Self, SandboxError> {
        Self::spawn(job, policy, lodger, group, queue).map_err(|error| {
            let nsjail = job.nsjail.to_string_lossy();
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                    SandboxError::Unavailable(format!("nsjail ({nsjail}) could not be started: {error}"))
                }
                _ => SandboxError::SetUp(format!("nsjail ({nsjail}) could not be started: {error}")),
            }
        })
    }

    fn spawn(
        job: &Job,
        policy: &str,
        lodger: &Lodger,
        group: &Group,
        queue: &Arc<Queue>,
    ) -> io::Result<Self> {
        let spec = &job.spec;
        let mut command = vec![INIT_PATH.to_owned()];
        command.extend(spec.command.iter().cloned());
        let bound = process_bound(&job.groups);
        let instance = plan::instance(spec, lodger.map(), bound, command, PASSED.to_vec());
        let text = [policy, &instance.render()].concat();

        let (status, status_in) = descriptor::pipe()?;
        let (stdout, stdout_in) = descriptor::pipe()?;
        let (stderr, stderr_in) = descriptor::pipe()?;
        for pipe in [&stdout_in, &stderr_in] {
            descriptor::give(pipe, lodger.user(), lodger.group())?;
        }
        let (log, log_in) = descriptor::notebook(c"log")?;
        let null = File::open("/dev/null")?;
        let stdin = match spec.stdin.is_empty() {
            true => null.try_clone()?.into(),
            false => descriptor::constant(c"stdin", &spec.stdin)?,
        };
        let start = Start {
            command: vec![job.nsjail.clone(), c"--config".to_owned(), CString::new(CONFIGURATION)?],
            descriptors: vec![
                null.into(),
                log_in.try_clone()?,
                log_in,
                status_in,
                stdin,
                stdout_in,
                stderr_in,
                descriptor::constant(c"configuration", text.as_bytes())?,
            ],
            entrance: group.entrance()?,
        };
        let process = start.spawn()?;
        let drain = Drain::new(stdout, stderr, Arc::clone(queue), spec.limits.output);
        let signs = Signs::default();
        Ok(Self { process, status, partial: Vec::new(), drain, log, signs, times: (None, None), late: None })
    }

    /// Until nsjail has ended by itself, or there is a reason to end it.
    fn watch(&mut self, limits: &domain::limits::Limits, group: &Group, watch: &mut Watch, stop: &File) {
        let begun = moment();
        let mut nudge = NUDGE[0];
        loop {
            let now = moment();
            self.read_status(now);
            let deadline = match self.times {
                (_, Some(ended)) => ended + WIND_UP,
                (Some(started), None) => started + limits.timeout,
                (None, None) => begun + SET_UP,
            };
            if self.process.has_ended() || (self.times.1.is_some() && now >= deadline) {
                return;
            }
            let mut wake = deadline;
            if self.times.1.is_some() {
                self.process.nudge();
                wake = wake.min(now + nudge);
                nudge = NUDGE[1];
            } else {
                if watch.next() <= now && watch.look(now, || group.members()) == Space::Full {
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
            if self.wait(wake.saturating_duration_since(now), stop) && self.times.1.is_none() {
                self.signs.cut = Some(Cut::Cancelled);
            }
            if self.signs.cut.is_some() {
                return;
            }
        }
    }

    /// Waits for something to happen and takes the output. Says whether the jail is to stop.
    fn wait(&mut self, most: Duration, stop: &File) -> bool {
        // Rounded up: a wait that ends too early would be repeated without pause.
        let timeout = PollTimeout::try_from(most + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut polled = vec![
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.process.descriptor().as_fd(), PollFlags::POLLIN),
        ];
        // After the program's end its status pipe says nothing more, but that it was closed.
        if self.times.1.is_none() && self.signs.not_executed.is_none() {
            polled.push(PollFd::new(self.status.as_fd(), PollFlags::POLLIN));
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

    /// Reads what the first process says.
    fn read_status(&mut self, now: Instant) {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = self.status.read(&mut buffer) {
            self.partial.extend_from_slice(&buffer[..count]);
        }
        while let Some((&[letter, a, b, c, d], rest)) = self.partial.split_first_chunk() {
            let number = i32::from_ne_bytes([a, b, c, d]);
            match letter {
                b'S' => {
                    self.signs.started = true;
                    self.times.0 = Some(now);
                }
                b'X' => self.signs.not_executed = Some(number),
                b'E' => {
                    self.signs.status = Some(number);
                    self.times.1 = Some(now);
                }
                _ => tracing::error!("the first process of a jail wrote {letter}"),
            }
            self.partial = rest.to_vec();
        }
    }

    /// Ends what is left and takes the last output: everybody who could write is gone, so what is in
    /// the pipes is all there is.
    fn finish(&mut self, name: &str) {
        let before = moment();
        self.process.end();
        let now = moment();
        if let Some(late) = self.late {
            let (late, took) = (late.as_millis(), now.saturating_duration_since(before).as_millis());
            tracing::info!(
                jail.name = name,
                jail.late_ms = u64::try_from(late).unwrap_or(u64::MAX),
                "jail {name} was ended {late} ms after its time was up, and was gone {took} ms later"
            );
        }
        self.read_status(now);
        while self.drain.take() {}
        self.times.1.get_or_insert(now);
    }

    fn wall(&self) -> Duration {
        match self.times {
            (Some(started), Some(ended)) => ended.saturating_duration_since(started),
            _ => Duration::ZERO,
        }
    }
}

/// Without a control group for it, the kernel's own count must do.
pub(crate) fn process_bound(groups: &Groups) -> ProcessBound {
    if groups.missing().iter().any(|missing| missing.controller == Controller::Pids) {
        ProcessBound::Rlimit
    } else {
        ProcessBound::Group
    }
}
