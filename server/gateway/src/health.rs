//! How models do, as seen lately by this process: what the router knows of them besides the catalogue.
//!
//! A breaker for each model (M. Nygard, "Release It!", "Circuit Breaker"), rests that providers ask for,
//! how fast answers come, how much of a question is found in a provider's cache, and how much of what may
//! be asked in a minute has been.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::route::Health;
use tokio::time::Instant;

use crate::class::{Class, Fault};

/// So many failures in a row open a breaker …
const IN_A_ROW: u32 = 5;
/// … or more than half of so many …
const ENOUGH: usize = 10;
/// … within this.
const WINDOW: Duration = Duration::from_secs(60);
/// How long it stays open before one question is let through, to see.
const OPEN: Duration = Duration::from_secs(30);
/// How long a model rests whose account or name was refused.
const REFUSED: Duration = Duration::from_secs(300);
/// How long one rests that is asked too much and does not say for how long.
const BUSY: Duration = Duration::from_secs(10);
/// After this, what was measured says nothing any more.
const STALE: Duration = Duration::from_secs(600);
/// How much a new measurement counts against the old ones.
const WEIGHT: f64 = 0.2;
/// Tokens of an answer, as long as none was seen.
const ANSWER: f64 = 500.0;

/// How all models do.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ward {
    beds: Arc<Mutex<HashMap<String, Bed>>>,
}

/// How one does.
#[derive(Debug, Default)]
struct Bed {
    recent: VecDeque<(Instant, bool)>,
    failures: u32,
    breaker: Breaker,
    resting: Option<Instant>,
    seen: Option<Seen>,
    /// The questions of the last minute, and their tokens.
    asked: VecDeque<(Instant, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Breaker {
    #[default]
    Closed,
    /// Until then, and then until someone has tried.
    Open(Instant),
    /// Someone tries, since then.
    Tried(Instant),
}

/// What was measured lately.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// Until the first piece, seconds.
    first: f64,
    /// For each token after it, seconds.
    token: f64,
    /// Tokens of an answer.
    written: f64,
    /// The share of a question that was in the provider's cache.
    hit: f64,
}

/// What a question used, as far as the next one's cost and time can be told from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) first: Duration,
    pub(crate) whole: Duration,
    pub(crate) read: u64,
    pub(crate) cached: u64,
    pub(crate) written: u64,
}

/// What is to be expected of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    /// From the question to the end of the answer.
    pub(crate) pace: Option<Duration>,
    /// Tokens of the answer.
    pub(crate) written: u64,
    /// The share of a question that is in the provider's cache, thousandths.
    pub(crate) hit: u64,
}

/// How much may be asked in a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PerMinute {
    pub(crate) requests: Option<u32>,
    pub(crate) tokens: Option<u64>,
}

impl Ward {
    /// How a model does now.
    pub(crate) fn health(&self, model: &str) -> Health {
        let now = Instant::now();
        let beds = self.beds();
        let Some(bed) = beds.get(model) else { return Health::Well };
        if let Some(left) =
            bed.resting.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
        {
            return Health::Cooling(left);
        }
        match bed.breaker {
            Breaker::Open(until) if until > now => Health::Open(until - now),
            // One tries; the others wait for what comes of it.
            Breaker::Tried(since) if now - since < OPEN => Health::Open(OPEN - (now - since)),
            Breaker::Closed | Breaker::Open(_) | Breaker::Tried(_) => Health::Well,
        }
    }

    /// How long until a provider may be asked for so many tokens more; nothing when it may be now.
    pub(crate) fn limited(&self, provider: &str, allowed: PerMinute, tokens: u64) -> Option<Duration> {
        let now = Instant::now();
        let mut beds = self.beds();
        let asked = &mut beds.get_mut(provider)?.asked;
        while asked.front().is_some_and(|(at, _)| now - *at >= WINDOW) {
            asked.pop_front();
        }
        // A question larger than all that is allowed goes alone.
        let fits = |gone: usize| {
            let left = asked.len() - gone;
            let sum: u64 = asked.iter().skip(gone).map(|(_, tokens)| tokens).sum();
            allowed.requests.is_none_or(|most| left < most as usize)
                && allowed.tokens.is_none_or(|most| left == 0 || sum.saturating_add(tokens) <= most)
        };
        let gone = (0..=asked.len()).find(|gone| fits(*gone)).unwrap_or(asked.len());
        let last = gone.checked_sub(1).and_then(|last| asked.get(last));
        last.map(|(at, _)| WINDOW.saturating_sub(now - *at))
    }

