//! The steps of the schema, one by one, on a database that is in use.

use std::path::{Path, PathBuf};

use domain::event::EventKind;
use domain::id::{RepositoryId, RunId};
use domain::trigger::{Trigger, TriggerKind};
use ports::clock::Clock;
use ports::store::{Events, Ledger, Outbox, Repositories, Runs, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use testkit::{FixedClock, build};

use crate::SqliteStore;
use crate::migrations::{STEPS, migrate};
use crate::rows::json;

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

fn database() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spellbook.db");
    (directory, path)
}

/// Rows as they were written right after a step; each with all that its table wants.
fn rows_after(step: i64, clock: &FixedClock, repository: RepositoryId, run: RunId) -> Vec<String> {
    let owner = domain::repository::Repository { id: repository, ..build::repository(clock, "ada/book") };
    let on_push = build::content("review", 1, vec![Trigger::on(TriggerKind::Push)]);
    let revision = build::revision(clock, &owner, "review", 1);
    let event = build::event(clock, &owner);
    let cause = json(&build::run(clock, &owner, "review").cause).unwrap();
    let provenance = json(&build::provenance(&build::run(clock, &owner, "review"))).unwrap();
    match step {
        1 => vec![
            format!(
                "INSERT INTO repositories VALUES ('{repository}', 'ada/book', 'ada/book', '{{\"kind\":\"hosted\"}}', 'main',
                 'Synced', NULL, NULL, NULL, 0, NULL, 1)"
            ),
            format!("INSERT INTO branches VALUES ('{repository}', 'main', 'deploy', '{}', 1)", build::commit(1)),
            format!(
                "INSERT INTO revisions VALUES ('{0}', '{repository}', 'review', 'main', '{1}', '{2}', 1)",
                revision.id,
                build::commit(1),
                json(&on_push).unwrap()
            ),
            format!("INSERT INTO currents VALUES ('{repository}', 'review', 'main', '{}', 0)", revision.id),
            format!("INSERT INTO current_triggers VALUES ('{repository}', 'main', 'push', 'review', '{}')", revision.id),
        ],
        2 => vec![format!(
            "INSERT INTO events VALUES ('{}', '{repository}', 'manual', NULL, '{}', 1, NULL)",
            event.id,
            json(&event).unwrap()
        )],
        3 => vec![format!(
            "INSERT INTO runs VALUES ('{run}', '{repository}', 'review', 'main', '{0}', '{0}', '{cause}', NULL, NULL,
             NULL, '{{}}', 'perform', NULL, 1, NULL, NULL, 'queued', 1, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, 0, 1, NULL)",
            build::commit(1)
        )],
        4 => vec![format!(
            "INSERT INTO effects VALUES (1, '{}', '{repository}', '{run}', '{provenance}', 'k',
             '{{\"kind\":\"noop\",\"reason\":\"x\"}}', 'staged', '{{\"status\":\"staged\"}}', NULL, NULL, 0, 1)",
            domain::id::EffectId::new(clock.unique())
        )],
        11 => vec![
            format!(
                "INSERT INTO ledger VALUES ('{}', '{run}', 1, 'Ask', 'ada', 'ada/book', 'ada/book/review', 'ada/book@main',
                 'ada', NULL, 'reserved', 0, 'strong', 'large', 'acme', 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 7, NULL, NULL, 1)",
                domain::id::CallId::new(clock.unique())
            ),
            format!(
                "INSERT INTO budgets VALUES ('{}', 'owner', NULL, 'day', 5, 'ada', 1, NULL, NULL)",
                domain::id::BudgetId::new(clock.unique())
            ),
        ],
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn each_step_is_taken_on_a_database_in_use() {
    let (_directory, path) = database();
    let clock = FixedClock::new();
    let repository = RepositoryId::new(clock.unique());
    let run = RunId::new(clock.unique());
    for (version, name, _) in STEPS {
        let mut connection = connect(&path).await;
        migrate(&mut connection, Some(*version)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for row in rows_after(*version, &clock, repository, run) {
            sqlx::query(AssertSqlSafe(row)).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.repository_get(repository).await.unwrap().unwrap().path.to_string(), "ada/book");
    let waiting = store.revision_triggered(repository, &build::name("main"), EventKind::Push).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert!(store.event_next(clock.now()).await.unwrap().is_some());
    assert_eq!(store.run_get(run).await.unwrap().unwrap().daemon.as_str(), "review");
    assert_eq!(store.effect_list(run).await.unwrap().len(), 1);
    assert_eq!(store.ledger_close(None).await.unwrap(), 1);
    assert_eq!(store.run_get(run).await.unwrap().unwrap().cost.nanos(), 7);
    assert_eq!(store.budget_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn opening_again_changes_nothing() {
    let (_directory, path) = database();
    let schema = async || {
        SqliteStore::open(&path).await.unwrap().close().await;
        let mut connection = connect(&path).await;
        let sql = "SELECT group_concat(sql, char(10)) FROM sqlite_schema ORDER BY name";
        sqlx::query_scalar::<_, String>(sql).fetch_one(&mut connection).await.unwrap()
    };
    assert_eq!(schema().await, schema().await);
}

#[tokio::test]
async fn the_database_of_a_newer_version_is_left_alone() {
    let (_directory, path) = database();
    SqliteStore::open(&path).await.unwrap().close().await;
    let mut connection = connect(&path).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, '', 1, x'', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let error = SqliteStore::open(&path).await.expect_err("it is newer");
    assert!(
        matches!(&error, StoreError::Conflict(why) if why.contains("newer version") && why.contains("99")),
        "{error}"
    );
}

#[tokio::test]
async fn a_step_that_was_changed_afterwards_is_noticed() {
    let (_directory, path) = database();
    SqliteStore::open(&path).await.unwrap().close().await;
    let mut connection = connect(&path).await;
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let error = SqliteStore::open(&path).await.expect_err("its schema is another one");
    assert!(matches!(&error, StoreError::Corrupt(_)), "{error}");
}

#[test]
fn the_steps_are_numbered_like_their_files() {
    for (nth, (version, name, _)) in (1..).zip(STEPS) {
        assert_eq!(*version, nth);
        assert!(name.starts_with(&format!("{version:04}_")), "{name}");
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite")).unwrap();
    assert_eq!(files.count(), STEPS.len(), "a file that no step names");
}
