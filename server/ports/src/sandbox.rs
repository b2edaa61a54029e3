//! A place where a program can do no harm.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::limits::Limits;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Runs programs in jails. Nothing ever runs without one: what is required and not to be had is
/// [`SandboxError::Unavailable`].
#[async_trait]
pub trait Sandbox: std::fmt::Debug + Send + Sync {
    /// Runs one program in a jail of its own and waits for its end. When this returns, every process
    /// of the jail is gone, also when the future is dropped or `cancel` fires.
    ///
    /// Output is sent to `output` as it comes, at most `limits.output` bytes of it; a receiver that
    /// is slow or gone never holds the program up for longer than its time limit.
    ///
    /// # Errors
    /// When no jail could be made. Everything that happens inside one is a [`JailReport`].
    async fn run(
        &self,
        jail: JailSpec,
        output: mpsc::Sender<OutputChunk>,
        cancel: CancellationToken,
    ) -> Result<JailReport, SandboxError>;

    /// Ends what an earlier life of the server left behind: processes, control groups, mounts,
    /// directories. Called once at start.
    ///
    /// # Errors
    /// When something is left that could not be ended.
    async fn sweep(&self) -> Result<Swept, SandboxError>;

    /// Each protection, whether it is active, and what to do when it is not.
    async fn protections(&self) -> Vec<Protection>;

    /// The names that `runtime:` may have.
    fn runtimes(&self) -> Vec<String>;
}

/// What is to run, and within which bounds.
#[derive(Debug, Clone)]
pub struct JailSpec {
    /// Tells jails apart in logs and control groups: letters, digits and `-`, at most 60. No two
    /// jails bear the same at the same time.
    pub name: String,
    /// The program and its arguments; looked up in the jail's own `PATH`.
    pub command: Vec<String>,
    /// What the program reads on its standard input.
    pub stdin: Stdin,
    /// The whole environment but for `PATH`, `HOME`, `TMPDIR`, `USER`, `LANG`, which the jail sets.
    pub env: BTreeMap<String, String>,
    /// The directory on the host that is `/work` in the jail, the only place that outlives it. Jails that run at
    /// the same time may have the same one, and are one user on the machine then.
    pub workspace: PathBuf,
    /// Where the program starts, relative to `/work`; it must exist and stay inside.
    pub directory: PathBuf,
    /// Which toolchain it sees; `None` is the host's.
    pub runtime: Option<String>,
    /// The bounds. `limits.timeout` is wall-clock time from the program's start.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
}

/// What a program reads on its standard input.
#[derive(Debug, Clone)]
pub enum Stdin {
    /// These bytes, then its end.
    Bytes(Bytes),
    /// The reading end of a pipe: what is written into the other end, while the program runs. A program with
    /// one is never started in a jail that was prepared, which others are to find free soon.
    Pipe(Arc<OwnedFd>),
}

impl From<Bytes> for Stdin {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Stdin {
    /// Nothing.
    pub fn nothing() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// What a jail can reach.
#[derive(Debug, Clone)]
pub enum Network {
    /// Nothing, not even a name server.
    None,
    /// One address of its own, [`DOOR`], behind which the server stands; else nothing.
    Door(Arc<dyn Door>),
}

/// Where a jail's programs find the door: an address of the jail's own network, which is nobody else's.
pub const DOOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Whoever stands behind the door of one jail.
pub trait Door: std::fmt::Debug + Send + Sync {
    /// Takes over the listener on [`DOOR`], before the jail's program starts. Nothing that connects to
    /// it comes from anywhere but this jail. What is returned is dropped when nothing of the jail is
    /// left, and closes the door then.
    ///
    /// # Errors
    /// When it cannot be served; the jail is not made then.
    fn open(&self, listener: TcpListener) -> io::Result<Box<dyn Send>>;
}

/// A piece of what a program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where it wrote it.
    pub stream: Stream,
    /// What; any bytes.
    pub bytes: Bytes,
}

/// Where a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a jail ended, and what it used.
#[derive(Debug, Clone, PartialEq)]
pub struct JailReport {
    /// How it ended.
    pub end: JailEnd,
    /// From the program's start to its end.
    pub wall: Duration,
    /// Processor time of all its processes.
    pub cpu: Duration,
    /// The most memory at once, bytes.
    pub memory_peak: u64,
    /// Bytes written to standard output and error, kept or not.
    pub output_bytes: u64,
    /// Whether output was dropped because it was more than `limits.output`.
    pub output_truncated: bool,
    /// SHA-256 of the policy that was in force, hexadecimal.
    pub policy: String,
}

/// How a jail ended. Each has its own words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JailEnd {
    /// The program ended by itself.
    Exited(i32),
    /// The program was ended by a signal from within.
    Signalled(i32),
    /// It used all its time.
    TimedOut,
    /// A process used up the memory, whatever the program's own exit status says.
    OutOfMemory,
    /// The workspace is full.
    DiskFull,
    /// It wrote far more than may be kept, and was ended.
    OutputLimit,
    /// It called the kernel in a way that only an attack does.
    ForbiddenSystemCall,
    /// The server ended it.
    Cancelled,
}

/// No jail could be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine lacks what a jail needs.
    #[error("the sandbox is not available: {0}")]
    Unavailable(String),
    /// This jail cannot be made as asked.
    #[error("the jail cannot be made: {0}")]
    Refused(String),
    /// Making it went wrong.
    #[error("the jail could not be set up: {0}")]
    SetUp(String),
}

/// What an earlier life of the server had left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were ended.
    pub processes: usize,
    /// Control groups that were removed.
    pub groups: usize,
    /// Directories that were removed.
    pub directories: usize,
}

/// One protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// What it is: `seccomp`, `memory limit`, …
    pub name: String,
    /// Whether it is in force.
    pub state: ProtectionState,
    /// How it is done here, or why not.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Whether a protection is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectionState {
    /// It is.
    Active,
    /// It is not; runs go on without it.
    Missing,
    /// It is not, and without it nothing runs.
    Required,
}
