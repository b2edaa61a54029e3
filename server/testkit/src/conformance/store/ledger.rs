//! The ledger, and the budgets that calls have to fit.

use std::time::Duration;

use domain::budget::{Alert, Balance, Budget, Limit, Origin, Payers, Period, Scope, Window, binding};
use domain::id::{BudgetId, CallId, RunId};
use domain::ledger::{Entry, Grouping, LOST, Spend, Standing};
use domain::money::NanoUsd;
use domain::stage::{ModelUsage, PriceSource, StagePath, StageRecord, StageUsage, Tokens};
use domain::time::Timestamp;
use futures::future::join_all;
use ports::clock::Clock;
use ports::store::ledger::{Reserved, Settled, Wanted};
use ports::store::{Fenced, LeaseProof, Store};

use super::scene::{ANSWERS, Scene, TTL};
use crate::{FixedClock, build};

fn usd(nanos: i64) -> NanoUsd {
    NanoUsd::from_nanos(nanos)
}

fn payers() -> Payers {
    Payers {
        owner: "ada".to_owned(),
        repository: "ada/book".to_owned(),
        daemon: "ada/book/review".to_owned(),
        branch: "ada/book@main".to_owned(),
        author: "ada".to_owned(),
        pull_request: Some("ada/book#7".to_owned()),
    }
}

/// A call of a run's stage, as it is wanted.
fn wanted(clock: &FixedClock, proof: &LeaseProof, most: i64) -> Entry {
    let (id, at) = (CallId::new(clock.unique()), clock.now());
    let call = ModelUsage {
        id: Some(id),
        at: Some(at),
        requested: "strong".to_owned(),
        served: "large".to_owned(),
        provider: "acme".to_owned(),
        cost: usd(most),
        estimated: true,
        ..ModelUsage::default()
    };
    Entry {
        id,
        run: proof.run,
        run_attempt: proof.attempt,
        stage: StagePath::root("Ask"),
        payers: payers(),
        call,
        standing: Standing::Reserved,
        at,
    }
}

/// The same, over.
fn over(entry: &Entry, cost: i64) -> Entry {
    let call = ModelUsage {
        attempt: 2,
        served: "large-2026".to_owned(),
        tokens: Tokens { input: 10, cache_read: 20, cache_write: 30, output: 40, reasoning: 5 },
        cache_write_1h: 3,
        images: 1,
        cost: usd(cost),
        estimated: false,
        price: Some(PriceSource { source: "models.dev".to_owned(), date: Some("2026-11-01".to_owned()) }),
        dearest: Some(usd(cost * 3)),
        ..entry.call.clone()
    };
    Entry { call, standing: Standing::Final, ..entry.clone() }
}

fn settled(entries: &[Entry]) -> Settled {
    Settled { entries: entries.to_vec(), released: Vec::new() }
}

fn limit(scope: Scope, period: Period, run: RunId, at: Timestamp, nanos: i64) -> Limit {
    let budget = Budget { scope, subject: None, period, limit: usd(nanos), origin: Origin::Configured };
    binding(&[budget], &payers(), run, at).remove(0)
}

async fn reserve(store: &dyn Store, proof: &LeaseProof, entry: &Entry, limits: &[Limit]) -> Reserved {
    let wanted = Wanted { entry, limits, settled: &Settled::default() };
    store.budget_reserve(proof, &wanted).await.expect(ANSWERS)
}

async fn balance(store: &dyn Store, limit: &Limit) -> (i64, i64) {
    let Balance { spent, reserved } = store.balance_get(limit).await.expect(ANSWERS);
    (spent.nanos(), reserved.nanos())
}

fn record(clock: &FixedClock, entries: &[Entry]) -> StageRecord {
    let calls = entries.iter().map(|entry| entry.call.clone()).collect();
    StageRecord { usage: StageUsage { calls, ..StageUsage::default() }, ..build::stage(clock, "Ask") }
}

