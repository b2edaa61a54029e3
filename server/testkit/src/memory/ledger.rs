use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::budget::{Alert, Balance, Budget, Limit, Origin, Period, Scope, Window};
use domain::id::{BudgetId, RunId};
use domain::ledger::{Entry, Grouping, Spend, Standing};
use domain::run::RunState;
use domain::time::Timestamp;
use ports::store::ledger::{Reserved, Settled, Wanted};
use ports::store::{Fenced, LeaseProof, Ledger, StoreError};

use super::{MemoryStore, State};

/// An entry, and whether its run's cost has it.
#[derive(Debug)]
pub(super) struct Kept {
    entry: Entry,
    recorded: bool,
}

#[async_trait]
impl Ledger for MemoryStore {
    async fn budget_reserve(&self, proof: &LeaseProof, wanted: &Wanted<'_>) -> Result<Reserved, StoreError> {
        let mut state = self.state();
        if state.held(proof).is_none() {
            return Ok(Reserved::Lost);
        }
        state.settle(wanted.settled);
        let balances: Vec<(Limit, Balance)> =
            wanted.limits.iter().map(|limit| (limit.clone(), state.balance(limit))).collect();
        let judged = Reserved::judge(balances, wanted.entry.charged());
        if judged == Reserved::Reserved {
            let kept = Kept { entry: wanted.entry.clone(), recorded: false };
            state.ledger.entry(wanted.entry.id).or_insert(kept);
        }
        Ok(judged)
    }

    async fn budget_settle(&self, proof: &LeaseProof, settled: &Settled) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        if state.held(proof).is_none() {
            return Ok(Fenced::Lost);
        }
        state.settle(settled);
        Ok(Fenced::Written)
    }

    async fn ledger_close(&self, run: Option<RunId>) -> Result<u64, StoreError> {
        let mut state = self.state();
        let State { ledger, runs, .. } = &mut *state;
        let mut closed = 0;
        for kept in ledger.values_mut().filter(|kept| !kept.recorded) {
            let Some(of) = runs.get_mut(&kept.entry.run) else { continue };
            let is_under_way = matches!(&of.run.state, RunState::Running { lease } if lease.attempt == kept.entry.run_attempt);
            if is_under_way || run.is_some_and(|run| run != kept.entry.run) {
                continue;
            }
            if kept.entry.standing == Standing::Reserved {
                kept.entry = kept.entry.clone().given_up();
            }
            kept.recorded = true;
            of.run.cost = of.run.cost.plus(kept.entry.charged());
            closed += 1;
        }
        Ok(closed)
    }

    async fn ledger_of_run(&self, run: RunId) -> Result<Vec<Entry>, StoreError> {
        let state = self.state();
        let mut entries: Vec<Entry> =
            state.ledger.values().map(|kept| &kept.entry).filter(|entry| entry.run == run).cloned().collect();
        entries.sort_by_key(|entry| (entry.at, entry.id));
        Ok(entries)
    }

    async fn ledger_spend(&self, by: Grouping, since: Timestamp) -> Result<Vec<Spend>, StoreError> {
        let state = self.state();
        let mut sums: BTreeMap<String, Spend> = BTreeMap::new();
        for entry in state.ledger.values().map(|kept| &kept.entry) {
            if entry.at >= since && entry.standing != Standing::Reserved {
                let key = by.key(entry);
                sums.entry(key.clone()).or_insert(Spend { key, ..Spend::default() }).add(entry);
            }
        }
        let mut sums: Vec<Spend> = sums.into_values().collect();
        sums.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| a.key.cmp(&b.key)));
        Ok(sums)
    }

    async fn balance_get(&self, limit: &Limit) -> Result<Balance, StoreError> {
        Ok(self.state().balance(limit))
    }

    async fn balance_list(
        &self,
        scope: Scope,
        window: &Window,
        most: u32,
    ) -> Result<Vec<(String, Balance)>, StoreError> {
        let state = self.state();
        let mut balances: BTreeMap<String, Balance> = BTreeMap::new();
        for entry in state.ledger.values().map(|kept| &kept.entry) {
            let is_within = entry.at >= window.from && window.until.is_none_or(|until| entry.at < until);
            if let (true, Some(subject)) = (is_within, entry.payers.subject(scope)) {
                add(balances.entry(subject.to_owned()).or_default(), entry);
            }
        }
        let mut balances: Vec<(String, Balance)> = balances.into_iter().collect();
        balances.sort_by(|(a, left), (b, right)| right.spent.cmp(&left.spent).then_with(|| a.cmp(b)));
        balances.truncate(most as usize);
        Ok(balances)
    }

    async fn budget_set(&self, budget: &Budget) -> Result<(), StoreError> {
        let Origin::Set { by, at, .. } = &budget.origin else {
            return Err(StoreError::Conflict("a budget of the configuration is not stored".to_owned()));
        };
        let mut state = self.state();
        let about = |budget: &Budget| (budget.scope, budget.subject.clone(), budget.period);
        let same = |known: &&mut Budget| known.holds() && about(known) == about(budget);
        for known in state.budgets.iter_mut().filter(same) {
            end(known, by, *at);
        }
        state.budgets.push(budget.clone());
        Ok(())
    }

    async fn budget_remove(&self, budget: BudgetId, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let is_it = |known: &&mut Budget| {
            known.holds() && matches!(&known.origin, Origin::Set { id, .. } if *id == budget)
        };
        let found = state.budgets.iter_mut().find(is_it);
        Ok(found.map(|known| end(known, by, at)).is_some())
    }

    async fn budget_held(&self) -> Result<Vec<Budget>, StoreError> {
        Ok(self.state().budgets.iter().rev().filter(|budget| budget.holds()).cloned().collect())
    }

    async fn budget_list(&self) -> Result<Vec<Budget>, StoreError> {
        Ok(self.state().budgets.iter().rev().cloned().collect())
    }

    async fn alert_record(&self, alert: &Alert) -> Result<bool, StoreError> {
        let mut state = self.state();
        let about = |alert: &Alert| {
            let Limit { scope, subject, window, amount, .. } = &alert.limit;
            (*scope, subject.clone(), window.key.clone(), *amount, alert.percent)
        };
        let is_new = state.alerts.iter().all(|known| about(known) != about(alert));
        if is_new {
            state.alerts.push(alert.clone());
        }
        Ok(is_new)
    }

    async fn alert_list(&self, most: u32) -> Result<Vec<Alert>, StoreError> {
        let mut alerts = self.state().alerts.clone();
        alerts.sort_by(|a, b| {
            (b.at, b.percent).cmp(&(a.at, a.percent)).then_with(|| a.limit.subject.cmp(&b.limit.subject))
        });
        alerts.truncate(most as usize);
        Ok(alerts)
    }
}

