//! Toolchains: what a jail sees as `/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ports::agents::AGENTS;
use ports::sandbox::SandboxError;
use sha2::{Digest, Sha256};

use crate::config::{Config, Runtime};
use crate::image::Image;
use crate::mounts;
use crate::policy::{Mount, Policy, Rlimit, SECCOMP};
use crate::root::{DEVICES, Layout, OWN_ETC, Root, init_hash};
use crate::user;

/// The `PATH` in every jail.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What every jail has in its environment.
pub(crate) const ENV: [(&str, &str); 5] =
    [("PATH", PATH), ("HOME", "/home/agent"), ("TMPDIR", "/tmp"), ("USER", "agent"), ("LANG", "C.UTF-8")];

/// The names that always mean the host's toolchain, and the program that each promises.
const HOST: [(&str, &str); 3] = [("bash", "bash"), ("node", "node"), ("python", "python3")];

/// What Linux distributions have at the top beside `/usr`: links into it, or directories.
const BESIDE_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What a root file system has that the jail makes itself.
pub(crate) const MADE_HERE: [&str; 9] =
    ["dev", "proc", "sys", "tmp", "home", "work", "run", ".spellbook", "lost+found"];

/// Below `/proc`: what tells of the machine, or of keys. Missing ones are passed over.
const HIDDEN: [&str; 13] = [
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/cmdline",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/proc/config.gz",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/iomem",
];

/// A toolchain, ready to be mounted.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    root: Root,
    /// Read-only: source, target.
    shown: Shown,
    /// Files of ours that lie over those of an image's `/etc`.
    own_etc: Vec<PathBuf>,
    /// The policy for the mounts of the machine as they last were.
    prepared: Arc<Mutex<Option<Arc<Prepared>>>>,
}

/// Source and target of what is mounted read-only.
type Shown = Vec<(PathBuf, PathBuf)>;

/// A policy as text.
#[derive(Debug)]
pub(crate) struct Prepared {
    mounts: Shown,
    /// What nsjail reads, without what differs from jail to jail.
    pub text: String,
    /// SHA-256 of it, of the system calls and of the first process; the same wherever the server
    /// keeps its files.
    pub hash: String,
}

impl Toolchain {
    /// Writes what it needs to disk.
    fn prepare(runtime: &Runtime, agents: Option<&Path>, roots: &Path) -> io::Result<Self> {
        let mut layout = Layout::basic();
        let (shown, own_etc) = match runtime {
            Runtime::Host => (host(&mut layout, agents)?, Vec::new()),
            Runtime::Directory(directory) => self::directory(&mut layout, directory)?,
            Runtime::Image { layout: at, reference } => {
                layout.etc();
                layout.below(Image::open(at, reference.as_deref())?);
                (Vec::new(), Vec::new())
            }
        };
        let root = layout.prepare(roots)?;
        Ok(Self { root, shown, own_etc, prepared: Arc::default() })
    }

    /// The directory of the prepared root, which a sweep must keep.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.root.directory.parent()
    }

    /// The policy of jails with this toolchain, made anew when the mounts of the machine changed.
    pub(crate) fn policy(&self) -> io::Result<Arc<Prepared>> {
        let mut mounts = self.shown.clone();
        let table = mounts::table()?;
        for (source, target) in &self.shown {
            for inner in mounts::below(&table, source) {
                let name = inner.strip_prefix(source).unwrap_or(&inner);
                mounts.push((inner.clone(), target.join(name)));
            }
        }
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = prepared.as_ref().filter(|prepared| prepared.mounts == mounts) {
            return Ok(Arc::clone(prepared));
        }
        let text = self.policy_with(&self.root, &mounts).render();
        let anywhere = Root { directory: "ROOT".into(), seccomp: "SECCOMP".into() };
        let elsewhere = mounts.iter().cloned().map(|(source, target)| match target == Path::new(AGENTS) {
            true => ("AGENTS".into(), target),
            false => (source, target),
        });
        let elsewhere = elsewhere.collect();
        let mut hash = Sha256::new();
        for part in [&self.policy_with(&anywhere, &elsewhere).render(), SECCOMP, &init_hash()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let new = Arc::new(Prepared { mounts, text, hash: hex::encode(hash.finalize()) });
        *prepared = Some(Arc::clone(&new));
        Ok(new)
    }

    fn policy_with(&self, root: &Root, shown: &Shown) -> Policy {
        let mut mounts = vec![Mount::ReadOnly { source: root.directory.clone(), target: "/".into() }];
        for (source, target) in shown {
            mounts.push(Mount::ReadOnly { source: source.clone(), target: target.clone() });
        }
        for name in &self.own_etc {
            let source = root.directory.join(OWN_ETC).join(name);
            mounts.push(Mount::ReadOnly { source, target: Path::new("/etc").join(name) });
        }
        mounts.extend(DEVICES.map(Mount::Device));
        mounts.push(Mount::Proc);
        mounts.extend(HIDDEN.map(Mount::Hidden));
        Policy {
            mounts,
            seccomp: root.seccomp.clone(),
            rlimits: rlimits(),
            env: ENV.to_vec(),
            hostname: "jail",
            niceness: 10,
        }
    }
}

