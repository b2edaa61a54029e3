//! Budgets, the ledger, estimates.

use axum::body::Body;
use axum::http::Method;
use domain::access::Role;
use domain::budget::Payers;
use domain::id::{CallId, WorkerId};
use domain::ledger::{Entry, Standing};
use domain::money::NanoUsd;
use domain::stage::{ModelUsage, PriceSource, StagePath, Tokens};
use ports::clock::Clock;
use ports::store::runs::LeaseOutcome;
use ports::store::{Fenced, Runs};
use serde_json::{Value as Json, json};
use testkit::build;

use super::house::{House, request};

const DAEMON: &str =
    "daemon:\n  name: Ask\n  stages: [{ name: Ask, type: prompt, agent: small, prompt_template: 'Well?' }]\n";

async fn delete(house: &House, path: &str, token: &str) -> super::house::Answer {
    house.send(request(Method::DELETE, path, token).body(Body::empty()).unwrap()).await
}

/// A run of `ada/book`'s daemon that made a call for 2.5 cents.
async fn paid(house: &House) -> String {
    let repository = house.repository("ada/book", &[("daemons/ask/daemon.yaml", DAEMON)]).await;
    let new = build::new_run(&*house.clock, &repository, "ask");
    let _ = house.store.run_enqueue(&new, None).await.unwrap();
    let worker = WorkerId::new(house.clock.unique());
    let ttl = std::time::Duration::from_secs(60);
    let leased = house.store.run_lease(worker, house.clock.now(), ttl).await.unwrap();
    let LeaseOutcome::Leased(run, proof) = leased else { panic!("it is queued") };
    let (id, at) = (CallId::new(house.clock.unique()), house.clock.now());
    let call = ModelUsage {
        id: Some(id),
        at: Some(at),
        attempt: 1,
        requested: "strong".to_owned(),
        served: "gpt-5".to_owned(),
        provider: "openai".to_owned(),
        tokens: Tokens { input: 10, output: 5, ..Tokens::default() },
        cost: NanoUsd::from_nanos(25_000_000),
        price: Some(PriceSource { source: "models.dev".to_owned(), date: Some("2026-11-01".to_owned()) }),
        dearest: Some(NanoUsd::from_nanos(65_000_000)),
        ..ModelUsage::default()
    };
    let entry = Entry {
        id,
        run: run.id,
        run_attempt: proof.attempt,
        stage: StagePath::root("Ask"),
        payers: Payers::of(&run, "ada/book", None),
        call: call.clone(),
        standing: Standing::Final,
        at,
    };
    let mut record = build::stage(&*house.clock, "Ask");
    record.usage.calls = vec![call];
    assert_eq!(house.store.stage_record(&proof, &record, &[entry]).await.unwrap(), Fenced::Written);
    run.id.to_string()
}

#[tokio::test]
async fn a_budget_is_set_looked_at_and_removed() {
    let house = House::new();
    let (admin, maintainer) =
        (house.token("eve", Role::Admin).await, house.token("ada", Role::Maintainer).await);
    let runner = house.token("bob", Role::Runner).await;
    paid(&house).await;
    let wanted = json!({ "scope": "repository", "subject": "ADA/Book", "period": "month", "limit": "$0.10" });
    assert_eq!(house.post("/api/v1/budgets", &maintainer, &wanted).await.status, 403);
    let set = house.post("/api/v1/budgets", &admin, &wanted).await;
    assert_eq!((set.status.as_u16(), set.json()["subject"].clone()), (201, json!("ada/book")));
    assert_eq!(house.get("/api/v1/budgets", &runner).await.status, 403);
    let listed = house.get("/api/v1/budgets", &maintainer).await.json();
    let level = &listed["items"][0]["levels"][0];
    let money =
        |nanos: i64, credits: i64, text: &str| json!({ "nano_usd": nanos, "credits": credits, "text": text });
    assert_eq!(level["spent"], money(25_000_000, 3, "$0.025"));
    assert_eq!(
        (level["left"].clone(), level["subject"].clone()),
        (money(75_000_000, 8, "$0.075"), json!("ada/book"))
    );
    assert!(listed["items"][0]["begins_anew_at"].is_string(), "{listed}");
    // Another takes its place, and is removed; who did what when is kept.
    let again = Json::Object(
        wanted.as_object().unwrap().clone().into_iter().chain([("limit".to_owned(), json!("7"))]).collect(),
    );
    let second = house.post("/api/v1/budgets", &admin, &again).await.json();
    let path = format!("/api/v1/budgets/{}", second["id"].as_str().unwrap());
    assert_eq!(delete(&house, &path, &maintainer).await.status, 403);
    assert_eq!(delete(&house, &path, &admin).await.json()["ended_by"], "eve");
    assert_eq!(delete(&house, &path, &admin).await.verdict(), "404 budget_not_found");
    assert_eq!(house.get("/api/v1/budgets", &maintainer).await.json()["items"], json!([]));
    let history = house.get("/api/v1/budgets/history", &maintainer).await.json();
    let told: Vec<_> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["limit"]["text"], &item["ended_by"]))
        .collect();
    assert_eq!(told, [(&json!("$7.00"), &json!("eve")), (&json!("$0.10"), &json!("eve"))]);
}

