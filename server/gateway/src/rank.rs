//! What the router is told of a question and of the models that could answer it.

use std::time::Duration;

use domain::money::NanoUsd;
use domain::route::{Ability, Candidate, Funds, Health, Ranking, Reason, Verdict, Wish};
use domain::stage::Tokens;
use ports::till::Bound;
use rand::RngExt;

use crate::ask::{Asker, Wanted};
use crate::budget::{Most, Paid, most_of};
use crate::dialect::Prompt;
use crate::gateway::Target;
use crate::health::Expected;
use crate::ledger::estimate;
use crate::price::Used;

/// What a question is, for each of its candidates.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) wish: &'a Wish,
    pub(crate) bound: Bound,
    /// What it may use at a target at most.
    pub(crate) most: &'a dyn Fn(&Target) -> Most,
}

impl Asker {
    /// Decides which targets are asked, in which order. The decision has a verdict on those that are not
    /// known too, after the others.
    pub(crate) async fn rank(
        &self,
        wanted: Wanted<'_>,
        prompt: &Prompt,
        paid: &Paid<'_>,
    ) -> (Ranking, Vec<Target>) {
        let Wanted { choice, .. } = wanted;
        let mut needs = choice.needs.clone();
        if !prompt.tools.is_empty() && !needs.contains(&Ability::Tools) {
            needs.push(Ability::Tools);
        }
        if prompt.has_pictures() && !needs.contains(&Ability::Vision) {
            needs.push(Ability::Vision);
        }
        if prompt.draws && !needs.contains(&Ability::ImageOut) {
            needs.push(Ability::ImageOut);
        }
        let wish = Wish {
            route: choice.route,
            needs,
            read: estimate(prompt.bytes()),
            written: prompt.max_tokens.map(u64::from),
            stays_with: choice.stays_with.clone(),
            dice: rand::rng().random(),
        };
        let bound = paid.till.bound().await;
        let most = |target: &Target| most_of(target, prompt, bound != Bound::None);
        self.decide(wanted, Case { wish: &wish, bound, most: &most })
    }

    /// The same, for a question in any form.
    pub(crate) fn decide(&self, wanted: Wanted<'_>, case: Case<'_>) -> (Ranking, Vec<Target>) {
        let Wanted { choice, targets } = wanted;
        let weight = |at: usize| choice.weights.get(at).copied().unwrap_or(1);
        let known =
            targets.iter().enumerate().filter_map(|(at, target)| Some((target.as_ref()?, weight(at))));
        let candidates: Vec<Candidate> =
            known.clone().map(|(target, weight)| self.candidate(target, weight, case)).collect();
        let mut ranking = Ranking::of(&candidates, case.wish);
        let known: Vec<&Target> = known.map(|(target, _)| target).collect();
        let asked = ranking.order().into_iter().map(|at| known[at].clone()).collect();
        let unknown = choice.targets.iter().zip(targets).filter(|(_, target)| target.is_none());
        ranking.verdicts.extend(unknown.map(|(name, _)| unknown_verdict(name)));
        (ranking, asked)
    }

    fn candidate(&self, target: &Target, weight: u32, case: Case<'_>) -> Candidate {
        let Case { wish, bound, most } = case;
        let (key, prices) = (target.key(), target.prices());
        let expected = self.ward.expected(&key, wish.written);
        let most = most(target);
        let funds = match (bound, &prices) {
            (Bound::None, _) | (Bound::Budgets, Some(_)) => Funds::Enough,
            (Bound::Left(_) | Bound::Budgets, None) => Funds::Unpriced,
            (Bound::Left(left), Some(prices)) => {
                let asked = prices.at_most(&most);
                if left <= NanoUsd::ZERO || asked > left { Funds::Short } else { Funds::Enough }
            }
        };
        let tokens = most.read.saturating_add(most.written);
        let limited = self.ward.limited(&target.provider.name, target.provider.allowed, tokens);
        let cents = |price: NanoUsd| price.nanos() / NanoUsd::CREDIT.nanos();
        let region = target.provider.region.as_ref();
        Candidate {
            target: target.requested.clone(),
            abilities: target.facts.abilities(),
            in_region: region.is_some_and(|region| self.regions.contains(region)),
            context: target.context(),
            weight,
            cost: prices.as_ref().map(|prices| prices.cost(&used(wish.read, expected))),
            funds,
            quality: target.facts.quality.unwrap_or_else(|| prices.map_or(0, |prices| cents(prices.output))),
            pace: expected.pace,
            health: match (self.ward.health(&key), limited) {
                (Health::Well, Some(wait)) => Health::Limited(wait),
                (health, _) => health,
            },
            model: key,
        }
    }

    /// How long until one of the targets may be asked that are left out only because we asked too much.
    pub(crate) fn limited_for(ranking: &Ranking) -> Option<Duration> {
        let waits = ranking.verdicts.iter().filter_map(|verdict| match verdict.reason {
            Reason::Limited { wait_ms } => Some(Duration::from_millis(wait_ms.saturating_add(1))),
            _ => None,
        });
        waits.min()
    }
}

/// What a question is expected to use, with as much of it in the provider's cache as lately.
fn used(read: u64, expected: Expected) -> Used {
    let cache_read = read.saturating_mul(expected.hit) / 1_000;
    let (input, output) = (read - cache_read.min(read), expected.written);
    Tokens { input, cache_read, output, ..Tokens::default() }.into()
}

fn unknown_verdict(name: &str) -> Verdict {
    Verdict {
        target: name.to_owned(),
        model: name.to_owned(),
        place: None,
        reason: Reason::Unknown,
        cost: None,
        pace_ms: None,
    }
}
