//! What a run will probably cost.

use std::sync::Arc;

use axum::extract::State;
use domain::name::Address;
use engine::estimate::{self, Estimate, Spread};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json_};
use utoipa::ToSchema;

use crate::auth::Runner;
use crate::doors::Server;
use crate::input::{self, Json};
use crate::problem::Problem;
use crate::runs::MoneyJson;

/// A run that is thought of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEstimate {
    /// Which daemon: `owner/repository/id`, with `@branch`, `@tag` or `@commit` for another version.
    #[schema(example = "ada/book/review")]
    daemon: String,
    /// What it is given, by name, as far as that is known.
    #[serde(default)]
    #[schema(value_type = Object)]
    inputs: Map<String, Json_>,
}

/// What a run will probably use.
#[derive(Serialize, ToSchema)]
#[schema(as = Estimate)]
pub(crate) struct EstimateJson {
    /// The daemon, as it was asked for.
    daemon: String,
    /// Its tree.
    digest: String,
    /// What its models cost; null when nobody can tell.
    cost: Option<CostJson>,
    /// How long it takes; null when it never ran.
    time: Option<TimeJson>,
    /// What that rests on: `runs` of this version, `older_runs` of others, or the `sizes` of what its stages
    /// ask.
    basis: &'static str,
    /// How many runs that are.
    runs: usize,
    /// How sure it is: `high`, `fair` or `low`.
    confidence: &'static str,
    /// What its limits let it cost at most; null has no bound but budgets.
    limit: Option<MoneyJson>,
    /// What else there is to know.
    notes: Vec<String>,
}

/// What models cost.
#[derive(Serialize, ToSchema)]
#[schema(as = EstimatedCost)]
struct CostJson {
    /// Half of all runs cost no more.
    usual: MoneyJson,
    /// Nine of ten runs cost no more.
    high: MoneyJson,
}

/// How long it takes.
#[derive(Serialize, ToSchema)]
#[schema(as = EstimatedTime)]
struct TimeJson {
    /// Half of all runs take no longer, milliseconds.
    usual_ms: u64,
    /// Nine of ten runs take no longer, milliseconds.
    high_ms: u64,
}

/// Estimates a run; nothing is started.
#[utoipa::path(
    post, operation_id = "estimate_run", path = "/api/v1/estimates", tag = "money", request_body = NewEstimate,
    responses((status = 200, description = "The estimate", body = EstimateJson),
              (status = 404, description = "There is no such daemon", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "The inputs do not fit", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn estimate(
    _runner: Runner,
    State(server): State<Arc<Server>>,
    Json(wanted): Json<NewEstimate>,
) -> Result<axum::Json<EstimateJson>, Problem> {
    let address: Address = input::required("daemon", &wanted.daemon)?;
    let Estimate { digest, cost, time, basis, confidence, limit, notes } =
        estimate::of(server.world(), &address, &wanted.inputs).await?;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(axum::Json(EstimateJson {
        daemon: address.to_string(),
        digest: digest.to_string(),
        cost: cost.map(|Spread { usual, high }| CostJson {
            usual: MoneyJson::from(usual),
            high: MoneyJson::from(high),
        }),
        time: time.map(|Spread { usual, high }| TimeJson { usual_ms: millis(usual), high_ms: millis(high) }),
        basis: basis.as_str(),
        runs: basis.runs(),
        confidence: confidence.as_str(),
        limit: limit.map(MoneyJson::from),
        notes,
    }))
}
