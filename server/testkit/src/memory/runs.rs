use std::time::Duration;

use async_trait::async_trait;
use domain::id::{RepositoryId, RunId, WorkerId};
use domain::ledger;
use domain::run::{Concurrency, Lease, Run, RunOutcome, RunState, RunStatus};
use domain::stage::StageRecord;
use domain::time::Timestamp;
use ports::store::logs::LogLine;
use ports::store::runs::{Cancellation, Depth, Finish, LeaseOutcome, NewRun, Priority, Renewal, RunFilter};
use ports::store::{Fenced, LeaseProof, Page, Recorded, Runs, StoreError, Topic};

use super::{MemoryStore, State, newest};

mod queue;

/// A run, and what belongs to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run: Run,
    concurrency: Option<Concurrency>,
    replaces: Option<String>,
    priority: Priority,
    idempotency: Option<String>,
    journal: Vec<StageRecord>,
    pub(super) lines: Vec<LogLine>,
    /// The number of the last line, also when the lines are forgotten.
    pub(super) numbered: u64,
    /// When someone asked to end it.
    asked_at: Option<Timestamp>,
    /// When its last attempt began.
    leased_at: Option<Timestamp>,
}

impl Entry {
    fn is_active(&self) -> bool {
        !self.run.state.status().is_final()
    }

    /// Adds a stage, and its cost, unless it is there.
    pub(super) fn record(&mut self, record: &StageRecord) {
        if !self.has(record) {
            self.run.cost = self.run.cost.plus(record.usage.cost());
            self.journal.push(record.clone());
        }
    }

    pub(super) fn has(&self, record: &StageRecord) -> bool {
        self.journal.iter().any(|known| known.path == record.path)
    }

    /// Counts the attempt that is under way, if one is.
    fn count(&mut self, until: Timestamp) {
        if self.run.state.status() == RunStatus::Running {
            self.run.worked += self.leased_at.map_or(Duration::ZERO, |since| until.since(since));
        }
    }
}

#[async_trait]
impl Runs for MemoryStore {
    async fn run_enqueue(
        &self,
        new: &NewRun,
        idempotency: Option<&str>,
    ) -> Result<Recorded<RunId>, StoreError> {
        let mut state = self.state();
        let same = |entry: &&Entry| {
            idempotency.is_some()
                && entry.idempotency.as_deref() == idempotency
                && entry.run.repository == new.run.repository
        };
        if let Some(known) = state.runs.values().find(same) {
            return Ok(Recorded::Known(known.run.id));
        }
        state.refuse_runs(std::slice::from_ref(new))?;
        state.enqueue(new, idempotency, new.run.created_at);
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(Recorded::New)
    }

    async fn run_lease(
        &self,
        worker: WorkerId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let mut state = self.state();
        let Some(id) = state.next_run(now) else {
            return Ok(LeaseOutcome::Empty { next_at: state.next_moment(now) });
        };
        let leased = state.runs.get_mut(&id).map(|entry| {
            if let RunState::Running { lease } = &entry.run.state {
                entry.count(lease.until.min(now));
            }
            entry.leased_at = Some(now);
            let run = &mut entry.run;
            run.attempt += 1;
            run.started_at.get_or_insert(now);
            let lease = Lease { worker, attempt: run.attempt, until: now.after(ttl) };
            run.state = RunState::Running { lease };
            LeaseOutcome::Leased(Box::new(run.clone()), LeaseProof { run: id, worker, attempt: run.attempt })
        });
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(leased.unwrap_or(LeaseOutcome::Empty { next_at: None }))
    }

