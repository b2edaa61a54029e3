//! What models cost: the ledger, the budgets that calls have to fit, alerts, estimates.

use std::sync::Arc;
use std::time::Duration;

use domain::budget::{Budget, Origin, Payers, Period, Scope};
use domain::id::{BudgetId, RunId, WorkerId};
use domain::ledger::{Entry, LOST, Standing};
use domain::money::NanoUsd;
use domain::purse::Purse;
use domain::stage::{ModelUsage, StagePath};
use futures::future::join_all;
use ports::clock::Clock;
use ports::store::runs::LeaseOutcome;
use ports::store::{Fenced, LeaseProof, Ledger, Runs};
use ports::till::{Declined, Intended, Reservation};
use serde_json::json;

use super::house::{Ended, House};
use crate::budgets::{self, NewBudget};
use crate::estimate::{self, Basis, Confidence};
use crate::till::Till;

const ASK: &str = "\n  stages: [{ name: Ask, type: prompt, agent: small, prompt_template: 'Well?' }]\n";
const TWICE: &str = "
  stages:
    - { name: Ask, type: prompt, agent: small, prompt_template: 'Well?' }
    - { name: Again, type: prompt, agent: small, prompt_template: 'And?' }
";

fn usd(nanos: i64) -> NanoUsd {
    NanoUsd::from_nanos(nanos)
}

/// What a scripted call costs: a tenth of a cent.
const CALL: i64 = 1_000_000;

async fn set(house: &House, scope: Scope, period: Period, nanos: i64) -> Budget {
    let new = NewBudget { scope, subject: None, period, limit: usd(nanos) };
    budgets::set(&house.world, new, "ada").await.unwrap()
}

async fn ledger(house: &House, run: RunId) -> Vec<Entry> {
    house.store.ledger_of_run(run).await.unwrap()
}

/// What a budget has spent and reserved, in all its levels.
async fn gone(house: &House) -> Vec<(String, i64, i64)> {
    let gauges = budgets::list(&house.world).await.unwrap();
    let levels = gauges.into_iter().flat_map(|gauge| gauge.levels);
    levels.map(|level| (level.subject, level.balance.spent.nanos(), level.balance.reserved.nanos())).collect()
}

/// A run that a worker has just taken up.
async fn leased(house: &House, daemon: &str) -> LeaseProof {
    house.start(daemon, &json!({})).await;
    let worker = WorkerId::new(house.clock.unique());
    let leased = house.store.run_lease(worker, house.clock.now(), Duration::from_secs(60)).await.unwrap();
    let LeaseOutcome::Leased(_, proof) = leased else { panic!("nothing is queued") };
    proof
}

async fn till(house: &House, proof: &LeaseProof, limit: Option<i64>) -> Till {
    let run = house.run(proof.run).await;
    let payers = Payers::of(&run, "ada/book", None);
    Till::new(&house.world, proof, payers, Purse::new(limit.map(usd), NanoUsd::ZERO))
}

async fn reserve(till: &Till, most: Option<i64>) -> Result<Box<dyn Reservation>, Declined> {
    let call = Intended { requested: "small", served: "small-1", provider: "acme", most: most.map(usd) };
    till.of(&StagePath::root("Ask")).reserve(&call).await
}

fn settle(reservation: Box<dyn Reservation>, cost: i64) {
    reservation.settle(&mut ModelUsage { cost: usd(cost), ..ModelUsage::default() });
}

#[tokio::test]
async fn every_call_is_in_the_ledger_once() {
    let house = House::new(&[("twice", TWICE)]).await;
    let ended = house.ended("twice", &json!({})).await;
    let entries = ledger(&house, ended.run.id).await;
    let calls: Vec<ModelUsage> = ended.journal.iter().flat_map(|record| record.usage.calls.clone()).collect();
    assert_eq!(entries.iter().map(|entry| entry.call.clone()).collect::<Vec<_>>(), calls);
    let stages: Vec<&str> = entries.iter().map(|entry| entry.stage.as_str()).collect();
    assert_eq!((stages, ended.run.cost), (vec!["Ask", "Again"], usd(2 * CALL)));
    let payers = &entries[0].payers;
    let own = [&payers.owner, &payers.repository, &payers.daemon, &payers.branch, &payers.author];
    assert_eq!(own, ["ada", "ada/book", "ada/book/twice", "ada/book@main", "ada"]);
    assert_eq!((entries[0].standing, entries[0].run_attempt), (Standing::Final, 1));
    // A replay pays what it asks anew, and nothing that it takes over.
    let request = crate::replay::Request {
        run: ended.run.id,
        from_stage: Some("Again".to_owned()),
        agent: None,
        actor: testkit::build::actor(),
    };
    let replayed = crate::replay::start(&house.world, request).await.unwrap().run;
    house.work().await;
    assert_eq!((ledger(&house, replayed).await.len(), house.run(replayed).await.cost), (1, usd(CALL)));
}

