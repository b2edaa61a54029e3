//! How SQLite goes about the statements that are run all the time: by an index, however long the
//! tables are.

use sqlx::{AssertSqlSafe, Row};

use crate::store::Durable;
use crate::{SqliteStore, events, ledger, logs, memos, outbox, queue, revisions, runs};

/// The steps of a statement (<https://sqlite.org/eqp.html>).
async fn steps(sql: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("spellbook.db")).await.unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(explain).fetch_all(&mut *store.writer(Durable::Now).await.unwrap()).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

/// Every step finds its rows by an index, or goes over what another step found.
async fn check(sql: &str) {
    let steps = steps(sql).await;
    assert!(!steps.is_empty());
    for step in &steps {
        let goes_over_all =
            step.starts_with("SCAN ") && !step.starts_with("SCAN (") && step != "SCAN CONSTANT ROW";
        assert!(!goes_over_all, "{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn what_runs_all_the_time_goes_by_an_index() {
    for sql in [
        queue::LEASE,
        queue::NEXT_MOMENT,
        queue::WAKE,
        queue::END,
        queue::REPLACED,
        queue::RELEASE_ALL,
        runs::DEPTH,
        events::DELIVERY_NEXT,
        events::EVENT_NEXT,
        events::EVENT_LIST,
        events::EVENT_THREAD,
        runs::GROUP,
        outbox::NEXT,
        outbox::KEYED,
        revisions::CURRENT,
        revisions::CURRENTS,
        revisions::TRIGGERED,
        revisions::SCHEDULED,
        revisions::ANY_INVALID,
        logs::READ,
        memos::GET,
        memos::LIST,
        memos::OTHERS,
        memos::FORGET,
        memos::EXPIRE,
    ] {
        check(sql).await;
    }
}

#[tokio::test]
async fn the_queue_and_the_outbox_are_read_in_their_order() {
    for (sql, index) in [
        (queue::LEASE, "queued USING INDEX runs_queued (status=?)"),
        (queue::LEASE, "busy USING COVERING INDEX runs_group_running (repository=? AND concurrency_key=?)"),
        (outbox::NEXT, "ready USING INDEX effects_pending (status=? AND due_at<?)"),
        (events::EVENT_NEXT, "events USING INDEX events_undispatched (dispatched_at=?)"),
        (ledger::OVER, "ledger USING INDEX ledger_unrecorded"),
        (ledger::ACCOUNT, "SEARCH balances USING PRIMARY KEY (scope=? AND subject=? AND period_key=?)"),
    ] {
        let steps = steps(sql).await;
        assert!(steps.iter().any(|step| step.contains(index)), "no {index} in\n{steps:#?}");
    }
    for sql in [
        outbox::NEXT,
        outbox::KEYED,
        events::EVENT_NEXT,
        events::EVENT_LIST,
        events::EVENT_THREAD,
        events::DELIVERY_LIST,
        events::DELIVERY_NEXT,
        logs::READ,
        revisions::CURRENTS,
    ] {
        let steps = steps(sql).await;
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "it is sorted:\n{steps:#?}");
    }
}

#[tokio::test]
async fn a_part_of_the_daemons_is_not_sorted_anew() {
    let sql = format!(
        "{} AND branches.role = 'deploy' AND repositories.path_key >= 'a'
         AND (repositories.path_key, currents.daemon, currents.branch) > ('a', 'b', 'c')
         ORDER BY repositories.path_key, currents.daemon, currents.branch LIMIT 50",
        revisions::DAEMONS
    );
    check(&sql).await;
    let steps = steps(&sql).await;
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
}
