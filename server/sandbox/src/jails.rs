//! The sandbox of a server.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::limits::Limits;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use ports::sandbox::{JailReport, JailSpec, OutputChunk, Protection, Sandbox, SandboxError, Stdin, Swept};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::cell::Cell;
use crate::config::Config;
use crate::descriptor;
use crate::group::Groups;
use crate::output::Queue;
use crate::pool::{Pool, Shape};
use crate::runtime::{Toolchains, visible};
use crate::supervise::{self, Job, process_bound};
use crate::tenancy::{Tenancies, Tenant};
use crate::user::Users;
use crate::{plan, protections, root, workspace};

/// How long a reader may take for what is left after a program's end, at least.
const READER_GRACE: Duration = Duration::from_secs(5);

/// Jails by nsjail.
#[derive(Debug)]
pub struct Jails {
    pub(crate) config: Config,
    roots: PathBuf,
    toolchains: Toolchains,
    pub(crate) groups: Groups,
    pub(crate) users: Users,
    pub(crate) pool: Arc<Pool>,
    names: Arc<Mutex<Taken>>,
    /// One look around at a time.
    pub(crate) trial: tokio::sync::Mutex<()>,
    /// Held as long as the server lives; two servers with one state directory would sweep each other.
    _lock: Flock<File>,
}

/// What nsjail would be told for a jail, for running it by hand and for measuring against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJail {
    /// The nsjail program.
    pub nsjail: PathBuf,
    /// Its configuration, for `--config FILE`. It names program and arguments too; our first process,
    /// control groups and time limit are left out, nsjail's own wall-clock limit is in.
    pub configuration: String,
}

impl Jails {
    /// Prepares everything that jails have in common. Blocks for some milliseconds.
    ///
    /// A machine on which no jail can be made is no error here: `protections` says why, and every
    /// run is refused with the reason.
    ///
    /// # Errors
    /// When the state directory cannot be written, or belongs to another running server.
    pub fn open(config: Config) -> Result<Self, SandboxError> {
        let failed =
            |path: &Path, error: io::Error| SandboxError::SetUp(format!("{}: {error}", path.display()));
        let state = &config.state_dir;
        fs::create_dir_all(state).map_err(|error| failed(state, error))?;
        // Others may pass through to what is named to them, and look nowhere.
        fs::set_permissions(state, Permissions::from_mode(0o711)).map_err(|error| failed(state, error))?;
        let state = fs::canonicalize(state).map_err(|error| failed(state, error))?;
        let config = Config { state_dir: state, ..config };
        let lock = lock(&config.state_dir)?;
        let roots = config.state_dir.join("roots");
        if !roots.exists() {
            root::make_directory(&roots).map_err(|error| failed(&roots, error))?;
        }
        let toolchains = Toolchains::prepare(&config, &roots).map_err(|error| failed(&roots, error))?;
        let owner = hex::encode(&Sha256::digest(config.state_dir.as_os_str().as_bytes())[..6]);
        let (groups, users) = (Groups::discover(&owner), Users::discover());
        let nsjail = CString::new(config.nsjail.as_os_str().as_bytes()).unwrap_or_default();
        let pool = Pool::new(config.prepared, nsjail, groups.clone(), users.clone());
        Ok(Self {
            roots,
            toolchains,
            groups,
            users,
            pool: Arc::new(pool),
            names: Arc::default(),
            trial: tokio::sync::Mutex::default(),
            config,
            _lock: lock,
        })
    }

    /// What nsjail would be told for this jail. A program named without a slash is looked up in the
    /// host's toolchain.
    ///
    /// # Errors
    /// When the jail would be refused.
    pub fn raw_command(&self, spec: &JailSpec) -> Result<RawJail, SandboxError> {
        plan::check(spec, &self.config.ceiling)?;
        let set_up = |error: io::Error| SandboxError::SetUp(error.to_string());
        let policy = self.toolchains.get(spec.runtime.as_deref())?.policy().map_err(set_up)?;
        let opened = workspace::open(&spec.workspace, &spec.directory)?;
        let lodger = self
            .users
            .take()
            .ok_or_else(|| SandboxError::Unavailable("too many jails at once".to_owned()))?;
        opened.give(&lodger).map_err(|error| set_up(error.into()))?;
        let bound = process_bound(&self.groups);
        let mut command = spec.command.clone();
        // nsjail does not look in PATH, as our first process does.
        if let Some(program) = command.first_mut().filter(|program| !program.contains('/'))
            && let Some(path) = visible(program)
        {
            *program = path.to_string_lossy().into_owned();
        }
        let instance = plan::raw(spec, lodger.map(), bound, command);
        let configuration = [policy.text.as_str(), &instance.render()].concat();
        Ok(RawJail { nsjail: self.config.nsjail.clone(), configuration })
    }

