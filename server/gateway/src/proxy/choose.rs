//! To whom a request of a program goes, and to whom next when that one fails.

use std::sync::PoisonError;

use domain::route::{Ranking, Reason, Verdict, Wish};
use ports::models::Choice;
use rand::RngExt;
use tokio::time::sleep;

use super::judge::Asked;
use super::refusal::Refusal;
use super::route::{Call, Kind};
use super::visit::Shared;
use crate::ask::{Asker, Wanted};
use crate::gateway::Target;
use crate::ledger::estimate;
use crate::rank::Case;

impl Shared {
    /// The targets of a request, in order. The name that the program was told stands for all of the guest's
    /// models that speak its language; any other name is that model and no other.
    ///
    /// # Errors
    /// When nobody may be asked for now.
    pub(super) async fn chosen(&self, call: &Call, asked: &Asked) -> Result<Vec<Target>, Refusal> {
        let Some(named) = self.target(&asked.model, call.dialect) else { return Ok(Vec::new()) };
        let is_routed = self.is_told(&asked.model) && self.choice.targets.len() > 1;
        let choice = if is_routed { self.speaking(call) } else { Choice::of(named.requested.clone()) };
        let own =
            |name: &String| self.names(Some(call.dialect)).find(|target| target.requested == *name).cloned();
        let targets: Vec<Option<Target>> = choice.targets.iter().map(own).collect();
        if call.kind == Kind::Count {
            let kept = choice.stays_with.as_ref().and_then(own);
            return Ok(vec![kept.unwrap_or_else(|| named.clone())]);
        }
        let asker = self.gateway.asker();
        loop {
            let wish = Wish {
                route: choice.route,
                needs: choice.needs.clone(),
                read: estimate(asked.bytes()),
                written: asked.longest(),
                stays_with: choice.stays_with.clone(),
                dice: rand::rng().random(),
            };
            let most = |target: &Target| asked.most(target);
            let case = Case { wish: &wish, bound: self.till.bound().await, most: &most };
            let (ranking, order) = asker.decide(Wanted { choice: &choice, targets: &targets }, case);
            let wait = Asker::limited_for(&ranking);
            if order.is_empty()
                && let Some(wait) = wait.filter(|wait| *wait <= asker.retry.max_wait)
            {
                self.over.run_until_cancelled(sleep(wait)).await.ok_or_else(Refusal::no_token)?;
                continue;
            }
            if is_routed {
                self.book.ranked(self.told(ranking));
            }
            return match (order.is_empty(), wait) {
                (false, _) => Ok(order),
                (true, Some(wait)) => Err(Refusal::busy(&named.to_string(), wait)),
                // Why it may not be asked is said best by the money; what it cannot it says itself.
                (true, None) => Ok(vec![named.clone()]),
            };
        }
    }

    /// Notes whom the conversation is with.
    pub(super) fn keep(&self, target: &Target) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(target.requested.clone());
    }

    /// The guest's choice, of those that speak the language.
    fn speaking(&self, call: &Call) -> Choice {
        let speaks = |name: &String| self.names(Some(call.dialect)).any(|target| target.requested == *name);
        let weights = self.choice.weights.iter().copied().chain(std::iter::repeat(1));
        let kept = self.choice.targets.iter().zip(weights).filter(|(name, _)| speaks(name));
        let (targets, weights) = kept.map(|(name, weight)| (name.clone(), weight)).unzip();
        let stays_with = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Choice { targets, weights, stays_with, ..self.choice.clone() }
    }

    /// The decision, with a verdict on those that could not be asked at all.
    fn told(&self, mut ranking: Ranking) -> Ranking {
        for name in &self.choice.targets {
            if ranking.verdicts.iter().any(|verdict| verdict.target == *name) {
                continue;
            }
            let known = self.names(None).find(|target| target.requested == *name);
            let (model, reason) = match known {
                Some(target) => (target.to_string(), Reason::Language),
                None => (name.clone(), Reason::Unknown),
            };
            let target = name.clone();
            ranking.verdicts.push(Verdict { target, model, place: None, reason, cost: None, pace_ms: None });
        }
        ranking
    }
}
