//! Control groups: one for each jail, made, filled and read by the server. It goes to the next jail when
//! nobody is left in it.
//!
//! nsjail could make them itself, but removes them before anybody can read how often the kernel
//! killed for want of memory, which is the only sign of it when the victim was a child.
//!
//! All groups of a server are in one group named after its state directory, so that a sweep finds
//! those of an earlier life and never another server's. It is at the top of the hierarchy that the
//! server sees, as container engines do it, or, for an ordinary user, in the server's own group.

mod v1;
mod v2;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::limits::Limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::supervise;

/// nsjail and the first process, beside what the limits allow the program.
const OWN_PROCESSES: u32 = 2;
/// So many wait for their next jail.
const MOST_FREE: usize = 8;
/// How long removing may take: the kernel may still be busy with processes that are gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where groups are made on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    kind: Kind,
    missing: Vec<Missing>,
    lent: Arc<Lent>,
}

/// Groups that go from one jail to the next. The kernel takes long to make a group and longer to forget it:
/// what it still has to do when the directory is gone holds up everybody who enters another.
#[derive(Debug, Default)]
struct Lent {
    /// The number of the next one that is made.
    next: AtomicU64,
    /// Nobody is in these.
    free: Mutex<Vec<Group>>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// One tree a controller; the first is the one whose members are listed.
    V1(Vec<(Controller, PathBuf)>),
    /// One tree.
    V2 { home: PathBuf, controllers: Vec<Controller> },
    /// No groups at all.
    None,
}

/// What can be limited or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    /// Only counts, and only in version 1 apart from [`Controller::Cpu`].
    Cpuacct,
}

/// A controller that is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub controller: Controller,
    pub why: String,
}

/// The groups of one jail. Dropping removes them, whoever is in there.
#[derive(Debug)]
pub(crate) struct Group {
    kind: Kind,
    removed: bool,
    /// The limits that it has.
    limits: Option<Limits>,
    /// What had been used when counting began.
    before: Usage,
    /// The most memory since then, in version 2: a file that was told so (`memory.peak`).
    peak: Option<File>,
}

/// How a new process gets into its group before it does anything.
///
/// Not by `cgroup.procs`: that waits until nobody on the machine forks, often ten milliseconds and more.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// By writing `0` to each of these, the `tasks` of version 1, which moves the writing thread and
    /// is spared that wait. A new process has no other thread.
    Move(Vec<OwnedFd>),
    /// By being made in it, as version 2 can (clone(2), CLONE_INTO_CGROUP).
    BeBorn(OwnedFd),
}

/// What the processes of a group used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processes that the kernel killed because the memory was used up.
    pub memory_kills: u64,
    /// The most memory at once, bytes.
    pub memory_peak: u64,
    /// Processor time.
    pub cpu: Option<Duration>,
}

impl Controller {
    const LIMITING: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
        }
    }
}

impl Groups {
    /// Finds out what can be had, and makes the group that all others are in.
    pub(crate) fn discover(owner: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let name = format!("spellbook-{owner}");
        let two = v2::discover(&mounts, &own, &name);
        if let Ok((home, controllers)) = &two
            && controllers.contains(&Controller::Memory)
        {
            let kind = Kind::V2 { home: home.clone(), controllers: controllers.clone() };
            let why = |_| "it is not delegated to this server".to_owned();
            return Self { missing: missing(controllers, why), kind, lent: Arc::default() };
        }
        let trees = v1::discover(&mounts, &name);
        let usable: Vec<_> =
            trees.iter().filter_map(|(at, tree)| Some((*at, tree.as_ref().ok()?.clone()))).collect();
        let why = |controller| {
            let tree = trees.iter().find(|(of, _)| *of == controller);
            match (tree, &two) {
                (Some((_, Err(error))), _) | (None, Err(error)) => error.clone(),
                _ => "this machine has no tree of groups with it".to_owned(),
            }
        };
        let had: Vec<_> = usable.iter().map(|(controller, _)| *controller).collect();
        let missing = missing(&had, why);
        let kind = if usable.is_empty() { Kind::None } else { Kind::V1(usable) };
        Self { missing, kind, lent: Arc::default() }
    }

    /// What cannot be limited here.
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Where a controller's groups are, for people.
    pub(crate) fn describe(&self, controller: Controller) -> String {
        match &self.kind {
            Kind::V1(trees) => {
                let tree = trees.iter().find(|(of, _)| *of == controller).map(|(_, tree)| tree.display());
                format!("version 1, {}", tree.map(|tree| tree.to_string()).unwrap_or_default())
            }
            Kind::V2 { home, .. } => format!("version 2, {}", home.display()),
            Kind::None => "none".to_owned(),
        }
    }