/// Processor time, address space and processes are the control group's business: RLIMIT_CPU counts
/// one process, RLIMIT_AS what is reserved and not what is used, RLIMIT_NPROC threads of a user.
fn rlimits() -> Vec<Rlimit> {
    let clamped = |name, resource, value| Rlimit { name, value: Some(user::clamp(resource, value)) };
    use nix::sys::resource::Resource as R;
    vec![
        Rlimit { name: "rlimit_as", value: None },
        Rlimit { name: "rlimit_cpu", value: None },
        clamped("rlimit_core", R::RLIMIT_CORE, 0),
        clamped("rlimit_nofile", R::RLIMIT_NOFILE, 4096),
        // In MiB and KiB for nsjail; the clamp compares bytes.
        Rlimit { name: "rlimit_stack", value: Some(user::clamp(R::RLIMIT_STACK, 8 << 20) >> 20) },
        Rlimit { name: "rlimit_memlock", value: Some(user::clamp(R::RLIMIT_MEMLOCK, 64 << 10) >> 10) },
        clamped("rlimit_rtprio", R::RLIMIT_RTPRIO, 0),
        clamped("rlimit_msgqueue", R::RLIMIT_MSGQUEUE, 0),
    ]
}

fn host(layout: &mut Layout, agents: Option<&Path>) -> io::Result<Shown> {
    layout.host_etc()?;
    let mut shown = vec![(PathBuf::from("/usr"), PathBuf::from("/usr"))];
    if let Some(agents) = agents {
        layout.directory("opt");
        layout.directory(AGENTS.trim_start_matches('/'));
        shown.push((fs::canonicalize(agents)?, AGENTS.into()));
    }
    for name in BESIDE_USR {
        let path = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_symlink() {
            layout.link(name, fs::read_link(&path)?);
        } else if metadata.is_dir() {
            layout.directory(name);
            shown.push((path.clone(), path));
        }
    }
    Ok(shown)
}

fn directory(layout: &mut Layout, directory: &Path) -> io::Result<(Shown, Vec<PathBuf>)> {
    let mut shown = Vec::new();
    let mut names = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        if MADE_HERE.iter().any(|&made| name == made) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            layout.link(&name, fs::read_link(entry.path())?);
        } else if kind.is_dir() {
            layout.directory(&name);
            shown.push((entry.path(), Path::new("/").join(&name)));
        }
    }
    let etc = directory.join("etc");
    let mut own = layout.own_etc();
    own.retain(|name| fs::symlink_metadata(etc.join(name)).is_ok_and(|at| at.is_file()));
    Ok((shown, own))
}

/// All toolchains by name.
#[derive(Debug, Clone)]
pub(crate) struct Toolchains {
    host: Toolchain,
    named: BTreeMap<String, Result<Toolchain, String>>,
}

impl Toolchains {
    /// Prepares all of them. One that cannot be is refused when a jail asks for it.
    pub(crate) fn prepare(config: &Config, roots: &Path) -> io::Result<Self> {
        let agents = config.agents.as_deref();
        let host = Toolchain::prepare(&Runtime::Host, agents, roots)?;
        let mut named = BTreeMap::new();
        for (name, program) in HOST {
            let found = match visible(program) {
                Some(_) => Ok(host.clone()),
                None => Err(format!(
                    "this machine has no `{program}` that a jail could see; install it below /usr, or define the \
                     runtime `{name}` in the server's configuration"
                )),
            };
            named.insert(name.to_owned(), found);
        }
        for (name, runtime) in &config.runtimes {
            let prepared =
                Toolchain::prepare(runtime, agents, roots).map_err(|error| format!("{runtime}: {error}"));
            named.insert(name.clone(), prepared);
        }
        Ok(Self { host, named })
    }

    /// The one that a jail asks for; `None` is the host's.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<&Toolchain, SandboxError> {
        let Some(name) = name else { return Ok(&self.host) };
        match self.named.get(name) {
            Some(Ok(toolchain)) => Ok(toolchain),
            Some(Err(why)) => Err(SandboxError::Refused(format!("runtime `{name}`: {why}"))),
            None => Err(SandboxError::Refused(format!(
                "there is no runtime `{name}`; there are {}",
                self.names().join(", ")
            ))),
        }
    }

    /// The names of those that work.
    pub(crate) fn names(&self) -> Vec<String> {
        self.named.iter().filter(|(_, toolchain)| toolchain.is_ok()).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Toolchain> {
        std::iter::once(&self.host).chain(self.named.values().filter_map(|toolchain| toolchain.as_ref().ok()))
    }
}

/// Where a jail with the host's toolchain finds a program: through links, but only into what it sees.
pub(crate) fn visible(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| {
        let Ok(real) = fs::canonicalize(path) else { return false };
        let seen = real.starts_with("/usr")
            || BESIDE_USR.iter().any(|name| real.starts_with(Path::new("/").join(name)));
        seen && fs::metadata(&real).is_ok_and(|at| at.is_file() && at.permissions().mode() & 0o001 != 0)
    })
}
