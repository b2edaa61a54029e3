//! The outbox: effects that are to be performed, and what became of them.

use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{Effect, EffectStatus};
use domain::id::{EffectId, RepositoryId, RunId, WorkerId};
use domain::time::Timestamp;

use super::{Fenced, Recorded, StoreError};

/// Effects; they come into the store with the end of their run, or with the dispatch of an event.
#[async_trait]
pub trait Outbox {
    /// The pending effect that is longest due, counted as one more attempt and not given out again for
    /// the time of `hold`. Effects of one repository are given out one at a time, in their order.
    async fn effect_next(
        &self,
        performer: WorkerId,
        now: Timestamp,
        hold: Duration,
    ) -> Result<Option<Effect>, StoreError>;

    /// Holds what a performer has no longer than until a moment: it is known to be gone. Says how many that were.
    async fn performer_release(&self, performer: WorkerId, until: Timestamp) -> Result<u64, StoreError>;

    /// Stores an effect that the server wants by itself; the same `dedupe` key in the same repository is wanted once.
    async fn effect_record(&self, effect: &Effect, dedupe: &str) -> Result<Recorded<EffectId>, StoreError>;

    /// Records what became of an effect; lost when it was given out again since (`attempts` differs).
    async fn effect_settle(
        &self,
        effect: EffectId,
        attempts: u32,
        status: &EffectStatus,
    ) -> Result<Fenced, StoreError>;

    /// The effects of a run, in their order.
    async fn effect_list(&self, run: RunId) -> Result<Vec<Effect>, StoreError>;

    /// The newest effects of a key in a repository, the last one first.
    async fn effect_keyed(
        &self,
        repository: RepositoryId,
        key: &str,
        most: u32,
    ) -> Result<Vec<Effect>, StoreError>;

    /// Makes a staged effect pending; false when it is not staged.
    async fn effect_promote(&self, effect: EffectId, at: Timestamp) -> Result<bool, StoreError>;
}
