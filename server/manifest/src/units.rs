//! Quantities as people write them: `15m`, `2GiB`, `0.5` processors, `20%`.

use std::time::Duration;

use domain::money::NanoUsd;

use crate::test::Bound;

/// The longest time that can be written.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// A time: numbers with a unit each, largest first: `90s`, `1h30m`, `500ms`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut largest = usize::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let length = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(length);
        let rank = UNITS.iter().position(|(name, _)| *name == unit)?;
        if number.is_empty() || rank >= largest {
            return None;
        }
        let millis = number.parse::<u64>().ok()?.checked_mul(UNITS[rank].1)?;
        total = total.checked_add(Duration::from_millis(millis))?;
        (rest, largest) = (tail, rank);
    }
    (largest != usize::MAX && total <= MAX_DURATION).then_some(total)
}

/// Units of time in milliseconds, smallest first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A number of bytes with its unit: `512MiB`, `1.5GiB`, `2GB`, `0B`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    thousandths(number).and_then(|thousandths| Some(thousandths.checked_mul(unit)? / 1_000))
}

/// A decimal number of at most three decimals, in thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(decimals)
}

/// A comparison with dollars: `<= $0.01`.
pub(crate) fn bound(text: &str) -> Option<(Bound, NanoUsd)> {
    let text = text.trim();
    let bounds = [Bound::AtMost, Bound::Below, Bound::Exactly];
    let (bound, amount) =
        bounds.into_iter().find_map(|bound| Some((bound, text.strip_prefix(bound.sign())?)))?;
    Some((bound, amount.parse().ok()?))
}

/// A time as people write it, the other way round.
pub(crate) fn show_duration(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in UNITS.iter().rev() {
        if rest >= *unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of bytes as people write it, in the largest unit that divides it.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |shift: &u32| bytes > 0 && bytes.is_multiple_of(1 << shift);
    units
        .iter()
        .find(|(_, shift)| fits(shift))
        .map_or_else(|| format!("{bytes}B"), |(name, shift)| format!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "15",
            "m",
            "15 m",
            "-1s",
            "1m1h",
            "1m1m",
            "1.5h",
            "1e3s",
            "400d",
            "99999999999999999999s",
            "1S",
        ] {
            assert_eq!(duration(text), None, "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in
            [("2GiB", 2 << 30), ("1.5KiB", 1536), ("1kB", 1000), ("0B", 0), ("10MB", 10_000_000)]
        {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in
            ["", "10", "10 GB", "10 GB ", "GB", "-1B", "1e309B", "0x10B", "99999999999TiB", "1.0001B", "1.B"]
        {
            assert_eq!(bytes(text), None, "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..86_400_000_u64 * 366, size in 0..u64::MAX >> 12) {
            prop_assert_eq!(duration(&show_duration(Duration::from_millis(millis))), Some(Duration::from_millis(millis)));
            prop_assert_eq!(bytes(&show_bytes(size)), Some(size));
        }
    }
}
