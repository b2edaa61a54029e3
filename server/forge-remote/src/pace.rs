//! How fast a forge may be asked. GitHub counts in three ways, and answers whoever is faster with a refusal that
//! grows with each try; so nobody asks faster, and who would is told when to come back. No other forge is asked
//! faster than the strictest of them.
//!
//! The numbers are GitHub's own ("Rate limits for the REST API", "Best practices"): 80 content writes a minute
//! and 500 an hour; 900 points a minute, a read costs one and a write five; writes one after the other, a
//! second apart. The counts are exact over every span of a minute or an hour, not only on average.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use domain::time::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const WRITES_A_MINUTE: u32 = 80;
const WRITES_AN_HOUR: u32 = 500;
const POINTS_A_MINUTE: u32 = 900;
const READ: u32 = 1;
const WRITE: u32 = 5;
/// Between two writes in one repository.
const APART: Duration = Duration::from_secs(1);
/// No answer makes us wait longer: GitHub's windows are an hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 3600);

/// What was asked of a forge lately. Pure: the time is passed in.
#[derive(Debug, Default)]
pub struct Pace {
    /// By installation: GitHub counts for each. Elsewhere there is one.
    accounts: BTreeMap<u64, Account>,
    /// By repository, the installation that wrote there last.
    homes: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Account {
    writes_a_minute: Window,
    writes_an_hour: Window,
    points: Window,
    paused_until: Option<Timestamp>,
    /// By repository, the last write.
    written: BTreeMap<u64, Timestamp>,
}

impl Pace {
    /// A read; otherwise the moment from which it may be tried.
    ///
    /// # Errors
    /// That moment.
    pub fn read(&mut self, account: u64, now: Timestamp) -> Result<(), Timestamp> {
        let account = self.account(account, now);
        account.may(now, &[account.points.free_at(READ, now)])?;
        account.points.spend(READ, now);
        Ok(())
    }

    /// A write in a repository; otherwise the moment from which it may be tried.
    ///
    /// # Errors
    /// That moment.
    pub fn write(&mut self, account: u64, repository: u64, now: Timestamp) -> Result<(), Timestamp> {
        self.homes.insert(repository, account);
        let account = self.account(account, now);
        account.may_write(repository, now)?;
        account.writes_a_minute.spend(1, now);
        account.writes_an_hour.spend(1, now);
        account.points.spend(WRITE, now);
        account.written.insert(repository, now);
        Ok(())
    }

    /// Whether a write in a repository would be let in, as far as is known before the forge was asked whose
    /// installation it is; otherwise the moment from which it would be. Nothing is counted.
    ///
    /// # Errors
    /// That moment.
    pub fn foresee_write(&mut self, repository: u64, now: Timestamp) -> Result<(), Timestamp> {
        match self.homes.get(&repository).copied() {
            Some(account) => self.account(account, now).may_write(repository, now),
            None => Ok(()),
        }
    }

    /// The forge said no, and until when.
    pub fn pause(&mut self, account: u64, until: Timestamp, now: Timestamp) {
        let account = self.account(account, now);
        let until = until.min(now.after(LONGEST_PAUSE));
        account.paused_until = account.paused_until.max(Some(until));
    }

    fn account(&mut self, account: u64, now: Timestamp) -> &mut Account {
        let account = self.accounts.entry(account).or_default();
        account.keep_time(now);
        account
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            writes_a_minute: Window::new(WRITES_A_MINUTE, MINUTE),
            writes_an_hour: Window::new(WRITES_AN_HOUR, HOUR),
            points: Window::new(POINTS_A_MINUTE, MINUTE),
            paused_until: None,
            written: BTreeMap::new(),
        }
    }
}

impl Account {
    fn may_write(&self, repository: u64, now: Timestamp) -> Result<(), Timestamp> {
        let apart = self.written.get(&repository).map_or(now, |last| last.after(APART));
        let windows = [
            self.writes_a_minute.free_at(1, now),
            self.writes_an_hour.free_at(1, now),
            self.points.free_at(WRITE, now),
            apart,
        ];
        self.may(now, &windows)
    }

    fn may(&self, now: Timestamp, windows: &[Timestamp]) -> Result<(), Timestamp> {
        let from = windows.iter().copied().chain(self.paused_until).max().unwrap_or(now);
        if from <= now { Ok(()) } else { Err(from) }
    }

    /// A clock that was set back must not keep anybody waiting until it is where it was.
    fn keep_time(&mut self, now: Timestamp) {
        for window in [&mut self.writes_a_minute, &mut self.writes_an_hour, &mut self.points] {
            window.keep_time(now);
        }
        self.written.retain(|_, last| now.since(*last) < APART);
        for last in self.written.values_mut() {
            *last = (*last).min(now);
        }
        self.paused_until =
            self.paused_until.filter(|until| *until > now).map(|until| until.min(now.after(LONGEST_PAUSE)));
    }
}

/// At most so much in any span of this length.
#[derive(Debug)]
struct Window {
    most: u32,
    span: Duration,
    spent: VecDeque<(Timestamp, u32)>,
    sum: u32,
}