    /// What is to be expected of a model, for an answer of at most so many tokens.
    pub(crate) fn expected(&self, model: &str, most: Option<u64>) -> Expected {
        let now = Instant::now();
        let seen = self.beds().get(model).and_then(|bed| bed.seen).filter(|seen| now - seen.at < STALE);
        let written = seen.map_or(ANSWER, |seen| seen.written).round() as u64;
        let written = written.min(most.unwrap_or(u64::MAX));
        let pace = seen.map(|seen| Duration::from_secs_f64(seen.first + seen.token * written as f64));
        let hit = seen.map_or(0, |seen| (seen.hit * 1_000.0) as u64);
        Expected { pace, written, hit }
    }

    /// A question goes to a model.
    pub(crate) fn asks(&self, provider: &str, model: &str, tokens: u64) -> Asking {
        let now = Instant::now();
        let mut beds = self.beds();
        beds.entry(provider.to_owned()).or_default().asked.push_back((now, tokens));
        let bed = beds.entry(model.to_owned()).or_default();
        if matches!(bed.breaker, Breaker::Open(_) | Breaker::Tried(_)) {
            bed.breaker = Breaker::Tried(now);
        }
        Asking { ward: self.clone(), model: model.to_owned(), told: false }
    }

    fn beds(&self) -> MutexGuard<'_, HashMap<String, Bed>> {
        self.beds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way. Dropped without a word, it says nothing about the model.
#[derive(Debug)]
#[must_use]
pub(crate) struct Asking {
    ward: Ward,
    model: String,
    told: bool,
}

impl Asking {
    /// There is an answer.
    pub(crate) fn answered(mut self, measured: Option<Measured>) {
        self.tell(|bed, now| {
            bed.noted(now, true);
            bed.failures = 0;
            bed.breaker = Breaker::Closed;
            bed.resting = None;
            if let Some(measured) = measured {
                bed.seen = Some(Seen::of(bed.seen.filter(|seen| now - seen.at < STALE), measured, now));
            }
        });
    }

    /// There is none.
    pub(crate) fn failed(mut self, fault: &Fault) {
        let (class, wait) = (fault.class, fault.retry_after);
        self.tell(|bed, now| match class {
            Class::Transient | Class::StreamBroken => bed.failed(now),
            Class::RateLimited => bed.rest(now + wait.unwrap_or(BUSY).min(REFUSED)),
            Class::Account | Class::Unavailable => bed.rest(now + REFUSED),
            // It answered: it is well, and what it says is about the question.
            Class::Capability | Class::Content | Class::Request => {
                bed.noted(now, true);
                bed.failures = 0;
                bed.breaker = Breaker::Closed;
            }
            Class::Local => bed.untried(now),
        });
    }

    fn tell(&mut self, change: impl FnOnce(&mut Bed, Instant)) {
        self.told = true;
        if let Some(bed) = self.ward.beds().get_mut(&self.model) {
            change(bed, Instant::now());
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Bed::untried);
        }
    }
}

impl Bed {
    fn noted(&mut self, now: Instant, well: bool) {
        self.recent.push_back((now, well));
        while self.recent.front().is_some_and(|(at, _)| now - *at >= WINDOW) || self.recent.len() > 1_000 {
            self.recent.pop_front();
        }
    }

    fn failed(&mut self, now: Instant) {
        self.noted(now, false);
        self.failures += 1;
        let failed = self.recent.iter().filter(|(_, well)| !well).count();
        let half = self.recent.len() >= ENOUGH && failed * 2 > self.recent.len();
        if self.failures >= IN_A_ROW || half || matches!(self.breaker, Breaker::Tried(_)) {
            self.breaker = Breaker::Open(now + OPEN);
            self.recent.clear();
        }
    }

    fn rest(&mut self, until: Instant) {
        self.resting = self.resting.max(Some(until));
        self.untried(until);
    }

    /// Nothing came of trying; the next one may.
    fn untried(&mut self, now: Instant) {
        if let Breaker::Tried(_) = self.breaker {
            self.breaker = Breaker::Open(now);
        }
    }
}

