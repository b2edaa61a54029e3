//! Jobs of GitHub Actions: an identity for a token, and what that is good for.

use std::time::Duration;

use domain::access::Role;
use ports::clock::Clock;
use ports::store::Accounts;
use serde_json::{Value as Json, json};
use testkit::{FixedClock, Issuer};

use super::house::{Answer, House, ISSUER};
use crate::{Actions, ActionsError};

const SERVER: &str = "http://spellbook.test";

const MANIFEST: &str = "
daemon:
  name: Review
  stages:
    - { name: Say, type: script, script: echo hi }
";

/// A server that trusts these jobs, and its issuer.
fn trusting(trust: &Json) -> (House, Issuer) {
    let actions: Actions = serde_json::from_value(json!({ "issuer": ISSUER, "trust": trust })).unwrap();
    actions.check().unwrap();
    let house = House::with(|settings| settings.actions = actions);
    *house.issuer.lock().unwrap() = Some(Issuer::new(ISSUER));
    (house, Issuer::new(ISSUER))
}

/// The same, that trusts `acme/app` with one daemon.
fn house() -> (House, Issuer) {
    trusting(&json!([{ "repository": "acme/app", "role": "runner", "daemons": ["ada/book/review"] }]))
}

fn seconds(house: &House) -> i64 {
    house.clock.now().millis() / 1000
}

async fn exchange(house: &House, identity: &str) -> Answer {
    house.post("/api/v1/sign-in/actions", "", &json!({ "token": identity })).await
}

/// The token of a job.
async fn signed_in(house: &House, issuer: &Issuer, id: &str) -> String {
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(house), id));
    let answer = exchange(house, &identity).await;
    assert_eq!(answer.verdict(), "201", "{answer:?}");
    answer.json()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_gets_a_token_for_minutes() {
    let (house, issuer) = house();
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(&house), "a"));
    let answer = exchange(&house, &identity).await.json();
    assert_eq!(answer["account"]["name"], "repo:acme/app");
    assert_eq!(answer["token"]["label"], "GitHub Actions run 1001 attempt 1, push");
    assert_eq!(answer["token"]["expires_at"], "2026-11-22T10:15:00.000Z");
    let token = answer["secret"].as_str().unwrap();
    let me = house.get("/api/v1/me", token).await.json();
    assert_eq!((&me["role"], &me["reach"]), (&json!("runner"), &json!(["ada/book/review"])));
    // Another job of the repository has the same account, and the token ends by itself.
    signed_in(&house, &issuer, "b").await;
    assert_eq!(house.store.account_list().await.unwrap().len(), 1);
    house.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(house.get("/api/v1/me", token).await.verdict(), "401 token_invalid");
}

/// The verdict on an identity that is made wrong.
async fn check(wrong: impl FnOnce(&mut Json, &mut Json), expect: &str) {
    let (house, issuer) = house();
    let mut header = json!({ "typ": "JWT", "alg": "RS256", "kid": "key-1" });
    let mut claims = issuer.claims(SERVER, seconds(&house), "a");
    wrong(&mut header, &mut claims);
    let answer = exchange(&house, &issuer.sign_as(&header, &claims)).await;
    assert_eq!(answer.verdict(), expect, "{header} {claims}");
    assert_eq!(house.store.account_list().await.unwrap().is_empty(), expect != "201", "{header} {claims}");
}

#[tokio::test]
async fn an_identity_that_is_not_for_us_or_not_for_now_is_refused() {
    const NOW: i64 = FixedClock::START.millis() / 1000;
    check(|_, _| {}, "201").await;
    check(|_, claims| claims["aud"] = json!([SERVER, "https://other.test"]), "201").await;
    for aud in [json!("https://other.test"), json!(""), json!([]), json!("http://spellbook.test/")] {
        check(|_, claims| claims["aud"] = aud, "401 identity_audience").await;
    }
    for iss in ["https://evil.test", "https://issuer.test/", "https://ISSUER.test", ""] {
        check(|_, claims| claims["iss"] = json!(iss), "401 identity_issuer").await;
    }
    check(|_, claims| claims["exp"] = json!(NOW - 59), "201").await;
    check(|_, claims| claims["exp"] = json!(NOW - 60), "401 identity_expired").await;
    check(|_, claims| claims["exp"] = json!(0), "401 identity_expired").await;
    check(|_, claims| claims["iat"] = json!(NOW + 60), "201").await;
    check(|_, claims| claims["iat"] = json!(NOW + 61), "401 identity_early").await;
    check(|_, claims| claims["nbf"] = json!(NOW + 61), "401 identity_early").await;
    check(|_, claims| claims["exp"] = json!(NOW + 4000), "401 identity_long").await;
    check(|_, claims| claims["exp"] = json!(u64::MAX), "401 identity_long").await;
    for (claim, value) in
        [("exp", json!("soon")), ("exp", json!(-1)), ("jti", Json::Null), ("repository", json!(1))]
    {
        check(|_, claims| claims[claim] = value, "401 identity_incomplete").await;
    }
}

