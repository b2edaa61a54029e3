//! The till of a run: what its calls of models are paid from. It decides which budgets bind a call and has
//! the store set money aside for it, in one write, where anything does; and it keeps what calls did cost
//! until the journal has it, so that every call comes into the ledger once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::budget::{self, Alert, Budget, Limit, Payers};
use domain::id::CallId;
use domain::ledger::{Entry, Standing};
use domain::purse::{self, Purse};
use domain::stage::{ModelUsage, StagePath, StageRecord};
use ports::clock::Clock;
use ports::store::ledger::{Reserved, Settled, Wanted};
use ports::store::logs::LineSource;
use ports::store::{Fenced, LeaseProof, Store, StoreError};
use ports::till::{Bound, Declined, Intended, Reservation, take};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::logs::RunLog;
use crate::world::World;

/// How long what a call did cost may wait before it makes room for others.
const PACE: Duration = Duration::from_millis(100);
/// How soon a budget that was set binds the runs that are under way.
const FRESH: Duration = Duration::from_secs(5);

/// The till of one attempt at a run.
#[derive(Debug)]
pub(crate) struct Till(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    proof: LeaseProof,
    payers: Payers,
    /// The run's own limit.
    purse: Purse,
    configured: Vec<Budget>,
    known: tokio::sync::Mutex<Option<(Instant, Arc<[Budget]>)>>,
    pages: Mutex<Pages>,
    changed: Notify,
}