#[tokio::test]
async fn a_budget_ends_what_does_not_fit() {
    let house = House::new(&[("twice", TWICE)]).await;
    let budget = set(&house, Scope::Repository, Period::Day, 2 * CALL).await;
    let ended = house.ended("twice", &json!({})).await;
    assert_eq!(ended.to_string(), "succeeded (Ask succeeded, Again succeeded)");
    let ended = house.ended("twice", &json!({})).await;
    assert!(
        ended
            .outcome()
            .contains("the budget of $0.002 a day for repository ada/book has no room: $0.002 are spent"),
        "{ended}"
    );
    assert!(ended.outcome().contains("it begins anew on"), "{ended}");
    let failure = ended.journal[0].end.failure().unwrap();
    assert_eq!((failure.code.as_str(), ended.run.cost), ("budget_exhausted", NanoUsd::ZERO));
    // The next day it begins anew.
    house.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(house.ended("twice", &json!({})).await.outcome(), "succeeded");
    // When it is removed there is none.
    let Origin::Set { id, .. } = budget.origin else { unreachable!("it was set") };
    budgets::remove(&house.world, id, "eve").await.unwrap();
    assert_eq!(house.ended("twice", &json!({})).await.outcome(), "succeeded");
    let refused = budgets::remove(&house.world, id, "eve").await.unwrap_err();
    assert_eq!(refused.code, "budget_not_found");
    let refused =
        budgets::remove(&house.world, BudgetId::new(house.clock.unique()), "eve").await.unwrap_err();
    assert_eq!(refused.code, "budget_not_found");
}

#[tokio::test]
async fn a_run_has_its_own_limit_and_budgets_of_its_own() {
    let limited = format!("\n  limits: {{ cost: $0.0015 }}{TWICE}");
    let house = House::new(&[("limited", &limited), ("twice", TWICE)]).await;
    let code =
        |ended: &Ended| ended.journal.last().unwrap().end.failure().map(|failure| failure.code.clone());
    let ended = house.ended("limited", &json!({})).await;
    assert_eq!(code(&ended).as_deref(), Some("cost_limit"), "{ended}");
    set(&house, Scope::Daemon, Period::Run, CALL + 1).await;
    for _ in 0..2 {
        let ended = house.ended("twice", &json!({})).await;
        assert_eq!(code(&ended).as_deref(), Some("budget_exhausted"), "{ended}");
        assert!(ended.outcome().contains("for each run of daemon ada/book/twice"), "{ended}");
        assert_eq!(ended.run.cost, usd(CALL));
    }
}

#[tokio::test]
async fn someone_is_told_once_at_each_threshold() {
    let house = House::new(&[("ask", ASK)]).await;
    set(&house, Scope::Author, Period::Month, 5 * CALL).await;
    let mut told = Vec::new();
    for _ in 0..5 {
        let ended = house.ended("ask", &json!({})).await;
        let log = house.log(ended.run.id).await;
        told.push(
            log.lines().filter(|line| line.contains("are spent")).map(str::to_owned).collect::<Vec<_>>(),
        );
    }
    let counts: Vec<usize> = told.iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 0, 0, 1, 1], "{told:?}");
    assert!(
        told[3][0].starts_with("80 % of the budget of $0.005 a month for author ada are spent: $0.004"),
        "{told:?}"
    );
    assert!(told[4][0].starts_with("100 % of"), "{told:?}");
    let gauges = budgets::list(&house.world).await.unwrap();
    let percents: Vec<u8> = gauges[0].levels[0].alerts.iter().map(|alert| alert.percent).collect();
    assert_eq!(percents, [100, 80]);
}

