//! When the server dies: drawn from a generator with a seed, so that a story that ended badly is told again
//! by the number that it printed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

/// What is drawn is at most so many requests away, or so many of those that change something, and an instant
/// at most so long after one.
const FURTHEST: usize = 24;
const FURTHEST_WRITE: usize = 3;
const LONGEST: u64 = 60;
/// One webhook in so many is lost on its way.
const LOST: u32 = 6;

/// When, seen from a request that the server made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before it is carried out.
    Before,
    /// Afterwards, when the answer is still on its way.
    After,
    /// Some time after the answer.
    Within(Duration),
}

/// A request of the server, or of GitHub's to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It asks how things are.
    Read,
    /// It changes something.
    Write,
}

/// The life of the server under test.
#[derive(Debug)]
pub(crate) struct Fate {
    draw: StdRng,
    alive: Option<u32>,
    next: Option<(Deed, usize, Moment)>,
    /// How often it is still to die in this part of the story.
    pub(crate) left: usize,
    /// When it died.
    pub(crate) deaths: Vec<String>,
    /// Where it listens.
    pub(crate) url: String,
}

impl Fate {
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            draw: StdRng::seed_from_u64(seed),
            alive: None,
            next: None,
            left: 0,
            deaths: Vec::new(),
            url: String::new(),
        }
    }

    /// It lives in this process.
    pub(crate) fn lives(&mut self, process: u32) {
        self.alive = Some(process);
        self.draw_next();
    }

    /// From now on it is to die so many times more.
    pub(crate) fn allow(&mut self, deaths: usize) {
        self.left += deaths;
        if self.alive.is_some() {
            self.draw_next();
        }
    }

    fn draw_next(&mut self) {
        if self.left == 0 || self.next.is_some() {
            return;
        }
        let moment = match self.draw.random_range(0..3) {
            0 => Moment::Before,
            1 => Moment::After,
            _ => Moment::Within(Duration::from_millis(self.draw.random_range(0..LONGEST))),
        };
        // Far more is read than written; both are as likely to be the last of a life.
        self.next = Some(if self.draw.random_range(0..2) == 0 {
            (Deed::Read, self.draw.random_range(0..FURTHEST), moment)
        } else {
            (Deed::Write, self.draw.random_range(0..FURTHEST_WRITE), moment)
        });
    }

    /// A request comes; what happens at it.
    pub(super) fn meets(&mut self, deed: Deed) -> Option<Moment> {
        self.alive?;
        let (awaited, left, moment) = self.next?;
        if awaited == Deed::Write && deed == Deed::Read {
            return None;
        }
        if left > 0 {
            self.next = Some((awaited, left - 1, moment));
            return None;
        }
        self.next = None;
        Some(moment)
    }

    /// Whether the next webhook is lost; the server then dies soon, since only a new life asks for it again.
    pub(super) fn loses(&mut self) -> Option<Duration> {
        let lost = self.left > 0 && self.alive.is_some() && self.draw.random_range(0..LOST) == 0;
        lost.then(|| {
            self.next = None;
            Duration::from_millis(self.draw.random_range(0..LONGEST))
        })
    }

    /// Ends it, as a power cut would; whether it was alive.
    pub(super) fn kill(&mut self, when: &str) -> bool {
        let Some(process) = self.alive.take() else { return false };
        let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
        kill_process(process, Signal::KILL).unwrap();
        self.next = None;
        self.left = self.left.saturating_sub(1);
        self.deaths.push(when.to_owned());
        true
    }

    pub(crate) const fn is_dead(&self) -> bool {
        self.alive.is_none()
    }
}
