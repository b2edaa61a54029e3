//! How full a workspace is.
//!
//! Control groups do not limit disks, quotas of users and projects need a file system that was
//! mounted for them, and a file system of its own for each workspace costs more than a jail's start.
//! So the space is watched: asking the file system how much is free takes a microsecond and is done
//! often; only when that has fallen by as much as would matter, or some time has passed, is the
//! workspace counted. `RLIMIT_FSIZE` bounds each single file and the refusal of `fallocate` makes
//! every byte cost a write. What is counted: the blocks of every file, something for its inode, and
//! files that have no name any more but are still open.
//!
//! Counting is a thread's of its own: to see what a process has mapped the kernel waits for the process,
//! and a fork bomb that has used up its processor time lets it wait for seconds. Whoever holds the jail to
//! its time limit must not.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::Pid;

use crate::tree::{self, Entry};

/// What a file costs beside its blocks: inode and name.
const FILE_OVERHEAD: u64 = 1024;
const TICK: Duration = Duration::from_millis(20);
const TICK_IDLE: Duration = Duration::from_millis(100);
const COUNT_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Watches one workspace.
#[derive(Debug)]
pub(crate) struct Watch {
    directory: Arc<OwnedFd>,
    quota: u64,
    /// By the last count.
    last: Counted,
    /// When that was done.
    counted: Option<Instant>,
    counting: Option<JoinHandle<(Counted, Instant)>>,
    free_seen: Free,
    next: Instant,
}

/// What a count found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    /// Bytes in the workspace.
    used: u64,
    /// Free on the file system when it began.
    free: Free,
    took: Duration,
}

/// What a look at the workspace found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// There is room.
    Enough,
    /// There is more in it than may be.
    Full,
}

impl Watch {
    /// Begins to watch. The first count is at the first look: most programs have ended before it.
    pub(crate) fn new(directory: OwnedFd, quota: u64, now: Instant) -> Self {
        let free = Free::of(&directory);
        Self {
            directory: Arc::new(directory),
            quota,
            last: Counted { used: 0, free, took: Duration::ZERO },
            counted: None,
            counting: None,
            free_seen: free,
            next: now + TICK,
        }
    }

    /// When the next look is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, and has it counted if there is reason to. `members` are asked for only then, and not by
    /// this thread.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        members: impl FnOnce() -> Vec<Pid> + Send + 'static,
    ) -> Space {
        if self.counting.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait();
        }
        let free = Free::of(&self.directory);
        let busy = self.free_seen.taken(free) > 0 || self.counting.is_some();
        self.next = now + if busy { TICK } else { TICK_IDLE };
        self.free_seen = free;
        let grown = self.last.free.taken(free);
        let rested = self.counted.map_or(Duration::MAX, |counted| now.saturating_duration_since(counted));
        // Counting is at most a fifth of the time, however large the workspace.
        let may = self.counting.is_none() && rested >= self.last.took * 4;
        let suspicious = self.last.used.saturating_add(grown) > self.quota;
        // Somebody else may free as much as is written here.
        let least = if grown > 0 { COUNT_AT_LEAST_EVERY } else { COUNT_AT_LEAST_EVERY * 5 };
        let due = rested >= least.max(self.last.took * 20);
        if may && (suspicious || due) {
            self.begin(members);
        }
        self.space()
    }

    fn begin(&mut self, members: impl FnOnce() -> Vec<Pid> + Send + 'static) {
        let (directory, quota, last) = (Arc::clone(&self.directory), self.quota, self.last);
        let thread = std::thread::Builder::new().name("count".to_owned());
        // Without a thread to be had the next look tries again.
        self.counting = thread.spawn(move || last.again(&directory, quota, &members())).ok();
        self.next = self.next.min(crate::supervise::moment() + TICK);
    }

    /// Takes over a count that was begun.
    fn wait(&mut self) {
        if let Some((counted, done)) = self.counting.take().and_then(|counting| counting.join().ok()) {
            self.last = counted;
            self.counted = Some(done);
        }
    }

    /// A last look, after the end of a program that ended well: exact when it could matter.
    pub(crate) fn last_look(&mut self) -> Space {
        self.wait();
        if self.last.used.saturating_add(self.last.free.taken(Free::of(&self.directory))) > self.quota {
            return self.exact_look();
        }
        self.space()
    }

    /// The same after a program that failed: always exact. What the file system lost says too little,
    /// since others may have freed as much as was written here.
    pub(crate) fn exact_look(&mut self) -> Space {
        self.wait();
        (self.last, _) = self.last.again(&self.directory, self.quota, &[]);
        self.space()
    }

    fn space(&self) -> Space {
        if self.last.used > self.quota { Space::Full } else { Space::Enough }
    }
}

impl Counted {
    /// Counts anew, and says when that was done.
    fn again(self, directory: &OwnedFd, quota: u64, members: &[Pid]) -> (Self, Instant) {
        let begun = crate::supervise::moment();
        let free = Free::of(directory);
        // If it cannot be counted: as if all that the file system lost had gone in here.
        let guess = self.used.saturating_add(self.free.taken(free));
        let mut count = Count { bytes: 0, most: quota, seen: BTreeSet::new() };
        count.directory(directory, guess);
        if let Ok(root) = fstat(directory) {
            for &member in members {
                count.nameless(member, root.st_dev);
            }
        }
        let done = crate::supervise::moment();
        (Self { used: count.bytes, free, took: done.saturating_duration_since(begun) }, done)
    }
}

/// What nobody uses on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Free {
    bytes: u64,
    /// Empty files take no blocks; some file systems do not count them.
    files: u64,
}

