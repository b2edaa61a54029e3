//! Deliveries as they came. Those that wait for the disk at the same time are written together: one
//! transaction takes all that came while the one before it was written, and each caller is answered after
//! its commit. So the disk bounds how long a caller waits, not how many are served.

mod packed;

use std::collections::BTreeSet;

use domain::id::{DeliveryId, RepositoryId};
use ports::store::events::Delivery;
use ports::store::{Recorded, StoreError, Topic};
use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub(crate) use self::packed::Packed;
use crate::failure::failed;
use crate::repositories::require;
use crate::rows::Columns;
use crate::store::{Connections, Durable};

/// So many deliveries are written in one transaction at most, and about so many bytes.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 << 20;
/// Rows of one statement: each goes through a queue to the connection's thread and back, which costs as much as
/// a row. Few sizes, so that each is prepared once.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

/// Where deliveries wait to be written; the task that writes them ends with it.
#[derive(Debug)]
pub(crate) struct Arrivals {
    sender: mpsc::Sender<Arrival>,
    _writer: JoinSet<()>,
}

/// A delivery that waits, and who waits for it.
struct Arrival {
    row: Row,
    answer: oneshot::Sender<Outcome>,
}

/// A delivery as it is stored.
struct Row {
    id: DeliveryId,
    source: String,
    repository: Option<RepositoryId>,
    name: Option<String>,
    external_id: Option<String>,
    content: [u8; 32],
    body: Packed,
    received_at: i64,
}

impl Row {
    fn of(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id,
            source: delivery.source.clone(),
            repository: delivery.repository,
            name: delivery.name.clone(),
            external_id: delivery.external_id.clone(),
            content: delivery.content,
            body: Packed::of(&delivery.body),
            received_at: delivery.received_at.millis(),
        }
    }
}

type Outcome = Result<Recorded<DeliveryId>, StoreError>;

impl Arrivals {
    pub(crate) fn new(connections: Connections) -> Self {
        let (sender, arrivals) = mpsc::channel(MOST);
        let mut writer = JoinSet::new();
        writer.spawn(write(connections, arrivals));
        Self { sender, _writer: writer }
    }

    /// Stores a delivery with those that come at the same time.
    pub(crate) async fn record(&self, delivery: &Delivery) -> Outcome {
        let gone = || StoreError::Unavailable("deliveries are not written any more".to_owned());
        let (answer, heard) = oneshot::channel();
        let arrival = Arrival { row: Row::of(delivery), answer };
        self.sender.send(arrival).await.map_err(|_| gone())?;
        heard.await.map_err(|_| gone())?
    }
}

