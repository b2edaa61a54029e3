//! What most behaviours begin with: a repository, and short words for what is done in it.

use std::time::Duration;

use domain::effect::{Act, Author, Effect, EffectKind, EffectStatus};
use domain::id::{EffectId, RepositoryId, RunId, WorkerId};
use domain::repository::Repository;
use domain::run::{Concurrency, ConcurrencyBehavior, Run, RunOutcome, RunStatus};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::store::runs::{Cancellation, Finish, LeaseOutcome, NewRun};
use ports::store::{Fenced, LeaseProof, Page, Recorded, Store};

use crate::{FixedClock, build};

/// Why an answer of the store is taken for granted.
pub(super) const ANSWERS: &str = "the store answers";

/// How long the leases of a [`Scene`] last.
pub(super) const TTL: Duration = Duration::from_secs(60);

/// A store with one repository and one worker.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) clock: &'a FixedClock,
    pub(super) repository: RepositoryId,
    pub(super) worker: WorkerId,
}

impl<'a> Scene<'a> {
    pub(super) async fn set(store: &'a dyn Store, clock: &'a FixedClock) -> Self {
        let repository = build::repository(clock, "ada/book");
        assert_eq!(store.repository_create(&repository).await.expect(ANSWERS), Recorded::New);
        let worker = WorkerId::new(clock.unique());
        Self { store, clock, repository: repository.id, worker }
    }

    /// The same store, from the side of another worker.
    pub(super) fn other_worker(self) -> Self {
        Self { worker: WorkerId::new(self.clock.unique()), ..self }
    }

    pub(super) async fn repository(self) -> Repository {
        self.store.repository_get(self.repository).await.expect(ANSWERS).expect("the scene has it")
    }

    /// Something that the server itself wants to say, due at once.
    pub(super) fn answer(self, key: &str) -> Effect {
        Effect {
            id: EffectId::new(self.clock.unique()),
            repository: self.repository,
            author: Author::Server { act: Act::Answer },
            key: key.to_owned(),
            kind: EffectKind::Noop { reason: "an answer".to_owned() },
            status: EffectStatus::wanted(self.clock.now()),
            attempts: 0,
            created_at: self.clock.now(),
        }
    }

    /// A run to be queued.
    pub(super) async fn new_run(self) -> NewRun {
        build::new_run(self.clock, &self.repository().await, "review")
    }

    pub(super) async fn enqueue(self, new: &NewRun) -> RunId {
        assert_eq!(self.store.run_enqueue(new, None).await.expect(ANSWERS), Recorded::New);
        new.run.id
    }

    /// Queues a plain run.
    pub(super) async fn queued(self) -> RunId {
        self.enqueue(&self.new_run().await).await
    }

    /// Queues a run of a group.
    pub(super) async fn grouped(self, key: &str, limit: u32, behavior: ConcurrencyBehavior) -> RunId {
        let mut new = self.new_run().await;
        new.concurrency = Some(Concurrency { key: key.to_owned(), limit, behavior });
        self.enqueue(&new).await
    }

    /// Queues a plain run and leases it.
    pub(super) async fn running(self) -> LeaseProof {
        let run = self.queued().await;
        let proof = self.lease().await;
        assert_eq!(proof.run, run, "another run stood in the queue");
        proof
    }

    pub(super) async fn lease_outcome(self) -> LeaseOutcome {
        self.store.run_lease(self.worker, self.clock.now(), TTL).await.expect(ANSWERS)
    }

    pub(super) async fn try_lease(self) -> Option<LeaseProof> {
        match self.lease_outcome().await {
            LeaseOutcome::Leased(_, proof) => Some(proof),
            LeaseOutcome::Empty { .. } => None,
        }
    }

    pub(super) async fn lease(self) -> LeaseProof {
        self.try_lease().await.expect("a run is ready")
    }

    pub(super) async fn nothing_is_ready(self) {
        assert_eq!(self.try_lease().await, None, "a run was ready");
    }

    pub(super) fn succeeded(self) -> Finish {
        Finish {
            outcome: RunOutcome::Succeeded,
            effects: Vec::new(),
            record: None,
            event: None,
            at: self.clock.now(),
        }
    }

    pub(super) async fn finish(self, proof: &LeaseProof) {
        assert_eq!(self.store.run_finish(proof, &self.succeeded()).await.expect(ANSWERS), Fenced::Written);
    }

    pub(super) async fn cancel(self, run: RunId) -> Cancellation {
        self.store.run_cancel(run, "ada", self.clock.now()).await.expect(ANSWERS)
    }

    pub(super) async fn run(self, run: RunId) -> Run {
        self.store.run_get(run).await.expect(ANSWERS).expect("the run is there")
    }

    pub(super) async fn status(self, run: RunId) -> RunStatus {
        self.run(run).await.state.status()
    }

    pub(super) fn later(self, span: Duration) -> Timestamp {
        self.clock.advance(span)
    }
}

/// Every entry of a list, read in parts of `size`.
pub(super) async fn all_pages<T, F, R>(size: u32, id: impl Fn(&T) -> uuid::Uuid, mut read: F) -> Vec<T>
where
    F: FnMut(Page) -> R,
    R: Future<Output = Vec<T>>,
{
    let mut entries = Vec::new();
    let mut page = Page::first(size);
    loop {
        let part = read(page.clone()).await;
        assert!(part.len() <= size as usize, "a part of {} where {size} were asked for", part.len());
        let Some(last) = part.last() else { return entries };
        page.after = Some(id(last));
        entries.extend(part);
    }
}
