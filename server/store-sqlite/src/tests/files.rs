//! The file: crashes, several servers, damage.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use domain::effect::EffectKind;
use domain::id::{RunId, WorkerId};
use domain::repository::Repository;
use domain::run::{RunOutcome, RunStatus};
use domain::stage::StagePath;
use ports::clock::Clock;
use ports::store::logs::{LineSource, NewLine};
use ports::store::runs::{Finish, LeaseOutcome};
use ports::store::{
    Accounts, Fenced, LeaseProof, Logs, Outbox, Page, Recorded, Repositories, Runs, Store, StoreError, Topic,
};
use testkit::{FixedClock, build};

use crate::SqliteStore;
use crate::store::Durable;

const TTL: Duration = Duration::from_secs(60);

async fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(&directory.join("spellbook.db")).await.unwrap()
}

async fn with_repository(store: &SqliteStore, clock: &FixedClock) -> Repository {
    let repository = build::repository(clock, "ada/book");
    store.repository_create(&repository).await.unwrap();
    repository
}

async fn lease(store: &SqliteStore, clock: &FixedClock) -> Option<LeaseProof> {
    match store.run_lease(WorkerId::new(clock.unique()), clock.now(), TTL).await.unwrap() {
        LeaseOutcome::Leased(_, proof) => Some(proof),
        LeaseOutcome::Empty { .. } => None,
    }
}

/// What is on the disk at this moment: what a process that is killed now leaves behind. The shared
/// memory is left out; it does not survive the machine.
fn leave_behind(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["spellbook.db", "spellbook.db-wal"] {
        std::fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    to
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_at_any_point() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let repository = with_repository(&store, &clock).await;
    let new = build::new_run(&clock, &repository, "review");
    store.run_enqueue(&new, Some("k")).await.unwrap();

    let queued = leave_behind(directory.path());
    let proof = lease(&store, &clock).await.unwrap();
    let stage = build::stage(&clock, "One");
    assert_eq!(store.stage_record(&proof, &stage, &[]).await.unwrap(), Fenced::Written);
    let running = leave_behind(directory.path());
    let run = store.run_get(proof.run).await.unwrap().unwrap();
    let kind = EffectKind::Noop { reason: "x".to_owned() };
    let effects = vec![build::effect(&clock, &run, "k", kind)];
    let finish = Finish {
        outcome: RunOutcome::Succeeded,
        effects: effects.clone(),
        record: None,
        event: None,
        at: clock.now(),
    };
    assert_eq!(store.run_finish(&proof, &finish).await.unwrap(), Fenced::Written);
    let ended = leave_behind(directory.path());

    let store = open(queued.path()).await;
    assert_eq!(store.run_enqueue(&new, Some("k")).await.unwrap(), Recorded::Known(new.run.id));
    assert_eq!(lease(&store, &clock).await.map(|proof| proof.run), Some(new.run.id));

    let store = open(running.path()).await;
    assert_eq!(store.run_journal(proof.run).await.unwrap(), std::slice::from_ref(&stage));
    assert_eq!(lease(&store, &clock).await, None, "the lease survives too");
    clock.advance(TTL);
    let again = lease(&store, &clock).await.unwrap();
    assert_eq!((again.run, again.attempt), (proof.run, 2));

    let store = open(ended.path()).await;
    assert_eq!(store.run_get(proof.run).await.unwrap().unwrap().state.status(), RunStatus::Succeeded);
    assert_eq!(store.effect_list(proof.run).await.unwrap(), effects);
    assert_eq!(lease(&store, &clock).await, None);
}

#[tokio::test]
async fn several_servers_share_a_file() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    // All of them find no file, or one that another is about to fill.
    let servers: Vec<_> = futures_of(6, |_| open(directory.path())).await;
    let repository = with_repository(&servers[0], &clock).await;
    let news: Vec<_> = (0..30).map(|_| build::new_run(&clock, &repository, "review")).collect();
    let queued = futures_of(30, |nth| servers[nth % 6].run_enqueue(&news[nth], None)).await;
    assert!(queued.iter().all(|queued| matches!(queued, Ok(Recorded::New))), "{queued:?}");
    let proofs: Vec<_> =
        futures_of(40, |nth| lease(&servers[nth % 6], &clock)).await.into_iter().flatten().collect();
    assert_eq!(proofs.len(), 30);
    let leased: BTreeSet<RunId> = proofs.iter().map(|proof| proof.run).collect();
    assert_eq!(leased, news.iter().map(|new| new.run.id).collect());
    let finish = Finish {
        outcome: RunOutcome::Succeeded,
        effects: Vec::new(),
        record: None,
        event: None,
        at: clock.now(),
    };
    for twice in [Fenced::Written, Fenced::Lost] {
        let ends = futures_of(30, |nth| servers[(nth + 1) % 6].run_finish(&proofs[nth], &finish)).await;
        assert!(ends.iter().all(|end| matches!(end, Ok(fenced) if *fenced == twice)), "{ends:?}");
    }
    for server in &servers {
        assert_eq!(server.run_depth().await.unwrap(), ports::store::runs::Depth::default());
    }
}