/// What the store is to be told.
#[derive(Debug, Default)]
struct Pages {
    /// Calls that are over and that no stage has recorded.
    over: Vec<Over>,
    /// Reservations of calls that were not made.
    released: Vec<CallId>,
    /// Alerts that the run's log is to have.
    told: Vec<(StagePath, String)>,
    /// The last call of each stage that was not made for want of money: the code, and why.
    declined: BTreeMap<StagePath, (&'static str, String)>,
}

#[derive(Debug)]
struct Over {
    entry: Entry,
    /// Whether the store still holds its reservation.
    is_held: bool,
}

impl Till {
    pub(crate) fn new(world: &World, proof: &LeaseProof, payers: Payers, purse: Purse) -> Self {
        Self(Arc::new(Shared {
            store: Arc::clone(&world.store),
            clock: Arc::clone(&world.clock),
            proof: proof.clone(),
            payers,
            purse,
            configured: world.settings.budgets.clone(),
            known: tokio::sync::Mutex::default(),
            pages: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The till as a stage has it.
    pub(crate) fn of(&self, stage: &StagePath) -> Arc<dyn ports::till::Till> {
        Arc::new(StageTill { shared: Arc::clone(&self.0), stage: stage.clone() })
    }

    /// Why the last call of a stage that did not fit was not made: the code, and words.
    pub(crate) fn declined(&self, stage: &StagePath) -> Option<(&'static str, String)> {
        self.0.pages().declined.get(stage).cloned()
    }

    /// The entries of a stage that is about to be recorded; its calls get their ids, where they have none.
    pub(crate) fn entries(&self, record: &mut StageRecord) -> Vec<Entry> {
        let mut pages = self.0.pages();
        let mut entries = Vec::new();
        for over in std::mem::take(&mut pages.over) {
            if over.entry.stage == record.path {
                entries.push(over.entry);
            } else {
                pages.over.push(over);
            }
        }
        drop(pages);
        for call in &mut record.usage.calls {
            let id = *call.id.get_or_insert_with(|| CallId::new(self.0.clock.unique()));
            let at = *call.at.get_or_insert(record.started_at);
            if entries.iter().all(|entry| entry.id != id) {
                let known = Entry {
                    call: call.clone(),
                    standing: Standing::of(call),
                    ..self.0.entry(id, at, &record.path)
                };
                entries.push(known);
            }
        }
        entries
    }

    /// Looks whether a stage that was recorded has passed a threshold of some budget.
    pub(crate) async fn recorded(&self, stage: &StagePath, log: &RunLog<'_>) {
        self.0.look(stage).await;
        self.tell(log);
    }

    /// Stores what is over, again and again, until the lease is lost.
    pub(crate) async fn pump(&self, log: &RunLog<'_>) -> Result<Fenced, StoreError> {
        loop {
            self.0.changed.notified().await;
            tokio::time::sleep(PACE).await;
            let (settled, stage) = self.0.held();
            if self.0.settle(settled).await? == Fenced::Lost {
                return Ok(Fenced::Lost);
            }
            if let Some(stage) = stage {
                self.recorded(&stage, log).await;
            }
        }
    }

    /// Stores everything that no stage has recorded: the worker leaves the run.
    pub(crate) async fn flush(&self) -> Result<Fenced, StoreError> {
        let settled = {
            let pages = self.0.pages();
            let entries = pages.over.iter().map(|over| over.entry.clone()).collect();
            Settled { entries, released: pages.released.clone() }
        };
        self.0.settle(settled).await
    }

    /// Brings alerts into the run's log.
    pub(crate) fn tell(&self, log: &RunLog<'_>) {
        let told = std::mem::take(&mut self.0.pages().told);
        for (stage, text) in told {
            log.line(&stage, LineSource::Server, text);
        }
    }
}

/// The till as one stage has it.
#[derive(Debug)]
struct StageTill {
    shared: Arc<Shared>,
    stage: StagePath,
}

#[async_trait]
impl ports::till::Till for StageTill {
    async fn bound(&self) -> Bound {
        if let Some(left) = self.shared.purse.left() {
            return Bound::Left(left);
        }
        match self.shared.limits().await {
            Ok(limits) if limits.is_empty() => Bound::None,
            // Without an answer nothing is reserved either.
            Ok(_) | Err(_) => Bound::Budgets,
        }
    }

    async fn reserve(&self, call: &Intended<'_>) -> Result<Box<dyn Reservation>, Declined> {
        let reserved = self.reserved(call).await;
        if let Err(Declined::Exhausted { code, message }) = &reserved {
            self.shared.pages().declined.insert(self.stage.clone(), (code, message.clone()));
            // A budget may be set to less than what is spent: then no call would ever be recorded.
            self.shared.look(&self.stage).await;
        }
        reserved
    }
}

impl StageTill {
    async fn reserved(&self, call: &Intended<'_>) -> Result<Box<dyn Reservation>, Declined> {
        let shared = &self.shared;
        let away = |error: StoreError| Declined::Unavailable(error.to_string());
        let purse = take(&shared.purse, call.most)?;
        let limits = shared.limits().await.map_err(away)?;
        let most = match call.most {
            None if !limits.is_empty() => return Err(Declined::Unpriced),
            most => most.unwrap_or_default(),
        };
        let id = CallId::new(shared.clock.unique());
        let mut entry = shared.entry(id, shared.clock.now(), &self.stage);
        entry.call.requested = call.requested.to_owned();
        entry.call.served = call.served.to_owned();
        entry.call.provider = call.provider.to_owned();
        entry.call.cost = most;
        entry.call.estimated = true;
        let is_bounded = shared.purse.limit().is_some() || !limits.is_empty();
        // Made before the store is asked: whoever gives up meanwhile gives back what it may have got.
        let held = Held { shared: Arc::clone(shared), entry, purse: Some(purse), is_stored: is_bounded };
        if is_bounded {
            let (settled, _) = shared.held();
            let wanted = Wanted { entry: &held.entry, limits: &limits, settled: &settled };
            let reserved = shared.store.budget_reserve(&shared.proof, &wanted).await.map_err(away)?;
            match reserved {
                Reserved::Reserved => shared.settled(&settled),
                Reserved::Exhausted(full) => {
                    shared.settled(&settled);
                    tracing::info!(run.id = %shared.proof.run, "a call is not made: {full}");
                    let message = full.to_string();
                    return Err(Declined::Exhausted { code: "budget_exhausted", message });
                }
                Reserved::Lost => {
                    return Err(Declined::Unavailable("another worker has this run by now".to_owned()));
                }
            }
        }
        Ok(Box::new(held))
    }
}

/// Money that is set aside for a call.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    entry: Entry,
    /// Of the run's own; taken when the call is settled.
    purse: Option<purse::Reservation>,
    is_stored: bool,
}

impl Reservation for Held {
    fn settle(mut self: Box<Self>, call: &mut ModelUsage) {
        (call.id, call.at) = (Some(self.entry.id), Some(self.entry.at));
        if let Some(purse) = self.purse.take() {
            purse.settle(call.cost);
        }
        let entry = Entry { call: call.clone(), standing: Standing::of(call), ..self.entry.clone() };
        self.shared.pages().over.push(Over { entry, is_held: self.is_stored });
        self.shared.changed.notify_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It was neither settled nor, as far as can be told, refused.
        if self.purse.take().is_some() && self.is_stored {
            self.shared.pages().released.push(self.entry.id);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: CallId, at: domain::time::Timestamp, stage: &StagePath) -> Entry {
        Entry {
            id,
            run: self.proof.run,
            run_attempt: self.proof.attempt,
            stage: stage.clone(),
            payers: self.payers.clone(),
            call: ModelUsage { id: Some(id), at: Some(at), ..ModelUsage::default() },
            standing: Standing::Reserved,
            at,
        }
    }

    /// What the store still holds reservations for although it is over, and a stage that it is of.
    fn held(&self) -> (Settled, Option<StagePath>) {
        let pages = self.pages();
        let held: Vec<&Entry> =
            pages.over.iter().filter(|over| over.is_held).map(|over| &over.entry).collect();
        let stage = held.last().map(|entry| entry.stage.clone());
        let entries = held.into_iter().cloned().collect();
        (Settled { entries, released: pages.released.clone() }, stage)
    }

    async fn settle(&self, settled: Settled) -> Result<Fenced, StoreError> {
        if settled.is_empty() {
            return Ok(Fenced::Written);
        }
        let fenced = self.store.budget_settle(&self.proof, &settled).await?;
        self.settled(&settled);
        Ok(fenced)
    }

    /// The store has these.
    fn settled(&self, settled: &Settled) {
        let mut pages = self.pages();
        pages.released.retain(|id| !settled.released.contains(id));
        for over in &mut pages.over {
            over.is_held &= settled.entries.iter().all(|entry| entry.id != over.entry.id);
        }
    }

    /// The budgets that bind a call now.
    async fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        let mut known = self.known.lock().await;
        let fresh = known.as_ref().filter(|(read, _)| read.elapsed() < FRESH);
        let budgets = match fresh {
            Some((_, budgets)) => Arc::clone(budgets),
            None => {
                let mut budgets = self.store.budget_held().await?;
                budgets.extend(self.configured.iter().cloned());
                let budgets: Arc<[Budget]> = budgets.into();
                *known = Some((Instant::now(), Arc::clone(&budgets)));
                budgets
            }
        };
        drop(known);
        Ok(budget::binding(&budgets, &self.payers, self.proof.run, self.clock.now()))
    }

    /// Records alerts for the thresholds that are passed. What fails here is seen the next time.
    async fn look(&self, stage: &StagePath) {
        let at = self.clock.now();
        for limit in self.limits().await.unwrap_or_default() {
            let Ok(balance) = self.store.balance_get(&limit).await else { continue };
            for percent in balance.passed(limit.amount) {
                let (limit, run) = (limit.clone(), self.proof.run);
                let alert = Alert { limit, percent, spent: balance.spent, run, at };
                if let Ok(true) = self.store.alert_record(&alert).await {
                    tracing::warn!(budget.percent = percent, run.id = %run, "{alert}");
                    self.pages().told.push((stage.clone(), alert.to_string()));
                }
            }
        }
    }
}