#[tokio::test]
async fn an_identity_of_another_hand_is_refused() {
    for alg in ["none", "None", "HS256", "PS256", "ES256", "RS384", ""] {
        check(|header, _| header["alg"] = json!(alg), "401 identity_algorithm").await;
    }
    check(|header, _| header["crit"] = json!(["b64"]), "401 identity_algorithm").await;
    check(|header, _| header["kid"] = Json::Null, "401 identity_malformed").await;
    check(|header, _| header["kid"] = json!("../key-1"), "401 identity_key_unknown").await;
    let (house, issuer) = house();
    let claims = issuer.claims(SERVER, seconds(&house), "a");
    let good = issuer.sign(&claims);
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = issuer.sign(&issuer.claims(SERVER, seconds(&house), "b"));
    let other_payload = other.split('.').nth(1).unwrap();
    let impostor = Issuer::impostor(ISSUER).sign(&claims);
    for forged in [
        format!("{header}.{other_payload}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{}", other.rsplit('.').next().unwrap()),
        impostor,
    ] {
        assert_eq!(exchange(&house, &forged).await.verdict(), "401 identity_forged", "{forged}");
    }
    let long = "a".repeat(20_000);
    for broken in [
        "",
        ".",
        "..",
        "a.b",
        "sb_x",
        &good.replace('.', ""),
        &format!("{good}="),
        &format!("{good}.x"),
        &long,
    ] {
        assert_eq!(exchange(&house, broken).await.verdict(), "401 identity_malformed", "{broken}");
    }
    assert_eq!(exchange(&house, &good).await.verdict(), "201");
}

#[tokio::test]
async fn an_identity_is_exchanged_once() {
    let (house, issuer) = house();
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(&house), "a"));
    let answers = futures::future::join_all((0..20).map(|_| exchange(&house, &identity))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.verdict(), "401 identity_used");
    }
    // For as long as it holds, whatever is forgotten meanwhile; then it holds no more.
    house.clock.advance(Duration::from_secs(359));
    house.store.expired_forget(house.clock.now()).await.unwrap();
    assert_eq!(exchange(&house, &identity).await.verdict(), "401 identity_used");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(exchange(&house, &identity).await.verdict(), "401 identity_expired");
}

#[tokio::test]
async fn keys_are_asked_for_seldom() {
    let (house, issuer) = house();
    let asked = || house.web.requests().len();
    let unknown = issuer.sign_as(&json!({ "alg": "RS256", "kid": "key-2" }), &json!({}));
    for id in ["a", "b", "c"] {
        signed_in(&house, &issuer, id).await;
    }
    assert_eq!(asked(), 2, "the discovery document and the keys, once");
    let refused = exchange(&house, &unknown).await;
    assert_eq!((refused.verdict().as_str(), asked()), ("401 identity_key_unknown", 2), "just asked");
    house.clock.advance(Duration::from_secs(60));
    for _ in 0..5 {
        assert_eq!(exchange(&house, &unknown).await.verdict(), "401 identity_key_unknown");
    }
    assert_eq!(asked(), 4, "once more, in a minute");
    // The issuer is away: what is known is good for an hour, and nothing is for longer.
    *house.issuer.lock().unwrap() = None;
    house.clock.advance(Duration::from_secs(3599));
    signed_in(&house, &issuer, "d").await;
    house.clock.advance(Duration::from_secs(1));
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(&house), "e"));
    let before = asked();
    for _ in 0..5 {
        let away = exchange(&house, &identity).await;
        assert_eq!(away.verdict(), "503 issuer_unreachable");
        assert!(!away.header("retry-after").is_empty());
    }
    assert_eq!(asked(), before + 1);
    *house.issuer.lock().unwrap() = Some(Issuer::new(ISSUER));
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(exchange(&house, &identity).await.verdict(), "201");
}