impl Free {
    fn of(directory: &OwnedFd) -> Self {
        match fstatvfs(directory) {
            Ok(vfs) => {
                Self { bytes: vfs.blocks_free().saturating_mul(vfs.fragment_size()), files: vfs.files_free() }
            }
            Err(_) => Self { bytes: u64::MAX, files: u64::MAX },
        }
    }

    /// What has been taken since.
    fn taken(self, later: Self) -> u64 {
        let files = self.files.saturating_sub(later.files).saturating_mul(FILE_OVERHEAD);
        self.bytes.saturating_sub(later.bytes).saturating_add(files)
    }
}

struct Count {
    bytes: u64,
    /// There is no need to know how much more it is.
    most: u64,
    /// Files with several names, counted once.
    seen: BTreeSet<(u64, u64)>,
}

impl Count {
    /// What is below a directory. Links are counted, never followed. What cannot be read to its end
    /// — a path longer than the kernel takes — was made to hide something.
    fn directory(&mut self, directory: &OwnedFd, guess: u64) {
        let walked = tree::walk(directory, |entry| {
            self.file(entry);
            Ok(if self.bytes > self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        match walked {
            Err(Errno::ENAMETOOLONG) => self.bytes = u64::MAX,
            // A directory that the program closed to us, or a moment's lack of descriptors.
            Err(error) => {
                tracing::debug!(%error, "a workspace could not be counted");
                self.bytes = self.bytes.max(guess);
            }
            Ok(()) => {}
        }
    }

    fn file(&mut self, entry: &Entry<'_>) {
        let several = entry.at.st_nlink > 1 && entry.kind() != SFlag::S_IFDIR;
        if !several || self.seen.insert((entry.at.st_dev, entry.at.st_ino)) {
            self.add(u64::try_from(entry.at.st_blocks).unwrap_or_default());
        }
    }

    fn add(&mut self, blocks: u64) {
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512)).saturating_add(FILE_OVERHEAD);
    }

    /// Files of the workspace's file system that a process holds open or mapped and that have no
    /// name any more. The kernel shows mapped ones to root only.
    fn nameless(&mut self, process: Pid, device: u64) {
        for held in ["fd", "map_files"] {
            let Ok(entries) = fs::read_dir(format!("/proc/{process}/{held}")) else { continue };
            for entry in entries.flatten() {
                if let Ok(at) = fs::metadata(entry.path())
                    && at.dev() == device
                    && at.nlink() == 0
                    && self.seen.insert((at.dev(), at.ino()))
                {
                    self.add(at.blocks());
                }
            }
        }
    }
}

/// Opens a directory for counting; its last component must not be a link.
pub(crate) fn open(directory: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(directory, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Space, Watch, open};
    use crate::supervise::moment;

    fn check(quota: u64, make: impl Fn(&std::path::Path), expect: Space) {
        let home = tempfile::tempdir().unwrap();
        make(home.path());
        let mut watch = Watch::new(open(home.path()).unwrap(), quota, moment());
        let space = watch.exact_look();
        assert_eq!(space, expect, "{} bytes of {quota}", watch.last.used);
    }

    #[test]
    fn blocks_count_and_holes_do_not() {
        let content = vec![1; 1 << 20];
        check(2 << 20, |at| fs::write(at.join("a"), &content).unwrap(), Space::Enough);
        check(1 << 19, |at| fs::write(at.join("a"), &content).unwrap(), Space::Full);
        let sparse = |at: &std::path::Path| fs::File::create(at.join("a")).unwrap().set_len(1 << 30).unwrap();
        check(1 << 20, sparse, Space::Enough);
    }

    #[test]
    fn every_file_costs_and_names_of_one_file_cost_once() {
        check(
            64 << 10,
            |at| (0..100).for_each(|n| fs::write(at.join(n.to_string()), "").unwrap()),
            Space::Full,
        );
        let linked = |at: &std::path::Path| {
            fs::write(at.join("a"), vec![1; 40 << 10]).unwrap();
            (0..20).for_each(|n| fs::hard_link(at.join("a"), at.join(n.to_string())).unwrap());
        };
        check(64 << 10, linked, Space::Enough);
    }

    #[test]
    fn links_lead_nowhere() {
        let linked = |at: &std::path::Path| {
            symlink("/usr", at.join("usr")).unwrap();
            symlink("..", at.join("up")).unwrap();
        };
        check(64 << 10, linked, Space::Enough);
    }

    #[test]
    fn deep_directories_are_counted() {
        let deep = |at: &std::path::Path| {
            let path: std::path::PathBuf = std::iter::repeat_n("d", 1500).collect();
            fs::create_dir_all(at.join(path)).unwrap();
        };
        check(16 << 20, deep, Space::Enough);
        check(1 << 20, deep, Space::Full);
    }

    #[test]
    fn what_others_free_hides_nothing_at_the_end() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("ballast"), vec![1; 8 << 20]).unwrap();
        let mut watch = Watch::new(open(home.path()).unwrap(), 1 << 20, moment());
        fs::remove_dir_all(elsewhere.path()).unwrap();
        fs::write(home.path().join("a"), vec![1; 1 << 20]).unwrap();
        assert_eq!(watch.exact_look(), Space::Full);
    }

    #[test]
    fn a_nameless_open_file_is_found() {
        let home = tempfile::tempdir().unwrap();
        let file = fs::File::create(home.path().join("a")).unwrap();
        std::io::Write::write_all(&mut &file, &vec![1; 1 << 20]).unwrap();
        fs::remove_file(home.path().join("a")).unwrap();
        let mut watch = Watch::new(open(home.path()).unwrap(), 1 << 19, moment());
        assert_eq!(watch.exact_look(), Space::Enough);
        watch.begin(|| vec![nix::unistd::getpid()]);
        watch.wait();
        assert_eq!(watch.space(), Space::Full);
    }
}