impl Seen {
    fn of(before: Option<Self>, measured: Measured, at: Instant) -> Self {
        let Measured { first, whole, read, cached, written } = measured;
        let after = whole.saturating_sub(first).as_secs_f64();
        let new = Self {
            at,
            first: first.as_secs_f64(),
            token: after / written.max(1) as f64,
            written: written as f64,
            hit: if read == 0 { 0.0 } else { cached as f64 / read as f64 },
        };
        let Some(old) = before else { return new };
        let mean = |old: f64, new: f64| old + WEIGHT * (new - old);
        // What became slower counts at once, what became faster little by little (peak EWMA, as in Finagle).
        let peak = |old: f64, new: f64| if new > old { new } else { mean(old, new) };
        Self {
            at,
            first: peak(old.first, new.first),
            token: peak(old.token, new.token),
            written: mean(old.written, new.written),
            hit: mean(old.hit, new.hit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Fault {
        Fault::new(Class::Transient, "is away")
    }

    fn fails(ward: &Ward, times: usize) {
        for _ in 0..times {
            ward.asks("p", "p/m", 1).failed(&transient());
        }
    }

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_and_lets_one_try() {
        let ward = Ward::default();
        fails(&ward, 4);
        assert_eq!(ward.health("p/m"), Health::Well);
        fails(&ward, 1);
        assert_eq!(ward.health("p/m"), Health::Open(OPEN));
        after(31).await;
        assert_eq!(ward.health("p/m"), Health::Well);
        let trying = ward.asks("p", "p/m", 1);
        assert_eq!(ward.health("p/m"), Health::Open(OPEN), "a second one tries as well");
        drop(trying);
        assert_eq!(ward.health("p/m"), Health::Well, "nothing came of it");
        fails(&ward, 1);
        assert_eq!(ward.health("p/m"), Health::Open(OPEN), "one failure is enough now");
        after(31).await;
        ward.asks("p", "p/m", 1).answered(None);
        fails(&ward, 4);
        assert_eq!(ward.health("p/m"), Health::Well);
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_many_failures_open_it_too() {
        let ward = Ward::default();
        for _ in 0..4 {
            ward.asks("p", "p/m", 1).answered(None);
            fails(&ward, 1);
        }
        fails(&ward, 1);
        assert_eq!(ward.health("p/m"), Health::Well, "nine are not enough");
        fails(&ward, 1);
        assert_eq!(ward.health("p/m"), Health::Open(OPEN));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_rest_rests() {
        let ward = Ward::default();
        let busy = Fault { retry_after: Some(Duration::from_secs(7)), ..Fault::new(Class::RateLimited, "") };
        ward.asks("p", "p/m", 1).failed(&busy);
        assert_eq!(ward.health("p/m"), Health::Cooling(Duration::from_secs(7)));
        after(7).await;
        assert_eq!(ward.health("p/m"), Health::Well);
        ward.asks("p", "p/m", 1).failed(&Fault::new(Class::Account, ""));
        assert_eq!(ward.health("p/m"), Health::Cooling(REFUSED));
        ward.asks("p", "p/m", 1).answered(None);
        assert_eq!(ward.health("p/m"), Health::Well, "it answered all the same");
        ward.asks("p", "p/m", 1).failed(&Fault::new(Class::Request, ""));
        assert_eq!(ward.health("p/m"), Health::Well);
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_slower_counts_at_once() {
        let ward = Ward::default();
        assert_eq!(ward.expected("p/m", Some(100)), Expected { pace: None, written: 100, hit: 0 });
        let answered = |first: u64| {
            let first = Duration::from_secs(first);
            let whole = first + Duration::from_secs(1);
            let measured = Measured { first, whole, read: 1_000, cached: 500, written: 100 };
            ward.asks("p", "p/m", 1).answered(Some(measured));
            ward.expected("p/m", None).pace.unwrap().as_millis()
        };
        assert_eq!([answered(1), answered(6), answered(1)], [2_000, 7_000, 6_000]);
        assert_eq!(ward.expected("p/m", None).hit, 500);
        after(600).await;
        assert_eq!(ward.expected("p/m", None).pace, None);
    }

    #[tokio::test(start_paused = true)]
    async fn so_much_may_be_asked_in_a_minute() {
        let ward = Ward::default();
        let two = PerMinute { requests: Some(2), tokens: None };
        let many = PerMinute { requests: None, tokens: Some(100) };
        let wait = |allowed, tokens| ward.limited("p", allowed, tokens).map(|wait| wait.as_secs());
        assert_eq!(wait(two, 1), None);
        drop(ward.asks("p", "p/m", 60));
        after(10).await;
        assert_eq!((wait(two, 1), wait(many, 40), wait(many, 41)), (None, None, Some(50)));
        drop(ward.asks("p", "p/n", 40));
        assert_eq!((wait(two, 1), wait(many, 60), wait(many, 61)), (Some(50), Some(50), Some(60)));
        after(50).await;
        assert_eq!((wait(two, 1), wait(many, 60), wait(many, 1_000)), (None, None, Some(10)));
        after(10).await;
        assert_eq!(wait(many, 1_000), None);
    }
}