#[tokio::test]
async fn many_runs_at_once_fit_one_budget() {
    let house = House::new(&[("ask", ASK)]).await;
    set(&house, Scope::Owner, Period::Total, 1_000).await;
    let mut tills = Vec::new();
    for _ in 0..4 {
        let proof = leased(&house, "ask").await;
        tills.push(till(&house, &proof, None).await);
    }
    // Retries, repairs and fallbacks are calls like all others: each is paid, some cost less, some were not made.
    let calls = (0..200_i64).map(|nth| {
        let till = &tills[nth as usize % 4];
        async move {
            let reserved = reserve(till, Some(7)).await.ok()?;
            tokio::task::yield_now().await;
            match nth % 5 {
                0 => drop(reserved),
                rest => settle(reserved, rest + 1),
            }
            Some(())
        }
    });
    let made = join_all(calls).await.into_iter().flatten().count();
    for till in &tills {
        assert_eq!(till.flush().await.unwrap(), Fenced::Written);
    }
    let [(owner, spent, 0)] = &gone(&house).await[..] else { panic!("something is still set aside") };
    assert!(owner == "ada" && *spent <= 1_000 && made > 100, "{made} calls, {spent}");
    let sums =
        house.store.ledger_spend(domain::ledger::Grouping::Repository, house.clock.now()).await.unwrap();
    assert_eq!(sums[0].cost, usd(*spent));
}

#[tokio::test]
async fn what_is_settled_makes_room_at_once() {
    let house = House::new(&[("ask", ASK)]).await;
    set(&house, Scope::Branch, Period::Day, 100).await;
    let proof = leased(&house, "ask").await;
    let till = till(&house, &proof, None).await;
    let first = reserve(&till, Some(90)).await.unwrap();
    let Err(Declined::Exhausted { code: "budget_exhausted", .. }) = reserve(&till, Some(90)).await else {
        panic!("more is set aside than there is");
    };
    settle(first, 3);
    let second = reserve(&till, Some(90)).await.unwrap();
    assert_eq!(gone(&house).await, [("ada/book@main".to_owned(), 3, 90)]);
    drop(second);
    assert_eq!(till.flush().await.unwrap(), Fenced::Written);
    assert_eq!(gone(&house).await, [("ada/book@main".to_owned(), 3, 0)]);
    // Without a price it cannot fit.
    assert_eq!(reserve(&till, None).await.unwrap_err(), Declined::Unpriced);
}

#[tokio::test]
async fn without_a_bound_nothing_is_written_before_the_stage_is() {
    let house = House::new(&[("ask", ASK)]).await;
    let proof = leased(&house, "ask").await;
    let till = till(&house, &proof, None).await;
    settle(reserve(&till, None).await.unwrap(), 5);
    let held = reserve(&till, Some(7)).await.unwrap();
    assert_eq!(ledger(&house, proof.run).await, []);
    drop(held);
    // A worker that leaves the run writes down what it has.
    assert_eq!(till.flush().await.unwrap(), Fenced::Written);
    let entries = ledger(&house, proof.run).await;
    assert_eq!(entries.iter().map(Entry::charged).collect::<Vec<_>>(), [usd(5)]);
}

