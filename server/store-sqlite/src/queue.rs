//! Who is let into the queue, who is next out of it, and what the end of a run means to others.
//! Everything here happens inside a transaction of the caller.

use domain::id::{RepositoryId, RunId};
use domain::run::{Concurrency, ConcurrencyBehavior, Run, RunOutcome, RunState, RunStatus};
use domain::time::Timestamp;
use ports::store::runs::{Cancellation, NewRun, Priority};
use ports::store::{LeaseProof, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::failure::failed;
use crate::repositories::require;
use crate::rows::{self, Columns, each, json, word};

/// Gives the next run to a worker: now, worker, until. An attempt whose worker died counts until its
/// lease lapsed. A lapsed run has its place in its group
/// already; a queued one needs room. One statement, so that it is one transaction by itself.
///
/// The `+` keeps the index of `ready_at` out: the queue is read in its order and left at the first
/// run that fits, rather than gathered whole and sorted for each worker that asks.
pub(crate) const LEASE: &str = "UPDATE runs
    SET status = 'running', attempt = attempt + 1, worker = $2, lease_until = $3, ready_at = NULL,
        started_at = COALESCE(started_at, $1), leased_at = $1,
        worked = worked + IIF(status = 'running', MAX(0, MIN($1, lease_until) - leased_at), 0)
    WHERE id = (
        SELECT id FROM (
            SELECT * FROM (
                SELECT queued.priority, queued.id FROM runs AS queued
                WHERE queued.status = 'queued' AND +queued.ready_at <= $1
                    AND (queued.concurrency_key IS NULL OR queued.concurrency_limit > (
                        SELECT COUNT(*) FROM runs AS busy
                        WHERE busy.status = 'running' AND busy.repository = queued.repository
                            AND busy.concurrency_key = queued.concurrency_key
                    ))
                ORDER BY queued.priority DESC, queued.id LIMIT 1
            )
            UNION ALL
            SELECT * FROM (
                SELECT lapsed.priority, lapsed.id FROM runs AS lapsed
                WHERE lapsed.status = 'running' AND lapsed.lease_until <= $1
                ORDER BY lapsed.priority DESC, lapsed.id LIMIT 1
            )
        )
        ORDER BY priority DESC, id LIMIT 1
    )
    RETURNING *";

/// When a queued run becomes ready or a lease lapses, after now.
pub(crate) const NEXT_MOMENT: &str = "SELECT MIN(at) AS at FROM (
        SELECT MIN(ready_at) AS at FROM runs WHERE status = 'queued' AND ready_at > $1
        UNION ALL
        SELECT MIN(lease_until) AS at FROM runs WHERE status = 'running' AND lease_until > $1
    )";

/// Queues a run, or ends it at once when its group says so.
pub(crate) async fn enqueue(
    connection: &mut SqliteConnection,
    new: &NewRun,
    idempotency: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let run = &new.run;
    let RunState::Queued { ready_at } = run.state else {
        return Err(StoreError::Conflict(format!("{} is not queued", run.id)));
    };
    require(connection, run.repository).await?;
    if let Some(key) = &new.replaces {
        replace(connection, run, key, at).await?;
    }
    let outcome = match &new.concurrency {
        None => None,
        Some(group) => admit(connection, new, group, at).await?,
    };
    let status = outcome.as_ref().map_or(RunStatus::Queued, RunOutcome::status);
    sqlx::query(
        "INSERT INTO runs (id, repository, daemon, branch, commit_id, digest, cause, event, parent_run,
             parent_stage, inputs, effects, idempotency, priority, concurrency_key, concurrency_limit, status,
             ready_at, outcome, ended_at, attempt, cancel_by, cost, log_lines, created_at, started_at,
             replaces, subject)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
             $22, $23, 0, $24, $25, $26, $27)",
    )
    .bind(run.id.to_string())
    .bind(run.repository.to_string())
    .bind(run.daemon.as_str())
    .bind(run.branch.as_str())
    .bind(run.commit.as_str())
    .bind(run.digest.as_str())
    .bind(json(&run.cause)?)
    .bind(run.cause.event.map(|event| event.to_string()))
    .bind(run.cause.parent.as_ref().map(|parent| parent.run.to_string()))
    .bind(run.cause.parent.as_ref().map(|parent| parent.stage.as_str()))
    .bind(json(&run.inputs)?)
    .bind(word(&run.effects)?)
    .bind(idempotency)
    .bind(rank(new.priority))
    .bind(new.concurrency.as_ref().map(|group| group.key.as_str()))
    .bind(new.concurrency.as_ref().map(|group| i64::from(group.limit.max(1))))
    .bind(status.as_str())
    .bind(outcome.is_none().then_some(ready_at.millis()))
    .bind(outcome.as_ref().map(json).transpose()?)
    .bind(outcome.is_some().then_some(at.millis()))
    .bind(i64::from(run.attempt))
    .bind(&run.cancel_requested)
    .bind(run.cost.nanos())
    .bind(run.created_at.millis())
    .bind(run.started_at.map(Timestamp::millis))
    .bind(&new.replaces)
    .bind(run.subject.as_ref().map(json).transpose()?)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

