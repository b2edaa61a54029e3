//! Memos: what daemons keep from run to run. The store keeps sealed bytes and cannot read them.

use async_trait::async_trait;
use domain::ledger::Entry;
use domain::memo::{Expected, Memo, MemoKey, MemoKind, MemoOwner, MemoWrite};
use domain::stage::StageRecord;
use domain::time::Timestamp;

use super::{LeaseProof, StoreError};

/// What daemons keep from run to run.
#[async_trait]
pub trait Memos {
    /// One memo.
    async fn memo_get(&self, key: &MemoKey) -> Result<Option<Memo>, StoreError>;

    /// The memos of a daemon on a branch, of one kind, sorted by name.
    async fn memo_list(&self, owner: &MemoOwner, kind: MemoKind) -> Result<Vec<Memo>, StoreError>;

    /// Writes a memo, if it is as its writer believes. One variable too many, or more of them than
    /// [`domain::memo::ALL_VARIABLES`], is refused; for a session too many, the one that was written the
    /// longest ago is forgotten.
    async fn memo_put(&self, write: &MemoWrite) -> Result<Kept, StoreError>;

    /// Removes a memo, if it is as the caller believes.
    async fn memo_remove(&self, key: &MemoKey, expected: Expected) -> Result<Kept, StoreError>;

    /// Adds a finished stage to the journal, as [`super::Runs::stage_record`] does, and writes what it wants
    /// kept as [`Memos::memo_put`] does, all or nothing. Of a stage that is in the journal already nothing is
    /// written again.
    async fn stage_keep(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[Entry],
        writes: &[MemoWrite],
    ) -> Result<Kept, StoreError>;

    /// Forgets the sessions that were last written before a moment. Says how many.
    async fn session_expire(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// What came of writing memos.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// They are written.
    Written,
    /// The lease was lost; nothing is written, and the worker must stop.
    Lost,
    /// Nothing is written: another was first, and this is what is there now.
    Conflict(MemoKey, Option<Box<Memo>>),
    /// Nothing is written: there are too many variables, or they are too large together.
    Full(MemoKey),
}