#[tokio::test]
async fn an_issuer_cannot_send_us_elsewhere() {
    let (house, issuer) = house();
    *house.issuer.lock().unwrap() = Some(Issuer::new("https://elsewhere.test"));
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(&house), "a"));
    assert_eq!(exchange(&house, &identity).await.verdict(), "503 issuer_unreachable");
    assert_eq!(house.web.requests().len(), 1);
}

#[tokio::test]
async fn without_a_rule_nobody_gets_in_and_nobody_is_asked() {
    let (house, issuer) = trusting(&json!([]));
    let identity = issuer.sign(&issuer.claims(SERVER, seconds(&house), "a"));
    assert_eq!(exchange(&house, &identity).await.verdict(), "403 actions_disabled");
    assert_eq!(house.web.requests().len(), 0);
}

#[tokio::test]
async fn the_first_rule_that_fits_decides() {
    async fn check(trust: Json, claims: &[(&str, &str)], expect: &str) {
        let rules: Vec<Json> = trust
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| {
                let mut whole = json!({ "repository": "acme/app", "role": "viewer" });
                whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
                whole
            })
            .collect();
        let (house, issuer) = trusting(&json!(rules));
        let mut said = issuer.claims(SERVER, seconds(&house), "a");
        for (name, value) in claims {
            said[*name] = json!(value);
        }
        let answer = exchange(&house, &issuer.sign(&said)).await;
        let got = if answer.status == 201 {
            answer.json()["token"]["role"].as_str().unwrap().to_owned()
        } else {
            answer.verdict()
        };
        assert_eq!(got, expect, "{trust} {claims:?}");
    }
    const NOBODY: &str = "403 identity_untrusted";
    check(json!([{}]), &[], "viewer").await;
    check(json!([{}]), &[("repository", "Acme/App")], "viewer").await;
    for other in ["acme/application", "evil/app", "acme/app/x", "xacme/app"] {
        check(json!([{}]), &[("repository", other)], NOBODY).await;
        check(json!([{ "repository": "ACME/app*" }]), &[("repository", "acme/app-2")], "viewer").await;
    }
    check(json!([{ "repository": "acme/*" }]), &[("repository", "acme/other")], "viewer").await;
    check(json!([{ "repository_id": 4711 }]), &[], "viewer").await;
    check(json!([{ "repository_id": 4711 }]), &[("repository_id", "4712")], NOBODY).await;
    check(json!([{ "ref": "refs/heads/main" }]), &[], "viewer").await;
    check(json!([{ "ref": "refs/heads/*" }]), &[("ref", "refs/heads/a/b")], NOBODY).await;
    check(json!([{ "ref": "refs/heads/main" }]), &[("ref", "refs/pull/1/merge")], NOBODY).await;
    check(json!([{ "environment": "production" }]), &[], NOBODY).await;
    check(json!([{ "environment": "production" }]), &[("environment", "production")], "viewer").await;
    let workflow = json!([{ "workflow": "acme/app/.github/workflows/*@refs/heads/main" }]);
    check(workflow.clone(), &[], "viewer").await;
    check(workflow, &[("job_workflow_ref", "evil/x/.github/workflows/ci.yml@refs/heads/main")], NOBODY).await;
    check(json!([{ "events": ["push", "schedule"] }]), &[], "viewer").await;
    check(json!([{ "events": ["schedule"] }]), &[], NOBODY).await;
    check(json!([{}]), &[("event_name", "pull_request_target")], NOBODY).await;
    check(json!([{ "events": ["pull_request_target"] }]), &[("event_name", "pull_request_target")], "viewer")
        .await;
    let runner = json!({ "role": "runner", "daemons": ["ada/**"] });
    check(json!([{ "ref": "refs/heads/dev" }, runner, {}]), &[], "runner").await;
    check(json!([{}, runner]), &[], "viewer").await;
}

