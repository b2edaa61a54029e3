//! What calls of models used, as it stands in a cassette.

use domain::money::NanoUsd;
use domain::stage::{ModelUsage, Tokens};
use serde::{Deserialize, Serialize};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Used {
    /// The name that was asked for.
    pub(crate) requested: String,
    /// Who answered.
    pub(crate) served: String,
    /// Whose model that is.
    pub(crate) provider: String,
    /// Tokens that were read.
    pub(crate) input: u64,
    /// Tokens that were written.
    pub(crate) output: u64,
    /// Tokens that were read from a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) cache_read: u64,
    /// Tokens that were written to a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) cache_write: u64,
    /// Of those that were written, thoughts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) reasoning: u64,
    /// What it cost, as `$0.000123`.
    pub(crate) cost: String,
    /// Whether that is an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) estimated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&ModelUsage> for Used {
    fn from(usage: &ModelUsage) -> Self {
        Self {
            requested: usage.requested.clone(),
            served: usage.served.clone(),
            provider: usage.provider.clone(),
            input: usage.tokens.input,
            output: usage.tokens.output,
            cache_read: usage.tokens.cache_read,
            cache_write: usage.tokens.cache_write,
            reasoning: usage.tokens.reasoning,
            cost: usage.cost.to_string(),
            estimated: usage.estimated,
        }
    }
}

impl From<&Used> for ModelUsage {
    fn from(used: &Used) -> Self {
        Self {
            requested: used.requested.clone(),
            served: used.served.clone(),
            provider: used.provider.clone(),
            tokens: Tokens {
                input: used.input,
                output: used.output,
                cache_read: used.cache_read,
                cache_write: used.cache_write,
                reasoning: used.reasoning,
            },
            cost: used.amount(),
            estimated: used.estimated,
            ..Self::default()
        }
    }
}

impl Used {
    /// What it cost; nothing where that is no amount, which [`Cassette::from_json`](crate::Cassette::from_json)
    /// refuses.
    pub(crate) fn amount(&self) -> NanoUsd {
        self.cost.parse().unwrap_or_default()
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.cost.parse::<NanoUsd>().is_ok()
    }
}