/// A call that no budget binds comes into the ledger with its stage, as it was, and once.
pub async fn calls_come_with_their_stage(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let first = over(&wanted(clock, &proof, 0), 70);
    scene.later(Duration::from_millis(5));
    let mut second = over(&wanted(clock, &proof, 0), 5);
    (second.call.failure, second.call.price, second.call.dearest) =
        (Some("transient".to_owned()), None, None);
    second.payers.pull_request = None;
    let calls = [first, second];
    for _ in 0..2 {
        let record = record(clock, &calls);
        assert_eq!(store.stage_record(&proof, &record, &calls).await.expect(ANSWERS), Fenced::Written);
    }
    assert_eq!(store.ledger_of_run(proof.run).await.expect(ANSWERS), calls);
    assert_eq!(scene.run(proof.run).await.cost, usd(75));
    let all = limit(Scope::Owner, Period::Total, proof.run, clock.now(), 1);
    assert_eq!(balance(store, &all).await, (75, 0));
}

/// What is set aside is gone until it is settled; then what it did cost is, in every account.
pub async fn what_is_settled_takes_the_place_of_what_was_reserved(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let limits: Vec<Limit> = Scope::ALL
        .into_iter()
        .flat_map(|scope| Period::ALL.map(|period| limit(scope, period, proof.run, clock.now(), 100)))
        .collect();
    let entry = wanted(clock, &proof, 60);
    assert_eq!(reserve(store, &proof, &entry, &limits).await, Reserved::Reserved);
    for limit in &limits {
        assert_eq!(balance(store, limit).await, (0, 60), "{limit}");
    }
    let other = wanted(clock, &proof, 41);
    let Reserved::Exhausted(full) = reserve(store, &proof, &other, &limits[2..3]).await else {
        panic!("more is set aside than there is");
    };
    assert_eq!((full.asked, full.balance), (usd(41), Balance { spent: NanoUsd::ZERO, reserved: usd(60) }));
    assert_eq!(full.limit, limits[2]);
    // What is settled together with the next call makes room for it.
    let done = over(&entry, 12);
    let wanted_now =
        Wanted { entry: &other, limits: &limits, settled: &settled(std::slice::from_ref(&done)) };
    assert_eq!(store.budget_reserve(&proof, &wanted_now).await.expect(ANSWERS), Reserved::Reserved);
    let late = settled(&[over(&entry, 99)]);
    assert_eq!(store.budget_settle(&proof, &late).await.expect(ANSWERS), Fenced::Written);
    for limit in &limits {
        assert_eq!(balance(store, limit).await, (12, 41), "{limit}");
    }
    let calls = [done, over(&other, 50)];
    assert_eq!(
        store.stage_record(&proof, &record(clock, &calls), &calls).await.expect(ANSWERS),
        Fenced::Written
    );
    for limit in &limits {
        assert_eq!(balance(store, limit).await, (62, 0), "{limit}");
    }
    assert_eq!(scene.run(proof.run).await.cost, usd(62));
    assert_eq!(store.ledger_close(None).await.expect(ANSWERS), 0);
}

/// Money for a call that was not made goes back; what was settled stays.
pub async fn what_is_released_goes_back(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let limit = limit(Scope::Daemon, Period::Month, proof.run, clock.now(), 100);
    let (one, two) = (wanted(clock, &proof, 30), wanted(clock, &proof, 20));
    for entry in [&one, &two] {
        assert_eq!(reserve(store, &proof, entry, std::slice::from_ref(&limit)).await, Reserved::Reserved);
    }
    let both =
        Settled { entries: vec![over(&two, 7)], released: vec![one.id, two.id, CallId::new(clock.unique())] };
    for _ in 0..2 {
        assert_eq!(store.budget_settle(&proof, &both).await.expect(ANSWERS), Fenced::Written);
        assert_eq!(balance(store, &limit).await, (7, 0));
    }
    assert_eq!(store.ledger_of_run(proof.run).await.expect(ANSWERS), [over(&two, 7)]);
}

