//! Budgets: what may be spent on models, what of it is gone, and who said so.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use domain::budget::{Alert, Balance, Budget, Origin, Period, Scope};
use domain::id::BudgetId;
use domain::money::NanoUsd;
use engine::budgets::{self, Gauge, Level, NewBudget};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Admin, Maintainer};
use crate::doors::Server;
use crate::input::{self, Json, Path};
use crate::page::Part;
use crate::problem::Problem;
use crate::runs::MoneyJson;

/// What may be spent on models.
#[derive(Serialize, ToSchema)]
#[schema(as = Budget)]
pub(crate) struct BudgetJson {
    /// Which; null is one of the operator's configuration.
    #[schema(example = "bud_0198000000007000800000000000002a")]
    id: Option<String>,
    /// `owner`, `repository`, `daemon`, `branch`, `author` or `pull_request`.
    scope: &'static str,
    /// Which one: `ada/book`; null is each one for itself.
    subject: Option<String>,
    /// `run`, `day`, `month` (of the calendar, UTC) or `total`.
    period: &'static str,
    /// How much.
    limit: MoneyJson,
    /// Who set it; null is the operator's configuration.
    set_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    set_at: Option<String>,
    /// Who ended it, by removing it or by setting another; null is in force.
    ended_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// A budget, and what of it is gone.
#[derive(Serialize, ToSchema)]
#[schema(as = Gauge)]
pub(crate) struct GaugeJson {
    /// The budget.
    budget: BudgetJson,
    /// The period that it is now: `2026-11-30`, `2026-11` or `total`; null where each run has its own.
    window: Option<String>,
    /// When it begins anew.
    #[schema(format = DateTime)]
    begins_anew_at: Option<String>,
    /// Those who spent in it, the most first, at most 100.
    levels: Vec<LevelJson>,
}

/// What one of a budget's subjects has spent.
#[derive(Serialize, ToSchema)]
#[schema(as = Level)]
struct LevelJson {
    /// Who.
    subject: String,
    /// What calls did cost.
    spent: MoneyJson,
    /// What calls under way may still cost.
    reserved: MoneyJson,
    /// What is left.
    left: MoneyJson,
    /// The thresholds at which someone was told, percent; each once a period.
    alerts: Vec<AlertJson>,
}

/// Someone was told how much of a budget is gone.
#[derive(Serialize, ToSchema)]
#[schema(as = Alert)]
struct AlertJson {
    /// The threshold, percent.
    percent: u8,
    /// What was spent then.
    spent: MoneyJson,
    /// The run that passed it.
    run: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
}

/// A budget that is wanted.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewBudget)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBudgetJson {
    /// `owner`, `repository`, `daemon`, `branch`, `author` or `pull_request`.
    #[schema(example = "repository")]
    scope: String,
    /// Which one: `ada`, `ada/book`, `ada/book/review`, `ada/book@main`, `ada/book#7`; without it, each one
    /// for itself.
    #[schema(example = "ada/book")]
    subject: Option<String>,
    /// `run`, `day`, `month` or `total`.
    #[schema(example = "month")]
    period: String,
    /// Dollars.
    #[schema(example = "$20")]
    limit: String,
}

impl From<&Budget> for BudgetJson {
    fn from(budget: &Budget) -> Self {
        let (id, set, ended) = match &budget.origin {
            Origin::Configured => (None, None, None),
            Origin::Set { id, by, at, ended } => {
                let ended = ended.as_ref().map(|(by, at)| (by.clone(), at.to_string()));
                (Some(id.to_string()), Some((by.clone(), at.to_string())), ended)
            }
        };
        let (set_by, set_at) = set.unzip();
        let (ended_by, ended_at) = ended.unzip();
        Self {
            id,
            scope: budget.scope.as_str(),
            subject: budget.subject.clone(),
            period: budget.period.as_str(),
            limit: MoneyJson::from(budget.limit),
            set_by,
            set_at,
            ended_by,
            ended_at,
        }
    }
}

