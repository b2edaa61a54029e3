//! A sandbox of its own for a test, and one call to run something in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::limits::{Limits, MIB};
use ports::sandbox::{
    JailEnd, JailReport, JailSpec, Network, OutputChunk, Sandbox, SandboxError, Stdin, Stream,
};
use sandbox::{Config, Jails};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::heard;

/// A sandbox with a state directory of its own.
pub(crate) struct Place {
    pub jails: Jails,
    pub home: TempDir,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub report: JailReport,
    pub stdout: String,
    pub stderr: String,
}

/// nsjail, wherever this machine has it. The tests are worth nothing without it.
#[expect(clippy::disallowed_methods, reason = "tests find the real nsjail by the environment")]
pub(crate) fn nsjail() -> PathBuf {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut candidates: Vec<PathBuf> = variable("SPELLBOOK_NSJAIL").into_iter().map(PathBuf::from).collect();
    if candidates.is_empty() {
        let path = variable("PATH").unwrap_or_default();
        candidates.extend(path.split(':').map(|directory| Path::new(directory).join("nsjail")));
        let data = variable("XDG_DATA_HOME").map(PathBuf::from);
        let data = data.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/share")));
        let tools = variable("SPELLBOOK_TOOLS").map(PathBuf::from);
        let tools = tools.or_else(|| Some(data?.join("spellbook/tools")));
        candidates.extend(tools.map(|tools| tools.join("bin/nsjail")));
    }
    let found = candidates.iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no nsjail in {candidates:?}; `./x setup` installs it")).clone()
}

/// A temporary directory that a jail's user is let through.
pub(crate) fn open_directory() -> TempDir {
    let home = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

/// Whether these tests are run once more in prepared jails.
#[expect(clippy::disallowed_methods, reason = "a test says so to the tests that it starts")]
pub(crate) fn all_prepared() -> bool {
    std::env::var(PREPARED).is_ok()
}

pub(crate) const PREPARED: &str = "SPELLBOOK_TEST_PREPARED";

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let home = open_directory();
        let mut config = Config::new(nsjail(), home.path().join("state"));
        config.prepared = if all_prepared() { 2 } else { 0 };
        change(&mut config);
        Self { jails: Jails::open(config).unwrap(), home }
    }

    /// A new empty workspace.
    pub(crate) fn workspace(&self) -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let path = self.home.path().join(format!("work-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap();
        path
    }

    /// A jail for `command` in a new workspace.
    pub(crate) fn spec(&self, command: &[&str]) -> JailSpec {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        JailSpec {
            name: format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            command: command.iter().map(ToString::to_string).collect(),
            stdin: Stdin::nothing(),
            env: BTreeMap::new(),
            workspace: self.workspace(),
            directory: ".".into(),
            runtime: None,
            limits: Limits {
                timeout: Duration::from_secs(20),
                memory: 256 * MIB,
                disk: 64 * MIB,
                output: MIB,
                processes: 64,
                ..Limits::DEFAULT
            },
            network: Network::None,
        }
    }

    pub(crate) async fn sh(&self, script: &str) -> Ran {
        self.run(self.spec(&["bash", "-c", script])).await
    }

    pub(crate) async fn run(&self, spec: JailSpec) -> Ran {
        self.try_run(spec).await.unwrap()
    }

    pub(crate) async fn try_run(&self, spec: JailSpec) -> Result<Ran, SandboxError> {
        run(&self.jails, spec, CancellationToken::new()).await
    }
}

/// Runs to the end and collects what was written.
pub(crate) async fn run(
    jails: &Jails,
    spec: JailSpec,
    cancel: CancellationToken,
) -> Result<Ran, SandboxError> {
    run_telling(jails, spec, cancel, oneshot::channel().0).await
}

/// The same, and says when the program has written something.
pub(crate) async fn run_telling(
    jails: &Jails,
    spec: JailSpec,
    cancel: CancellationToken,
    up: oneshot::Sender<()>,
) -> Result<Ran, SandboxError> {
    let name = spec.name.clone();
    if all_prepared() {
        heard::listen();
        // What makes no jail says so when it is run.
        let _ = jails.prepare(spec.runtime.as_deref(), &spec.limits).await;
    }
    let mut up = Some(up);
    let (sender, mut receiver) = mpsc::channel::<OutputChunk>(4);
    let collect = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(OutputChunk { stream, bytes }) = receiver.recv().await {
            if let Some(up) = up.take() {
                // Most tests do not listen.
                let _ = up.send(());
            }
            match stream {
                Stream::Stdout => stdout.extend_from_slice(&bytes),
                Stream::Stderr => stderr.extend_from_slice(&bytes),
            }
        }
        (stdout, stderr)
    };
    let (report, (stdout, stderr)) = tokio::join!(jails.run(spec, sender, cancel), collect);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if report.is_ok() && all_prepared() {
        assert!(was_prepared(&name), "{name} did not take a prepared jail");
    }
    Ok(Ran { report: report?, stdout: text(stdout), stderr: text(stderr) })
}

