//! How full a workspace is.
//!
//! Control groups do not limit disks, quotas of users and projects need a file system that was
//! mounted for them, and a file system of its own for each workspace costs more than a jail's start.
//! So the space is watched: asking the file system how much is free takes a microsecond and is done
//! often; only when that has fallen by as much as would matter, or some time has passed, is the
//! workspace counted. `RLIMIT_FSIZE` bounds each single file and the refusal of `fallocate` makes
//! every byte cost a write. What is counted: the blocks of every file, something for its inode, and
//! files that have no name any more but are still open.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
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
    directory: OwnedFd,
    quota: u64,
    /// At the last count: bytes in the workspace, and free on the file system.
    used: u64,
    free: Free,
    free_seen: Free,
    counted: Option<Instant>,
    count_took: Duration,
    next: Instant,
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
            directory,
            quota,
            used: 0,
            free,
            free_seen: free,
            counted: None,
            count_took: Duration::ZERO,
            next: now + TICK,
        }
    }

    /// When the next look is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, and counts if there is reason to. `members` are asked for only then.
    pub(crate) fn look(&mut self, now: Instant, members: impl FnOnce() -> Vec<Pid>) -> Space {
        let free = Free::of(&self.directory);
        self.next = now + if self.free_seen.taken(free) > 0 { TICK } else { TICK_IDLE };
        self.free_seen = free;
        let grown = self.free.taken(free);
        let rested = self.counted.map_or(Duration::MAX, |counted| now.saturating_duration_since(counted));
        // Counting is at most a fifth of the time, however large the workspace.
        let may = rested >= self.count_took * 4;
        let suspicious = self.used.saturating_add(grown) > self.quota;
        // Somebody else may free as much as is written here.
        let least = if grown > 0 { COUNT_AT_LEAST_EVERY } else { COUNT_AT_LEAST_EVERY * 5 };
        let due = rested >= least.max(self.count_took * 20);
        if may && (suspicious || due) {
            self.count(now, &members());
        }
        self.space()
    }

    /// A last look, after the end of a program that ended well: exact when it could matter.
    pub(crate) fn last_look(&mut self, now: Instant) -> Space {
        if self.used.saturating_add(self.free.taken(Free::of(&self.directory))) > self.quota {
            self.count(now, &[]);
        }
        self.space()
    }

    /// The same after a program that failed: always exact. What the file system lost says too little,
    /// since others may have freed as much as was written here.
    pub(crate) fn exact_look(&mut self, now: Instant) -> Space {
        self.count(now, &[]);
        self.space()
    }

    fn space(&self) -> Space {
        if self.used > self.quota { Space::Full } else { Space::Enough }
    }

    fn count(&mut self, now: Instant, members: &[Pid]) {
        let free = Free::of(&self.directory);
        // If it cannot be counted: as if all that the file system lost had gone in here.
        let guess = self.used.saturating_add(self.free.taken(free));
        self.free = free;
        let mut count = Count { bytes: 0, most: self.quota, seen: BTreeSet::new() };
        count.directory(&self.directory, guess);
        if let Ok(root) = fstat(&self.directory) {
            for &member in members {
                count.nameless(member, root.st_dev);
            }
        }
        self.used = count.bytes;
        let done = crate::supervise::moment();
        self.counted = Some(done);
        self.count_took = done.saturating_duration_since(now);
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
        let space = watch.look(moment(), Vec::new);
        assert_eq!(space, expect, "{} bytes of {quota}", watch.used);
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
        assert_eq!(watch.exact_look(moment()), Space::Full);
    }

    #[test]
    fn a_nameless_open_file_is_found() {
        let home = tempfile::tempdir().unwrap();
        let file = fs::File::create(home.path().join("a")).unwrap();
        std::io::Write::write_all(&mut &file, &vec![1; 1 << 20]).unwrap();
        fs::remove_file(home.path().join("a")).unwrap();
        let mut watch = Watch::new(open(home.path()).unwrap(), 1 << 19, moment());
        assert_eq!(watch.look(moment(), Vec::new), Space::Enough);
        watch.count(moment(), &[nix::unistd::getpid()]);
        assert_eq!(watch.space(), Space::Full);
    }
}