/// Writes deliveries until nobody can send any more.
async fn write(connections: Connections, mut arrivals: mpsc::Receiver<Arrival>) {
    while let Some(first) = arrivals.recv().await {
        let mut batch = vec![first];
        match record(&connections, &mut arrivals, &mut batch).await {
            Ok(outcomes) => {
                for (arrival, outcome) in batch.into_iter().zip(outcomes) {
                    // Whoever does not wait any more finds it known when they send it again.
                    let _ = arrival.answer.send(outcome);
                }
            }
            Err(error) => {
                for arrival in batch {
                    let _ = arrival.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Writes one transaction: what waits, and what came until it was this one's turn.
async fn record(
    connections: &Connections,
    arrivals: &mut mpsc::Receiver<Arrival>,
    batch: &mut Vec<Arrival>,
) -> Result<Vec<Outcome>, StoreError> {
    let mut transaction = connections.write(Durable::Now).await?;
    let mut bytes = batch.iter().map(|arrival| arrival.row.body.bytes.len()).sum::<usize>();
    while batch.len() < MOST
        && bytes < MOST_BYTES
        && let Ok(arrival) = arrivals.try_recv()
    {
        bytes += arrival.row.body.bytes.len();
        batch.push(arrival);
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut left = batch.iter_mut().map(|arrival| &mut arrival.row).collect::<Vec<_>>();
    while let Some(rows) = ROWS.iter().find(|rows| **rows <= left.len()) {
        let rest = left.split_off(*rows);
        insert(&mut transaction, left, &mut outcomes).await?;
        left = rest;
    }
    connections.commit(transaction, &[Topic::Events]).await?;
    Ok(outcomes)
}

/// Writes rows by one statement; what came of each, in their order. Their bodies are gone then.
async fn insert(
    connection: &mut SqliteConnection,
    mut rows: Vec<&mut Row>,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), StoreError> {
    let mut refused = Vec::with_capacity(rows.len());
    for row in &rows {
        refused.push(match refusal(connection, row).await {
            Ok(outcome) => outcome.map(Ok),
            Err(error @ StoreError::Conflict(_)) => Some(Err(error)),
            Err(error) => return Err(error),
        });
    }
    let fit = rows.iter_mut().zip(&refused).filter(|(_, refused)| refused.is_none());
    let fit: Vec<&mut Row> = fit.map(|(row, _)| &mut **row).collect();
    let mut new = written(connection, fit).await?;
    for (row, refused) in rows.iter().zip(refused) {
        outcomes.push(match refused {
            Some(outcome) => outcome,
            // Of two with one id the first is the new one.
            None if new.remove(&row.id) => Ok(Recorded::New),
            None => match same(connection, row).await? {
                Some(known) => Ok(Recorded::Known(known)),
                None => Err(StoreError::Conflict(format!("{} is there already", row.id))),
            },
        });
    }
    Ok(())
}

/// Writes those that contradict nothing that is there; which those are. Nearly always it is all of them, and each
/// row that came back would go through a queue of its own.
async fn written(
    connection: &mut SqliteConnection,
    rows: Vec<&mut Row>,
) -> Result<BTreeSet<DeliveryId>, StoreError> {
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let all = rows.iter().map(|row| row.id).collect();
    if rows.is_empty() {
        return Ok(all);
    }
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO deliveries (id, source, repository, name, external_id, content, body, unpacked, received_at) ",
    );
    statement.push_values(rows, |mut values, row| {
        values
            .push_bind(row.id.to_string())
            .push_bind(row.source.clone())
            .push_bind(row.repository.map(|repository| repository.to_string()))
            .push_bind(row.name.clone())
            .push_bind(row.external_id.clone())
            .push_bind(row.content.to_vec())
            .push_bind(std::mem::take(&mut row.body.bytes))
            .push_bind(row.body.unpacked)
            .push_bind(row.received_at);
    });
    // What contradicts what is there is left out, and costs the others nothing.
    statement.push(" ON CONFLICT DO NOTHING");
    let done = statement.build().execute(&mut *connection).await.map_err(failed)?;
    let written = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
    if written == count {
        return Ok(all);
    }
    if written == 0 {
        return Ok(BTreeSet::new());
    }
    // Those of one statement have the highest numbers, one after the other.
    let new = sqlx::query("SELECT id FROM deliveries WHERE rowid > $1 - $2");
    let new = new.bind(done.last_insert_rowid()).bind(written);
    let new = new.fetch_all(connection).await.map_err(failed)?;
    new.iter().map(|row| Columns(row).parsed("id")).collect()
}

/// Whether a delivery is known or about a repository that is not there; of those of forges nobody knows yet
/// what they are about.
async fn refusal(
    connection: &mut SqliteConnection,
    row: &Row,
) -> Result<Option<Recorded<DeliveryId>>, StoreError> {
    let Some(repository) = row.repository else { return Ok(None) };
    if let Some(known) = same(connection, row).await? {
        return Ok(Some(Recorded::Known(known)));
    }
    require(connection, repository).await?;
    Ok(None)
}

/// A delivery of the same sender with the same id or the same content.
async fn same(connection: &mut SqliteConnection, row: &Row) -> Result<Option<DeliveryId>, StoreError> {
    let known = sqlx::query(
        "SELECT id FROM deliveries WHERE source = $2 AND content = $3 AND IFNULL(repository, '') = $1
         UNION ALL
         SELECT id FROM deliveries WHERE source = $2 AND external_id = $4 AND IFNULL(repository, '') = $1
         ORDER BY id LIMIT 1",
    )
    .bind(row.repository.map(|repository| repository.to_string()).unwrap_or_default())
    .bind(&row.source)
    .bind(&row.content[..])
    .bind(&row.external_id)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    known.map(|known| Columns(&known).parsed("id")).transpose()
}