/// A budget knows what was spent before anybody asked for it, in its own time and of its own subject.
pub async fn a_budget_counts_what_was_spent_before_it(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let yesterday = over(&wanted(clock, &proof, 0), 1_000);
    let calls = [yesterday];
    assert_eq!(
        store.stage_record(&proof, &record(clock, &calls), &calls).await.expect(ANSWERS),
        Fenced::Written
    );
    scene.later(Duration::from_secs(24 * 3600));
    assert_eq!(
        store.run_renew(&proof, clock.now().after(TTL)).await.expect(ANSWERS),
        ports::store::runs::Renewal::Renewed { cancel_requested: false }
    );
    let mut others = over(&wanted(clock, &proof, 0), 500);
    (others.payers.daemon, others.payers.branch) = ("ada/book/lint".to_owned(), "ada/book@try".to_owned());
    (others.payers.author, others.payers.pull_request) = ("eve".to_owned(), None);
    let today = over(&wanted(clock, &proof, 0), 10);
    assert_eq!(
        store.budget_settle(&proof, &settled(&[others, today])).await.expect(ANSWERS),
        Fenced::Written
    );
    let spent = async |scope, period| {
        let limit = limit(scope, period, proof.run, clock.now(), 10_000);
        let entry = wanted(clock, &proof, 1);
        assert_eq!(reserve(store, &proof, &entry, std::slice::from_ref(&limit)).await, Reserved::Reserved);
        let gone = Settled { entries: Vec::new(), released: vec![entry.id] };
        let before = balance(store, &limit).await;
        assert_eq!(store.budget_settle(&proof, &gone).await.expect(ANSWERS), Fenced::Written);
        assert_eq!((before.1, balance(store, &limit).await), (1, (before.0, 0)));
        before.0
    };
    for (scope, period, expect) in [
        (Scope::Owner, Period::Total, 1_510),
        (Scope::Owner, Period::Day, 510),
        (Scope::Repository, Period::Day, 510),
        (Scope::Daemon, Period::Day, 10),
        (Scope::Branch, Period::Total, 1_010),
        (Scope::Author, Period::Day, 10),
        (Scope::PullRequest, Period::Total, 1_010),
        (Scope::Daemon, Period::Run, 1_010),
    ] {
        assert_eq!(spent(scope, period).await, expect, "{scope} {period}");
    }
    let day = Window::of(Period::Day, proof.run, clock.now());
    let authors = store.balance_list(Scope::Author, &day, 9).await.expect(ANSWERS);
    let entry = |name: &str, spent| (name.to_owned(), Balance { spent: usd(spent), reserved: NanoUsd::ZERO });
    assert_eq!(authors, [entry("eve", 500), entry("ada", 10)]);
    assert_eq!(
        store.balance_list(Scope::PullRequest, &day, 9).await.expect(ANSWERS),
        [entry("ada/book#7", 10)]
    );
    assert_eq!(store.balance_list(Scope::Author, &day, 1).await.expect(ANSWERS).len(), 1);
}

/// A call is charged to the day in which it began, whenever it ends.
pub async fn a_call_belongs_to_the_day_in_which_it_began(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let before = limit(Scope::Owner, Period::Day, proof.run, clock.now(), 100);
    let entry = wanted(clock, &proof, 60);
    assert_eq!(reserve(store, &proof, &entry, std::slice::from_ref(&before)).await, Reserved::Reserved);
    scene.later(Duration::from_secs(24 * 3600));
    let after = limit(Scope::Owner, Period::Day, proof.run, clock.now(), 100);
    assert_ne!(before.window, after.window);
    let other = wanted(clock, &proof, 100);
    assert_eq!(reserve(store, &proof, &other, std::slice::from_ref(&after)).await, Reserved::Reserved);
    let late = Entry { at: clock.now(), ..over(&entry, 9) };
    assert_eq!(store.budget_settle(&proof, &settled(&[late])).await.expect(ANSWERS), Fenced::Written);
    assert_eq!((balance(store, &before).await, balance(store, &after).await), ((9, 0), (0, 100)));
}

/// Of many that ask at the same time, no more are given than fit.
pub async fn many_at_once_fit_the_budget(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let limits = [
        limit(Scope::Owner, Period::Month, proof.run, clock.now(), 1_000),
        limit(Scope::Repository, Period::Day, proof.run, clock.now(), 5_000),
    ];
    let entries: Vec<Entry> = (0..200).map(|_| wanted(clock, &proof, 7)).collect();
    let asked = entries.iter().map(|entry| reserve(store, &proof, entry, &limits));
    let given: Vec<bool> = join_all(asked).await.iter().map(|got| *got == Reserved::Reserved).collect();
    assert_eq!(given.iter().filter(|given| **given).count(), 142, "7 × 142 = 994");
    for limit in &limits {
        assert_eq!(balance(store, limit).await, (0, 994));
    }
    // Some cost all of it, some less, some were not made: the sums are the ledger's.
    let mut done = Settled::default();
    for (nth, (entry, _)) in (0_i64..).zip(entries.iter().zip(&given).filter(|(_, given)| **given)) {
        match nth % 3 {
            0 => done.released.push(entry.id),
            rest => done.entries.push(over(entry, rest * 3)),
        }
    }
    assert_eq!(store.budget_settle(&proof, &done).await.expect(ANSWERS), Fenced::Written);
    let ledger = store.ledger_of_run(proof.run).await.expect(ANSWERS);
    let sum: NanoUsd = ledger.iter().map(Entry::charged).sum();
    assert_eq!((ledger.len(), done.entries.len()), (94, 94));
    assert_eq!(balance(store, &limits[0]).await, (sum.nanos(), 0));
}

