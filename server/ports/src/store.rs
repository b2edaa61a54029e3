//! The store: everything that must survive a crash and is not in git.
//!
//! Each method is one transaction and is named `noun_verb`. What was answered is durable, but for leases
//! of runs and log lines: the loss of power may undo those that nothing else was written after. Several
//! servers may share one store; the only locks are leases, and every write under one is fenced by
//! [`LeaseProof`].

pub mod accounts;
pub mod discussions;
pub mod events;
pub mod ledger;
pub mod logs;
pub mod memos;
pub mod outbox;
pub mod repositories;
pub mod runs;

use domain::id::{RunId, WorkerId};
use tokio::sync::watch;

pub use accounts::Accounts;
pub use discussions::Discussions;
pub use events::Events;
pub use ledger::Ledger;
pub use logs::Logs;
pub use memos::Memos;
pub use outbox::Outbox;
pub use repositories::Repositories;
pub use runs::Runs;

/// The whole store.
pub trait Store:
    Repositories
    + Events
    + Runs
    + Logs
    + Ledger
    + Memos
    + Outbox
    + Discussions
    + Accounts
    + std::fmt::Debug
    + Send
    + Sync
{
    /// Counts up whenever something of a topic may have changed. A hint: it may come early, and with
    /// several servers it may stay away, so that waiters also look by themselves now and then.
    fn wakeups(&self, topic: Topic) -> watch::Receiver<u64>;
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Deliveries and events to be looked at.
    Events,
    /// Runs to be leased, and runs whose state changed.
    Runs,
    /// Log lines.
    Logs,
    /// Effects to be performed, and effects whose status changed.
    Outbox,
}

/// Shows that a worker was given a run. Every write for the run carries it; once the run was given
/// to another (a later attempt), the write is refused as [`Fenced::Lost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseProof {
    /// The run.
    pub run: RunId,
    /// The worker that was given it.
    pub worker: WorkerId,
    /// The attempt: the fencing token.
    pub attempt: u32,
}

/// What came of a write under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fenced {
    /// It is written.
    Written,
    /// The lease was lost; nothing is written, and the worker must stop.
    Lost,
}

/// Whether something is new to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded<T> {
    /// It is, and is now stored.
    New,
    /// It is not: this is the one that is there.
    Known(T),
}

/// A part of a long list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The last entry of the part before; `None` begins.
    pub after: Option<uuid::Uuid>,
    /// How many at most.
    pub size: u32,
}

impl Page {
    /// The first entries.
    pub const fn first(size: u32) -> Self {
        Self { after: None, size }
    }
}

/// The store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It did not answer, or not now: busy, full, away. Nothing was written.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What was to be written contradicts what is there.
    #[error("the store refuses: {0}")]
    Conflict(String),
    /// What is there cannot be understood.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}
