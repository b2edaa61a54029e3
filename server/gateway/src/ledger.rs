//! What a question used: one row for every call, failed ones too. It lives outside the work, so that
//! a cancelled question still says what it cost.

use domain::money::NanoUsd;
use domain::stage::{ModelUsage, PriceSource, Tokens};
use ports::till::Reservation;

use crate::class::Class;
use crate::dialect::{Draft, images};
use crate::gateway::Target;
use crate::price::{Prices, Used};

/// The calls of one question.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    closed: Vec<ModelUsage>,
    open: Option<Call>,
    opened: u32,
}

/// A call that is being made.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) bill: Bill,
    /// What came of it so far.
    pub(crate) draft: Draft,
}

/// Who is to be paid for one call, and from what.
#[derive(Debug)]
pub(crate) struct Bill {
    requested: String,
    served: String,
    provider: String,
    prices: Option<Prices>,
    price: Option<PriceSource>,
    /// The prices of the models that could have been asked instead; empty when there was no other, or
    /// one has none.
    group: Vec<Prices>,
    question_bytes: usize,
    reservation: Box<dyn Reservation>,
    /// Which try at the same question it is, from 1.
    pub(crate) attempt: u32,
    /// How it failed.
    pub(crate) failure: Option<Class>,
    /// Whether the provider charges for it, as far as we can tell.
    pub(crate) charge: Charge,
}

/// What is known of a call when it is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// What was used, as the provider says.
    pub(crate) used: Option<Used>,
    /// Whether it had said all, or broke off.
    pub(crate) complete: bool,
    /// The size of what it wrote, bytes.
    pub(crate) written: usize,
    /// Which model says that it answered.
    pub(crate) served: Option<String>,
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
        group: &[Target],
        question_bytes: usize,
        reservation: Box<dyn Reservation>,
    ) -> &mut Call {
        self.close();
        self.opened += 1;
        let mut bill = Bill::of(target, group, question_bytes, reservation);
        bill.attempt = self.opened;
        self.open.insert(Call { bill, draft: Draft::default() })
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
        let written = self.draft.written();
        let Draft { tokens, served, stop, done, pictures, .. } = self.draft;
        let pictures = pictures.len() as u64;
        // Who makes pictures may say nothing of tokens. It matters where they are what is charged.
        let unsaid = images::tokens_at_most(self.bill.prices.as_ref(), pictures);
        let told = tokens.is_some() || unsaid == 0;
        let guess = Tokens { input: estimate(self.bill.question_bytes), output: unsaid, ..Tokens::default() };
        let tokens = tokens.or((pictures > 0).then_some(guess));
        let used = tokens.map(|tokens| Used { images: pictures, ..tokens.into() });
        let complete = (stop.is_some() || done) && told;
        self.bill.settle(Said { used, complete, written, served })
    }
}

impl Bill {
    pub(crate) fn of<'t>(
        target: &'t Target,
        group: impl IntoIterator<Item = &'t Target>,
        question_bytes: usize,
        reservation: Box<dyn Reservation>,
    ) -> Self {
        let others = group.into_iter().filter(|other| !other.is_same_model(target));
        let group: Option<Vec<Prices>> = others.map(Target::prices).collect();
        Self {
            requested: target.requested.clone(),
            served: target.facts.id.clone(),
            provider: target.provider.name.clone(),
            prices: target.prices(),
            price: target.price_source(),
            group: group.unwrap_or_default(),
            question_bytes,
            reservation,
            attempt: 1,
            failure: None,
            charge: Charge::Unsent,
        }
    }

    /// Pays it. A call that was never sent has no row.
    pub(crate) fn settle(self, said: Said) -> Option<ModelUsage> {
        let (used, estimated) = match (self.charge, said.used) {
            (Charge::Unsent, _) => return None,
            (Charge::Refused, None) => (Used::default(), false),
            (_, Some(used)) if said.complete => (used, false),
            // It broke off: what it had said of its usage is a part.
            (_, used) => {
                let input = estimate(self.question_bytes);
                let mut used = used.unwrap_or(Tokens { input, ..Tokens::default() }.into());
                used.tokens.output = used.tokens.output.max(estimate(said.written));
                (used, true)
            }
        };
        let cost = self.prices.as_ref().map_or(NanoUsd::ZERO, |prices| prices.cost(&used));
        let unpriced = self.prices.is_none() && used != Used::default();
        let dearest = self.group.iter().map(|prices| prices.cost(&used)).max();
        let mut call = ModelUsage {
            id: None,
            at: None,
            attempt: self.attempt,
            requested: self.requested,
            served: said.served.unwrap_or(self.served),
            provider: self.provider,
            tokens: used.tokens,
            cost,
            estimated: estimated || unpriced,
            cache_write_1h: used.long_write.min(used.tokens.cache_write),
            images: used.images,
            price: self.price,
            // Only where the price of each is known, its own too.
            dearest: dearest.filter(|_| self.prices.is_some()).map(|dearest| dearest.max(cost)),
            failure: self.failure.map(|class| class.as_str().to_owned()),
        };
        self.reservation.settle(&mut call);
        Some(call)
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