/// A worker that lost its run sets nothing aside and settles nothing.
pub async fn a_late_worker_spends_nothing(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let limit = limit(Scope::Owner, Period::Total, proof.run, clock.now(), 100);
    let entry = wanted(clock, &proof, 60);
    assert_eq!(reserve(store, &proof, &entry, std::slice::from_ref(&limit)).await, Reserved::Reserved);
    scene.later(TTL * 2);
    let next = scene.other_worker().lease().await;
    let other = wanted(clock, &proof, 1);
    assert_eq!(reserve(store, &proof, &other, std::slice::from_ref(&limit)).await, Reserved::Lost);
    let late = settled(&[over(&entry, 5)]);
    assert_eq!(store.budget_settle(&proof, &late).await.expect(ANSWERS), Fenced::Lost);
    assert_eq!(balance(store, &limit).await, (0, 60));
    // What its calls came to nobody learns: it is charged with all that was set aside, and the run with it.
    assert_eq!(store.ledger_close(Some(RunId::new(clock.unique()))).await.expect(ANSWERS), 0);
    assert_eq!(store.ledger_close(Some(next.run)).await.expect(ANSWERS), 1);
    assert_eq!(store.ledger_close(None).await.expect(ANSWERS), 0);
    let ledger = store.ledger_of_run(next.run).await.expect(ANSWERS);
    assert_eq!(ledger, [entry.given_up()]);
    assert_eq!((ledger[0].call.failure.as_deref(), ledger[0].standing), (Some(LOST), Standing::Estimated));
    assert_eq!(balance(store, &limit).await, (60, 0));
    assert_eq!(scene.run(next.run).await.cost, usd(60));
}

/// What was settled and not recorded is added to its run once; what is under way is left alone.
pub async fn what_no_stage_recorded_is_closed(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let entry = over(&wanted(clock, &proof, 0), 8);
    assert_eq!(
        store.budget_settle(&proof, &settled(std::slice::from_ref(&entry))).await.expect(ANSWERS),
        Fenced::Written
    );
    assert_eq!(store.ledger_close(None).await.expect(ANSWERS), 0, "its run is under way");
    scene.finish(&proof).await;
    assert_eq!(scene.run(proof.run).await.cost, NanoUsd::ZERO);
    assert_eq!(store.ledger_close(None).await.expect(ANSWERS), 1);
    assert_eq!(scene.run(proof.run).await.cost, usd(8));
    assert_eq!(store.ledger_of_run(proof.run).await.expect(ANSWERS), [entry]);
    assert_eq!(store.ledger_close(None).await.expect(ANSWERS), 0);
}

/// Spending is added up by what calls have in common, the most first.
pub async fn spending_is_added_up(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let since = clock.now();
    let old = over(&wanted(clock, &proof, 0), 1);
    scene.later(Duration::from_secs(1));
    let recent = clock.now();
    let one = over(&wanted(clock, &proof, 0), 10);
    let mut two = over(&wanted(clock, &proof, 0), 30);
    two.payers.daemon = "ada/book/lint".to_owned();
    two.standing = Standing::Estimated;
    two.call.estimated = true;
    (two.call.price, two.call.dearest, two.call.failure) = (None, None, Some("stream_broken".to_owned()));
    let calls = [old.clone(), one.clone(), two.clone()];
    assert_eq!(store.budget_settle(&proof, &settled(&calls)).await.expect(ANSWERS), Fenced::Written);
    let pending = wanted(clock, &proof, 5);
    let limits = [limit(Scope::Owner, Period::Total, proof.run, clock.now(), 1_000)];
    assert_eq!(reserve(store, &proof, &pending, &limits).await, Reserved::Reserved);
    let sum = |key: &str, entries: &[&Entry]| {
        let mut spend = Spend { key: key.to_owned(), ..Spend::default() };
        entries.iter().for_each(|entry| spend.add(entry));
        spend
    };
    for (by, since, expect) in [
        (Grouping::Daemon, since, vec![sum("ada/book/lint", &[&two]), sum("ada/book/review", &[&old, &one])]),
        (Grouping::Daemon, recent, vec![sum("ada/book/lint", &[&two]), sum("ada/book/review", &[&one])]),
        (Grouping::Model, since, vec![sum("acme/large-2026", &[&old, &one, &two])]),
        (Grouping::Repository, since, vec![sum("ada/book", &[&old, &one, &two])]),
        (Grouping::Author, clock.now().after(TTL), vec![]),
    ] {
        assert_eq!(store.ledger_spend(by, since).await.expect(ANSWERS), expect, "{by:?}");
    }
    let all = sum("ada/book", &[&old, &one, &two]);
    assert_eq!((all.calls, all.failed, all.unpriced, all.estimated, all.compared), (3, 1, 1, 1, 2));
    assert_eq!((all.cost, all.failed_cost, all.saved()), (usd(41), usd(30), usd(22)));
}

