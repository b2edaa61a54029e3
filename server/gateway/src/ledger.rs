//! What a question used: one row for every call, failed ones too. It lives outside the work, so that
//! a cancelled question still says what it cost.

use domain::money::NanoUsd;
use domain::purse::Reservation;
use domain::stage::{ModelUsage, Tokens};

use crate::dialect::Draft;
use crate::gateway::Target;
use crate::price::Prices;

/// The calls of one question.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    closed: Vec<ModelUsage>,
    open: Option<Call>,
}

/// A call that is being made.
#[derive(Debug)]
pub(crate) struct Call {
    requested: String,
    served: String,
    provider: String,
    prices: Option<Prices>,
    question_bytes: usize,
    reservation: Reservation,
    /// What came of it so far.
    pub(crate) draft: Draft,
    /// Whether the provider charges for it, as far as we can tell.
    pub(crate) charge: Charge,
}

/// Whether a provider charges for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It did not get the question yet: there is nothing to write down.
    Unsent,
    /// It answered with an error, or was not reached: the call is written down, and costs nothing.
    Refused,
    /// It got the question; what it did not say of its usage is estimated.
    Sent,
}

impl Ledger {
    /// Begins a row, which is paid from what was set aside for it.
    pub(crate) fn open(
        &mut self,
        target: &Target,
        question_bytes: usize,
        reservation: Reservation,
    ) -> &mut Call {
        self.close();
        self.open.insert(Call {
            requested: target.requested.clone(),
            served: target.facts.id.clone(),
            provider: target.provider.name.clone(),
            prices: target.prices(),
            question_bytes,
            reservation,
            draft: Draft::default(),
            charge: Charge::Unsent,
        })
    }

    /// Ends the open row, if there is one.
    pub(crate) fn close(&mut self) {
        if let Some(row) = self.open.take().and_then(Call::settle) {
            self.closed.push(row);
        }
    }

    /// The rows of all calls.
    pub(crate) fn into_calls(mut self) -> Vec<ModelUsage> {
        self.close();
        std::mem::take(&mut self.closed)
    }
}

/// A question that is dropped in the middle is paid for all the same.
impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

impl Call {
    fn settle(self) -> Option<ModelUsage> {
        let (tokens, estimated) = match (self.charge, self.draft.tokens) {
            (Charge::Unsent, _) => return None,
            (Charge::Refused, None) => (Tokens::default(), false),
            (_, Some(tokens)) if self.draft.stop.is_some() || self.draft.done => (tokens, false),
            // It broke off: what it had said of its usage is a part.
            (_, said) => {
                let said =
                    said.unwrap_or(Tokens { input: estimate(self.question_bytes), ..Tokens::default() });
                (Tokens { output: said.output.max(estimate(self.draft.text.len())), ..said }, true)
            }
        };
        let cost = self.prices.as_ref().map_or(NanoUsd::ZERO, |prices| prices.cost(&tokens));
        self.reservation.settle(cost);
        let unpriced = self.prices.is_none() && tokens.total() > 0;
        Some(ModelUsage {
            requested: self.requested,
            served: self.draft.served.unwrap_or(self.served),
            provider: self.provider,
            tokens,
            cost,
            estimated: estimated || unpriced,
        })
    }
}

/// Tokens of a text: 3.5 bytes each, rounded up. English and code lie near it, other scripts below.
pub(crate) fn estimate(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(2).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_about_so_many_tokens() {
        assert_eq!([0, 1, 7, 3_500].map(estimate), [0, 1, 2, 1_000]);
    }
}
