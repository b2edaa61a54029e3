//! Points in time, as the store and the API carry them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC. Stored as an integer, shown as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first of January 1970.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// A point as people write it: a date (`2026-11-01`, UTC), a moment (RFC 3339), or a span before now
    /// (`12h`, `7d`, `2w`).
    pub fn said(text: &str, now: Self) -> Option<Self> {
        let at = |moment: jiff::Timestamp| Self(moment.as_millisecond());
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return Some(at(moment));
        }
        if text.contains('-')
            && let Ok(date) = text.parse::<jiff::civil::Date>()
        {
            return date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| at(day.timestamp()));
        }
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            _ => return None,
        };
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse::<u32>().ok().filter(|_| digits)?;
        Some(Self(now.0.saturating_sub(i64::from(count) * hours * 3_600_000)))
    }

    /// This point plus a span; saturates at the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The span from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_795_341_600_123).to_string(), "2026-11-22T10:00:00.123Z");
    }

    #[test]
    fn a_point_is_said_in_three_ways() {
        let now = Timestamp::from_millis(1_795_341_600_000);
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Timestamp::said(text, now).map(|at| at.to_string()).as_deref(), expect, "{text:?}");
        };
        check("2026-11-01", Some("2026-11-01T00:00:00.000Z"));
        check("2026-11-01T08:00:00+02:00", Some("2026-11-01T06:00:00.000Z"));
        check("2d", Some("2026-11-20T10:00:00.000Z"));
        check("12h", Some("2026-11-21T22:00:00.000Z"));
        check("1w", Some("2026-11-15T10:00:00.000Z"));
        for text in ["", "d", "-1d", "+1d", "1y", "yesterday", "2026-13-01", "99999999999d", "1é"] {
            check(text, None);
        }
    }

    #[test]
    fn spans_never_go_negative() {
        let earlier = Timestamp::from_millis(10);
        let later = earlier.after(Duration::from_millis(5));
        assert_eq!(later.since(earlier), Duration::from_millis(5));
        assert_eq!(earlier.since(later), Duration::ZERO);
    }
}
