//! The schema, one step after the other, forwards only.

use std::path::Path;

use ports::store::StoreError;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::failure::failed;

macro_rules! steps {
    ($($version:literal $name:literal),+ $(,)?) => {
        &[$(($version, $name, include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")))),+]
    };
}

/// Number, name and text of each step. A step that was released is never edited: its checksum is in
/// every database that took it.
pub(crate) const STEPS: &[(i64, &str, &str)] = steps![
    1 "0001_repositories",
    2 "0002_events",
    3 "0003_runs",
    4 "0004_outbox",
    5 "0005_discussions",
    6 "0006_accounts",
    7 "0007_replaces",
    8 "0008_worked",
    9 "0009_insisted",
    10 "0010_invalid",
    11 "0011_ledger",
    12 "0012_memos",
    13 "0013_forges",
    14 "0014_assertions",
    15 "0015_sweeps",
    16 "0016_threads",
    17 "0017_performers",
    18 "0018_packed",
];

/// The number of the last step that this program knows.
fn newest() -> i64 {
    STEPS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

fn migrator() -> Migrator {
    let migrations = STEPS.iter().map(|(version, name, sql)| {
        let sql = AssertSqlSafe(*sql).into_sql_str();
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Brings a database up to `target`; the last step, when there is none.
///
/// # Errors
/// When the database was written by a newer program, or by one whose steps were other ones.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    target: Option<i64>,
) -> Result<(), StoreError> {
    let migrator = migrator();
    connection.ensure_migrations_table(&migrator.table_name).await.map_err(refused)?;
    let applied = connection.list_applied_migrations(&migrator.table_name).await.map_err(refused)?;
    let there = applied.iter().map(|step| step.version).max().unwrap_or(0);
    if there > newest() {
        return Err(StoreError::Conflict(format!(
            "the database was written by a newer version of this program (its schema is {there}, this program knows \
             up to {}); start that version, or restore a backup from before the upgrade",
            newest()
        )));
    }
    migrator.run_direct(target, connection, false).await.map_err(refused)
}

fn refused(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => failed(error),
        MigrateError::ExecuteMigration(error, step) => match failed(error) {
            StoreError::Unavailable(why) => StoreError::Unavailable(why),
            StoreError::Conflict(why) | StoreError::Corrupt(why) => {
                StoreError::Corrupt(format!("the schema could not be brought to {step}: {why}"))
            }
        },
        other => StoreError::Corrupt(format!("the schema is not one of this program's: {other}")),
    }
}

/// Held while a database is migrated. SQLite has no lock across the several transactions of that, and
/// two servers that start at once would both begin with the first step.
pub(crate) async fn lock(database: &Path) -> Result<std::fs::File, StoreError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    match locked.await {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => Err(StoreError::Unavailable(format!("the database cannot be locked: {error}"))),
        Err(error) => Err(StoreError::Unavailable(format!("the database cannot be locked: {error}"))),
    }
}
