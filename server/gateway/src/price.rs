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
    /// Of what is written to a cache that lasts an hour; twice `input` when left out.
    #[serde(default, deserialize_with = "some_rate")]
    pub cache_write_1h: Option<NanoUsd>,
    /// Of what is written, thoughts included.
    #[serde(deserialize_with = "rate")]
    pub output: NanoUsd,
    /// Of one picture that is made (USD, not per million); nothing where tokens are charged.
    #[serde(default, deserialize_with = "some_rate")]
    pub image: Option<NanoUsd>,
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
        cache_write_1h: None,
        output: NanoUsd::ZERO,
        image: None,
        tiers: Vec::new(),
    };

    /// What a call may cost at most: everything is read at the dearest rate.
    pub(crate) fn at_most(&self, most: &Most) -> NanoUsd {
        let rates = self.rates(most.read);
        let read = rates.input.max(rates.cache_write);
        let read = if most.cached_long { read.max(rates.cache_write_1h) } else { read };
        read.per_million(most.read)
            .plus(rates.output.per_million(most.written))
            .plus(self.images(most.images))
    }

    /// What a call costs; each kind of token is rounded up.
    pub(crate) fn cost(&self, used: &Used) -> NanoUsd {
        let tokens = &used.tokens;
        let rates =
            self.rates(tokens.input.saturating_add(tokens.cache_read).saturating_add(tokens.cache_write));
        let long = used.long_write.min(tokens.cache_write);
        [
            rates.input.per_million(tokens.input),
            rates.cache_read.per_million(tokens.cache_read),
            rates.cache_write.per_million(tokens.cache_write - long),
            rates.cache_write_1h.per_million(long),
            rates.output.per_million(tokens.output),
            self.images(used.images),
        ]
        .into_iter()
        .sum()
    }

    /// The rates of a call that reads so many tokens.
    fn rates(&self, read: u64) -> Rates {
        let tier = self.tiers.iter().filter(|tier| read > tier.over).max_by_key(|tier| tier.over);
        let (input, cache_read, cache_write, output) = match tier {
            Some(tier) => (tier.input, tier.cache_read, tier.cache_write, tier.output),
            None => (self.input, self.cache_read, self.cache_write, self.output),
        };
        let twice = input.times(2);
        Rates {
            input,
            cache_read: cache_read.unwrap_or(input),
            cache_write: cache_write.unwrap_or(input),
            // Those who publish no rate of their own for it charge twice the input's.
            cache_write_1h: tier.map_or(self.cache_write_1h, |_| None).unwrap_or(twice),
            output,
        }
    }

    fn images(&self, count: u64) -> NanoUsd {
        self.image.unwrap_or_default().times(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// Rates in force, each said.
struct Rates {
    input: NanoUsd,
    cache_read: NanoUsd,
    cache_write: NanoUsd,
    cache_write_1h: NanoUsd,
    output: NanoUsd,
}

/// What a call used, as far as it matters for its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// Tokens by kind.
    pub(crate) tokens: Tokens,
    /// How many of those written to the cache stay there for an hour.
    pub(crate) long_write: u64,
    /// Pictures that were made.
    pub(crate) images: u64,
}

impl From<Tokens> for Used {
    fn from(tokens: Tokens) -> Self {
        Self { tokens, ..Self::default() }
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
        assert_eq!(prices.cost(&tokens.into()), NanoUsd::from_nanos(expect), "{tokens:?}");
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

    #[test]
    fn what_is_kept_for_an_hour_and_pictures_have_theirs() {
        let prices = |json: serde_json::Value| serde_json::from_value::<Prices>(json).unwrap();
        let plain = prices(serde_json::json!({ "input": "4", "cache_write": "5", "output": "20" }));
        let own = prices(
            serde_json::json!({ "input": "4", "cache_write_1h": "9", "output": "20", "image": "0.04" }),
        );
        let tokens = Tokens { cache_write: 10, ..Tokens::default() };
        let used = Used { tokens, long_write: 4, images: 3 };
        assert_eq!(plain.cost(&used), NanoUsd::from_nanos(6 * 5_000 + 4 * 8_000));
        assert_eq!(own.cost(&used), NanoUsd::from_nanos(6 * 4_000 + 4 * 9_000 + 3 * 40_000_000));
        let most = Most { read: 100, written: 10, cached_long: false, images: 1 };
        assert_eq!(plain.at_most(&most), NanoUsd::from_nanos(100 * 5_000 + 10 * 20_000));
        assert_eq!(
            own.at_most(&Most { cached_long: true, ..most }),
            NanoUsd::from_nanos(100 * 9_000 + 10 * 20_000 + 40_000_000)
        );
    }
}
