//! The life of runs: leases, the journal, the end.

use std::time::Duration;

use async_trait::async_trait;
use domain::id::{RepositoryId, RunId, WorkerId};
use domain::ledger::Entry;
use domain::money::NanoUsd;
use domain::run::Run;
use domain::stage::StageRecord;
use domain::time::Timestamp;
use ports::store::runs::{Cancellation, Depth, Finish, LeaseOutcome, NewRun, Renewal, RunFilter};
use ports::store::{Fenced, LeaseProof, Page, Recorded, Runs, StoreError, Topic};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _};

use crate::failure::failed;
use crate::repositories::before;
use crate::rows::{self, Columns, each, json};
use crate::store::Durable;
use crate::{SqliteStore, events, ledger, outbox, queue};

#[async_trait]
impl Runs for SqliteStore {
    async fn run_enqueue(
        &self,
        new: &NewRun,
        idempotency: Option<&str>,
    ) -> Result<Recorded<RunId>, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if let Some(key) = idempotency
            && let Some(known) = known(&mut transaction, new.run.repository, key).await?
        {
            return Ok(Recorded::Known(known));
        }
        queue::enqueue(&mut transaction, new, idempotency, new.run.created_at).await?;
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(Recorded::New)
    }

    async fn run_lease(
        &self,
        worker: WorkerId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let row = sqlx::query(queue::LEASE)
            .bind(now.millis())
            .bind(worker.to_string())
            .bind(now.after(ttl).millis())
            .fetch_optional(&mut *self.writer(Durable::Soon).await?)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return self.empty(now).await };
        self.wake(&[Topic::Runs]);
        let run = rows::run(&row)?;
        let proof = LeaseProof { run: run.id, worker, attempt: run.attempt };
        Ok(LeaseOutcome::Leased(Box::new(run), proof))
    }

    async fn run_renew(&self, proof: &LeaseProof, until: Timestamp) -> Result<Renewal, StoreError> {
        let row = sqlx::query(
            "UPDATE runs SET lease_until = $4
             WHERE id = $1 AND worker = $2 AND attempt = $3 AND status = 'running'
             RETURNING cancel_by IS NOT NULL AS asked",
        )
        .bind(proof.run.to_string())
        .bind(proof.worker.to_string())
        .bind(i64::from(proof.attempt))
        .bind(until.millis())
        .fetch_optional(&mut *self.writer(Durable::Soon).await?)
        .await
        .map_err(failed)?;
        Ok(match row {
            None => Renewal::Lost,
            Some(row) => Renewal::Renewed { cancel_requested: Columns(&row).raw("asked")? },
        })
    }

    async fn stage_record(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[Entry],
    ) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let Some(row) = held(&mut transaction, proof).await? else { return Ok(Fenced::Lost) };
        journal(&mut transaction, proof.run, record, &row).await?;
        ledger::record(&mut transaction, calls).await?;
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(Fenced::Written)
    }

    async fn run_suspend(
        &self,
        proof: &LeaseProof,
        children: &[NewRun],
        at: Timestamp,
    ) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let Some(row) = held(&mut transaction, proof).await? else { return Ok(Fenced::Lost) };
        if asked_at(&row)?.is_some() {
            // It is to end, not to wait: a worker takes it up again and sees that it was asked.
            queue::release(&mut transaction, proof.run, at, at).await?;
        } else {
            call(&mut transaction, proof.run, children, at).await?;
            queue::wait(&mut transaction, proof.run, at).await?;
        }
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(Fenced::Written)
    }

    async fn run_release(
        &self,
        proof: &LeaseProof,
        at: Timestamp,
        ready_at: Timestamp,
    ) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let Some(row) = held(&mut transaction, proof).await? else { return Ok(Fenced::Lost) };
        // Who asked to end it does not wait for a retry.
        let ready_at = asked_at(&row)?.map_or(ready_at, |asked_at| ready_at.min(asked_at));
        queue::release(&mut transaction, proof.run, at, ready_at).await?;
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(Fenced::Written)
    }

    async fn worker_release(&self, worker: WorkerId, at: Timestamp) -> Result<u64, StoreError> {
        let released = sqlx::query(queue::RELEASE_ALL)
            .bind(worker.to_string())
            .bind(at.millis())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        self.wake(&[Topic::Runs]);
        Ok(released.rows_affected())
    }

    async fn run_finish(&self, proof: &LeaseProof, finish: &Finish) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let ended = queue::finish(&mut transaction, proof, &finish.outcome, finish.at).await?;
        let Some(row) = ended else { return Ok(Fenced::Lost) };
        if let Some(record) = &finish.record {
            journal(&mut transaction, proof.run, record, &row).await?;
        }
        for effect in &finish.effects {
            outbox::insert(&mut transaction, effect, None).await?;
        }
        if let Some(event) = &finish.event {
            events::insert(&mut transaction, event, None).await?;
        }
        self.commit(transaction, &[Topic::Runs, Topic::Outbox, Topic::Events]).await?;
        Ok(Fenced::Written)
    }

    async fn run_cancel(&self, run: RunId, by: &str, at: Timestamp) -> Result<Cancellation, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let cancellation = queue::cancel(&mut transaction, run, by, at).await?;
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(cancellation)
    }

    async fn run_get(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        let row = sqlx::query("SELECT * FROM runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::run).transpose()
    }

    async fn run_list(&self, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM runs WHERE id < ");
        query.push_bind(before(RunId::PREFIX, page));
        let wanted = [
            (" AND repository = ", filter.repository.map(|repository| repository.to_string())),
            (" AND daemon = ", filter.daemon.as_ref().map(ToString::to_string)),
            (" AND branch = ", filter.branch.as_ref().map(ToString::to_string)),
            (" AND status = ", filter.status.map(|status| status.as_str().to_owned())),
            (" AND event = ", filter.event.map(|event| event.to_string())),
        ];
        for (condition, value) in wanted {
            if let Some(value) = value {
                query.push(condition).push_bind(value);
            }
        }
        if let Some(thread) = filter.thread {
            query.push(
                " AND event IN (SELECT id FROM events WHERE repository = runs.repository AND thread = ",
            );
            query.push_bind(i64::try_from(thread).unwrap_or(i64::MAX)).push(")");
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(page.size));
        let rows = query.build().fetch_all(self.reader()).await.map_err(failed)?;
        each(&rows, rows::run)
    }

    async fn run_journal(&self, run: RunId) -> Result<Vec<StageRecord>, StoreError> {
        let rows = sqlx::query("SELECT record FROM stages WHERE run = $1 ORDER BY ordinal")
            .bind(run.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::stage_record)
    }

    async fn run_children(&self, run: RunId) -> Result<Vec<Run>, StoreError> {
        let rows = sqlx::query("SELECT * FROM runs WHERE parent_run = $1 ORDER BY id")
            .bind(run.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::run)
    }

    async fn run_group(&self, repository: RepositoryId, key: &str) -> Result<u32, StoreError> {
        let row = sqlx::query(GROUP)
            .bind(repository.to_string())
            .bind(key)
            .fetch_one(self.reader())
            .await
            .map_err(failed)?;
        Ok(u32::try_from(Columns(&row).number::<u64>("active")?).unwrap_or(u32::MAX))
    }

    async fn run_depth(&self) -> Result<Depth, StoreError> {
        let row = sqlx::query(DEPTH).fetch_one(self.reader()).await.map_err(failed)?;
        let columns = Columns(&row);
        Ok(Depth {
            queued: columns.number("queued")?,
            running: columns.number("running")?,
            waiting: columns.number("waiting")?,
        })
    }
}