    /// Groups for a jail, with its limits written: those of one that is over, or new ones.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn lend(&self, limits: &Limits) -> io::Result<Group> {
        let free = {
            let mut free = self.lent.free();
            // A limit of memory can only be changed in the right order with that of swap.
            let fits = |group: &Group| group.limits.as_ref().is_some_and(|had| had.memory == limits.memory);
            free.iter().rposition(fits).map(|at| free.remove(at))
        };
        if let Some(mut group) = free
            && group.forget_peak().and_then(|()| group.limit(limits)).is_ok()
        {
            group.begin();
            return Ok(group);
        }
        let number = self.lent.next.fetch_add(1, Ordering::Relaxed);
        self.create(&lent(number), limits)
    }

    /// Takes them back, and ends whoever is left there.
    ///
    /// # Errors
    /// When somebody stays.
    pub(crate) fn give_back(&self, group: Group) -> io::Result<()> {
        // All are members of all trees.
        if let Some(directory) = group.directories().next() {
            empty(directory)?;
        }
        let surplus = {
            let mut free = self.lent.free();
            free.push(group);
            if free.len() > MOST_FREE { Some(free.remove(0)) } else { None }
        };
        surplus.map_or(Ok(()), Group::remove)
    }

    /// The groups of one jail, with its limits written.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing is left.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<Group> {
        let kind = match &self.kind {
            Kind::V1(trees) => {
                Kind::V1(trees.iter().map(|(controller, tree)| (*controller, tree.join(name))).collect())
            }
            Kind::V2 { home, controllers } => {
                Kind::V2 { home: home.join(name), controllers: controllers.clone() }
            }
            Kind::None => Kind::None,
        };
        let mut group = Group { kind, removed: false, limits: None, before: Usage::default(), peak: None };
        for directory in group.directories() {
            match fs::create_dir(directory) {
                // Left by an earlier life and not swept yet; its counters are not ours.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    empty(directory)?;
                    remove(directory)?;
                    fs::create_dir(directory)?;
                }
                result => result?,
            }
        }
        group.limit(limits)?;
        Ok(group)
    }

    /// Removes the group that all others are in, if none is. The server makes no more jails.
    pub(crate) fn close(&self) {
        self.lent.free().clear();
        for home in self.kind.directories() {
            // Somebody in there is the next sweep's.
            let _ = fs::remove_dir(home);
        }
    }

    /// Ends and removes every group that `keep` does not name: processes ended, groups removed.
    ///
    /// # Errors
    /// When one cannot be emptied or removed.
    pub(crate) fn sweep(&self, keep: impl Fn(&str) -> bool) -> io::Result<(usize, usize)> {
        let (mut processes, mut groups) = (0, 0);
        for home in self.kind.directories() {
            for entry in fs::read_dir(home)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !entry.file_type()?.is_dir() || keep(&name) || self.lent.has(&name) {
                    continue;
                }
                processes += empty(&entry.path())?;
                remove(&entry.path())?;
                groups += 1;
            }
        }
        Ok((processes, groups))
    }
}

/// No name of a jail has a dot.
fn lent(number: u64) -> String {
    format!("lent.{number}")
}

impl Lent {
    fn free(&self) -> MutexGuard<'_, Vec<Group>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a name of one that was made in this life.
    fn has(&self, name: &str) -> bool {
        let number = name.strip_prefix("lent.").and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| number < self.next.load(Ordering::Relaxed))
    }
}

impl Group {
    /// The way in.
    pub(crate) fn entrance(&self) -> io::Result<Entrance> {
        match &self.kind {
            Kind::V1(trees) => trees
                .iter()
                .map(|(_, tree)| Ok(OpenOptions::new().write(true).open(tree.join("tasks"))?.into()))
                .collect::<io::Result<_>>()
                .map(Entrance::Move),
            Kind::V2 { home, .. } => Ok(Entrance::BeBorn(File::open(home)?.into())),
            Kind::None => Ok(Entrance::Move(Vec::new())),
        }
    }

