//! A clock that stands still until it is told otherwise.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;
use ports::clock::Clock;
use uuid::Uuid;

/// A clock that shows what it was set to; its unique numbers count up, so that a test draws the same
/// ones every time.
#[derive(Debug)]
pub struct FixedClock(Mutex<State>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// The latest time that went into a unique number: they grow although the clock is set back.
    latest: Timestamp,
    drawn: u64,
}

impl FixedClock {
    /// Where a new clock stands: 2026-11-22T10:00:00Z.
    pub const START: Timestamp = Timestamp::from_millis(1_795_341_600_000);

    /// A clock that stands at [`Self::START`].
    pub fn new() -> Self {
        Self(Mutex::new(State { now: Self::START, latest: Self::START, drawn: 0 }))
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// Moves the clock on, and says where it stands then.
    pub fn advance(&self, span: Duration) -> Timestamp {
        let mut state = self.state();
        state.now = state.now.after(span);
        state.now
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn unique(&self) -> Uuid {
        let mut state = self.state();
        state.latest = state.latest.max(state.now);
        state.drawn += 1;
        // The counter stands in the last eight bytes; the variant takes the top two bits of them.
        let mut tail = [0; 10];
        tail[2..].copy_from_slice(&state.drawn.to_be_bytes());
        let millis = u64::try_from(state.latest.millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_numbers_grow_although_the_clock_is_set_back() {
        let clock = FixedClock::new();
        let mut last = clock.unique();
        for step in [0, 5, -3_600_000, 0, 7_200_000] {
            clock.set(Timestamp::from_millis(clock.now().millis() + step));
            let next = clock.unique();
            assert!(next > last, "{next} after {last}");
            assert_eq!(next.get_version_num(), 7);
            last = next;
        }
    }
}