pub(crate) const GROUP: &str = "SELECT COUNT(*) AS active FROM runs
    WHERE repository = $1 AND concurrency_key = $2 AND ended_at IS NULL";

pub(crate) const DEPTH: &str = "SELECT
    (SELECT COUNT(*) FROM runs WHERE status = 'queued') AS queued,
    (SELECT COUNT(*) FROM runs WHERE status = 'running') AS running,
    (SELECT COUNT(*) FROM runs WHERE status = 'waiting') AS waiting";

impl SqliteStore {
    async fn empty(&self, now: Timestamp) -> Result<LeaseOutcome, StoreError> {
        let row = sqlx::query(queue::NEXT_MOMENT)
            .bind(now.millis())
            .fetch_one(self.reader())
            .await
            .map_err(failed)?;
        Ok(LeaseOutcome::Empty { next_at: Columns(&row).time_if("at")? })
    }
}

/// The run that was queued with a key.
async fn known(
    connection: &mut SqliteConnection,
    repository: RepositoryId,
    key: &str,
) -> Result<Option<RunId>, StoreError> {
    let row = sqlx::query("SELECT id FROM runs WHERE repository = $1 AND idempotency = $2")
        .bind(repository.to_string())
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(|row| Columns(&row).parsed("id")).transpose()
}