    async fn run_renew(&self, proof: &LeaseProof, until: Timestamp) -> Result<Renewal, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Renewal::Lost) };
        let lease = Lease { worker: proof.worker, attempt: proof.attempt, until };
        entry.run.state = RunState::Running { lease };
        Ok(Renewal::Renewed { cancel_requested: entry.run.cancel_requested.is_some() })
    }

    async fn stage_record(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[ledger::Entry],
    ) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Fenced::Lost) };
        entry.record(record);
        state.record_calls(calls);
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(Fenced::Written)
    }

    async fn run_suspend(
        &self,
        proof: &LeaseProof,
        children: &[NewRun],
        at: Timestamp,
    ) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Fenced::Lost) };
        entry.count(at);
        if entry.run.cancel_requested.is_some() {
            // It is to end, not to wait: a worker takes it up again and sees that it was asked.
            entry.run.state = RunState::Queued { ready_at: at };
        } else {
            state.call(proof.run, children, at)?;
        }
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(Fenced::Written)
    }

    async fn run_release(
        &self,
        proof: &LeaseProof,
        at: Timestamp,
        ready_at: Timestamp,
    ) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Fenced::Lost) };
        entry.count(at);
        // Who asked to end it does not wait for a retry.
        let ready_at = entry.asked_at.map_or(ready_at, |asked_at| ready_at.min(asked_at));
        entry.run.state = RunState::Queued { ready_at };
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(Fenced::Written)
    }

    async fn worker_release(&self, worker: WorkerId, at: Timestamp) -> Result<u64, StoreError> {
        let mut released = 0;
        for entry in self.state().runs.values_mut() {
            let RunState::Running { lease } = &entry.run.state else { continue };
            if lease.worker == worker {
                entry.count(lease.until.min(at));
                entry.run.state = RunState::Queued { ready_at: at };
                released += 1;
            }
        }
        self.wake(&[Topic::Runs]);
        Ok(released)
    }

    async fn run_finish(&self, proof: &LeaseProof, finish: &Finish) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        if state.held(proof).is_none() {
            return Ok(Fenced::Lost);
        }
        state.refuse_finish(finish)?;
        if let (Some(record), Some(entry)) = (&finish.record, state.runs.get_mut(&proof.run)) {
            entry.record(record);
        }
        for effect in &finish.effects {
            state.keep_effect(effect, None);
        }
        if let Some(event) = &finish.event {
            state.keep_event(event, None);
        }
        state.end(proof.run, &finish.outcome, finish.at);
        drop(state);
        self.wake(&[Topic::Runs, Topic::Outbox, Topic::Events]);
        Ok(Fenced::Written)
    }

    async fn run_cancel(&self, run: RunId, by: &str, at: Timestamp) -> Result<Cancellation, StoreError> {
        let cancellation = self.state().cancel(run, by, at);
        self.wake(&[Topic::Runs]);
        Ok(cancellation)
    }

    async fn run_get(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.state().runs.get(&run).map(|entry| entry.run.clone()))
    }

    async fn run_list(&self, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        let state = self.state();
        let of_thread = |run: &Run| match (filter.thread, run.cause.event) {
            (None, _) => true,
            (Some(thread), Some(event)) => state.is_of_thread(event, thread),
            (Some(_), None) => false,
        };
        let runs = state.runs.values().rev().map(|entry| &entry.run);
        let runs = runs.filter(|run| is_wanted(run, filter) && of_thread(run));
        Ok(newest(runs.map(|run| (run.id.uuid(), run.clone())), page))
    }

    async fn run_journal(&self, run: RunId) -> Result<Vec<StageRecord>, StoreError> {
        Ok(self.state().runs.get(&run).map(|entry| entry.journal.clone()).unwrap_or_default())
    }

    async fn run_children(&self, run: RunId) -> Result<Vec<Run>, StoreError> {
        Ok(self.state().children(run).map(|entry| entry.run.clone()).collect())
    }

    async fn run_group(&self, repository: RepositoryId, key: &str) -> Result<u32, StoreError> {
        let state = self.state();
        let of_group = state.runs.values().filter(|entry| {
            entry.is_active()
                && entry.run.repository == repository
                && entry.concurrency.as_ref().is_some_and(|group| group.key == key)
        });
        Ok(u32::try_from(of_group.count()).unwrap_or(u32::MAX))
    }

    async fn run_depth(&self) -> Result<Depth, StoreError> {
        let state = self.state();
        let count =
            |status| state.runs.values().filter(|entry| entry.run.state.status() == status).count() as u64;
        Ok(Depth {
            queued: count(RunStatus::Queued),
            running: count(RunStatus::Running),
            waiting: count(RunStatus::Waiting),
        })
    }
}