fn rank(priority: Priority) -> i64 {
    match priority {
        Priority::Background => 0,
        Priority::Event => 1,
        Priority::Interactive => 2,
    }
}

/// Ends the runs whose place a new one takes. One that a worker has taken up goes on, also while it is
/// in the queue again.
async fn replace(
    connection: &mut SqliteConnection,
    run: &Run,
    key: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let rows = sqlx::query(REPLACED)
        .bind(run.repository.to_string())
        .bind(key)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let outcome = RunOutcome::replaced_by(run.id);
    for id in each(&rows, |row| Columns(row).parsed("id"))? {
        end(connection, id, &outcome, at).await?;
    }
    Ok(())
}

pub(crate) const REPLACED: &str =
    "SELECT id FROM runs WHERE repository = $1 AND replaces = $2 AND status = 'queued' AND attempt = 0";

/// Makes room for a run in its group, or says how it ends for want of room. The runs that wait for
/// it, its ancestors, take no room: they could not go on before it does.
async fn admit(
    connection: &mut SqliteConnection,
    new: &NewRun,
    group: &Concurrency,
    at: Timestamp,
) -> Result<Option<RunOutcome>, StoreError> {
    if group.behavior == ConcurrencyBehavior::Queue {
        return Ok(None);
    }
    let limit = group.limit.max(1) as usize;
    let ancestors = ancestors(connection, &new.run).await?;
    let mut members = members(connection, new.run.repository, &group.key).await?;
    members.retain(|(id, _)| !ancestors.contains(id));
    if group.behavior == ConcurrencyBehavior::Fail {
        let reason = format!("the concurrency group `{}` is full (limit {limit})", group.key);
        return Ok((members.len() >= limit).then_some(RunOutcome::Skipped { reason }));
    }
    let staying: Vec<RunId> = members.into_iter().filter(|(_, asked)| !asked).map(|(id, _)| id).collect();
    let by = format!("{}, newer in the concurrency group `{}`", new.run.id, group.key);
    for id in &staying[..(staying.len() + 1).saturating_sub(limit)] {
        cancel(connection, *id, &by, at).await?;
    }
    Ok(None)
}

/// The runs of a group that have not ended, oldest first, and whether they were asked to end.
async fn members(
    connection: &mut SqliteConnection,
    repository: RepositoryId,
    key: &str,
) -> Result<Vec<(RunId, bool)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, cancel_by IS NOT NULL AS asked FROM runs
         WHERE repository = $1 AND concurrency_key = $2 AND ended_at IS NULL ORDER BY id",
    )
    .bind(repository.to_string())
    .bind(key)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    each(&rows, |row| Ok((Columns(row).parsed("id")?, Columns(row).raw("asked")?)))
}

async fn ancestors(connection: &mut SqliteConnection, run: &Run) -> Result<Vec<RunId>, StoreError> {
    let mut ancestors = Vec::new();
    let mut next = run.cause.parent.as_ref().map(|parent| parent.run);
    while let Some(id) = next.filter(|id| !ancestors.contains(id)) {
        ancestors.push(id);
        let row = sqlx::query("SELECT parent_run FROM runs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        next = match row {
            Some(row) => Columns(&row).parsed_if("parent_run")?,
            None => None,
        };
    }
    Ok(ancestors)
}

/// Ends a run, and queues the parent that waited only for it.
pub(crate) async fn end(
    connection: &mut SqliteConnection,
    id: RunId,
    outcome: &RunOutcome,
    at: Timestamp,
) -> Result<(), StoreError> {
    let run = End { id, outcome, at, lease: None };
    run.perform(connection).await.map(drop)
}

/// The same for the run of a lease that still holds. What its row says.
pub(crate) async fn finish(
    connection: &mut SqliteConnection,
    proof: &LeaseProof,
    outcome: &RunOutcome,
    at: Timestamp,
) -> Result<Option<SqliteRow>, StoreError> {
    End { id: proof.run, outcome, at, lease: Some(proof) }.perform(connection).await
}

/// Run, status, outcome, now; worker and attempt, if it must be theirs.
pub(crate) const END: &str = "UPDATE runs
    SET status = $2, outcome = $3, ended_at = $4, ready_at = NULL, worker = NULL, lease_until = NULL,
        worked = worked + IIF(status = 'running', MAX(0, $4 - leased_at), 0)
    WHERE id = $1 AND ended_at IS NULL
        AND ($5 IS NULL OR status = 'running' AND worker = $5 AND attempt = $6)
    RETURNING parent_run, cost";

/// The end of a run.
struct End<'a> {
    id: RunId,
    outcome: &'a RunOutcome,
    at: Timestamp,
    lease: Option<&'a LeaseProof>,
}

