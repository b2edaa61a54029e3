//! The ledger of calls of models, and the budgets that they have to fit.

use async_trait::async_trait;
use domain::budget::{Alert, Balance, Budget, Exhausted, Limit, Scope, Window};
use domain::id::{BudgetId, CallId, RunId};
use domain::ledger::{Entry, Grouping, Spend};
use domain::money::NanoUsd;
use domain::time::Timestamp;

use super::{Fenced, LeaseProof, StoreError};

/// What was spent, and what may be.
#[async_trait]
pub trait Ledger {
    /// First settles what is given, then sets aside what a call may cost, if that fits all the limits.
    /// Of many that ask at the same time, from whatever process, no more are given than fit.
    async fn budget_reserve(&self, proof: &LeaseProof, wanted: &Wanted<'_>) -> Result<Reserved, StoreError>;

    /// Makes entries of what calls did cost out of their reservations, or without one, and forgets
    /// reservations of calls that were not made. What is settled stays as it is.
    async fn budget_settle(&self, proof: &LeaseProof, settled: &Settled) -> Result<Fenced, StoreError>;

    /// Charges what is set aside for calls of attempts that are over with the whole sum, as an estimate,
    /// and adds to its run's cost what no stage has recorded. Says how many entries that were. Of one
    /// run, or of all.
    async fn ledger_close(&self, run: Option<RunId>) -> Result<u64, StoreError>;

    /// The entries of a run, in the order in which they began.
    async fn ledger_of_run(&self, run: RunId) -> Result<Vec<Entry>, StoreError>;

    /// What was spent since a moment, by what entries have in common; the most first.
    async fn ledger_spend(&self, by: Grouping, since: Timestamp) -> Result<Vec<Spend>, StoreError>;

    /// What is gone of one budget.
    async fn balance_get(&self, limit: &Limit) -> Result<Balance, StoreError>;

    /// What is gone of a budget for each one of a scope, in a window; the most first, at most so many.
    async fn balance_list(
        &self,
        scope: Scope,
        window: &Window,
        most: u32,
    ) -> Result<Vec<(String, Balance)>, StoreError>;

    /// Sets a budget; it ends the one about the same that was set before.
    async fn budget_set(&self, budget: &Budget) -> Result<(), StoreError>;

    /// Ends a budget that was set. `false` when there is none, or it has ended.
    async fn budget_remove(&self, budget: BudgetId, by: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// The budgets that were set and are in force, the newest first.
    async fn budget_held(&self) -> Result<Vec<Budget>, StoreError>;

    /// Every budget that was ever set, the newest first.
    async fn budget_list(&self) -> Result<Vec<Budget>, StoreError>;

    /// Records that someone is told. `false` when they were told before: of the same subject, window,
    /// amount and threshold.
    async fn alert_record(&self, alert: &Alert) -> Result<bool, StoreError>;

    /// The newest alerts, at most so many.
    async fn alert_list(&self, most: u32) -> Result<Vec<Alert>, StoreError>;
}

/// A call that wants money set aside.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The call; its cost is what it may come to at most.
    pub entry: &'a Entry,
    /// What it has to fit.
    pub limits: &'a [Limit],
    /// What is settled before.
    pub settled: &'a Settled,
}

/// Calls that are over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What became of them.
    pub entries: Vec<Entry>,
    /// Those that were not made after all.
    pub released: Vec<CallId>,
}

impl Settled {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.released.is_empty()
    }
}

/// What came of wanting money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// It is set aside.
    Reserved,
    /// It does not fit.
    Exhausted(Box<Exhausted>),
    /// The lease was lost; nothing is written, and the call must not be made.
    Lost,
}

impl Reserved {
    /// Judges a call by the balances of its limits.
    pub fn judge(limits: impl IntoIterator<Item = (Limit, Balance)>, asked: NanoUsd) -> Self {
        let full = limits.into_iter().find(|(limit, balance)| !balance.has_room(limit.amount, asked));
        full.map_or(Self::Reserved, |(limit, balance)| {
            Self::Exhausted(Box::new(Exhausted { limit, balance, asked }))
        })
    }
}