impl State {
    /// The run of a lease that still holds.
    pub(super) fn held(&mut self, proof: &LeaseProof) -> Option<&mut Entry> {
        self.runs.get_mut(&proof.run).filter(|entry| match &entry.run.state {
            RunState::Running { lease } => lease.worker == proof.worker && lease.attempt == proof.attempt,
            RunState::Queued { .. } | RunState::Waiting | RunState::Ended { .. } => false,
        })
    }

    fn refuse_finish(&self, finish: &Finish) -> Result<(), StoreError> {
        for (nth, effect) in finish.effects.iter().enumerate() {
            let twice = finish.effects[..nth].iter().any(|earlier| earlier.id == effect.id);
            if twice || self.effects.iter().any(|known| known.effect.id == effect.id) {
                return Err(StoreError::Conflict(format!("{} is there already", effect.id)));
            }
            self.refuse_unknown_repository(effect.repository)?;
        }
        match &finish.event {
            None => Ok(()),
            Some(event) => self.refuse_known_event(event.id),
        }
    }

    fn children(&self, run: RunId) -> impl Iterator<Item = &Entry> {
        self.runs
            .values()
            .filter(move |entry| entry.run.cause.parent.as_ref().is_some_and(|parent| parent.run == run))
    }

    /// Ends a run, and queues the parent that waited only for it.
    fn end(&mut self, id: RunId, outcome: &RunOutcome, at: Timestamp) {
        let Some(entry) = self.runs.get_mut(&id) else { return };
        entry.count(at);
        entry.run.state = RunState::Ended { outcome: outcome.clone(), at };
        let Some(parent) = entry.run.cause.parent.as_ref().map(|parent| parent.run) else { return };
        let waits = self.runs.get(&parent).is_some_and(|parent| parent.run.state == RunState::Waiting);
        if waits && !self.children(parent).any(Entry::is_active) {
            self.requeue(parent, at);
        }
    }

    fn requeue(&mut self, id: RunId, ready_at: Timestamp) {
        if let Some(entry) = self.runs.get_mut(&id) {
            entry.run.state = RunState::Queued { ready_at };
        }
    }

    fn cancel(&mut self, id: RunId, by: &str, at: Timestamp) -> Cancellation {
        let Some(entry) = self.runs.get_mut(&id) else { return Cancellation::Unknown };
        let status = entry.run.state.status();
        let asked = entry.run.cancel_requested.is_some();
        if status.is_final() {
            return Cancellation::Ended;
        }
        // From the top down: a parent that has ended is not woken by its children.
        let cancellation = if status != RunStatus::Running && (asked || entry.run.attempt == 0) {
            self.end(id, &RunOutcome::Cancelled { by: by.to_owned() }, at);
            Cancellation::Cancelled
        } else {
            entry.run.cancel_insisted = asked;
            entry.run.cancel_requested.get_or_insert_with(|| by.to_owned());
            entry.asked_at.get_or_insert(at);
            if let RunState::Queued { ready_at } = &mut entry.run.state {
                *ready_at = at.min(*ready_at);
            }
            Cancellation::Requested
        };
        let children: Vec<RunId> = self.children(id).map(|child| child.run.id).collect();
        for child in children {
            self.cancel(child, by, at);
        }
        cancellation
    }
}

fn is_wanted(run: &Run, filter: &RunFilter) -> bool {
    filter.repository.is_none_or(|repository| run.repository == repository)
        && filter.daemon.as_ref().is_none_or(|daemon| run.daemon == *daemon)
        && filter.branch.as_ref().is_none_or(|branch| run.branch == *branch)
        && filter.status.is_none_or(|status| run.state.status() == status)
        && filter.event.is_none_or(|event| run.cause.event == Some(event))
}