impl Window {
    const fn new(most: u32, span: Duration) -> Self {
        Self { most, span, spent: VecDeque::new(), sum: 0 }
    }

    fn keep_time(&mut self, now: Timestamp) {
        while self.spent.front().is_some_and(|(at, _)| now.since(*at) >= self.span) {
            self.sum -= self.spent.pop_front().map_or(0, |(_, cost)| cost);
        }
        for (at, _) in self.spent.iter_mut().rev().take_while(|(at, _)| *at > now) {
            *at = now;
        }
    }

    /// From when on there is room.
    fn free_at(&self, cost: u32, now: Timestamp) -> Timestamp {
        let mut sum = self.sum;
        let mut from = now;
        for (at, spent) in &self.spent {
            if sum + cost <= self.most {
                break;
            }
            sum -= spent;
            from = from.max(at.after(self.span));
        }
        from
    }

    fn spend(&mut self, cost: u32, now: Timestamp) {
        self.spent.push_back((now, cost));
        self.sum += cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn most_in(span: Duration, granted: &[(Timestamp, u32)]) -> u32 {
        let sums = granted.iter().map(|(from, _)| {
            let inside = granted.iter().filter(|(at, _)| at >= from && at.since(*from) < span);
            inside.map(|(_, cost)| cost).sum::<u32>()
        });
        sums.max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whoever asks, and whenever, no span holds more than GitHub allows; and who comes back when told
        /// is let in.
        #[test]
        fn no_span_holds_too_much(asks in prop::collection::vec((0i64..400, any::<bool>(), 0u64..3), 1..900)) {
            let mut pace = Pace::default();
            let (mut now, mut points, mut writes) = (at(0), Vec::new(), Vec::new());
            let mut last: BTreeMap<u64, Timestamp> = BTreeMap::new();
            for (wait, write, repository) in asks {
                now = now.after(Duration::from_millis(wait.unsigned_abs()));
                let asked = |pace: &mut Pace, now| {
                    if write { pace.write(1, repository, now) } else { pace.read(1, now) }
                };
                if let Err(from) = asked(&mut pace, now) {
                    prop_assert!(from > now);
                    now = from;
                    prop_assert_eq!(asked(&mut pace, now), Ok(()));
                }
                points.push((now, if write { WRITE } else { READ }));
                if write {
                    writes.push((now, 1));
                    if let Some(last) = last.insert(repository, now) {
                        prop_assert!(now.since(last) >= APART);
                    }
                }
            }
            prop_assert!(most_in(MINUTE, &points) <= POINTS_A_MINUTE);
            prop_assert!(most_in(MINUTE, &writes) <= WRITES_A_MINUTE);
            prop_assert!(most_in(HOUR, &writes) <= WRITES_AN_HOUR);
        }
    }

    #[test]
    fn an_hour_holds_five_hundred_writes() {
        let mut pace = Pace::default();
        let mut now = at(0);
        for write in 0..u64::from(WRITES_AN_HOUR) {
            if let Err(from) = pace.write(1, write, now) {
                now = from;
                assert_eq!(pace.write(1, write, now), Ok(()));
            }
        }
        assert_eq!(pace.write(1, 0, now), Err(at(3_600_000)), "until the first is an hour old");
        assert_eq!(pace.write(2, 0, now), Ok(()), "another installation has its own count");
    }

    #[test]
    fn a_write_is_foreseen_where_one_was_before() {
        let mut pace = Pace::default();
        assert_eq!(pace.foresee_write(7, at(0)), Ok(()), "nobody knows whose it is");
        assert_eq!(pace.write(1, 7, at(0)), Ok(()));
        assert_eq!(pace.foresee_write(7, at(999)), Err(at(1_000)));
        assert_eq!(pace.foresee_write(8, at(999)), Ok(()));
        assert_eq!(pace.foresee_write(7, at(1_000)), Ok(()));
        assert_eq!(pace.write(1, 7, at(1_000)), Ok(()), "it was not counted");
        pace.pause(1, at(90_000), at(1_000));
        assert_eq!(pace.foresee_write(7, at(2_000)), Err(at(90_000)));
    }

    #[test]
    fn a_pause_holds_for_all_and_ends() {
        let mut pace = Pace::default();
        pace.pause(1, at(90_000), at(0));
        pace.pause(1, at(30_000), at(0));
        assert_eq!(pace.read(1, at(0)), Err(at(90_000)));
        assert_eq!(pace.write(1, 7, at(89_999)), Err(at(90_000)));
        assert_eq!(pace.write(1, 7, at(90_000)), Ok(()));
        pace.pause(1, at(i64::MAX), at(90_000));
        assert_eq!(pace.read(1, at(90_000)), Err(at(90_000 + 7_200_000)), "a mad answer");
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_waiting() {
        let mut pace = Pace::default();
        let later = at(86_400_000);
        for repository in 0..u64::from(WRITES_A_MINUTE) {
            assert_eq!(pace.write(1, repository, later), Ok(()));
        }
        assert_eq!(pace.write(1, 0, at(0)), Err(at(60_000)));
        assert_eq!(pace.write(1, 0, at(60_000)), Ok(()));
    }
}