    /// Prepares jails for programs with this toolchain and these limits, and waits until they are ready.
    /// Says how many are: none where none can be, see [`Config::prepared`].
    ///
    /// # Errors
    /// When there is no such runtime.
    pub async fn prepare(&self, runtime: Option<&str>, limits: &Limits) -> Result<usize, SandboxError> {
        let shape = Shape::new(self.toolchains.get(runtime)?, limits);
        self.pool.prepare(&shape);
        Ok(self.pool.at_rest(&shape).await)
    }

    fn job(&self, spec: JailSpec) -> Result<(Job, Name), SandboxError> {
        plan::check(&spec, &self.config.ceiling)?;
        let toolchain = self.toolchains.get(spec.runtime.as_deref())?.clone();
        if geteuid().is_root() {
            workspace::closed_parent(&self.roots)
                .map_err(|error| SandboxError::Unavailable(error.to_string()))?;
        }
        let nsjail = CString::new(self.config.nsjail.as_os_str().as_bytes())
            .map_err(|_| SandboxError::Unavailable("the path of nsjail has a zero byte in it".to_owned()))?;
        let (name, tenant) = Name::take(&self.names, &spec)?;
        let (groups, users) = (self.groups.clone(), self.users.clone());
        Ok((Job { spec, nsjail, toolchain, groups, users, tenant }, name))
    }

    /// Hands the job to a prepared jail, else to a thread of its own. A prepared one is a user already, and so
    /// of no use where another jail's user has the workspace.
    fn begin(
        &self,
        job: Job,
        name: Name,
        queue: Arc<Queue>,
        done: oneshot::Sender<Result<JailReport, SandboxError>>,
    ) -> io::Result<Held> {
        let (stopped, stop) = descriptor::pipe()?;
        let (_over, over) = std::sync::mpsc::channel();
        let task = Box::new(Task { job, name, stopped, queue, done, _over });
        let alone = task.job.tenant.is_first() && matches!(task.job.spec.stdin, Stdin::Bytes(_));
        let given = if alone { self.pool.give(task) } else { Err(task) };
        if let Err(task) = given {
            let thread = std::thread::Builder::new().name(format!("jail-{}", task.job.spec.name));
            thread.spawn(move || task.run())?;
        }
        Ok(Held { stop: Some(stop), over })
    }
}

impl Drop for Jails {
    fn drop(&mut self) {
        self.pool.close();
        self.groups.close();
    }
}

#[async_trait]
impl Sandbox for Jails {
    async fn run(
        &self,
        jail: JailSpec,
        output: mpsc::Sender<OutputChunk>,
        cancel: CancellationToken,
    ) -> Result<JailReport, SandboxError> {
        let deadline = tokio::time::Instant::now() + jail.limits.timeout;
        let (job, name) = self.job(jail)?;
        let queue = Arc::new(Queue::default());
        let (done, mut report) = oneshot::channel();
        let mut held = self
            .begin(job, name, Arc::clone(&queue), done)
            .map_err(|error| SandboxError::SetUp(format!("a thread for the jail: {error}")))?;

        let mut reader = std::pin::pin!(forward(&queue, &output));
        let mut complete = None;
        let report = loop {
            tokio::select! {
                report = &mut report => break report,
                all = &mut reader, if complete.is_none() => complete = Some(all),
                () = cancel.cancelled(), if !held.is_stopped() => held.stop(),
            }
        };
        // The sender is dropped without a word only if the thread panicked; the jail went with it.
        let mut report =
            report.map_err(|_| SandboxError::SetUp("the jail's thread panicked".to_owned()))??;
        if complete.is_none() {
            let patience = deadline.max(tokio::time::Instant::now() + READER_GRACE);
            complete = tokio::time::timeout_at(patience, reader).await.ok();
        }
        report.output_truncated |= complete.is_none();
        Ok(report)
    }

    async fn sweep(&self) -> Result<Swept, SandboxError> {
        let (names, pool) = (Arc::clone(&self.names), Arc::clone(&self.pool));
        let groups = self.groups.clone();
        let roots = self.roots.clone();
        let keep: Vec<PathBuf> =
            self.toolchains.each().filter_map(|one| Some(one.home()?.to_owned())).collect();
        let swept = tokio::task::spawn_blocking(move || {
            let alive = |name: &str| {
                names.lock().unwrap_or_else(PoisonError::into_inner).names.contains(name) || pool.has(name)
            };
            let (processes, groups) = groups.sweep(alive)?;
            let mut directories = 0;
            for entry in fs::read_dir(&roots)? {
                let path = entry?.path();
                if !keep.contains(&path) {
                    fs::remove_dir_all(&path)?;
                    directories += 1;
                }
            }
            Ok::<_, io::Error>(Swept { processes, groups, directories })
        });
        let swept = swept.await;
        // Now that the machine is ours: the first run shall find a jail, too.
        if let Ok(host) = self.toolchains.get(None) {
            self.pool.fill_up(&Shape::new(host, &Limits::DEFAULT));
        }
        match swept {
            Ok(swept) => swept.map_err(|error| SandboxError::SetUp(format!("sweeping: {error}"))),
            Err(error) => Err(SandboxError::SetUp(format!("sweeping: {error}"))),
        }
    }