#[tokio::test]
async fn what_was_set_aside_when_a_worker_died_stays_charged() {
    let limited = format!("\n  limits: {{ cost: $0.003 }}{TWICE}");
    let house = House::new(&[("twice", &limited)]).await;
    let proof = leased(&house, "twice").await;
    let till = till(&house, &proof, Some(3 * CALL)).await;
    let open = reserve(&till, Some(CALL)).await.unwrap();
    settle(reserve(&till, Some(CALL)).await.unwrap(), CALL / 2);
    // It dies: of the second the store has heard nothing but what was set aside.
    std::mem::forget(open);
    drop(till);
    house.clock.advance(Duration::from_secs(120));
    house.work().await;
    let ended = house.end_of(proof.run).await;
    assert_eq!(ended.run.attempt, 2);
    let entries = ledger(&house, proof.run).await;
    let lost: Vec<&Entry> =
        entries.iter().filter(|entry| entry.call.failure.as_deref() == Some(LOST)).collect();
    assert_eq!((lost.len(), lost[0].charged(), lost[0].standing), (2, usd(CALL), Standing::Estimated));
    // Two are lost, so that of three there is one left: for the first stage, not for the second.
    assert_eq!(ended.stages(), "Ask succeeded, Again failed");
    assert_eq!(ended.journal[1].end.failure().unwrap().code, "cost_limit");
    assert_eq!(ended.run.cost, usd(3 * CALL));
    assert_eq!(entries.iter().map(Entry::charged).sum::<NanoUsd>(), ended.run.cost);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_set_binds_runs_that_are_under_way() {
    let house = House::new(&[("ask", ASK)]).await;
    let proof = leased(&house, "ask").await;
    let till = till(&house, &proof, None).await;
    let stage = till.of(&StagePath::root("Ask"));
    assert!(!stage.is_bounded().await);
    set(&house, Scope::Owner, Period::Day, 0).await;
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(stage.is_bounded().await);
    assert!(matches!(reserve(&till, Some(0)).await, Err(Declined::Exhausted { .. })));
}

#[tokio::test]
async fn the_configuration_holds_where_nothing_else_is_set() {
    let mut house = House::new(&[("ask", ASK)]).await;
    let world = Arc::get_mut(&mut house.world).expect("nobody else has it");
    world.settings.budgets = vec![Budget {
        scope: Scope::Author,
        subject: None,
        period: Period::Day,
        limit: usd(CALL),
        origin: Origin::Configured,
    }];
    assert_eq!(house.ended("ask", &json!({})).await.outcome(), "succeeded");
    assert!(house.ended("ask", &json!({})).await.outcome().contains("a day for author ada"));
    let new = NewBudget {
        scope: Scope::Author,
        subject: Some("ADA".to_owned()),
        period: Period::Day,
        limit: usd(9 * CALL),
    };
    budgets::set(&house.world, new, "ada").await.unwrap();
    assert_eq!(house.ended("ask", &json!({})).await.outcome(), "succeeded");
    let invalid = NewBudget {
        scope: Scope::Daemon,
        subject: Some("ada".to_owned()),
        period: Period::Day,
        limit: usd(1),
    };
    assert_eq!(budgets::set(&house.world, invalid, "ada").await.unwrap_err().code, "budget_invalid");
}

const PAINT: &str = "\n  stages: [{ name: Paint, type: image, agent: small, prompt_template: A cat }]\n";

#[tokio::test]
async fn an_estimate_says_what_it_rests_on() {
    let manifest = format!("\n  inputs: [{{ name: topic, type: string }}]{ASK}");
    let asks = manifest.replace("Well?", "About ${topic}:");
    let house = House::new(&[
        ("ask", &asks),
        ("script", "\n  stages: [{ name: S, script: 'say hi' }]\n"),
        ("paint", PAINT),
    ])
    .await;
    let of = async |daemon: &str, given: serde_json::Value| {
        let address = testkit::build::name(&format!("ada/book/{daemon}"));
        estimate::of(&house.world, &address, given.as_object().unwrap()).await
    };
    // "About ${topic}:" and what is given for it, at two sevenths of a token a byte; 800 tokens are written.
    let first = of("ask", json!({ "topic": "x".repeat(6) })).await.unwrap();
    let spread = first.cost.unwrap();
    assert_eq!((first.basis, first.confidence, first.time), (Basis::Sizes, Confidence::Low, None));
    assert_eq!((spread.usual, spread.high), (usd(806_000), usd(3 * 806_000)));
    let unknown = of("ask", json!({})).await.unwrap().cost.unwrap().usual;
    assert!(unknown > spread.usual, "what is not known yet takes room");
    let script = of("script", json!({})).await.unwrap();
    assert_eq!(script.cost.unwrap().usual, NanoUsd::ZERO);
    // "A cat" is two tokens, and a picture 1,600.
    let paint = of("paint", json!({})).await.unwrap();
    assert_eq!(paint.cost.unwrap().usual, usd(1_602_000));
    assert!(
        paint.notes[0].starts_with("`Paint` is reckoned with one picture by small: "),
        "{:?}",
        paint.notes
    );
    assert_eq!(of("ask", json!({ "tropic": "x" })).await.unwrap_err().code, "inputs_invalid");

    for _ in 0..3 {
        house.ended("ask", &json!({ "topic": "x" })).await;
    }
    let known = of("ask", json!({})).await.unwrap();
    assert_eq!((known.basis, known.confidence), (Basis::Runs(3), Confidence::Fair));
    assert_eq!((known.cost.unwrap().usual, known.time.is_some()), (usd(CALL), true));
    // A new version has not run yet.
    let file = format!("daemon:\n  name: ask\n{}", asks.replace("About", "On"));
    let files = [("daemons/ask/daemon.yaml".to_owned(), file)];
    house.push(&files, crate::reconcile::Pushed { skip_runs: true, ..Default::default() }).await;
    let newer = of("ask", json!({})).await.unwrap();
    assert_eq!((newer.basis, newer.confidence), (Basis::OlderRuns(3), Confidence::Low));
    assert!(newer.notes[0].contains("older ones"), "{:?}", newer.notes);
}