async fn futures_of<T, F: Future<Output = T>>(count: usize, make: impl FnMut(usize) -> F) -> Vec<T> {
    futures::future::join_all((0..count).map(make)).await
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_holds_nobody_up() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let repository = with_repository(&store, &clock).await;
    let new = build::new_run(&clock, &repository, "review");
    // Polled so often and dropped: before, in and after the transaction.
    for polls in 0..12 {
        let mut call = std::pin::pin!(store.run_enqueue(&new, Some("k")));
        for _ in 0..polls {
            if futures::poll!(call.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    store.run_enqueue(&new, Some("k")).await.unwrap();
    assert_eq!(store.run_depth().await.unwrap().queued, 1);
    // The same with what is durable soon, and writes of both kinds after it.
    let proof = lease(&store, &clock).await.unwrap();
    for polls in 0..12 {
        let lines = [line(&clock, "x")];
        let mut call = std::pin::pin!(store.log_append(&proof, &lines));
        for _ in 0..polls {
            if futures::poll!(call.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let stage = build::stage(&clock, "One");
    assert_eq!(store.stage_record(&proof, &stage, &[]).await.unwrap(), Fenced::Written);
    assert_eq!(store.log_append(&proof, &[line(&clock, "y")]).await.unwrap(), Fenced::Written);
}

fn line(clock: &FixedClock, text: &str) -> NewLine {
    NewLine {
        stage: StagePath::root("Test"),
        source: LineSource::Stdout,
        text: text.to_owned(),
        at: clock.now(),
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spellbook.db");
    std::fs::write(&path, "this is no database, however long it is. ".repeat(100)).unwrap();
    let error = SqliteStore::open(&path).await.expect_err("it is no database");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is"), "it is left as it was");
    let nowhere = directory.path().join("no/where.db");
    let error = SqliteStore::open(&nowhere).await.expect_err("there is no directory");
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("no/where.db")), "{error}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_of_its_own() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let repository = with_repository(&store, &clock).await;
    sqlx::query("UPDATE repositories SET origin = '{'")
        .execute(&mut *store.writer(Durable::Now).await.unwrap())
        .await
        .unwrap();
    let error = store.repository_get(repository.id).await.expect_err("it is unreadable");
    assert!(matches!(&error, StoreError::Corrupt(why) if why.starts_with("origin: ")), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let repository = with_repository(&store, &clock).await;
    store.run_enqueue(&build::new_run(&clock, &repository, "review"), None).await.unwrap();
    let proof = lease(&store, &clock).await.unwrap();
    // The database itself says when it is full; the one of the machine gives the same code.
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&mut *store.writer(Durable::Soon).await.unwrap())
        .await
        .unwrap();
    let line = line(&clock, &"x".repeat(100_000));
    let error = store.log_append(&proof, std::slice::from_ref(&line)).await.expect_err("there is no room");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.log_read(proof.run, 0, 9).await.unwrap().is_empty());
    sqlx::query("PRAGMA max_page_count = 1000000")
        .execute(&mut *store.writer(Durable::Soon).await.unwrap())
        .await
        .unwrap();
    assert_eq!(store.log_append(&proof, &[line]).await.unwrap(), Fenced::Written);
    assert_eq!(store.log_read(proof.run, 0, 9).await.unwrap()[0].number, 1);
}

#[tokio::test]
async fn the_file_is_for_nobody_else_and_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    for name in ["spellbook.db", "spellbook.db-wal"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let pragma = async |durable, name: &'static str| -> String {
        let sql = sqlx::AssertSqlSafe(format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"));
        sqlx::query_scalar(sql).fetch_one(&mut *store.writer(durable).await.unwrap()).await.unwrap()
    };
    for (durable, synchronous) in [(Durable::Now, "2"), (Durable::Soon, "1")] {
        assert_eq!(pragma(durable, "journal_mode").await, "wal");
        assert_eq!(pragma(durable, "synchronous").await, synchronous, "FULL, NORMAL");
        assert_eq!(pragma(durable, "foreign_keys").await, "1");
    }
    let written = sqlx::query("DELETE FROM runs").execute(store.reader()).await;
    assert!(written.is_err(), "readers only read");
    store.close().await;
    assert!(matches!(store.account_list().await, Err(StoreError::Unavailable(_))));
    assert!(store.wakeups(Topic::Runs).has_changed().is_ok());
}

#[tokio::test]
async fn ten_thousand_daemons_are_listed_in_parts() {
    let clock = FixedClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let repository = with_repository(&store, &clock).await;
    let advance = ports::store::repositories::BranchAdvance {
        repository: repository.id,
        branch: build::name("main"),
        role: domain::repository::BranchRole::Deploy,
        from: None,
        to: Some(build::commit(1)),
        revisions: (0..10_000)
            .map(|nth| build::revision(&clock, &repository, &format!("d{nth:05}"), 1))
            .collect(),
        event: None,
        at: clock.now(),
    };
    store.branch_advance(&advance).await.unwrap();
    let currents = store.revision_currents(repository.id, &advance.branch).await.unwrap();
    assert_eq!(currents, advance.revisions);
    let page = Page { after: Some(advance.revisions[9_989].id.uuid()), size: 50 };
    let rows = store.daemon_list(&ports::store::repositories::DaemonFilter::default(), &page).await.unwrap();
    let rows: Vec<_> = rows.into_iter().map(|row| row.revision).collect();
    assert_eq!(rows, advance.revisions[9_990..]);
}