#[tokio::test]
async fn a_budget_that_makes_no_sense_is_refused() {
    let house = House::new();
    let admin = house.token("eve", Role::Admin).await;
    for (change, expect) in [
        (json!({ "scope": "team" }), "400 invalid_parameter"),
        (json!({ "period": "week" }), "400 invalid_parameter"),
        (json!({ "limit": "many" }), "400 invalid_parameter"),
        (json!({ "limit": "$2000000000" }), "422 budget_invalid"),
        (json!({ "subject": "ada" }), "422 budget_invalid"),
        (json!({ "amount": 1 }), "422 invalid_body"),
    ] {
        let mut wanted = json!({ "scope": "repository", "period": "month", "limit": "$1" });
        wanted.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(house.post("/api/v1/budgets", &admin, &wanted).await.verdict(), expect, "{change}");
    }
}

#[tokio::test]
async fn every_call_of_a_run_is_shown_and_added_up() {
    let house = House::new();
    let (viewer, maintainer) =
        (house.token("bob", Role::Viewer).await, house.token("ada", Role::Maintainer).await);
    let run = paid(&house).await;
    let calls = house.get(&format!("/api/v1/runs/{run}/ledger"), &viewer).await.json();
    let call = &calls["items"][0];
    assert_eq!((&call["price_source"], &call["price_date"]), (&json!("models.dev"), &json!("2026-11-01")));
    assert_eq!(
        (&call["standing"], &call["cost"]["credits"], &call["attempt"]),
        (&json!("final"), &json!(3), &json!(1))
    );
    assert_eq!(house.get("/api/v1/spend", &viewer).await.status, 403);
    for (by, key) in
        [("daemon", "ada/book/ask"), ("model", "openai/gpt-5"), ("repository", "ada/book"), ("author", "ada")]
    {
        let report = house.get(&format!("/api/v1/spend?by={by}&since=1d"), &maintainer).await.json();
        let item = &report["items"][0];
        assert_eq!(
            (&item["key"], &item["calls"], &report["total"]["cost"]["text"]),
            (&json!(key), &json!(1), &json!("$0.025"))
        );
        assert_eq!(item["savings"]["saved"]["text"], "$0.04");
    }
    for wrong in ["by=colour", "since=yesterday", "until=1d"] {
        assert_eq!(house.get(&format!("/api/v1/spend?{wrong}"), &maintainer).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_run_is_estimated() {
    let house = House::new();
    let runner = house.token("bob", Role::Runner).await;
    house.repository("ada/book", &[("daemons/ask/daemon.yaml", DAEMON)]).await;
    let estimate =
        house.post("/api/v1/estimates", &runner, &json!({ "daemon": "ada/book/ask" })).await.json();
    assert_eq!(
        (&estimate["basis"], &estimate["confidence"], &estimate["time"]),
        (&json!("sizes"), &json!("low"), &Json::Null)
    );
    assert!(estimate["cost"]["usual"]["nano_usd"].as_i64().unwrap() > 0, "{estimate}");
    let wrong = json!({ "daemon": "ada/book/ask", "inputs": { "x": 1 } });
    assert_eq!(house.post("/api/v1/estimates", &runner, &wrong).await.verdict(), "422 inputs_invalid");
    let nobody = json!({ "daemon": "ada/book/nobody" });
    assert_eq!(house.post("/api/v1/estimates", &runner, &nobody).await.status, 404);
}
