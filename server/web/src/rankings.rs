//! How the models of a stage were chosen.

use domain::route::{Ranking, Verdict};
use serde::Serialize;
use utoipa::ToSchema;

use crate::runs::MoneyJson;

/// A decision between models.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelRanking)]
pub(crate) struct RankingJson {
    /// `order`, `cheapest`, `fastest`, `weighted` or `quality`.
    route: &'static str,
    /// Every model that could have been asked, in the order of the daemon's list.
    candidates: Vec<CandidateJson>,
}

/// What was decided of one model.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelCandidate)]
pub(crate) struct CandidateJson {
    /// The name under which it is listed.
    target: String,
    /// `provider/model`.
    #[schema(example = "openai/gpt-5")]
    model: String,
    /// In which place it was to be asked, from 1; nothing when it was left out.
    place: Option<u32>,
    /// Why, for programs: `only`, `in_order`, `kept`, `cost`, `pace`, `untried`, `drawn`, `quality`,
    /// `last_resort`; `lacks`, `too_small`, `open`, `cooling`, `limited`, `unknown`, `language`, `too_dear`, `unpriced`.
    reason: &'static str,
    /// Why, for people.
    #[schema(example = "by what it is expected to cost")]
    why: String,
    /// What the question was expected to cost there.
    expected_cost: Option<MoneyJson>,
    /// How long an answer was expected to take there, milliseconds.
    expected_ms: Option<u64>,
}

impl From<&Ranking> for RankingJson {
    fn from(ranking: &Ranking) -> Self {
        Self {
            route: ranking.route.as_str(),
            candidates: ranking.verdicts.iter().map(CandidateJson::from).collect(),
        }
    }
}

impl From<&Verdict> for CandidateJson {
    fn from(verdict: &Verdict) -> Self {
        Self {
            target: verdict.target.clone(),
            model: verdict.model.clone(),
            place: verdict.place,
            reason: verdict.reason.as_str(),
            why: verdict.reason.to_string(),
            expected_cost: verdict.cost.map(MoneyJson::from),
            expected_ms: verdict.pace_ms,
        }
    }
}
