//! Budgets, for those who set them and look at them. What binds a call is [`crate::till`]'s affair.

use domain::budget::{Alert, Balance, Budget, Limit, Origin, Period, Scope, Window};
use domain::id::BudgetId;
use domain::money::NanoUsd;
use domain::name::RepositoryPath;
use ports::store::StoreError;

use crate::refusal::Refusal;
use crate::world::World;

/// For how many of a scope it is shown what they spent.
const SUBJECTS: u32 = 100;
/// How many alerts are looked through.
const ALERTS: u32 = 1_000;

/// A budget that is wanted.
#[derive(Debug, Clone)]
pub struct NewBudget {
    /// Of what.
    pub scope: Scope,
    /// Of which one; `None` is each one for itself.
    pub subject: Option<String>,
    /// Over which time.
    pub period: Period,
    /// How much.
    pub limit: NanoUsd,
}

/// A budget, and what of it is gone.
#[derive(Debug, Clone)]
pub struct Gauge {
    /// The budget.
    pub budget: Budget,
    /// The period that it is now; `None` where each run has its own.
    pub window: Option<Window>,
    /// Those who spent in it, the most first.
    pub levels: Vec<Level>,
}

/// What one of a budget's subjects has spent.
#[derive(Debug, Clone)]
pub struct Level {
    /// Who.
    pub subject: String,
    /// How much.
    pub balance: Balance,
    /// Who was told so.
    pub alerts: Vec<Alert>,
}

/// Sets a budget; it takes the place of the one about the same.
///
/// # Errors
/// When it makes no sense.
pub async fn set(world: &World, new: NewBudget, by: &str) -> Result<Budget, Refusal> {
    let origin = Origin::Set {
        id: BudgetId::new(world.clock.unique()),
        by: by.to_owned(),
        at: world.clock.now(),
        ended: None,
    };
    let NewBudget { scope, subject, period, limit } = new;
    let mut budget = Budget { scope, subject, period, limit, origin };
    budget.check().map_err(|error| Refusal::invalid("budget_invalid", error.to_string()))?;
    if let Some(subject) = &mut budget.subject {
        *subject = as_recorded(world, scope, subject).await?;
    }
    world.store.budget_set(&budget).await?;
    tracing::warn!(budget.by = %by, "a budget was set by {by}: {}", budget.words());
    Ok(budget)
}

/// Ends a budget.
///
/// # Errors
/// When there is none.
pub async fn remove(world: &World, id: BudgetId, by: &str) -> Result<Budget, Refusal> {
    let removed = world.store.budget_remove(id, by, world.clock.now()).await?;
    let is_it = |budget: &Budget| matches!(&budget.origin, Origin::Set { id: own, .. } if *own == id);
    let budget = world.store.budget_list().await?.into_iter().find(is_it).filter(|_| removed);
    let Some(budget) = budget else {
        return Err(Refusal::not_found("budget_not_found", format!("there is no budget {id} in force")));
    };
    tracing::warn!(budget.by = %by, "a budget was removed by {by}: {}", budget.words());
    Ok(budget)
}

/// The budgets in force, each with what of it is gone.
///
/// # Errors
/// When the store does not answer.
pub async fn list(world: &World) -> Result<Vec<Gauge>, StoreError> {
    let mut budgets = world.store.budget_held().await?;
    budgets.extend(world.settings.budgets.iter().cloned());
    budgets.sort_by(|a, b| (a.scope, &a.subject, a.period).cmp(&(b.scope, &b.subject, b.period)));
    let alerts = world.store.alert_list(ALERTS).await?;
    let mut gauges = Vec::with_capacity(budgets.len());
    for budget in budgets {
        gauges.push(gauge(world, budget, &alerts).await?);
    }
    Ok(gauges)
}

async fn gauge(world: &World, budget: Budget, alerts: &[Alert]) -> Result<Gauge, StoreError> {
    let Some(window) = Window::calendar(budget.period, world.clock.now()) else {
        return Ok(Gauge { budget, window: None, levels: Vec::new() });
    };
    let balances = match &budget.subject {
        None => world.store.balance_list(budget.scope, &window, SUBJECTS).await?,
        Some(subject) => {
            let limit = Limit {
                scope: budget.scope,
                subject: subject.clone(),
                repository: budget.scope.repository_of(subject).unwrap_or_default().to_owned(),
                window: window.clone(),
                amount: budget.limit,
            };
            vec![(subject.clone(), world.store.balance_get(&limit).await?)]
        }
    };
    let is_about = |alert: &&Alert, subject: &str| {
        let limit = &alert.limit;
        (limit.scope, limit.amount, &limit.window) == (budget.scope, budget.limit, &window)
            && limit.subject == subject
    };
    let level = |(subject, balance): (String, Balance)| Level {
        alerts: alerts.iter().filter(|alert| is_about(alert, &subject)).cloned().collect(),
        subject,
        balance,
    };
    let levels = balances.into_iter().map(level).collect();
    Ok(Gauge { budget, window: Some(window), levels })
}

/// Charges what attempts that are over had set aside and nobody settled.
///
/// # Errors
/// When the store does not answer.
pub async fn close(world: &World) -> Result<(), StoreError> {
    let closed = world.store.ledger_close(None).await?;
    if closed > 0 {
        tracing::info!("{closed} calls of runs that were given up are charged");
    }
    Ok(())
}

/// A subject as calls name it: repositories are found by any case.
async fn as_recorded(world: &World, scope: Scope, subject: &str) -> Result<String, StoreError> {
    let Some(path) = scope.repository_of(subject) else { return Ok(subject.to_owned()) };
    let Ok(known) = path.parse::<RepositoryPath>() else { return Ok(subject.to_owned()) };
    let found = world.store.repository_find(&known).await?;
    let own = found.map_or_else(|| path.to_owned(), |repository| repository.path.to_string());
    Ok(format!("{own}{}", &subject[path.len()..]))
}