#[test]
fn rules_that_would_trust_everybody_or_grant_nothing_are_refused() {
    let check = |actions: Json, expect: fn(&ActionsError) -> bool| {
        let parsed: Actions = serde_json::from_value(actions.clone()).unwrap();
        assert!(parsed.check().is_err_and(|error| expect(&error)), "{actions}");
    };
    for issuer in
        ["", "issuer.test", "ftp://issuer.test", "https://issuer.test/", "https://a@issuer.test", "https://"]
    {
        check(json!({ "issuer": issuer }), |error| matches!(error, ActionsError::Issuer(_)));
    }
    for repository in
        ["", "acme", "*", "*/*", "**/app", "ac*/app", "/app", "acme/", "acme/app/x", "!acme/app"]
    {
        check(json!({ "trust": [{ "repository": repository, "role": "viewer" }] }), |error| {
            matches!(error, ActionsError::Repository(_))
        });
    }
    check(json!({ "trust": [{ "repository": "acme/app", "role": "runner" }] }), |error| {
        matches!(error, ActionsError::NoDaemons(_))
    });
    check(
        json!({ "trust": [{ "repository": "acme/app", "role": "viewer", "daemons": ["a/b/c"] }] }),
        |error| matches!(error, ActionsError::IdleDaemons(_)),
    );
    for wrong in [
        json!({ "trust": [{ "repository": "acme/app", "role": "admin" }] }),
        json!({ "trust": [{ "repository": "acme/app" }] }),
        json!({ "trust": [{ "repository": "acme/app", "role": "viewer", "branch": "main" }] }),
        json!({ "trusted": [] }),
    ] {
        assert!(serde_json::from_value::<Actions>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_job_starts_what_it_may_and_follows_what_it_started() {
    let (house, issuer) = house();
    let files = ["review", "deploy"].map(|id| format!("daemons/{id}/daemon.yaml"));
    house.repository("ada/book", &[(&files[0], MANIFEST), (&files[1], MANIFEST)]).await;
    let job = signed_in(&house, &issuer, "a").await;
    let person = house.token("rune", Role::Runner).await;
    let start = async |token: &str, daemon: &str| {
        house.post("/api/v1/runs", token, &json!({ "daemon": daemon })).await
    };
    for beyond in ["ada/book/deploy", "ada/book/nothing", "eve/book/review"] {
        assert_eq!(start(&job, beyond).await.verdict(), "403 out_of_reach", "{beyond}");
    }
    let own = start(&job, "ada/book/review").await.json();
    assert_eq!(own["cause"]["actor"], "repo:acme/app");
    assert_eq!(own["cause"]["bot"], true);
    let foreign = start(&person, "ada/book/review").await.json();
    let [own, foreign] = [&own, &foreign].map(|run| format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
    for part in ["", "/journal", "/logs", "/effects"] {
        assert_eq!(house.get(&format!("{own}{part}"), &job).await.verdict(), "200", "{part}");
    }
    for part in ["", "/journal", "/logs", "/effects", "/events"] {
        assert_eq!(house.get(&format!("{foreign}{part}"), &job).await.verdict(), "404 not_found", "{part}");
    }
    assert_eq!(house.post(&format!("{foreign}/cancel"), &job, &json!({})).await.verdict(), "404 not_found");
    // The next token of the same repository goes on where the first one ended.
    let next = signed_in(&house, &issuer, "b").await;
    assert_eq!(house.post(&format!("{own}/cancel"), &next, &json!({})).await.verdict(), "200");
}

#[tokio::test]
async fn a_job_ends_its_own_token_and_no_other() {
    let (house, issuer) = house();
    let (one, two) = (signed_in(&house, &issuer, "a").await, signed_in(&house, &issuer, "b").await);
    let id = house.get("/api/v1/me", &one).await.json()["token"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/tokens/{id}");
    let delete = async |token: &str| {
        let request = super::house::request(axum::http::Method::DELETE, &path, token);
        house.send(request.body(axum::body::Body::empty()).unwrap()).await.verdict()
    };
    assert_eq!(delete(&two).await, "404 not_found");
    assert_eq!(delete(&one).await, "204");
    assert_eq!(house.get("/api/v1/me", &one).await.verdict(), "401 token_invalid");
}