/// Whether a jail was a prepared one, if somebody listened.
pub(crate) fn was_prepared(name: &str) -> bool {
    heard::number(name, "jail.cell").is_some()
}

impl Ran {
    /// Asserts how it ended, and shows what it wrote when it did not.
    #[track_caller]
    pub(crate) fn ended(&self, expect: &JailEnd) -> &Self {
        assert_eq!(self.report.end, *expect, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn wrote(&self, expect: &str) -> &Self {
        assert_eq!(self.stdout.trim_end(), expect, "{self:#?}");
        self
    }
}

/// How far a jail of this process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is there yet.
    Asked,
    /// Its thread is.
    Thread,
    /// nsjail is.
    Jailer,
    /// The first process inside is.
    Inside,
    /// The program has written something.
    Running,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] = [Self::Asked, Self::Thread, Self::Jailer, Self::Inside, Self::Running];

    /// Waits until the jail has come so far; `up` is told by [`run_telling`].
    pub(crate) async fn reached(self, jail: &str, up: oneshot::Receiver<()>) {
        match self {
            Self::Asked => {}
            Self::Running => up.await.unwrap(),
            // It has no thread and no nsjail of its own.
            _ if all_prepared() => tokio::task::yield_now().await,
            Self::Thread | Self::Jailer | Self::Inside => {
                while !self.is_reached(jail) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn is_reached(self, jail: &str) -> bool {
        match self {
            Self::Asked => true,
            Self::Thread => thread(jail).is_some(),
            Self::Jailer => !jailers(jail).is_empty(),
            Self::Inside | Self::Running => jailers(jail).iter().any(|pid| {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                !children.unwrap_or_default().trim().is_empty()
            }),
        }
    }
}

/// The thread of a jail of this process, which bears its name as far as there is room.
fn thread(jail: &str) -> Option<PathBuf> {
    let name: String = format!("jail-{jail}").chars().take(15).collect();
    let mut threads = fs::read_dir("/proc/self/task").unwrap().flatten().map(|thread| thread.path());
    threads.find(|thread| fs::read_to_string(thread.join("comm")).unwrap_or_default().trim_end() == name)
}

/// The nsjail of a jail: the child of its thread.
pub(crate) fn jailers(jail: &str) -> Vec<i32> {
    let Some(thread) = thread(jail) else { return Vec::new() };
    let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// Whether no process of the machine has this in its arguments.
pub(crate) fn gone(tag: &str) -> bool {
    bearers(tag).is_empty()
}

/// The processes of the machine that have this in their arguments.
pub(crate) fn bearers(tag: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).split('\0').skip(1).any(|argument| argument == tag)
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// The control groups of jails that this sandbox still has, but for those of jails to come: cells, and what
/// nobody is in any more.
pub(crate) fn groups_of(place: &Place) -> Vec<String> {
    let is_free = |group: &str| {
        let members = fs::read_to_string(Path::new(group).join("cgroup.procs"));
        group.contains("/lent.") && members.is_ok_and(|members| members.is_empty())
    };
    let mut groups = all_groups_of(place);
    groups.retain(|group| !group.contains("/cell.") && !is_free(group));
    groups
}

/// The control groups of jails that this sandbox has.
pub(crate) fn all_groups_of(place: &Place) -> Vec<String> {
    all_groups_in(place.home.path())
}

/// The control groups of jails that the sandbox of this place has, or had.
pub(crate) fn all_groups_in(home: &Path) -> Vec<String> {
    use sha2::Digest;
    use std::os::unix::ffi::OsStrExt;
    let state = fs::canonicalize(home.join("state")).unwrap();
    let owner =
        format!("spellbook-{}", hex::encode(&sha2::Sha256::digest(state.as_os_str().as_bytes())[..6]));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let trees =
        mounts.lines().filter(|line| line.contains(" cgroup")).filter_map(|line| line.split(' ').nth(1));
    let homes = trees.filter_map(|tree| fs::read_dir(Path::new(tree).join(&owner)).ok());
    homes
        .flat_map(|home| home.flatten())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.path().display().to_string())
        .collect()
}
