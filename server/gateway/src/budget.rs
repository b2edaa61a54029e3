//! What a call may cost at most, set aside before it is made.

use domain::purse::{Overdrawn, Purse, Reservation};

use crate::class::{Class, Fault};
use crate::dialect::{Prompt, Spoken, UNSAID_MAX};
use crate::gateway::Target;
use crate::ledger::Ledger;

/// Where the calls of one question are paid from, and written down.
#[derive(Debug)]
pub(crate) struct Paid<'a> {
    pub(crate) purse: &'a Purse,
    pub(crate) ledger: &'a mut Ledger,
}

impl Paid<'_> {
    /// Sets aside what the question may cost at this target. Where its answer would have no bound but
    /// the money has, it gets one.
    ///
    /// # Errors
    /// When there is not enough, or nobody knows what it costs.
    pub(crate) fn reserve(&self, target: &Target, prompt: &Prompt) -> Result<(Prompt, Reservation), Fault> {
        let mut prompt = prompt.clone();
        prompt.max_tokens = longest(target, &prompt, self.purse);
        let most = most_of(target, &prompt, self.purse);
        Ok((prompt, set_aside(self.purse, target, &most)?))
    }
}

/// The limit of an answer: where it would have no bound but the money has, it gets one.
fn longest(target: &Target, prompt: &Prompt, purse: &Purse) -> Option<u32> {
    let unbounded = prompt.max_tokens.is_none() && purse.limit().is_some();
    if unbounded || Spoken::of(&target.provider) == Some(Spoken::Messages) {
        let own = target.facts.output.map_or(UNSAID_MAX, |most| most.min(UNSAID_MAX));
        return prompt.max_tokens.or(Some(u32::try_from(own).unwrap_or(u32::MAX)));
    }
    prompt.max_tokens
}

/// What a question may use at a target at most.
pub(crate) fn most_of(target: &Target, prompt: &Prompt, purse: &Purse) -> Most {
    let longest = longest(target, prompt, purse).map_or(0, u64::from);
    let written = longest.min(target.facts.output.unwrap_or(u64::MAX));
    let read = tokens_at_most(prompt.bytes()).min(target.context().unwrap_or(u64::MAX));
    Most { read, written, ..Most::default() }
}

/// What a call may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Most {
    /// Tokens that are read.
    pub(crate) read: u64,
    /// Tokens that are written.
    pub(crate) written: u64,
    /// Whether what is read may be written to a cache that lasts an hour.
    pub(crate) cached_long: bool,
    /// Pictures that are made.
    pub(crate) images: u64,
}

/// What providers put around a question of their own accord, tokens: the forms of a chat, and what a
/// tool is.
const AROUND: u64 = 700;

/// Tokens of a question at most, where [`estimate`](crate::ledger::estimate) says about how many: two
/// bytes each. Only other scripts and noise come near it.
pub(crate) fn tokens_at_most(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(2).saturating_add(AROUND)
}

/// Sets money aside for a call.
///
/// # Errors
/// When there is not enough (`cost_limit`), or nobody knows what it costs (`unpriced_model`).
pub(crate) fn set_aside(purse: &Purse, target: &Target, most: &Most) -> Result<Reservation, Fault> {
    let asked = match (target.prices(), purse.limit()) {
        (Some(prices), _) => {
            let read = most.read.min(target.context().unwrap_or(u64::MAX));
            prices.at_most(&Most { read, ..*most })
        }
        (None, None) => domain::money::NanoUsd::ZERO,
        (None, Some(limit)) => {
            let why = format!(
                "is not asked: nobody knows what it costs, and no more than {limit} may be spent; give it a price under `[models.names]`"
            );
            return Err(Fault::new(Class::Unavailable, why).coded("unpriced_model"));
        }
    };
    purse.reserve(asked).map_err(|overdrawn| Fault::new(Class::Local, words(&overdrawn)).coded("cost_limit"))
}

fn words(overdrawn: &Overdrawn) -> String {
    let Overdrawn { limit, spent, reserved, asked } = overdrawn;
    format!(
        "is not asked: of {limit}, {spent} are spent and {reserved} set aside for calls under way, and this call may cost {asked}"
    )
}
