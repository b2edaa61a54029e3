//! Deliveries as they came, events as they were understood, and the decisions about them.

use async_trait::async_trait;
use domain::effect::Effect;
use domain::event::Event;
use domain::id::{DeliveryId, EventId, RepositoryId, RunId};
use domain::name::{Branch, DaemonId, ForgeName};
use domain::revision::Pause;
use domain::time::Timestamp;

use super::runs::NewRun;
use super::{Page, Recorded, StoreError};

/// What happened, and what was made of it.
#[async_trait]
pub trait Events {
    /// Stores a delivery before it is answered. Known when one with the same external id, or with the
    /// same content from the same source, is there.
    async fn delivery_record(&self, delivery: &Delivery) -> Result<Recorded<DeliveryId>, StoreError>;

    /// The oldest delivery that nobody has looked at.
    async fn delivery_next(&self) -> Result<Option<Delivery>, StoreError>;

    /// Records what was made of a delivery: one sentence. It is not given out again.
    async fn delivery_settle(&self, id: DeliveryId, verdict: &str, at: Timestamp) -> Result<(), StoreError>;

    /// Deliveries, newest first; of one sender, or of all.
    async fn delivery_list(
        &self,
        source: Option<&str>,
        page: &Page,
    ) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Stores an event. With a `dedupe` key that is there already it is known, and nothing is stored.
    async fn event_record(
        &self,
        event: &Event,
        dedupe: Option<&str>,
    ) -> Result<Recorded<EventId>, StoreError>;

    /// One event.
    async fn event_get(&self, id: EventId) -> Result<Option<Event>, StoreError>;

    /// The events of a repository, newest first; of a thread (an issue or a pull request) or of everything.
    async fn event_list(
        &self,
        repository: RepositoryId,
        thread: Option<u64>,
        page: &Page,
    ) -> Result<Vec<Event>, StoreError>;

    /// The oldest event that is not dispatched, and not postponed beyond `now`.
    async fn event_next(&self, now: Timestamp) -> Result<Option<Event>, StoreError>;

    /// Lets the others pass an event until a moment; one that is dispatched stays so.
    async fn event_postpone(&self, id: EventId, until: Timestamp) -> Result<(), StoreError>;

    /// Records which daemons an event starts and which not, queues the runs, pauses daemons and stores the effects, all or
    /// nothing, once: an event that is dispatched already is [`Dispatched::Already`].
    async fn event_dispatch(&self, dispatch: &Dispatch) -> Result<Dispatched, StoreError>;

    /// How far was asked what happened on a forge or in a repository of one.
    async fn sweep_get(&self, of: &SweepOf) -> Result<Option<Sweep>, StoreError>;

    /// Records how far was asked.
    async fn sweep_record(&self, of: &SweepOf, sweep: &Sweep) -> Result<(), StoreError>;

    /// The decisions about an event, in the order in which they were given.
    async fn match_list(&self, event: EventId) -> Result<Vec<MatchRecord>, StoreError>;
}

/// One request from outside, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which.
    pub id: DeliveryId,
    /// Who sent it: `remote` for the webhook of a watched repository, `daemon/<id>` for a daemon's own endpoint,
    /// `forge/<name>` for a forge.
    pub source: String,
    /// About which repository; a forge's says so in its body.
    pub repository: Option<RepositoryId>,
    /// What it is about, in the words of a forge.
    pub name: Option<String>,
    /// The sender's id for it.
    pub external_id: Option<String>,
    /// SHA-256 of what was signed.
    pub content: [u8; 32],
    /// The body.
    pub body: Vec<u8>,
    /// When it came.
    pub received_at: Timestamp,
}

/// A delivery without its body, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Which.
    pub id: DeliveryId,
    /// Who sent it.
    pub source: String,
    /// About which repository, where that is known without its body.
    pub repository: Option<RepositoryId>,
    /// What it is about, in the words of a forge.
    pub name: Option<String>,
    /// The sender's id for it.
    pub external_id: Option<String>,
    /// How long the body is.
    pub bytes: u64,
    /// When it came.
    pub received_at: Timestamp,
    /// What was made of it; nothing until somebody looked.
    pub verdict: Option<String>,
}

/// What is asked for what happened there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepOf {
    /// A forge: which of its deliveries failed.
    Forge(ForgeName),
    /// A repository that has a place on one.
    Repository(RepositoryId),
}

impl SweepOf {
    /// The word for it in the store.
    pub fn key(&self) -> String {
        match self {
            Self::Forge(name) => format!("forge/{name}"),
            Self::Repository(id) => id.to_string(),
        }
    }
}

/// How far was asked what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// What happened before is known.
    pub through: Timestamp,
    /// When to ask again.
    pub due_at: Timestamp,
    /// How many times in a row there was no answer.
    pub failures: u32,
}

/// What an event starts.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Which event.
    pub event: EventId,
    /// The event with what was asked about it since, which takes its place.
    pub learned: Option<Event>,
    /// The decision about each daemon.
    pub matches: Vec<MatchRecord>,
    /// The runs it starts.
    pub runs: Vec<NewRun>,
    /// What the server answers.
    pub effects: Vec<Effect>,
    /// What it says only once, each with the key under which it is known in the repository.
    pub once: Vec<(Effect, String)>,
    /// Daemons that are to rest, or to go on.
    pub rests: Vec<Rest>,
    /// When.
    pub at: Timestamp,
}

/// A daemon that is to rest, or to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// It rests. One that rests already does so as before.
    Pause(Pause),
    /// It goes on.
    Resume {
        /// Which daemon.
        daemon: DaemonId,
        /// On which branch.
        branch: Branch,
    },
}

/// Whether a daemon answers to an event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchRecord {
    /// Which daemon.
    pub daemon: DaemonId,
    /// On which branch.
    pub branch: Branch,
    /// The run that it started; `None` when it did not.
    pub run: Option<RunId>,
    /// Why, or why not.
    pub reason: String,
}

/// What came of dispatching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatched {
    /// It is recorded.
    Recorded,
    /// Somebody else was first.
    Already,
}
