//! Events, and the decisions about them; how deliveries are written is in `deliveries.rs`.

use async_trait::async_trait;
use domain::event::Event;
use domain::id::{DeliveryId, EventId, RepositoryId};
use domain::time::Timestamp;
use ports::store::events::{
    Delivery, DeliveryRecord, Dispatch, Dispatched, MatchRecord, Rest, Sweep, SweepOf,
};
use ports::store::{Events, Page, Recorded, StoreError, Topic};
use sqlx::sqlite::SqliteConnection;

use crate::failure::{failed, missing};
use crate::repositories::{before, require};
use crate::rows::{self, Columns, each, json};
use crate::store::Durable;
use crate::{SqliteStore, outbox, queue};

#[async_trait]
impl Events for SqliteStore {
    async fn delivery_record(&self, delivery: &Delivery) -> Result<Recorded<DeliveryId>, StoreError> {
        self.arrivals().record(delivery).await
    }

    async fn delivery_next(&self) -> Result<Option<Delivery>, StoreError> {
        let row = sqlx::query(DELIVERY_NEXT).fetch_optional(self.reader()).await.map_err(failed)?;
        row.as_ref().map(rows::delivery).transpose()
    }

    async fn delivery_settle(&self, id: DeliveryId, verdict: &str, at: Timestamp) -> Result<(), StoreError> {
        let settled = sqlx::query(
            "UPDATE deliveries SET verdict = COALESCE(verdict, $2), settled_at = COALESCE(settled_at, $3) WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(verdict)
        .bind(at.millis())
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        if settled.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn delivery_list(
        &self,
        source: Option<&str>,
        page: &Page,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let rows = sqlx::query(DELIVERY_LIST)
            .bind(source)
            .bind(before(DeliveryId::PREFIX, page))
            .bind(page.size)
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::delivery_record)
    }

    async fn event_record(
        &self,
        event: &Event,
        dedupe: Option<&str>,
    ) -> Result<Recorded<EventId>, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let known = sqlx::query("SELECT id FROM events WHERE repository = $1 AND dedupe = $2")
            .bind(event.repository.to_string())
            .bind(dedupe)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        if let Some(row) = known {
            return Ok(Recorded::Known(Columns(&row).parsed("id")?));
        }
        require(&mut transaction, event.repository).await?;
        insert(&mut transaction, event, dedupe).await?;
        self.commit(transaction, &[Topic::Events]).await?;
        Ok(Recorded::New)
    }

    async fn event_get(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let row = sqlx::query("SELECT fact FROM events WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::event).transpose()
    }

    async fn event_list(
        &self,
        repository: RepositoryId,
        thread: Option<u64>,
        page: &Page,
    ) -> Result<Vec<Event>, StoreError> {
        let before = before(EventId::PREFIX, page);
        let query = match thread.map(as_stored) {
            None => sqlx::query(EVENT_LIST).bind(repository.to_string()).bind(before).bind(page.size),
            Some(thread) => {
                let query = sqlx::query(EVENT_THREAD).bind(repository.to_string()).bind(before);
                query.bind(page.size).bind(thread)
            }
        };
        let rows = query.fetch_all(self.reader()).await.map_err(failed)?;
        each(&rows, rows::event)
    }

    async fn event_next(&self, now: Timestamp) -> Result<Option<Event>, StoreError> {
        let row =
            sqlx::query(EVENT_NEXT).bind(now.millis()).fetch_optional(self.reader()).await.map_err(failed)?;
        row.as_ref().map(rows::event).transpose()
    }

    async fn event_postpone(&self, id: EventId, until: Timestamp) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE events SET due_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(until.millis())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn event_dispatch(&self, dispatch: &Dispatch) -> Result<Dispatched, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if !claim(&mut transaction, dispatch).await? {
            return Ok(Dispatched::Already);
        }
        for (ordinal, record) in (0_i64..).zip(&dispatch.matches) {
            insert_match(&mut transaction, dispatch.event, ordinal, record).await?;
        }
        for new in &dispatch.runs {
            queue::enqueue(&mut transaction, new, None, dispatch.at).await?;
        }
        for effect in &dispatch.effects {
            outbox::insert(&mut transaction, effect, None).await?;
        }
        for (effect, dedupe) in &dispatch.once {
            if outbox::known(&mut transaction, effect.repository, dedupe).await?.is_none() {
                outbox::insert(&mut transaction, effect, Some(dedupe)).await?;
            }
        }
        for rest in &dispatch.rests {
            apply(&mut transaction, dispatch.event, rest).await?;
        }
        if let Some(learned) = &dispatch.learned {
            sqlx::query("UPDATE events SET fact = $2 WHERE id = $1")
                .bind(dispatch.event.to_string())
                .bind(json(learned)?)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        self.commit(transaction, &[Topic::Events, Topic::Runs, Topic::Outbox]).await?;
        Ok(Dispatched::Recorded)
    }

    async fn sweep_get(&self, of: &SweepOf) -> Result<Option<Sweep>, StoreError> {
        let row = sqlx::query("SELECT * FROM sweeps WHERE of = $1")
            .bind(of.key())
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::sweep).transpose()
    }

