//! What daemons keep: looked at by viewers, shown to and changed by maintainers.

use axum::body::Body;
use axum::http::{Method, header};
use domain::access::Role;
use domain::id::{MemoWriteId, RunId};
use domain::memo::{Expected, MemoAuthor, MemoKey, MemoKind, MemoOwner, MemoWrite};
use domain::value::Value;
use ports::clock::Clock;
use ports::store::Memos;
use ports::store::memos::Kept;
use serde_json::{Value as Json, json};
use testkit::build;

use super::house::{Answer, House, request};

const MANIFEST: &str = "
daemon:
  name: Review
  state: { counter: 0, seen: [] }
  stages: [{ name: Say, script: echo hi }]
";
const STATE: &str = "/api/v1/repositories/ada/book/daemons/review/state";

async fn change(house: &House, method: Method, path: &str, (token, body): (&str, &Json)) -> Answer {
    let request = request(method, path, token).header(header::CONTENT_TYPE, "application/json");
    house.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// A server with one daemon; the tokens of a viewer, a runner and a maintainer.
async fn house() -> (House, [String; 3]) {
    let house = House::new();
    let repository = house.repository("ada/book", &[("daemons/review/daemon.yaml", MANIFEST)]).await;
    let revision = build::revision(&*house.clock, &repository, "review", 1);
    let advance = ports::store::repositories::BranchAdvance {
        repository: repository.id,
        branch: build::name("main"),
        role: domain::repository::BranchRole::Deploy,
        from: Some(build::commit(1)),
        to: Some(build::commit(1)),
        revisions: vec![revision],
        event: None,
        at: house.clock.now(),
    };
    ports::store::Repositories::branch_advance(&*house.store, &advance).await.unwrap();
    let tokens = [
        house.token("vera", Role::Viewer).await,
        house.token("rune", Role::Runner).await,
        house.token("mia", Role::Maintainer).await,
    ];
    let owner =
        MemoOwner { repository: repository.id, daemon: build::name("review"), branch: build::name("main") };
    for (kind, name, json) in
        [(MemoKind::Variable, "counter", json!("said to nobody")), (MemoKind::Session, "pr 7", json!({}))]
    {
        let key = MemoKey { owner: owner.clone(), kind, name: build::name(name) };
        let plain = serde_json::to_vec(&Value::external(json)).unwrap();
        let write = MemoWrite {
            expected: Expected::Absent,
            written: MemoWriteId::new(house.clock.unique()),
            sealed: house.vault.seal(&key.bound(), &plain).await.unwrap(),
            size: plain.len(),
            by: MemoAuthor::Run(RunId::new(house.clock.unique())),
            at: house.clock.now(),
            key,
        };
        assert_eq!(house.store.memo_put(&write).await.unwrap(), Kept::Written);
    }
    (house, tokens)
}

#[tokio::test]
async fn a_list_says_who_wrote_and_not_what() {
    let (house, [viewer, ..]) = house().await;
    let answer = house.get(STATE, &viewer).await;
    let listed: Vec<String> = answer.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let by = item["run"].as_str().map_or("-", |run| &run[..4]);
            format!("{} {} {} {by}", item["kind"], item["name"], item["version"])
        })
        .collect();
    assert_eq!(
        listed,
        [r#""variable" "counter" 1 run_"#, r#""variable" "seen" 0 -"#, r#""session" "pr 7" 1 run_"#]
    );
    assert!(!answer.text().contains("nobody"), "{}", answer.text());
    for (path, verdict) in [
        (format!("{STATE}?at=main"), "200"),
        (format!("{STATE}?at=elsewhere"), "404 ref_not_found"),
        (format!("{STATE}?at={}", build::commit(1)), "422 branch_missing"),
        (STATE.replace("review", "nobody"), "404 daemon_not_found"),
        (STATE.replace("book", "nowhere"), "404 repository_not_found"),
    ] {
        assert_eq!(house.get(&path, &viewer).await.verdict(), verdict, "{path}");
    }
}

#[tokio::test]
async fn a_value_is_shown_to_maintainers_only() {
    let (house, [viewer, runner, maintainer]) = house().await;
    let counter = format!("{STATE}/counter");
    for token in [&viewer, &runner] {
        assert_eq!(house.get(&counter, token).await.verdict(), "403 role_missing");
    }
    let shown = house.get(&counter, &maintainer).await.json();
    assert_eq!((&shown["value"], &shown["taint"]), (&json!("said to nobody"), &json!("external")));
    let first = house.get(&format!("{STATE}/seen"), &maintainer).await.json();
    assert_eq!((&first["value"], &first["version"]), (&json!([]), &json!(0)));
    for name in ["other", "pr%207", "%0A", &"x".repeat(300)] {
        let answer = house.get(&format!("{STATE}/{name}"), &maintainer).await;
        assert_eq!(answer.verdict(), "404 variable_not_found", "{name}");
    }
}

#[tokio::test]
async fn a_variable_is_set_and_removed() {
    let (house, [_, runner, maintainer]) = house().await;
    let counter = format!("{STATE}/counter");
    let set =
        async |path: &str, token: &str, body: Json| change(&house, Method::PUT, path, (token, &body)).await;
    assert_eq!(set(&counter, &runner, json!({ "value": 1 })).await.verdict(), "403 role_missing");
    let answer = set(&counter, &maintainer, json!({ "value": { "n": 7 }, "version": 1 })).await.json();
    assert_eq!(
        (&answer["version"], &answer["person"], &answer["run"]),
        (&json!(2), &json!("mia"), &Json::Null)
    );
    let shown = house.get(&counter, &maintainer).await.json();
    assert_eq!((&shown["value"], &shown["taint"]), (&json!({ "n": 7 }), &json!("trusted")));
    for (path, body, verdict) in [
        (&counter, json!({ "value": 1, "version": 1 }), "409 state_conflict"),
        (&counter, json!({ "value": "x".repeat(256 << 10) }), "422 state_too_large"),
        (&counter, json!({ "valeu": 1 }), "422 invalid_body"),
        (&counter, json!({}), "422 invalid_body"),
        (&format!("{STATE}/countr"), json!({ "value": 1 }), "404 variable_not_found"),
    ] {
        assert_eq!(set(path, &maintainer, body.clone()).await.verdict(), verdict, "{path}");
    }
    let remove =
        async |path: &str| change(&house, Method::DELETE, path, (&maintainer, &json!(null))).await.verdict();
    assert_eq!(remove(&counter).await, "204");
    assert_eq!(remove(&counter).await, "404 variable_not_found");
    assert_eq!(
        house.get(&counter, &maintainer).await.json()["value"],
        json!(0),
        "it is what it was at first"
    );
    let session = format!("{STATE}/pr%207");
    assert_eq!(remove(&session).await, "404 variable_not_found");
    assert_eq!(remove(&format!("{session}?kind=talk")).await, "400 invalid_parameter");
    assert_eq!(remove(&format!("{session}?kind=session")).await, "204");
    assert_eq!(remove(&format!("{session}?kind=session")).await, "404 session_not_found");
}
