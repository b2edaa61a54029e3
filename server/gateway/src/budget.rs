//! What a call may cost at most, set aside before it is made.

use ports::till::{Declined, Intended, Reservation, Till};

use crate::class::{Class, Fault};
use crate::dialect::{Prompt, Spoken, UNSAID_MAX, images};
use crate::gateway::Target;
use crate::ledger::Ledger;

/// Where the calls of one question are paid from, and written down.
#[derive(Debug)]
pub(crate) struct Paid<'a> {
    pub(crate) till: &'a dyn Till,
    /// The models that could answer it.
    pub(crate) group: &'a [Target],
    pub(crate) ledger: &'a mut Ledger,
}

impl Paid<'_> {
    /// Sets aside what the question may cost at this target. Where its answer would have no bound but
    /// the money has, it gets one.
    ///
    /// # Errors
    /// When there is not enough, or nobody knows what it costs.
    pub(crate) async fn reserve(
        &self,
        target: &Target,
        prompt: &Prompt,
    ) -> Result<(Prompt, Box<dyn Reservation>), Fault> {
        let mut prompt = prompt.clone();
        let is_bounded = self.till.is_bounded().await;
        prompt.max_tokens = longest(target, &prompt, is_bounded);
        let most = most_of(target, &prompt, is_bounded);
        let reservation = set_aside(self.till, target, &most).await?;
        Ok((prompt, reservation))
    }
}

/// The limit of an answer: where it would have no bound but the money has, it gets one.
fn longest(target: &Target, prompt: &Prompt, money_is_bounded: bool) -> Option<u32> {
    let unbounded = prompt.max_tokens.is_none() && money_is_bounded;
    if unbounded || Spoken::of(target, prompt) == Some(Spoken::Messages) {
        let own = target.facts.output.map_or(UNSAID_MAX, |most| most.min(UNSAID_MAX));
        return prompt.max_tokens.or(Some(u32::try_from(own).unwrap_or(u32::MAX)));
    }
    prompt.max_tokens
}

/// What a question may use at a target at most.
pub(crate) fn most_of(target: &Target, prompt: &Prompt, money_is_bounded: bool) -> Most {
    let longest = longest(target, prompt, money_is_bounded).map_or(0, u64::from);
    let pictures = u64::from(prompt.draws);
    let written = match Spoken::of(target, prompt) {
        Some(Spoken::Images) => images::tokens_at_most(target.prices().as_ref(), pictures),
        _ => longest.min(target.facts.output.unwrap_or(u64::MAX)),
    };
    let read = tokens_at_most(prompt.bytes()).min(target.context().unwrap_or(u64::MAX));
    Most { read, written, images: pictures, ..Most::default() }
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
/// When there is not enough (`cost_limit`, `budget_exhausted`), or nobody knows what it costs
/// (`unpriced_model`).
pub(crate) async fn set_aside(
    till: &dyn Till,
    target: &Target,
    most: &Most,
) -> Result<Box<dyn Reservation>, Fault> {
    let cost = target.prices().map(|prices| {
        let read = most.read.min(target.context().unwrap_or(u64::MAX));
        prices.at_most(&Most { read, ..*most })
    });
    let intended = Intended {
        requested: &target.requested,
        served: &target.facts.id,
        provider: &target.provider.name,
        most: cost,
    };
    till.reserve(&intended).await.map_err(|declined| match declined {
        Declined::Unpriced => {
            let why = "is not asked: nobody knows what it costs, and what may be spent is limited; give it a price under `[models.names]`";
            Fault::new(Class::Unavailable, why).coded("unpriced_model")
        }
        // Another provider's money would be the same.
        Declined::Exhausted { code, message } => {
            Fault::new(Class::Local, format!("is not asked: {message}")).coded(code)
        }
        Declined::Unavailable(why) => {
            Fault::new(Class::Local, format!("is not asked: {why}")).coded("budget_unavailable")
        }
    })
}
