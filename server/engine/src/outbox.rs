//! The outbox: performs what ended runs want, once each, in the order of their repository.

mod webhook;

use std::time::Duration;

use domain::effect::{Effect, EffectKind, EffectStatus};
use domain::id::WorkerId;
use ports::Retry;
use ports::forge::ForgeError;
use ports::store::{Fenced, StoreError};

use crate::world::World;
use crate::{artifacts, consent};

/// How long an effect is ours; performing one takes less.
const HOLD: Duration = Duration::from_secs(60);
/// What the server asked for in the last moment of an earlier life may still be on its way to a forge, and
/// is looked for when it has arrived.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// So often an effect may fail before it is given up.
const MOST_FAILURES: u32 = 8;
/// Nobody is asked again sooner, whatever moment they name.
const SOON: Duration = Duration::from_millis(100);
/// So long a forge may put an effect off.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What came of looking for an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxOutcome {
    /// One was performed.
    Performed,
    /// One was tried, and is to be tried again.
    Postponed,
    /// One was given up.
    GivenUp,
    /// There is none that is due.
    Empty,
}

/// Performs the effect that is longest due.
///
/// # Errors
/// When the store does not answer; the effect comes again.
pub async fn next(world: &World, performer: WorkerId) -> Result<OutboxOutcome, StoreError> {
    let Some(effect) = world.store.effect_next(performer, world.clock.now(), HOLD).await? else {
        return Ok(OutboxOutcome::Empty);
    };
    let Some(repository) = world.store.repository_get(effect.repository).await? else {
        return settle(world, &effect, refused("its repository is gone")).await;
    };
    let performed = match &effect.kind {
        EffectKind::CallWebhook { .. } => webhook::call(world, &effect).await,
        EffectKind::UploadArtifact { .. } => artifacts::keep(world, &effect).await,
        _ => match consent::given(world, &repository, &effect).await {
            Ok(wanted) => world.forge.perform(&repository, &wanted).await,
            Err(error) => Err(error),
        },
    };
    let status = match performed {
        Ok(receipt) => EffectStatus::Done { receipt },
        Err(error) => after(world, &effect, &error),
    };
    settle(world, &effect, status).await
}

/// Gives back what an earlier life of this performer held. To be called before this life performs anything.
///
/// # Errors
/// When the store does not answer; what was held then comes again when its time is over.
pub async fn take_over(world: &World, performer: WorkerId) -> Result<u64, StoreError> {
    world.store.performer_release(performer, world.clock.now().after(ON_ITS_WAY)).await
}

/// What becomes of an effect that failed.
fn after(world: &World, effect: &Effect, error: &ForgeError) -> EffectStatus {
    tracing::warn!(effect.id = %effect.id, attempts = effect.attempts, %error, "not performed");
    let now = world.clock.now();
    let before = match effect.status {
        EffectStatus::Pending { failures, .. } => failures,
        EffectStatus::Staged | EffectStatus::Done { .. } | EffectStatus::Refused { .. } => 0,
    };
    let failures = before.saturating_add(1);
    match (error.retry, error.not_before) {
        // Whoever asks for patience gets it, though not for ever; it is no failure.
        (Retry::Later, Some(moment)) if now.since(effect.created_at) < LONGEST_PATIENCE => {
            EffectStatus::Pending { at: moment.max(now.after(SOON)), failures: before }
        }
        (Retry::Later, _) if failures < MOST_FAILURES => {
            EffectStatus::Pending { at: now.after(wait(failures)), failures }
        }
        (Retry::Later | Retry::Never, _) => refused(&error.message),
    }
}

fn refused(reason: &str) -> EffectStatus {
    EffectStatus::Refused { reason: reason.to_owned() }
}

async fn settle(world: &World, effect: &Effect, status: EffectStatus) -> Result<OutboxOutcome, StoreError> {
    let outcome = match &status {
        EffectStatus::Done { .. } => OutboxOutcome::Performed,
        EffectStatus::Pending { .. } | EffectStatus::Staged => OutboxOutcome::Postponed,
        EffectStatus::Refused { .. } => OutboxOutcome::GivenUp,
    };
    match world.store.effect_settle(effect.id, effect.attempts, &status).await? {
        Fenced::Written => {
            let id = effect.id;
            let run = effect.author.run().map(|run| run.to_string()).unwrap_or_default();
            match &status {
                EffectStatus::Done { receipt } => {
                    tracing::info!(effect.id = %id, run.id = run, "performed: {}", receipt.summary);
                }
                EffectStatus::Refused { reason } => {
                    tracing::info!(effect.id = %id, run.id = run, "given up: {reason}");
                }
                EffectStatus::Pending { .. } | EffectStatus::Staged => {}
            }
            Ok(outcome)
        }
        Fenced::Lost => Ok(OutboxOutcome::Postponed),
    }
}

/// The wait after so many failures: 1, 2, 4, … at most 300 seconds.
fn wait(failures: u32) -> Duration {
    Duration::from_secs((1_u64 << failures.saturating_sub(1).min(9)).min(300))
}
