//! The store in memory: every promise of `ports::store` but that of surviving the process.
//!
//! One lock stands for one transaction: a method looks for contradictions first and changes things
//! only when there are none.

mod accounts;
mod discussions;
mod events;
mod ledger;
mod logs;
mod memos;
mod outbox;
mod repositories;
mod runs;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::access::{Account, Token};
use domain::budget::{Alert, Budget};
use domain::id::{
    AccountId, CallId, CommentId, DeliveryId, EventId, RepositoryId, RevisionId, RunId, TokenId,
};
use domain::memo::{Memo, MemoKey};
use domain::name::{Branch, Commit, DaemonId};
use domain::proposal::{Check, Comment, Proposal};
use domain::repository::{BranchHead, Repository};
use domain::revision::{Pause, Revision};
use domain::time::Timestamp;
use ports::store::events::Sweep;
use ports::store::{Page, Store, Topic};
use tokio::sync::watch;
use uuid::Uuid;

/// The whole store, in memory.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    events: watch::Sender<u64>,
    runs: watch::Sender<u64>,
    logs: watch::Sender<u64>,
    outbox: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<RepositoryId, Repository>,
    branches: BTreeMap<(RepositoryId, Branch), BranchHead>,
    revisions: BTreeMap<RevisionId, Revision>,
    currents: BTreeMap<(RepositoryId, DaemonId, Branch), RevisionId>,
    pauses: BTreeMap<(RepositoryId, DaemonId, Branch), Pause>,
    deliveries: BTreeMap<DeliveryId, events::Kept>,
    events: BTreeMap<EventId, events::Fact>,
    sweeps: BTreeMap<String, Sweep>,
    runs: BTreeMap<RunId, runs::Entry>,
    ledger: BTreeMap<CallId, ledger::Kept>,
    budgets: Vec<Budget>,
    alerts: Vec<Alert>,
    effects: Vec<outbox::Wanted>,
    proposals: Vec<Proposal>,
    comments: BTreeMap<CommentId, Comment>,
    checks: BTreeMap<(RepositoryId, Commit, String), Check>,
    memos: BTreeMap<MemoKey, Memo>,
    accounts: BTreeMap<AccountId, Account>,
    tokens: BTreeMap<TokenId, Token>,
    assertions: BTreeMap<[u8; 32], Timestamp>,
}

impl MemoryStore {
    /// A store that holds nothing.
    pub fn new() -> Self {
        let topic = || watch::channel(0).0;
        Self { state: Mutex::default(), events: topic(), runs: topic(), logs: topic(), outbox: topic() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sender(&self, topic: Topic) -> &watch::Sender<u64> {
        match topic {
            Topic::Events => &self.events,
            Topic::Runs => &self.runs,
            Topic::Logs => &self.logs,
            Topic::Outbox => &self.outbox,
        }
    }

    fn wake(&self, topics: &[Topic]) {
        for topic in topics {
            self.sender(*topic).send_modify(|count| *count += 1);
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn wakeups(&self, topic: Topic) -> watch::Receiver<u64> {
        self.sender(topic).subscribe()
    }
}

/// The part of a list that is sorted newest first.
fn newest<T>(entries: impl Iterator<Item = (Uuid, T)>, page: &Page) -> Vec<T> {
    entries
        .filter(|(id, _)| page.after.is_none_or(|after| *id < after))
        .take(page.size as usize)
        .map(|(_, entry)| entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::conformance::store::Fresh;

    async fn fresh() -> Fresh {
        Fresh::new(super::MemoryStore::new())
    }

    crate::store_conformance!(fresh);
}
