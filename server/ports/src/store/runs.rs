//! Runs: the queue, the leases and the journal.

use std::time::Duration;

use async_trait::async_trait;
use domain::effect::Effect;
use domain::event::Event;
use domain::id::{EventId, RepositoryId, RunId, WorkerId};
use domain::ledger::Entry;
use domain::name::{Branch, DaemonId};
use domain::run::{Concurrency, Run, RunOutcome, RunStatus};
use domain::stage::StageRecord;
use domain::time::Timestamp;

use super::{Fenced, LeaseProof, Page, Recorded, StoreError};

/// The life of runs.
#[async_trait]
pub trait Runs {
    /// Queues a run; one that is to take the place of others ends those that have not begun. With an
    /// `idempotency` key that was used for the same repository before, it is known, and nothing is stored.
    async fn run_enqueue(
        &self,
        new: &NewRun,
        idempotency: Option<&str>,
    ) -> Result<Recorded<RunId>, StoreError>;

    /// Gives a worker the next run: the highest priority first, then the oldest. Runs whose group is
    /// full are passed over. A run whose lease has lapsed is given out again, with the next attempt.
    async fn run_lease(
        &self,
        worker: WorkerId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError>;

    /// Makes a lease last until `until`.
    async fn run_renew(&self, proof: &LeaseProof, until: Timestamp) -> Result<Renewal, StoreError>;

    /// Adds a finished stage to the journal, its cost to the run, and the calls of models that it made to
    /// the ledger, where what was set aside for them is settled. A path that is in the journal already
    /// stays as it is.
    async fn stage_record(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[Entry],
    ) -> Result<Fenced, StoreError>;

    /// Lets a run wait for the runs that its stages call, and queues these; a child of the same parent
    /// stage that is there already stays. When all children have ended the run is queued again (at
    /// once, if they already have).
    async fn run_suspend(
        &self,
        proof: &LeaseProof,
        children: &[NewRun],
        at: Timestamp,
    ) -> Result<Fenced, StoreError>;

    /// Gives a run back unfinished, at `at`, to be leased again not before `ready_at`.
    async fn run_release(
        &self,
        proof: &LeaseProof,
        at: Timestamp,
        ready_at: Timestamp,
    ) -> Result<Fenced, StoreError>;

    /// Gives back every run that a worker holds, to be leased at once: the worker is known to be gone. Says
    /// how many.
    async fn worker_release(&self, worker: WorkerId, at: Timestamp) -> Result<u64, StoreError>;

    /// Ends a run and stores its last stage and what it wants done, in one transaction; a parent that waits
    /// only for it is queued again.
    async fn run_finish(&self, proof: &LeaseProof, finish: &Finish) -> Result<Fenced, StoreError>;

    /// Asks a run to end, and the runs that its stages called. One that has not begun ends at once. One
    /// that has is asked, so that it may clean up: the worker that has it sees so, else a worker takes it
    /// up for that, once the runs that it waits for have ended. Asked again, one that no worker has ends
    /// at once.
    async fn run_cancel(&self, run: RunId, by: &str, at: Timestamp) -> Result<Cancellation, StoreError>;

    /// One run.
    async fn run_get(&self, run: RunId) -> Result<Option<Run>, StoreError>;

    /// Runs, newest first.
    async fn run_list(&self, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError>;

    /// The finished stages of a run, in the order in which they ended.
    async fn run_journal(&self, run: RunId) -> Result<Vec<StageRecord>, StoreError>;

    /// The runs that a run's stages called, oldest first.
    async fn run_children(&self, run: RunId) -> Result<Vec<Run>, StoreError>;

    /// How many runs of a group have not ended.
    async fn run_group(&self, repository: RepositoryId, key: &str) -> Result<u32, StoreError>;

    /// How many runs are queued, running and waiting.
    async fn run_depth(&self) -> Result<Depth, StoreError>;
}

/// A run to be queued.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The run; its state must be `Queued`.
    pub run: Run,
    /// Its group, if it has one.
    pub concurrency: Option<Concurrency>,
    /// Whose place it takes: runs of the same repository with the same key that no worker has taken up
    /// yet are skipped.
    pub replaces: Option<String>,
    /// Higher goes first.
    pub priority: Priority,
}

/// Which runs go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Nobody waits: schedules.
    Background,
    /// Something happened.
    Event,
    /// Somebody waits, or a run that is under way does.
    Interactive,
}

/// What a worker was given.
#[derive(Debug, Clone)]
pub enum LeaseOutcome {
    /// A run.
    Leased(Box<Run>, LeaseProof),
    /// Nothing is ready.
    Empty {
        /// When something will be, as far as is known: a retry, or a lease that lapses.
        next_at: Option<Timestamp>,
    },
}

/// What came of renewing a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It lasts.
    Renewed {
        /// Whether someone asked to end the run.
        cancel_requested: bool,
    },
    /// It was lost; the worker must stop.
    Lost,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Finish {
    /// How it ended.
    pub outcome: RunOutcome,
    /// Its last stage, when that is not in the journal yet.
    pub record: Option<StageRecord>,
    /// What it wants done.
    pub effects: Vec<Effect>,
    /// The event that its end is, for daemons that wait for it.
    pub event: Option<Event>,
    /// When.
    pub at: Timestamp,
}

/// What came of asking a run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It has ended.
    Cancelled,
    /// It was asked, and ends when it has cleaned up.
    Requested,
    /// It had ended before.
    Ended,
    /// There is no such run.
    Unknown,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of one repository.
    pub repository: Option<RepositoryId>,
    /// Of one daemon.
    pub daemon: Option<DaemonId>,
    /// Of one branch.
    pub branch: Option<Branch>,
    /// In one status.
    pub status: Option<RunStatus>,
    /// Started by one event.
    pub event: Option<EventId>,
    /// Started by an event of this issue or pull request; only together with its repository.
    pub thread: Option<u64>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting for a worker.
    pub queued: u64,
    /// With a worker.
    pub running: u64,
    /// Waiting for other runs.
    pub waiting: u64,
}
