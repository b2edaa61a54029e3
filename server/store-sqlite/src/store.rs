//! The file, its connections, and who is woken when it changes.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ports::store::{Store, StoreError, Topic};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::deliveries::Arrivals;
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
/// How long the log grows before it is written back, pages of 4 KiB. Four times SQLite's own: writing back takes two
/// more turns of the disk, for which whoever commits waits, and webhooks fill a thousand pages in a moment.
const LOG_PAGES: &str = "4000";

/// A store in one SQLite file. Cheap to share behind an `Arc`; see [`SqliteStore::close`].
#[derive(Debug)]
pub struct SqliteStore {
    connections: Connections,
    arrivals: Arrivals,
}

/// The connections, and who is woken. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    /// What it commits is on the disk.
    writer: SqlitePool,
    /// What it commits is there with the next commit of the other one, see [`Durable::Soon`].
    light_writer: SqlitePool,
    /// Held by whoever writes: SQLite lets one wait for another by sleeping, and sleeps too long.
    turn: Arc<Mutex<()>>,
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
            .pragma("wal_autocheckpoint", LOG_PAGES)
            .disable_statement_logging();
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal);
        {
            let _lock = migrations::lock(path).await?;
            let mut connection = writing.connect().await.map_err(failed)?;
            migrations::migrate(&mut connection, None).await?;
            connection.close().await.map_err(failed)?;
        }
        // A connection is a thread in this process: asking whether it is still there is a detour through it.
        let pool = |most| {
            SqlitePoolOptions::new()
                .max_connections(most)
                .acquire_timeout(PATIENCE)
                .test_before_acquire(false)
        };
        let writer = || {
            pool(1).before_acquire(|connection, _| {
                // SQLite ends a transaction by itself when the disk is full or fails (section 3 of
                // <https://sqlite.org/lang_transaction.html>); the library goes on counting it as open
                // and would refuse every later one.
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
        };
        let light = writing.clone().synchronous(SqliteSynchronous::Normal);
        let topic = || watch::channel(0).0;
        let connections = Connections {
            writer: writer().connect_with(writing).await.map_err(failed)?,
            light_writer: writer().connect_with(light).await.map_err(failed)?,
            turn: Arc::default(),
            readers: pool(READERS).connect_with(options.pragma("query_only", "ON")).await.map_err(failed)?,
            events: topic(),
            runs: topic(),
            logs: topic(),
            outbox: topic(),
        };
        Ok(Self { arrivals: Arrivals::new(connections.clone()), connections })
    }

    /// Ends all connections, once what is under way is done. Nothing is lost without it; with it the
    /// write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.connections.readers.close().await;
        self.connections.light_writer.close().await;
        self.connections.writer.close().await;
    }

    /// Where to read.
    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.connections.readers
    }

    /// Where deliveries wait to be written.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Where to write with a single statement.
    pub(crate) async fn writer(&self, durable: Durable) -> Result<Turn<PoolConnection<Sqlite>>, StoreError> {
        self.connections.writer(durable).await
    }

    /// Begins a transaction that writes.
    pub(crate) async fn write(
        &self,
        durable: Durable,
    ) -> Result<Turn<Transaction<'static, Sqlite>>, StoreError> {
        self.connections.write(durable).await
    }

    /// Ends a transaction, and wakes who waits for what it changed.
    pub(crate) async fn commit(
        &self,
        transaction: Turn<Transaction<'static, Sqlite>>,
        topics: &[Topic],
    ) -> Result<(), StoreError> {
        self.connections.commit(transaction, topics).await
    }

    pub(crate) fn wake(&self, topics: &[Topic]) {
        self.connections.wake(topics);
    }
}

impl Connections {
    async fn writer(&self, durable: Durable) -> Result<Turn<PoolConnection<Sqlite>>, StoreError> {
        let turn = self.turn().await?;
        Ok(Turn { with: self.writers(durable).acquire().await.map_err(failed)?, _turn: turn })
    }

    /// Begins a transaction that writes. `IMMEDIATE` takes the lock now: a transaction that begins by
    /// reading and finds out later that another process wrote meanwhile could only fail.
    pub(crate) async fn write(
        &self,
        durable: Durable,
    ) -> Result<Turn<Transaction<'static, Sqlite>>, StoreError> {
        let turn = self.turn().await?;
        let transaction = self.writers(durable).begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        Ok(Turn { with: transaction, _turn: turn })
    }

    /// Ends a transaction, and wakes who waits for what it changed.
    pub(crate) async fn commit(
        &self,
        transaction: Turn<Transaction<'static, Sqlite>>,
        topics: &[Topic],
    ) -> Result<(), StoreError> {
        transaction.with.commit().await.map_err(failed)?;
        self.wake(topics);
        Ok(())
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<()>, StoreError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).lock_owned()).await;
        turn.map_err(|_| StoreError::Unavailable("others write all the time".to_owned()))
    }

    fn writers(&self, durable: Durable) -> &SqlitePool {
        match durable {
            Durable::Now => &self.writer,
            Durable::Soon => &self.light_writer,
        }
    }

    fn wake(&self, topics: &[Topic]) {
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
        self.connections.sender(topic).subscribe()
    }
}

/// When what was written survives the loss of power. The death of the server it survives at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// When the call returns.
    Now,
    /// With the next write that is durable at once: what is in the write-ahead log goes to the disk in
    /// its order (`PRAGMA synchronous`, NORMAL and FULL, <https://sqlite.org/pragma.html#pragma_synchronous>,
    /// and <https://sqlite.org/wal.html>). For what costs only time when it is lost: leases and log lines.
    Soon,
}

/// A connection or a transaction, and the turn to write with it.
#[derive(Debug)]
pub(crate) struct Turn<C> {
    with: C,
    _turn: OwnedMutexGuard<()>,
}

impl<C: Deref<Target = SqliteConnection>> Deref for Turn<C> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.with
    }
}

impl<C: DerefMut<Target = SqliteConnection>> DerefMut for Turn<C> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.with
    }
}

/// Makes the file if there is none, for nobody else's eyes; SQLite gives its companions the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map(drop)
        .map_err(|error| StoreError::Unavailable(format!("{} cannot be opened: {error}", path.display())))
}