impl From<&Gauge> for GaugeJson {
    fn from(gauge: &Gauge) -> Self {
        let limit = gauge.budget.limit;
        let until = gauge.window.as_ref().and_then(|window| window.until);
        Self {
            budget: BudgetJson::from(&gauge.budget),
            window: gauge.window.as_ref().map(|window| window.key.clone()),
            begins_anew_at: until.map(|until| until.to_string()),
            levels: gauge.levels.iter().map(|level| LevelJson::new(level, limit)).collect(),
        }
    }
}

impl LevelJson {
    fn new(level: &Level, limit: NanoUsd) -> Self {
        let Level { subject, balance, alerts } = level;
        let Balance { spent, reserved } = *balance;
        Self {
            subject: subject.clone(),
            spent: MoneyJson::from(spent),
            reserved: MoneyJson::from(reserved),
            left: MoneyJson::from(balance.left(limit)),
            alerts: alerts.iter().map(AlertJson::from).collect(),
        }
    }
}

impl From<&Alert> for AlertJson {
    fn from(alert: &Alert) -> Self {
        Self {
            percent: alert.percent,
            spent: MoneyJson::from(alert.spent),
            run: alert.run.to_string(),
            at: alert.at.to_string(),
        }
    }
}

/// Lists the budgets in force, with what of each is gone.
#[utoipa::path(get, operation_id = "list_budgets", path = "/api/v1/budgets", tag = "money", responses((status = 200, description = "Budgets", body = Part<GaugeJson>)))]
pub(crate) async fn list(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
) -> Result<axum::Json<Part<GaugeJson>>, Problem> {
    let gauges = budgets::list(server.world()).await?;
    Ok(Part::whole(gauges.iter().map(GaugeJson::from).collect()))
}

/// Lists every budget that was ever set, the newest first: who set it, who ended it, and when.
#[utoipa::path(get, operation_id = "list_budget_history", path = "/api/v1/budgets/history", tag = "money", responses((status = 200, description = "Budgets", body = Part<BudgetJson>)))]
pub(crate) async fn history(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
) -> Result<axum::Json<Part<BudgetJson>>, Problem> {
    let budgets = server.store().budget_list().await?;
    Ok(Part::whole(budgets.iter().map(BudgetJson::from).collect()))
}

/// Sets a budget. It takes the place of the one about the same scope, subject and period.
#[utoipa::path(
    post, operation_id = "set_budget", path = "/api/v1/budgets", tag = "money", request_body = NewBudgetJson,
    responses((status = 201, description = "It is in force", body = BudgetJson),
              (status = 422, description = "It makes no sense", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn set(
    Admin(principal): Admin,
    State(server): State<Arc<Server>>,
    Json(wanted): Json<NewBudgetJson>,
) -> Result<(StatusCode, axum::Json<BudgetJson>), Problem> {
    let word = |field: &str, words: String| {
        Problem::bad_request("invalid_parameter", format!("`{field}` must be one of {words}"))
    };
    let scope =
        Scope::parse(&wanted.scope).ok_or_else(|| word("scope", Scope::ALL.map(Scope::as_str).join(", ")))?;
    let period = Period::parse(&wanted.period)
        .ok_or_else(|| word("period", Period::ALL.map(Period::as_str).join(", ")))?;
    let limit = input::required("limit", &wanted.limit)?;
    let new = NewBudget { scope, subject: wanted.subject, period, limit };
    let budget = budgets::set(server.world(), new, &principal.account.name).await?;
    Ok((StatusCode::CREATED, axum::Json(BudgetJson::from(&budget))))
}

/// Ends a budget.
#[utoipa::path(
    delete, operation_id = "remove_budget", path = "/api/v1/budgets/{budget}", tag = "money", params(("budget" = String, Path, description = "`bud_…`")),
    responses((status = 200, description = "It is no longer in force", body = BudgetJson),
              (status = 404, description = "There is none in force", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn remove(
    Admin(principal): Admin,
    State(server): State<Arc<Server>>,
    Path(budget): Path<String>,
) -> Result<axum::Json<BudgetJson>, Problem> {
    let id: BudgetId = input::known("budget", &budget)?;
    let budget = budgets::remove(server.world(), id, &principal.account.name).await?;
    Ok(axum::Json(BudgetJson::from(&budget)))
}