impl End<'_> {
    async fn perform(self, connection: &mut SqliteConnection) -> Result<Option<SqliteRow>, StoreError> {
        let row = sqlx::query(END)
            .bind(self.id.to_string())
            .bind(self.outcome.status().as_str())
            .bind(json(self.outcome)?)
            .bind(self.at.millis())
            .bind(self.lease.map(|proof| proof.worker.to_string()))
            .bind(self.lease.map(|proof| i64::from(proof.attempt)))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        if let Some(parent) = row.try_get::<Option<&str>, _>("parent_run").map_err(failed)? {
            wake(connection, parent, self.at).await?;
        }
        Ok(Some(row))
    }
}

/// Queues a waiting run none of whose children is under way.
async fn wake(connection: &mut SqliteConnection, run: &str, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(WAKE).bind(run).bind(at.millis()).execute(connection).await.map_err(failed)?;
    Ok(())
}

pub(crate) const WAKE: &str = "UPDATE runs SET status = 'queued', ready_at = $2
    WHERE id = $1 AND status = 'waiting'
        AND NOT EXISTS (SELECT 1 FROM runs AS child WHERE child.parent_run = $1 AND child.ended_at IS NULL)";

/// Lets a running run wait for its children, or go on at once when none is under way.
pub(crate) async fn wait(
    connection: &mut SqliteConnection,
    run: RunId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE runs SET status = 'waiting', worker = NULL, lease_until = NULL, worked = worked + MAX(0, $2 - leased_at)
         WHERE id = $1",
    )
        .bind(run.to_string())
        .bind(at.millis())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    wake(connection, &run.to_string(), at).await
}

/// Gives a running run back to the queue.
pub(crate) async fn release(
    connection: &mut SqliteConnection,
    run: RunId,
    at: Timestamp,
    ready_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE runs SET status = 'queued', ready_at = $3, worker = NULL, lease_until = NULL,
             worked = worked + MAX(0, $2 - leased_at)
         WHERE id = $1",
    )
    .bind(run.to_string())
    .bind(at.millis())
    .bind(ready_at.millis())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Gives back what a worker that is gone holds: worker, now.
pub(crate) const RELEASE_ALL: &str = "UPDATE runs
    SET status = 'queued', ready_at = $2, worker = NULL, lease_until = NULL,
        worked = worked + MAX(0, MIN($2, lease_until) - leased_at)
    WHERE status = 'running' AND worker = $1";

/// Asks a run to end, and the runs that it waits for. From the top down: a parent that has ended is
/// not woken by its children.
pub(crate) async fn cancel(
    connection: &mut SqliteConnection,
    run: RunId,
    by: &str,
    at: Timestamp,
) -> Result<Cancellation, StoreError> {
    let mut cancellation = Cancellation::Unknown;
    let mut left = vec![run];
    while let Some(id) = left.pop() {
        let answer = cancel_one(connection, id, by, at).await?;
        if matches!(answer, Cancellation::Cancelled | Cancellation::Requested) {
            left.extend(children(connection, id).await?);
        }
        if id == run {
            cancellation = answer;
        }
    }
    Ok(cancellation)
}

async fn cancel_one(
    connection: &mut SqliteConnection,
    run: RunId,
    by: &str,
    at: Timestamp,
) -> Result<Cancellation, StoreError> {
    let row = sqlx::query("SELECT status, attempt, cancel_by FROM runs WHERE id = $1")
        .bind(run.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(Cancellation::Unknown) };
    let columns = Columns(&row);
    let status = rows::run_status(&columns, "status")?;
    if status.is_final() {
        return Ok(Cancellation::Ended);
    }
    let begun = columns.number::<u32>("attempt")? > 0;
    let asked = columns.raw::<Option<&str>>("cancel_by")?.is_some();
    if status != RunStatus::Running && (asked || !begun) {
        end(connection, run, &RunOutcome::Cancelled { by: by.to_owned() }, at).await?;
        return Ok(Cancellation::Cancelled);
    }
    ask(connection, run, by, at).await?;
    Ok(Cancellation::Requested)
}

/// Tells a run that it is to end. One in the queue does not wait for a retry first.
async fn ask(
    connection: &mut SqliteConnection,
    run: RunId,
    by: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE runs SET cancel_insisted = cancel_by IS NOT NULL, cancel_by = COALESCE(cancel_by, $2),
             cancel_at = COALESCE(cancel_at, $3), ready_at = MIN(ready_at, $3)
         WHERE id = $1",
    )
    .bind(run.to_string())
    .bind(by)
    .bind(at.millis())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn children(connection: &mut SqliteConnection, run: RunId) -> Result<Vec<RunId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM runs WHERE parent_run = $1 ORDER BY id")
        .bind(run.to_string())
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    each(&rows, |row| Columns(row).parsed("id"))
}
