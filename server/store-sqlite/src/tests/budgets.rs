//! Several servers on one file spend no more than one.

use std::time::Duration;

use domain::budget::{Budget, Limit, Origin, Payers, Period, Scope, binding};
use domain::id::{CallId, WorkerId};
use domain::ledger::{Entry, Standing};
use domain::money::NanoUsd;
use domain::stage::{ModelUsage, StagePath};
use ports::clock::Clock;
use ports::store::ledger::{Reserved, Settled, Wanted};
use ports::store::runs::LeaseOutcome;
use ports::store::{Fenced, LeaseProof, Ledger, Repositories, Runs};
use testkit::{FixedClock, build};

use crate::SqliteStore;

fn wanted(clock: &FixedClock, proof: &LeaseProof, payers: &Payers) -> Entry {
    Entry {
        id: CallId::new(clock.unique()),
        run: proof.run,
        run_attempt: proof.attempt,
        stage: StagePath::root("Ask"),
        payers: payers.clone(),
        call: ModelUsage { cost: NanoUsd::from_nanos(7), estimated: true, ..ModelUsage::default() },
        standing: Standing::Reserved,
        at: clock.now(),
    }
}

/// Sets aside and settles, call after call: each did cost all of its seven.
async fn spend(store: &SqliteStore, proof: &LeaseProof, entries: Vec<Entry>, limits: &[Limit]) -> i64 {
    let mut spent = 0;
    let mut settled = Settled::default();
    for entry in &entries {
        let wanted = Wanted { entry, limits, settled: &settled };
        let reserved = store.budget_reserve(proof, &wanted).await.unwrap();
        settled = Settled::default();
        if reserved == Reserved::Reserved {
            let call = ModelUsage { cost: NanoUsd::from_nanos(7), ..entry.call.clone() };
            settled.entries.push(Entry { call, standing: Standing::Final, ..entry.clone() });
            spent += 7;
        }
    }
    assert_eq!(store.budget_settle(proof, &settled).await.unwrap(), Fenced::Written);
    spent
}

#[tokio::test]
async fn two_servers_share_one_budget() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spellbook.db");
    let stores = [SqliteStore::open(&path).await.unwrap(), SqliteStore::open(&path).await.unwrap()];
    let clock = FixedClock::new();
    let repository = build::repository(&clock, "ada/book");
    let _ = stores[0].repository_create(&repository).await.unwrap();
    let mut proofs = Vec::new();
    for _ in 0..8 {
        let new = build::new_run(&clock, &repository, "review");
        let _ = stores[0].run_enqueue(&new, None).await.unwrap();
        let worker = WorkerId::new(clock.unique());
        let leased = stores[0].run_lease(worker, clock.now(), Duration::from_secs(600)).await.unwrap();
        let LeaseOutcome::Leased(run, proof) = leased else { panic!("it is queued") };
        proofs.push((proof, Payers::of(&run, "ada/book", None)));
    }
    let budget = Budget {
        scope: Scope::Owner,
        subject: None,
        period: Period::Month,
        limit: NanoUsd::from_nanos(500),
        origin: Origin::Configured,
    };
    let limits = binding(&[budget], &proofs[0].1, proofs[0].0.run, clock.now());
    let spending = proofs.iter().enumerate().map(|(nth, (proof, payers))| {
        let entries = (0..25).map(|_| wanted(&clock, proof, payers)).collect();
        spend(&stores[nth % 2], proof, entries, &limits)
    });
    let spent: i64 = futures::future::join_all(spending).await.into_iter().sum();
    assert_eq!(spent, 71 * 7, "of 500");
    for store in &stores {
        let balance = store.balance_get(&limits[0]).await.unwrap();
        assert_eq!((balance.spent.nanos(), balance.reserved.nanos()), (spent, 0));
    }
    let sums = stores[1].ledger_spend(domain::ledger::Grouping::Author, clock.now()).await.unwrap();
    assert_eq!(sums.iter().map(|sum| sum.cost.nanos()).sum::<i64>(), spent);
}