impl State {
    /// Writes down the calls of a stage that is recorded.
    pub(super) fn record_calls(&mut self, calls: &[Entry]) {
        for entry in calls {
            self.settle_one(entry);
            if let Some(kept) = self.ledger.get_mut(&entry.id) {
                kept.recorded = true;
            }
        }
    }

    fn settle(&mut self, settled: &Settled) {
        for entry in &settled.entries {
            self.settle_one(entry);
        }
        for id in &settled.released {
            if self.ledger.get(id).is_some_and(|kept| kept.entry.standing == Standing::Reserved) {
                self.ledger.remove(id);
            }
        }
    }

    fn settle_one(&mut self, entry: &Entry) {
        let kept = Kept { entry: entry.clone(), recorded: false };
        let known = self.ledger.entry(entry.id).or_insert(kept);
        if known.entry.standing == Standing::Reserved {
            // It is added to the periods in which it began.
            known.entry = Entry { at: known.entry.at, ..entry.clone() };
            known.entry.call.at = Some(known.entry.at);
        }
    }

    fn balance(&self, limit: &Limit) -> Balance {
        let Limit { scope, subject, window, .. } = limit;
        let is_of = |entry: &&Entry| {
            let is_within = match window.period {
                Period::Run => entry.run.to_string() == window.key,
                Period::Day | Period::Month | Period::Total => {
                    entry.at >= window.from && window.until.is_none_or(|until| entry.at < until)
                }
            };
            is_within && entry.payers.subject(*scope) == Some(subject)
        };
        let mut balance = Balance::default();
        for entry in self.ledger.values().map(|kept| &kept.entry).filter(is_of) {
            add(&mut balance, entry);
        }
        balance
    }
}

fn add(balance: &mut Balance, entry: &Entry) {
    let sum = match entry.standing {
        Standing::Reserved => &mut balance.reserved,
        Standing::Final | Standing::Estimated => &mut balance.spent,
    };
    *sum = sum.plus(entry.charged());
}

fn end(budget: &mut Budget, by: &str, at: Timestamp) {
    if let Origin::Set { ended, .. } = &mut budget.origin {
        *ended = Some((by.to_owned(), at));
    }
}
