//! Token buckets: so many calls at once, so many a second.
//!
//! Forty lines rather than a crate: the clock is the server's own, so that tests can hold it still,
//! and the table is bounded, so that a caller with many addresses cannot fill the memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, each second; at least one.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// A bucket for each caller.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Option<Rate>,
    filled: Mutex<HashMap<K, Bucket>>,
}

/// What is left in a bucket, thousandths of a call, and when that was reckoned.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u64,
    at: Timestamp,
}

impl<K: Eq + Hash> Buckets<K> {
    /// So many callers are kept in mind; then those that have paused are forgotten.
    const MOST: usize = 20_000;

    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self { rate, filled: Mutex::default() }
    }

    /// Takes one call out of a caller's bucket; when it is empty, says how long to wait.
    pub(crate) fn take(&self, caller: K, now: Timestamp) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let (per_second, full) = (u64::from(rate.per_second.max(1)), u64::from(rate.burst.max(1)) * 1000);
        let level = |bucket: &Bucket| {
            let millis = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
            bucket.left.saturating_add(millis.saturating_mul(per_second)).min(full)
        };
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if filled.len() >= Self::MOST {
            filled.retain(|_, bucket| level(bucket) < full);
            if filled.len() >= Self::MOST {
                // All of them are busy: start anew rather than grow or shut everybody out.
                filled.clear();
            }
        }
        let bucket = filled.entry(caller).or_insert(Bucket { left: full, at: now });
        *bucket = Bucket { left: level(bucket), at: now.max(bucket.at) };
        if bucket.left < 1000 {
            return Err(Duration::from_millis((1000 - bucket.left).div_ceil(per_second)));
        }
        bucket.left -= 1000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at these milliseconds; `.` for each that was given, `x` for each that was not.
    fn check(rate: Option<Rate>, moments: &[i64], expect: &str) {
        let buckets = Buckets::new(rate);
        let got: String = moments
            .iter()
            .map(|at| if buckets.take("a", Timestamp::from_millis(*at)).is_ok() { '.' } else { 'x' })
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Some(Rate { per_second: 2, burst: 3 });
        check(rate, &[0, 0, 0, 0, 499, 500, 500, 1000, 9000, 9000, 9000, 9000], "...xx.x....x");
        check(None, &[0; 50], &".".repeat(50));
        // A clock that is set back neither fills nor empties a bucket.
        check(rate, &[5000, 5000, 5000, 1000, 5000, 5500], "...xx.");
    }

    #[test]
    fn callers_do_not_share_and_the_table_is_bounded() {
        let buckets = Buckets::new(Some(Rate { per_second: 1, burst: 1 }));
        for caller in 0..2 * Buckets::<usize>::MOST {
            assert!(buckets.take(caller, Timestamp::EPOCH).is_ok(), "{caller}");
        }
        let kept = buckets.filled.lock().map_or(usize::MAX, |filled| filled.len());
        assert!(kept <= Buckets::<usize>::MOST, "{kept}");
    }

    #[test]
    fn says_how_long_to_wait() {
        let buckets = Buckets::new(Some(Rate { per_second: 4, burst: 1 }));
        assert_eq!(buckets.take("a", Timestamp::EPOCH), Ok(()));
        assert_eq!(buckets.take("a", Timestamp::EPOCH), Err(Duration::from_millis(250)));
    }
}