/// The run of a lease that still holds.
pub(crate) async fn held(
    connection: &mut SqliteConnection,
    proof: &LeaseProof,
) -> Result<Option<SqliteRow>, StoreError> {
    sqlx::query(
        "SELECT cancel_at, cost FROM runs WHERE id = $1 AND worker = $2 AND attempt = $3 AND status = 'running'",
    )
    .bind(proof.run.to_string())
    .bind(proof.worker.to_string())
    .bind(i64::from(proof.attempt))
    .fetch_optional(connection)
    .await
    .map_err(failed)
}

fn asked_at(row: &SqliteRow) -> Result<Option<Timestamp>, StoreError> {
    Columns(row).time_if("cancel_at")
}

/// Adds a stage to the journal and its cost to the run, whose row says what it cost so far, unless it is
/// there already.
pub(crate) async fn journal(
    connection: &mut SqliteConnection,
    run: RunId,
    record: &StageRecord,
    row: &SqliteRow,
) -> Result<Added, StoreError> {
    let added = sqlx::query(
        "INSERT INTO stages (run, ordinal, path, status, record, ended_at)
         SELECT $1, COALESCE(MAX(ordinal), 0) + 1, $2, $3, $4, $5 FROM stages WHERE run = $1
         ON CONFLICT (run, path) DO NOTHING",
    )
    .bind(run.to_string())
    .bind(record.path.as_str())
    .bind(record.end.as_str())
    .bind(json(record)?)
    .bind(record.ended_at.millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let more = record.usage.cost();
    if added.rows_affected() == 0 {
        return Ok(Added::Known);
    }
    if more.nanos() == 0 {
        return Ok(Added::New);
    }
    // Added here, where sums saturate: SQLite would turn one that overflows into a float.
    let cost = NanoUsd::from_nanos(row.try_get("cost").map_err(failed)?).plus(more);
    sqlx::query("UPDATE runs SET cost = $2 WHERE id = $1")
        .bind(run.to_string())
        .bind(cost.nanos())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(Added::New)
}

/// Whether a stage is new to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was added.
    New,
    /// It was there.
    Known,
}

/// Queues the runs that a run's stages call. Meanwhile the parent still counts as running, so that a
/// child that ends at once, for its group, does not wake it too early.
async fn call(
    connection: &mut SqliteConnection,
    parent: RunId,
    children: &[NewRun],
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut fresh = Vec::new();
    for new in children {
        let stage = new.run.cause.parent.as_ref().filter(|stage| stage.run == parent);
        let stage =
            stage.ok_or_else(|| StoreError::Conflict(format!("{} is not called by {parent}", new.run.id)))?;
        let known = sqlx::query("SELECT 1 FROM runs WHERE parent_run = $1 AND parent_stage = $2")
            .bind(parent.to_string())
            .bind(&stage.stage)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        if known.is_none() {
            fresh.push(new);
        }
    }
    for new in fresh {
        queue::enqueue(connection, new, None, at).await?;
    }
    Ok(())
}
