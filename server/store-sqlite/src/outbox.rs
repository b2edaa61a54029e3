//! Effects: what is to be performed, in which order, and what became of it.
//!
//! Of one repository at most one effect is out at a time, and the next is the one that is longest
//! due, of equals the one that came first. An effect that was put off (settled as pending again, for
//! later) therefore lets the others pass until it is due; one that is done or refused is in nobody's
//! way.

use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{Effect, EffectStatus};
use domain::id::{EffectId, RepositoryId, RunId, WorkerId};
use domain::time::Timestamp;
use ports::store::{Fenced, Outbox, Recorded, StoreError, Topic};
use sqlx::sqlite::SqliteConnection;

use crate::SqliteStore;
use crate::failure::failed;
use crate::repositories::require;
use crate::rows::{self, Columns, each, json};
use crate::store::Durable;

#[async_trait]
impl Outbox for SqliteStore {
    async fn effect_next(
        &self,
        performer: WorkerId,
        now: Timestamp,
        hold: Duration,
    ) -> Result<Option<Effect>, StoreError> {
        let row = sqlx::query(NEXT)
            .bind(now.millis())
            .bind(now.after(hold).millis())
            .bind(performer.to_string())
            .fetch_optional(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::effect).transpose()
    }

    async fn performer_release(&self, performer: WorkerId, until: Timestamp) -> Result<u64, StoreError> {
        let released =
            sqlx::query("UPDATE effects SET held_until = $2 WHERE held_by = $1 AND held_until > $2")
                .bind(performer.to_string())
                .bind(until.millis())
                .execute(&mut *self.writer(Durable::Now).await?)
                .await
                .map_err(failed)?;
        Ok(released.rows_affected())
    }

    async fn effect_record(&self, effect: &Effect, dedupe: &str) -> Result<Recorded<EffectId>, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if let Some(known) = known(&mut transaction, effect.repository, dedupe).await? {
            return Ok(Recorded::Known(known));
        }
        require(&mut transaction, effect.repository).await?;
        insert(&mut transaction, effect, Some(dedupe)).await?;
        self.commit(transaction, &[Topic::Outbox]).await?;
        Ok(Recorded::New)
    }

    async fn effect_settle(
        &self,
        effect: EffectId,
        attempts: u32,
        status: &EffectStatus,
    ) -> Result<Fenced, StoreError> {
        let settled = sqlx::query(
            "UPDATE effects SET status = $3, detail = $4, due_at = $5, held_until = NULL, held_by = NULL
             WHERE id = $1 AND attempts = $2 AND status IN ('pending', 'staged')",
        )
        .bind(effect.to_string())
        .bind(i64::from(attempts))
        .bind(as_word(status))
        .bind(json(status)?)
        .bind(due_at(status))
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        if settled.rows_affected() == 0 {
            return Ok(Fenced::Lost);
        }
        self.wake(&[Topic::Outbox]);
        Ok(Fenced::Written)
    }

    async fn effect_list(&self, run: RunId) -> Result<Vec<Effect>, StoreError> {
        let rows = sqlx::query("SELECT * FROM effects WHERE run = $1 ORDER BY seq")
            .bind(run.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::effect)
    }

    async fn effect_keyed(
        &self,
        repository: RepositoryId,
        key: &str,
        most: u32,
    ) -> Result<Vec<Effect>, StoreError> {
        let rows = sqlx::query(KEYED)
            .bind(repository.to_string())
            .bind(key)
            .bind(i64::from(most))
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::effect)
    }

    async fn effect_promote(&self, effect: EffectId, at: Timestamp) -> Result<bool, StoreError> {
        let status = EffectStatus::wanted(at);
        let promoted = sqlx::query(
            "UPDATE effects SET status = 'pending', detail = $2, due_at = $3 WHERE id = $1 AND status = 'staged'",
        )
        .bind(effect.to_string())
        .bind(json(&status)?)
        .bind(at.millis())
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        self.wake(&[Topic::Outbox]);
        Ok(promoted.rows_affected() == 1)
    }
}

pub(crate) const KEYED: &str =
    "SELECT * FROM effects WHERE repository = $1 AND key = $2 ORDER BY seq DESC LIMIT $3";

/// Gives out the next effect: now, hold until, to whom.
pub(crate) const NEXT: &str = "UPDATE effects SET attempts = attempts + 1, held_until = $2, held_by = $3
    WHERE seq = (
        SELECT ready.seq FROM effects AS ready
        WHERE ready.status = 'pending' AND ready.due_at <= $1
            AND NOT EXISTS (
                SELECT 1 FROM effects AS held WHERE held.repository = ready.repository AND held.held_until > $1
            )
        ORDER BY ready.due_at, ready.seq LIMIT 1
    )
    RETURNING *";

/// The effect that is known under a key.
pub(crate) async fn known(
    connection: &mut SqliteConnection,
    repository: RepositoryId,
    dedupe: &str,
) -> Result<Option<EffectId>, StoreError> {
    let row = sqlx::query("SELECT id FROM effects WHERE repository = $1 AND dedupe = $2")
        .bind(repository.to_string())
        .bind(dedupe)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(|row| Columns(&row).parsed("id")).transpose()
}

/// Stores an effect after all that are there.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    effect: &Effect,
    dedupe: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO effects (id, repository, run, author, key, wanted, status, detail, due_at, attempts, created_at, dedupe)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(effect.id.to_string())
    .bind(effect.repository.to_string())
    .bind(effect.author.run().map(|run| run.to_string()))
    .bind(json(&effect.author)?)
    .bind(&effect.key)
    .bind(json(&effect.kind)?)
    .bind(as_word(&effect.status))
    .bind(json(&effect.status)?)
    .bind(due_at(&effect.status))
    .bind(i64::from(effect.attempts))
    .bind(effect.created_at.millis())
    .bind(dedupe)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

fn as_word(status: &EffectStatus) -> &'static str {
    match status {
        EffectStatus::Staged => "staged",
        EffectStatus::Pending { .. } => "pending",
        EffectStatus::Done { .. } => "done",
        EffectStatus::Refused { .. } => "refused",
    }
}

fn due_at(status: &EffectStatus) -> Option<i64> {
    match status {
        EffectStatus::Pending { at, .. } => Some(at.millis()),
        EffectStatus::Staged | EffectStatus::Done { .. } | EffectStatus::Refused { .. } => None,
    }
}
