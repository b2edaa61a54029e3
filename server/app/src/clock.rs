//! The machine's clock: the one place that asks it.

use domain::time::Timestamp;
use ports::clock::Clock;
use uuid::Uuid;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    #[expect(clippy::disallowed_methods, reason = "this is where unique numbers come from")]
    fn unique(&self) -> Uuid {
        Uuid::now_v7()
    }
}