    async fn sweep_record(&self, of: &SweepOf, sweep: &Sweep) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO sweeps (of, through, due_at, failures) VALUES ($1, $2, $3, $4)")
            .bind(of.key())
            .bind(sweep.through.millis())
            .bind(sweep.due_at.millis())
            .bind(i64::from(sweep.failures))
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn match_list(&self, event: EventId) -> Result<Vec<MatchRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM matches WHERE event = $1 ORDER BY ordinal")
            .bind(event.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::match_record)
    }
}

pub(crate) const DELIVERY_NEXT: &str =
    "SELECT * FROM deliveries WHERE settled_at IS NULL ORDER BY id LIMIT 1";
pub(crate) const DELIVERY_LIST: &str =
    "SELECT id, source, repository, name, external_id, IFNULL(unpacked, length(body)) AS bytes, received_at, verdict FROM deliveries
    WHERE ($1 IS NULL OR source = $1) AND id < $2 ORDER BY id DESC LIMIT $3";
pub(crate) const EVENT_NEXT: &str = "SELECT fact FROM events
    WHERE dispatched_at IS NULL AND IFNULL(due_at, 0) <= $1 ORDER BY id LIMIT 1";

pub(crate) const EVENT_LIST: &str =
    "SELECT fact FROM events WHERE repository = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
pub(crate) const EVENT_THREAD: &str = "SELECT fact FROM events
    WHERE repository = $1 AND thread = $4 AND id < $2 ORDER BY id DESC LIMIT $3";

/// The number of a thread; no forge has one that does not fit.
fn as_stored(thread: u64) -> i64 {
    i64::try_from(thread).unwrap_or(i64::MAX)
}

/// Stores an event that is to be dispatched.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    event: &Event,
    dedupe: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO events (id, repository, kind, dedupe, fact, occurred_at, thread)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(event.id.to_string())
    .bind(event.repository.to_string())
    .bind(event.kind.as_str())
    .bind(dedupe)
    .bind(json(event)?)
    .bind(event.occurred_at.millis())
    .bind(event.thread().map(as_stored))
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Marks an event as dispatched; false when it is already.
async fn claim(connection: &mut SqliteConnection, dispatch: &Dispatch) -> Result<bool, StoreError> {
    let claimed = sqlx::query("UPDATE events SET dispatched_at = $2 WHERE id = $1 AND dispatched_at IS NULL")
        .bind(dispatch.event.to_string())
        .bind(dispatch.at.millis())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if claimed.rows_affected() == 1 {
        return Ok(true);
    }
    let there = sqlx::query("SELECT 1 FROM events WHERE id = $1")
        .bind(dispatch.event.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    if there.is_some() { Ok(false) } else { Err(missing(dispatch.event)) }
}

/// Lets a daemon of the event's repository rest, or go on.
async fn apply(connection: &mut SqliteConnection, event: EventId, rest: &Rest) -> Result<(), StoreError> {
    let query = match rest {
        Rest::Pause(pause) => sqlx::query(
            "INSERT INTO pauses (repository, daemon, branch, paused_by, paused_at)
             SELECT repository, $2, $3, $4, $5 FROM events WHERE id = $1
             ON CONFLICT DO NOTHING",
        )
        .bind(event.to_string())
        .bind(pause.daemon.as_str())
        .bind(pause.branch.as_str())
        .bind(&pause.by)
        .bind(pause.at.millis()),
        Rest::Resume { daemon, branch } => sqlx::query(
            "DELETE FROM pauses WHERE repository = (SELECT repository FROM events WHERE id = $1)
                 AND daemon = $2 AND branch = $3",
        )
        .bind(event.to_string())
        .bind(daemon.as_str())
        .bind(branch.as_str()),
    };
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

async fn insert_match(
    connection: &mut SqliteConnection,
    event: EventId,
    ordinal: i64,
    record: &MatchRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO matches (event, ordinal, daemon, branch, run, reason) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(event.to_string())
    .bind(ordinal)
    .bind(record.daemon.as_str())
    .bind(record.branch.as_str())
    .bind(record.run.map(|run| run.to_string()))
    .bind(&record.reason)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
