//! What was spent on models: each call of a run, and sums.

use std::sync::Arc;

use axum::extract::State;
use domain::budget::{Period, Window};
use domain::id::RunId;
use domain::ledger::{Entry, Grouping, Spend};
use domain::stage::Tokens;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Maintainer, Viewer};
use crate::doors::Server;
use crate::input::{self, Path, Query};
use crate::page::Part;
use crate::problem::Problem;
use crate::runs::MoneyJson;

/// Tokens by kind. Kinds do not overlap, but `reasoning` is part of `output`.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
struct TokensJson {
    /// Read afresh.
    input: u64,
    /// Read from the provider's cache.
    cache_read: u64,
    /// Written to it.
    cache_write: u64,
    /// Written.
    output: u64,
    /// Written without being shown.
    reasoning: u64,
}

impl From<Tokens> for TokensJson {
    fn from(tokens: Tokens) -> Self {
        let Tokens { input, cache_read, cache_write, output, reasoning } = tokens;
        Self { input, cache_read, cache_write, output, reasoning }
    }
}

/// A call of a model, as the ledger has it.
#[derive(Serialize, ToSchema)]
#[schema(as = LedgerEntry)]
pub(crate) struct EntryJson {
    /// Which.
    #[schema(example = "call_0198000000007000800000000000002a")]
    id: String,
    /// For which stage.
    stage: String,
    /// In which attempt at the run.
    run_attempt: u32,
    /// Which try at the same question it was, from 1; 0 is not known.
    attempt: u32,
    /// The model that was asked for.
    requested: String,
    /// The model that answered.
    served: String,
    /// Whose it is.
    provider: String,
    /// What it read and wrote.
    tokens: TokensJson,
    /// Of the tokens written to the provider's cache, those that stay there for an hour.
    cache_write_1h: u64,
    /// Pictures that were made.
    images: u64,
    /// Who says what it costs: a catalogue, `configuration` or `free`; null when nobody does.
    price_source: Option<String>,
    /// Of which day.
    price_date: Option<String>,
    /// What it costs; of a reservation the most that it may come to.
    cost: MoneyJson,
    /// `reserved`: under way; `final`: as the provider said; `estimated`: by its size, or by what was set
    /// aside for it.
    standing: &'static str,
    /// Why it failed: `rate_limited`, `stream_broken`, …, or `lost` when the server died meanwhile.
    failure: Option<String>,
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
}

impl From<&Entry> for EntryJson {
    fn from(entry: &Entry) -> Self {
        let call = &entry.call;
        Self {
            id: entry.id.to_string(),
            stage: entry.stage.to_string(),
            run_attempt: entry.run_attempt,
            attempt: call.attempt,
            requested: call.requested.clone(),
            served: call.served.clone(),
            provider: call.provider.clone(),
            tokens: TokensJson::from(call.tokens),
            cache_write_1h: call.cache_write_1h,
            images: call.images,
            price_source: call.price.as_ref().map(|price| price.source.clone()),
            price_date: call.price.as_ref().and_then(|price| price.date.clone()),
            cost: MoneyJson::from(entry.charged()),
            standing: entry.standing.as_str(),
            failure: call.failure.clone(),
            at: entry.at.to_string(),
        }
    }
}

/// Lists the calls of models that a run made, in the order in which they began.
#[utoipa::path(
    get, operation_id = "list_run_calls", path = "/api/v1/runs/{run}/ledger", tag = "money", params(("run" = String, Path, description = "`run_…`")),
    responses((status = 200, description = "Calls", body = Part<EntryJson>),
              (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn calls(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<Part<EntryJson>>, Problem> {
    let id: RunId = input::known("run", &run)?;
    if server.store().run_get(id).await?.is_none() {
        return Err(Problem::not_found(format!("there is no run `{id}`")));
    }
    let entries = server.store().ledger_of_run(id).await?;
    Ok(Part::whole(entries.iter().map(EntryJson::from).collect()))
}

/// What is to be added up.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// `daemon`, `model`, `repository` or `author`; without it, `daemon`.
    by: Option<String>,
    /// Since when: a date (`2026-11-01`), a moment (RFC 3339) or a span before now (`7d`, `12h`); without
    /// it, since the beginning of the month.
    since: Option<String>,
}

/// What was spent.
#[derive(Serialize, ToSchema)]
#[schema(as = SpendReport)]
pub(crate) struct ReportJson {
    /// By what it is added up.
    by: &'static str,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
    /// Sums, the most first.
    items: Vec<SpendJson>,
    /// All of it.
    total: SpendJson,
}

/// What calls of models came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Spend)]
struct SpendJson {
    /// What they have in common.
    key: String,
    /// How many there were; those under way are none.
    calls: u64,
    /// How many failed.
    failed: u64,
    /// How many have no known price: what they cost is counted as nothing.
    unpriced: u64,
    /// How many are charged by an estimate.
    estimated: u64,
    /// What they read and wrote.
    tokens: TokensJson,
    /// What they cost.
    cost: MoneyJson,
    /// What the failed ones cost.
    failed_cost: MoneyJson,
    /// What is known of savings; null where no call had another model to go to whose price is known.
    savings: Option<SavingsJson>,
}

/// What the calls of models that could have gone to another one came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Savings)]
struct SavingsJson {
    /// How many these are.
    calls: u64,
    /// What they did cost.
    cost: MoneyJson,
    /// What the same tokens had cost with the dearest model of each call's group.
    dearest: MoneyJson,
    /// The difference.
    saved: MoneyJson,
}

impl From<&Spend> for SpendJson {
    fn from(spend: &Spend) -> Self {
        let savings = (spend.compared > 0).then(|| SavingsJson {
            calls: spend.compared,
            cost: MoneyJson::from(spend.compared_cost),
            dearest: MoneyJson::from(spend.dearest_cost),
            saved: MoneyJson::from(spend.saved()),
        });
        Self {
            key: spend.key.clone(),
            calls: spend.calls,
            failed: spend.failed,
            unpriced: spend.unpriced,
            estimated: spend.estimated,
            tokens: TokensJson::from(spend.tokens),
            cost: MoneyJson::from(spend.cost),
            failed_cost: MoneyJson::from(spend.failed_cost),
            savings,
        }
    }
}

/// Adds up what was spent on models, and what the same tokens had cost with the dearest model of each group.
#[utoipa::path(
    get, operation_id = "report_spend", path = "/api/v1/spend", tag = "money", params(Wanted),
    responses((status = 200, description = "Sums", body = ReportJson),
              (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn report(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<ReportJson>, Problem> {
    let invalid = |why: &str| Problem::bad_request("invalid_parameter", why.to_owned());
    let by = wanted.by.as_deref().map_or(Some(Grouping::Daemon), Grouping::parse);
    let by = by.ok_or_else(|| invalid("`by` must be one of daemon, model, repository, author"))?;
    let now = server.now();
    let month = || Window::calendar(Period::Month, now).map(|window| window.from);
    let since = wanted.since.as_deref().map_or_else(month, |text| Timestamp::said(text, now));
    let since = since.ok_or_else(|| {
        invalid("`since` must be a date (2026-11-01), a moment (2026-11-01T08:00:00Z) or a span (7d, 12h)")
    })?;
    let sums = server.store().ledger_spend(by, since).await?;
    let total =
        sums.iter().fold(Spend { key: "total".to_owned(), ..Spend::default() }, |sum, more| sum.plus(more));
    Ok(axum::Json(ReportJson {
        by: by.as_str(),
        since: since.to_string(),
        items: sums.iter().map(SpendJson::from).collect(),
        total: SpendJson::from(&total),
    }))
}