    async fn protections(&self) -> Vec<Protection> {
        protections::report(self).await
    }

    fn runtimes(&self) -> Vec<String> {
        self.toolchains.names()
    }
}

/// Passes on what the program writes until there is no more; a reader that is gone ends it too.
async fn forward(queue: &Queue, output: &mpsc::Sender<OutputChunk>) {
    while let Some(chunk) = queue.next().await {
        if output.send(chunk).await.is_err() {
            queue.close();
            return;
        }
    }
}

/// A run on its way to a thread.
#[derive(Debug)]
pub(crate) struct Task {
    pub job: Job,
    name: Name,
    /// Hung up when the jail is to end.
    stopped: File,
    queue: Arc<Queue>,
    done: oneshot::Sender<Result<JailReport, SandboxError>>,
    /// Dropped when nothing is left.
    _over: std::sync::mpsc::Sender<Infallible>,
}

/// Whether a prepared jail could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes,
    No,
}

impl Task {
    /// Runs in a jail of its own.
    pub(crate) fn run(self) {
        let report = supervise::run(&self.job, &self.stopped, &self.queue);
        self.end(report);
    }

    /// Runs in a prepared one, or in one of its own if that is of no use. `over` is called before
    /// anybody is told.
    pub(crate) fn run_in(self, cell: &mut Cell, over: impl FnOnce(Fit)) -> Fit {
        let (report, fit) = match supervise::run_in(&self.job, cell, &self.stopped, &self.queue) {
            Ok(report) => (Ok(report), Fit::Yes),
            Err(Some(error)) => (Err(error), Fit::Yes),
            Err(None) => (supervise::run(&self.job, &self.stopped, &self.queue), Fit::No),
        };
        over(fit);
        self.end(report);
        fit
    }

    fn end(self, report: Result<JailReport, SandboxError>) {
        self.queue.close();
        drop(self.name);
        // Nobody waits for it when the future was dropped.
        let _ = self.done.send(report);
    }
}

/// Hold on a task. Dropping it ends the jail, and waits until it is gone.
struct Held {
    stop: Option<OwnedFd>,
    over: std::sync::mpsc::Receiver<Infallible>,
}

impl Held {
    /// Asks for the end of the jail: the other end of the pipe is hung up.
    fn stop(&mut self) {
        self.stop = None;
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_none()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop();
        // Some milliseconds, if the jail was still there. Nothing is ever sent.
        let _ = self.over.recv();
    }
}

/// What jails have at the moment.
#[derive(Debug, Default)]
struct Taken {
    names: BTreeSet<String>,
    workspaces: Tenancies,
}

/// A name that no other jail has meanwhile.
#[derive(Debug)]
struct Name {
    name: String,
    names: Arc<Mutex<Taken>>,
}

impl Name {
    fn take(names: &Arc<Mutex<Taken>>, spec: &JailSpec) -> Result<(Self, Tenant), SandboxError> {
        let workspace = fs::canonicalize(&spec.workspace).unwrap_or_else(|_| spec.workspace.clone());
        let mut taken = names.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.names.contains(&spec.name) {
            return Err(SandboxError::Refused(format!("there is a jail named `{}` already", spec.name)));
        }
        taken.names.insert(spec.name.clone());
        let tenant = taken.workspaces.join(workspace);
        Ok((Self { name: spec.name.clone(), names: Arc::clone(names) }, tenant))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut taken = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        taken.names.remove(&self.name);
    }
}

/// Waits a little for a predecessor that was just killed.
fn lock(state: &Path) -> Result<Flock<File>, SandboxError> {
    const TRIES: usize = 40;
    let path = state.join("lock");
    let open = || {
        let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
        // Somebody who looks at the file shall see whose it is.
        let _ = writeln!(file, "{}", std::process::id());
        Ok::<_, io::Error>(file)
    };
    let mut file = open().map_err(|error| SandboxError::SetUp(format!("{}: {error}", path.display())))?;
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) => file = back,
        }
        supervise::pause(Duration::from_millis(50));
    }
    Err(SandboxError::SetUp(format!("another server uses {}", state.display())))
}