/// A budget is set, takes the place of the one before, and is removed; what was is kept.
pub async fn a_budget_is_set_and_removed(store: &dyn Store, clock: &FixedClock) {
    let mut budgets = Vec::new();
    for (subject, nanos, by) in [(None, 5, "ada"), (Some("ada/book"), 6, "ada"), (None, 7, "eve")] {
        let id = BudgetId::new(clock.unique());
        let origin = Origin::Set { id, by: by.to_owned(), at: clock.now(), ended: None };
        let subject = subject.map(str::to_owned);
        let budget =
            Budget { scope: Scope::Repository, subject, period: Period::Day, limit: usd(nanos), origin };
        store.budget_set(&budget).await.expect(ANSWERS);
        budgets.push((id, budget));
        clock.advance(Duration::from_secs(1));
    }
    let end = |budget: &mut Budget, by: &str, at: Timestamp| {
        if let Origin::Set { ended, .. } = &mut budget.origin {
            *ended = Some((by.to_owned(), at));
        }
    };
    let Origin::Set { at: replaced_at, .. } = budgets[2].1.origin.clone() else { unreachable!() };
    end(&mut budgets[0].1, "eve", replaced_at);
    assert!(store.budget_remove(budgets[1].0, "bob", clock.now()).await.expect(ANSWERS));
    end(&mut budgets[1].1, "bob", clock.now());
    assert!(!store.budget_remove(budgets[1].0, "bob", clock.now()).await.expect(ANSWERS));
    assert!(!store.budget_remove(BudgetId::new(clock.unique()), "bob", clock.now()).await.expect(ANSWERS));
    let expect: Vec<Budget> = budgets.into_iter().rev().map(|(_, budget)| budget).collect();
    assert_eq!(store.budget_list().await.expect(ANSWERS), expect);
    let held: Vec<Budget> = expect.iter().filter(|budget| budget.holds()).cloned().collect();
    assert_eq!((store.budget_held().await.expect(ANSWERS), held.len()), (held.clone(), 1));
}

/// An alert is recorded once for each period, amount and threshold.
pub async fn an_alert_is_recorded_once(store: &dyn Store, clock: &FixedClock) {
    let run = RunId::new(clock.unique());
    let alert = |percent, nanos| Alert {
        limit: limit(Scope::Author, Period::Day, run, clock.now(), nanos),
        percent,
        spent: usd(80),
        run,
        at: clock.now(),
    };
    let first = alert(80, 100);
    let many = join_all((0..8).map(|_| store.alert_record(&first))).await;
    assert_eq!(many.into_iter().filter(|new| *new.as_ref().expect(ANSWERS)).count(), 1);
    let mut expect = vec![first];
    for (percent, nanos, days) in [(100, 100, 0), (80, 100, 1), (80, 200, 1)] {
        clock.advance(Duration::from_secs(24 * 3600 * days + 1));
        let alert = alert(percent, nanos);
        assert!(store.alert_record(&alert).await.expect(ANSWERS));
        assert!(!store.alert_record(&alert).await.expect(ANSWERS));
        expect.insert(0, alert);
    }
    assert_eq!(store.alert_list(9).await.expect(ANSWERS), expect);
    assert_eq!(store.alert_list(2).await.expect(ANSWERS), expect[..2]);
}
