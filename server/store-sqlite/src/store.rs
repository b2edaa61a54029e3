//! The file, its connections, and who is woken when it changes.

use std::path::Path;
use std::time::Duration;

use ports::store::{Store, StoreError, Topic};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Transaction};
use tokio::sync::watch;

use crate::failure::failed;
use crate::migrations;

/// How long a writer waits for one of another process.
const BUSY: Duration = Duration::from_secs(10);
/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many reads go on beside one another.
const READERS: u32 = 4;
/// What is left of the write-ahead log once it has been written back, bytes.
const LOG_SIZE: &str = "67108864";

/// A store in one SQLite file. Cheap to share behind an `Arc`; see [`SqliteStore::close`].
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    events: watch::Sender<u64>,
    runs: watch::Sender<u64>,
    logs: watch::Sender<u64>,
    outbox: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens a store, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or written, `Conflict` when a newer version of the
    /// program wrote it, `Corrupt` when it is not a store.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        create(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG_SIZE)
            .disable_statement_logging();
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal);
        {
            let _lock = migrations::lock(path).await?;
            let mut connection = writing.connect().await.map_err(failed)?;
            migrations::migrate(&mut connection, None).await?;
            connection.close().await.map_err(failed)?;
        }
        let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(PATIENCE);
        let writer = pool(1).before_acquire(|connection, _| {
            // SQLite ends a transaction by itself when the disk is full or fails (section 3 of
            // <https://sqlite.org/lang_transaction.html>); the library goes on counting it as open
            // and would refuse every later one.
            Box::pin(async move { Ok(!connection.is_in_transaction()) })
        });
        let writer = writer.connect_with(writing).await.map_err(failed)?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await.map_err(failed)?;
        let topic = || watch::channel(0).0;
        Ok(Self { writer, readers, events: topic(), runs: topic(), logs: topic(), outbox: topic() })
    }

    /// Ends all connections, once what is under way is done. Nothing is lost without it; with it the
    /// write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Where to read.
    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Where to write with a single statement.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a transaction that writes. `IMMEDIATE` takes the lock now: a transaction that begins by
    /// reading and finds out later that another process wrote meanwhile could only fail.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }

    /// Makes a transaction durable, and wakes who waits for what it changed.
    pub(crate) async fn commit(
        &self,
        transaction: Transaction<'static, Sqlite>,
        topics: &[Topic],
    ) -> Result<(), StoreError> {
        transaction.commit().await.map_err(failed)?;
        self.wake(topics);
        Ok(())
    }

    pub(crate) fn wake(&self, topics: &[Topic]) {
        for topic in topics {
            self.sender(*topic).send_modify(|count| *count += 1);
        }
    }

    fn sender(&self, topic: Topic) -> &watch::Sender<u64> {
        match topic {
            Topic::Events => &self.events,
            Topic::Runs => &self.runs,
            Topic::Logs => &self.logs,
            Topic::Outbox => &self.outbox,
        }
    }
}

impl Store for SqliteStore {
    fn wakeups(&self, topic: Topic) -> watch::Receiver<u64> {
        self.sender(topic).subscribe()
    }
}

/// Makes the file if there is none, for nobody else's eyes; SQLite gives its companions the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map(drop)
        .map_err(|error| StoreError::Unavailable(format!("{} cannot be opened: {error}", path.display())))
}
