//! What tokens cost. Rates are dollars per million tokens as decimal text, never floats.

use std::str::FromStr;

use domain::money::NanoUsd;
use domain::stage::Tokens;
use serde::{Deserialize, Deserializer};

use crate::budget::Most;

/// The rates of a model, USD per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Of what is read afresh.
    #[serde(deserialize_with = "rate")]
    pub input: NanoUsd,
    /// Of what is read from the provider's cache; as `input` when left out.
    #[serde(default, deserialize_with = "some_rate")]
    pub cache_read: Option<NanoUsd>,
    /// Of what is written to it; as `input` when left out.
    #[serde(default, deserialize_with = "some_rate")]
    pub cache_write: Option<NanoUsd>,
    /// Of what is written, thoughts included.
    #[serde(deserialize_with = "rate")]
    pub output: NanoUsd,
    /// Other rates for long questions.
    #[serde(default)]
    pub tiers: Vec<Tier>,
}

/// Rates of a whole call that reads more than `over` tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Tokens read, cached ones too.
    pub over: u64,
    /// As in [`Prices`].
    #[serde(deserialize_with = "rate")]
    pub input: NanoUsd,
    /// As in [`Prices`].
    #[serde(default, deserialize_with = "some_rate")]
    pub cache_read: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, deserialize_with = "some_rate")]
    pub cache_write: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(deserialize_with = "rate")]
    pub output: NanoUsd,
}

impl Prices {
    /// Nothing costs anything.
    pub(crate) const FREE: Self = Self {
        input: NanoUsd::ZERO,
        cache_read: None,
        cache_write: None,
        output: NanoUsd::ZERO,
        tiers: Vec::new(),
    };

    /// What a call may cost at most: everything is read at the dearest rate.
    pub(crate) fn at_most(&self, most: &Most) -> NanoUsd {
        let tier = self.tiers.iter().filter(|tier| most.read > tier.over).max_by_key(|tier| tier.over);
        let (input, write, output) = match tier {
            Some(tier) => (tier.input, tier.cache_write, tier.output),
            None => (self.input, self.cache_write, self.output),
        };
        let read = input.max(write.unwrap_or(input));
        read.per_million(most.read).plus(output.per_million(most.written))
    }

    /// What a call costs; each kind of token is rounded up.
    pub(crate) fn cost(&self, tokens: &Tokens) -> NanoUsd {
        let read = tokens.input.saturating_add(tokens.cache_read).saturating_add(tokens.cache_write);
        let tier = self.tiers.iter().filter(|tier| read > tier.over).max_by_key(|tier| tier.over);
        let (input, cache_read, cache_write, output) = match tier {
            Some(tier) => (tier.input, tier.cache_read, tier.cache_write, tier.output),
            None => (self.input, self.cache_read, self.cache_write, self.output),
        };
        [
            input.per_million(tokens.input),
            cache_read.unwrap_or(input).per_million(tokens.cache_read),
            cache_write.unwrap_or(input).per_million(tokens.cache_write),
            output.per_million(tokens.output),
        ]
        .into_iter()
        .sum()
    }
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NanoUsd, D::Error> {
    let text = String::deserialize(deserializer)?;
    NanoUsd::from_str(&text).map_err(serde::de::Error::custom)
}

fn some_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NanoUsd>, D::Error> {
    rate(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: Tokens, expect: i64) {
        let prices: Prices = serde_json::from_value(serde_json::json!({
            "input": "4", "cache_read": "0.4", "cache_write": "5", "output": "20",
            "tiers": [
                { "over": 1000, "input": "8", "cache_read": "0.8", "output": "30" },
                { "over": 5000, "input": "16", "output": "60" }
            ]
        }))
        .unwrap();
        assert_eq!(prices.cost(&tokens), NanoUsd::from_nanos(expect), "{tokens:?}");
    }

    #[test]
    fn each_kind_of_token_has_its_rate() {
        let tokens = |input, cache_read, cache_write, output| Tokens {
            input,
            cache_read,
            cache_write,
            output,
            reasoning: 0,
        };
        check(tokens(0, 0, 0, 0), 0);
        check(tokens(1, 0, 0, 0), 4_000);
        check(tokens(100, 50, 10, 7), 400_000 + 20_000 + 50_000 + 140_000);
        // Thoughts are part of the output and not paid twice.
        check(Tokens { output: 7, reasoning: 5, ..Tokens::default() }, 140_000);
        // Exactly at the border the lower rates hold; what is cached counts; the highest tier wins;
        // a tier without a rate for the cache has the rate of its input.
        check(tokens(1000, 0, 0, 0), 4_000_000);
        check(tokens(500, 501, 0, 1), 500 * 8_000 + 501 * 800 + 30_000);
        check(tokens(4000, 1000, 1, 0), 4000 * 16_000 + 1000 * 16_000 + 16_000);
        check(tokens(u64::MAX, 0, 0, 0), i64::MAX);
    }
}
