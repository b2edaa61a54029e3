//! What bounds a fetch or a push: an allowance of bytes, and a flag that ends it.

use std::io::{self, BufRead, Read};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a remote may send before it is asked for objects: its list of refs.
pub(crate) const REFS_ALLOWANCE: u64 = 64 << 20;

/// Shared by all parts of one fetch or push.
#[derive(Debug)]
pub(crate) struct Meter {
    left: AtomicU64,
    /// The last HTTP status, 0 when there was none: the failures of gix do not always carry it.
    pub(crate) status: AtomicU16,
    /// Set when the time is over or nobody waits for the fetch any more; gix looks at it.
    pub(crate) stopped: AtomicBool,
    is_too_much: AtomicBool,
    children: Mutex<Vec<Child>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            left: AtomicU64::new(REFS_ALLOWANCE),
            status: AtomicU16::new(0),
            stopped: AtomicBool::new(false),
            is_too_much: AtomicBool::new(false),
            children: Mutex::default(),
        }
    }

    /// From now on so many bytes may come.
    pub(crate) fn allow(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// The remote sends more than it may.
    pub(crate) fn refuse(&self) {
        self.is_too_much.store(true, Ordering::Relaxed);
    }

    /// Whether the remote sent more than it may.
    pub(crate) fn is_too_much(&self) -> bool {
        self.is_too_much.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends with the fetch, or with [`Meter::stop`]. What is given takes it back.
    pub(crate) fn adopt(&self, child: Child) -> u32 {
        let id = child.id();
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        if self.is_stopped() {
            self.stop();
        }
        id
    }

    /// Takes the program back, to wait for it.
    pub(crate) fn release(&self, id: u32) -> Option<Child> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let at = children.iter().position(|child| child.id() == id)?;
        Some(children.remove(at))
    }

    /// Ends the fetch: reads fail, and the program on the other end is killed.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.children.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(kill);
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        if self.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        let bytes = bytes as u64;
        if self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_err()
        {
            self.refuse();
            return Err(io::Error::other("the remote sends more than is allowed"));
        }
        Ok(())
    }
}

/// Kills a program that leads a group of its own, with all that it started. It is not waited for yet, so
/// that its number is nobody else's. Already gone is as good.
pub(crate) fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
    let _ = child.kill();
}

/// A reader whose bytes are counted.
pub(crate) struct Metered<'m, R> {
    pub(crate) inner: R,
    pub(crate) meter: &'m Meter,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.count(read)?;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Metered<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.meter.count(0)?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // Over the limit, the next read says so.
        let _ = self.meter.count(amount);
        self.inner.consume(amount);
    }
}
