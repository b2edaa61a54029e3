//! Money as integers. Models are metered in billionths of a dollar, so that a single token has a
//! price; people are charged in credits. Never floats.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Nano-dollars: 10⁻⁹ USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(i64);

/// Text that is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of money; write it as $4.99 or 4.99, with at most nine decimals")]
pub struct MoneyError(String);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One dollar.
    pub const USD: Self = Self(1_000_000_000);
    /// One credit: a cent.
    pub const CREDIT: Self = Self(10_000_000);

    /// From billionths of a dollar.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Billionths of a dollar.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The sum; saturates rather than wraps.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// So many times this; saturates rather than wraps.
    #[must_use]
    pub const fn times(self, count: i64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// The price of `count` units when this is the price of a million of them, rounded up, so that
    /// no unit is ever free by rounding.
    #[must_use]
    pub fn per_million(self, count: u64) -> Self {
        let nanos = (i128::from(self.0) * i128::from(count) + 999_999).div_euclid(1_000_000);
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// Whole credits, rounded up.
    pub const fn credits(self) -> Credits {
        Credits(self.0.saturating_add(Self::CREDIT.0 - 1).div_euclid(Self::CREDIT.0))
    }
}

/// What people are charged in: a credit is a cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(i64);

impl Credits {
    /// So many.
    pub const fn new(count: i64) -> Self {
        Self(count)
    }

    /// How many.
    pub const fn count(self) -> i64 {
        self.0
    }
}

/// `1 credit`, `12 credits`.
impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 == 1 { "credit" } else { "credits" };
        write!(f, "{} {unit}", self.0)
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// At least two decimals, at most nine: `$0.02`, `$0.000123`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        let decimals = format!("{rest:09}");
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{sign}${whole}.{}", &decimals[..kept])
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let refused = || MoneyError(text.chars().take(40).collect());
        let number = text.trim().strip_prefix('$').unwrap_or(text.trim());
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !digits(whole)
            || !digits(decimals)
            || decimals.len() > 9
            || number.ends_with('.')
        {
            return Err(refused());
        }
        let whole: i64 = whole.parse().map_err(|_| refused())?;
        let nanos: i64 = format!("{decimals:0<9}").parse().map_err(|_| refused())?;
        whole.checked_mul(1_000_000_000).and_then(|w| w.checked_add(nanos)).map(Self).ok_or_else(refused)
    }
}

/// How a price is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceModel {
    /// Once, for the versions that the price covered.
    OneTime,
    /// Each month.
    Monthly,
    /// Each year.
    Yearly,
    /// For each run.
    PerRun,
}

/// What a daemon costs its users, as its manifest says at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Price {
    /// Nothing.
    Free,
    /// Something.
    Paid {
        /// How much.
        amount: NanoUsd,
        /// How often.
        model: PriceModel,
        /// How many runs are free before.
        trial_runs: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_written_plainly() {
        for (nanos, text) in
            [(0, "$0.00"), (4_990_000_000, "$4.99"), (1, "$0.000000001"), (-20_000_000, "-$0.02")]
        {
            assert_eq!(NanoUsd::from_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "$", "1.", ".5", "-1", "1e9", "1.0000000001", "99999999999999999999", "4,99", "$ 4"]
        {
            assert!(text.parse::<NanoUsd>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn credits_and_token_prices_round_up() {
        assert_eq!(NanoUsd::from_nanos(10_000_001).credits(), Credits::new(2));
        assert_eq!(
            [0, 1, 2].map(|count| Credits::new(count).to_string()),
            ["0 credits", "1 credit", "2 credits"]
        );
        assert_eq!(NanoUsd::from_nanos(150_000_000).per_million(1), NanoUsd::from_nanos(150));
        assert_eq!(NanoUsd::from_nanos(1).per_million(1), NanoUsd::from_nanos(1));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..i64::MAX) {
            let amount = NanoUsd::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse::<NanoUsd>(), Ok(amount));
        }
    }
}