    /// Sets what may be used.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn limit(&mut self, limits: &Limits) -> io::Result<()> {
        if self.limits.as_ref() == Some(limits) {
            return Ok(());
        }
        // Halfway is neither.
        self.limits = None;
        match &self.kind {
            Kind::V1(trees) => v1::limit(trees, limits)?,
            Kind::V2 { home, controllers } => v2::limit(home, controllers, limits)?,
            Kind::None => {}
        }
        self.limits = Some(limits.clone());
        Ok(())
    }

    /// Counts from now on.
    pub(crate) fn begin(&mut self) {
        self.before = self.total();
    }

    /// Counts the most memory from now on, too.
    ///
    /// # Errors
    /// When the kernel cannot forget how much there was before: in version 2 it can since Linux 6.12.
    pub(crate) fn forget_peak(&mut self) -> io::Result<()> {
        match &self.kind {
            Kind::V1(trees) => v1::forget_peak(trees),
            Kind::V2 { home, .. } => {
                self.peak = Some(v2::forget_peak(home)?);
                Ok(())
            }
            Kind::None => Ok(()),
        }
    }

    /// Whether processor time is counted.
    pub(crate) fn counts_cpu(&self) -> bool {
        match &self.kind {
            Kind::V1(trees) => v1::cpu(trees).is_some(),
            Kind::V2 { home, .. } => v2::cpu(home).is_some(),
            Kind::None => false,
        }
    }

    /// Who is in there.
    pub(crate) fn members(&self) -> Vec<Pid> {
        self.census()()
    }

    /// Who is in there, for asking later and elsewhere.
    pub(crate) fn census(&self) -> impl FnOnce() -> Vec<Pid> + Send + 'static {
        let directory = self.directories().next().cloned();
        move || directory.and_then(|directory| members(&directory).ok()).unwrap_or_default()
    }

    /// What has been used since counting began.
    pub(crate) fn usage(&self) -> Usage {
        let (now, before) = (self.total(), self.before);
        let peak = self.peak.as_ref().and_then(v2::peak);
        Usage {
            memory_kills: now.memory_kills.saturating_sub(before.memory_kills),
            memory_peak: peak.unwrap_or(now.memory_peak),
            cpu: now.cpu.map(|cpu| cpu.saturating_sub(before.cpu.unwrap_or_default())),
        }
    }

    fn total(&self) -> Usage {
        match &self.kind {
            Kind::V1(trees) => v1::usage(trees),
            Kind::V2 { home, .. } => v2::usage(home),
            Kind::None => Usage::default(),
        }
    }

    /// Ends whoever is left and removes the groups.
    ///
    /// # Errors
    /// When somebody stays.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        for directory in self.directories() {
            empty(directory)?;
            remove(directory)?;
        }
        Ok(())
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.kind.directories()
    }
}

impl Kind {
    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        let (trees, home) = match self {
            Self::V1(trees) => (trees.as_slice(), None),
            Self::V2 { home, .. } => (&[][..], Some(home)),
            Self::None => (&[][..], None),
        };
        trees.iter().map(|(_, tree)| tree).chain(home)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.clear()
        {
            tracing::error!(%error, "control group {:?} stays behind", self.kind);
        }
    }
}

fn missing(had: &[Controller], why: impl Fn(Controller) -> String) -> Vec<Missing> {
    Controller::LIMITING
        .into_iter()
        .filter(|controller| !had.contains(controller))
        .map(|controller| Missing { controller, why: why(controller) })
        .collect()
}

fn members(directory: &Path) -> io::Result<Vec<Pid>> {
    let text = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    Ok(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect())
}

/// Kills until nobody is left, and says how many there were. Among the first killed is the first
/// process of the jail, with which the kernel kills all others; so even a fork bomb ends in a few rounds.
fn empty(directory: &Path) -> io::Result<usize> {
    let mut killed = 0;
    for pause in pauses() {
        let members = members(directory)?;
        if members.is_empty() {
            return Ok(killed);
        }
        killed = killed.max(members.len());
        if fs::write(directory.join("cgroup.kill"), "1").is_err() {
            for &member in &members {
                let _ = kill(member, Signal::SIGKILL);
            }
        }
        supervise::pause(pause);
    }
    Err(io::Error::other(format!("there are still processes in {}", directory.display())))
}

fn remove(directory: &Path) -> io::Result<()> {
    let mut last = None;
    for pause in pauses() {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => last = Some(error),
        }
        supervise::pause(pause);
    }
    Err(last.unwrap_or_else(|| io::Error::other("a control group could not be removed")))
}

/// Short waits that grow, [`PATIENCE`] in all.
fn pauses() -> impl Iterator<Item = Duration> {
    let mut left = PATIENCE;
    let mut next = Duration::from_micros(200);
    std::iter::from_fn(move || {
        let pause = next.min(left);
        left = left.checked_sub(pause).filter(|left| !left.is_zero())?;
        next = (next * 2).min(Duration::from_millis(50));
        Some(pause)
    })
}

/// Mount points of a kind of file system: mount point, super block options (proc_pid_mountinfo(5)).
fn mounted<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = (&'a Path, &'a str)> {
    mounts.lines().filter_map(move |line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        if after.next()? != kind {
            return None;
        }
        Some((Path::new(before.split(' ').nth(4)?), after.nth(1)?))
    })
}

/// Writes a value; the error names the file.
fn write(directory: &Path, file: &str, value: &impl ToString) -> io::Result<()> {
    fs::write(directory.join(file), value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.join(file).display())))
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// A number behind a word, as in `memory.events`.
fn word(directory: &Path, file: &str, word: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

/// Makes a directory, or says why that is not possible, for the report on protections.
fn make(directory: &Path) -> Result<(), String> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("{}: {error}", directory.display()));
        }
        _ => {}
    }
    // One of another user would be no use.
    File::options()
        .write(true)
        .open(directory.join("cgroup.procs"))
        .map(drop)
        .map_err(|error| format!("{}: {error}", directory.display()))
}
