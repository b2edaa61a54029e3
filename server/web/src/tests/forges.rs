//! Webhooks of forges: who is let in, and what is kept of what they bring.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use domain::access::Role;
use domain::signature::Signature;
use ports::clock::Clock;
use ports::store::events::{Delivery, Events};

use serde_json::Value as Json;

use super::house::{Answer, House};

const PATH: &str = "/hooks/forges/github";
const SECRET: &str = "s3cret";
const BODY: &str = "{ \"a\" :\t1,\r\n \"a\": \"\\u00fc\" }\n";

fn signed(key: &str, body: &[u8]) -> String {
    Signature::of(key, &[body]).written()
}

async fn call(house: &House, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    house.send(request.body(body.into()).unwrap()).await
}

async fn stored(house: &House) -> Vec<Delivery> {
    let mut all = Vec::new();
    while let Some(delivery) = house.store.delivery_next().await.unwrap() {
        house.store.delivery_settle(delivery.id, "seen", house.clock.now()).await.unwrap();
        all.push(delivery);
    }
    all
}

#[tokio::test]
async fn administrators_see_what_came_and_what_became_of_it() {
    let house = House::new();
    let (admin, maintainer) =
        (house.token("ada", Role::Admin).await, house.token("bob", Role::Maintainer).await);
    for id in ["one", "two"] {
        let body = format!("{{\"id\":\"{id}\"}}");
        let good = signed(SECRET, body.as_bytes());
        let headers =
            [("x-hub-signature-256", &*good), ("x-github-event", "ping"), ("x-github-delivery", id)];
        assert_eq!(call(&house, PATH, &headers, body).await.verdict(), "202");
    }
    let first = house.store.delivery_next().await.unwrap().unwrap();
    house.store.delivery_settle(first.id, "`ping` starts nothing", house.clock.now()).await.unwrap();
    let listed = house.get("/api/v1/deliveries?source=forge/github&limit=1", &admin).await.json();
    let newest = &listed["items"][0];
    assert_eq!(
        (&newest["external_id"], &newest["verdict"], &newest["bytes"]),
        (&"two".into(), &Json::Null, &12.into())
    );
    let next = listed["next"].as_str().expect("there is more");
    let rest =
        house.get(&format!("/api/v1/deliveries?source=forge/github&after={next}"), &admin).await.json();
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&rest["items"][0]["name"], &rest["items"][0]["verdict"]),
        (&"ping".into(), &"`ping` starts nothing".into())
    );
    assert_eq!(house.get("/api/v1/deliveries", &maintainer).await.verdict(), "403 role_missing");
}

#[tokio::test]
async fn a_webhook_is_kept_as_it_came() {
    let house = House::new();
    let good = signed(SECRET, BODY.as_bytes());
    let headers =
        [("x-hub-signature-256", &*good), ("x-github-event", "issues"), ("x-github-delivery", "72d3162e")];
    let answer = call(&house, PATH, &headers, BODY).await;
    assert_eq!((answer.verdict().as_str(), answer.text()), ("202", r#"{"duplicate":false}"#));
    let [kept] = &*stored(&house).await else { panic!("one delivery") };
    assert_eq!((kept.source.as_str(), kept.repository), ("forge/github", None));
    assert_eq!((kept.name.as_deref(), kept.external_id.as_deref()), (Some("issues"), Some("72d3162e")));
    assert_eq!(kept.body, BODY.as_bytes());

    // By its id, and by what it says under another id and name, which nobody signed.
    let other = signed(SECRET, b"{}");
    let same_id =
        [("x-hub-signature-256", &*other), ("x-github-event", "issues"), ("x-github-delivery", "72d3162e")];
    let same_content =
        [("x-hub-signature-256", &*good), ("x-github-event", "push"), ("x-github-delivery", "another")];
    for (headers, body) in [(same_id, "{}"), (same_content, BODY)] {
        let answer = call(&house, PATH, &headers, body).await;
        assert_eq!(answer.json()["first"], kept.id.to_string());
    }
    assert!(stored(&house).await.is_empty());
}

#[tokio::test]
async fn only_the_right_signature_is_let_in() {
    let house = House::new();
    let good = signed(SECRET, BODY.as_bytes());
    let (upper, name) = (good.to_uppercase().replace("SHA256", "sha256"), ("x-github-event", "issues"));
    let mut changed = BODY.as_bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], &'a str);
    let cases: &[Case<'_>] = &[
        (&[name], BODY.as_bytes(), "401 signature_invalid"),
        (&[name, ("x-hub-signature-256", "")], BODY.as_bytes(), "401 signature_invalid"),
        (&[name, ("x-hub-signature-256", &upper)], BODY.as_bytes(), "401 signature_invalid"),
        (&[name, ("x-hub-signature-256", &good[..70])], BODY.as_bytes(), "401 signature_invalid"),
        (
            &[name, ("x-hub-signature-256", &signed("other", BODY.as_bytes()))],
            BODY.as_bytes(),
            "401 signature_invalid",
        ),
        (
            &[name, ("x-hub-signature-256", &signed("", BODY.as_bytes()))],
            BODY.as_bytes(),
            "401 signature_invalid",
        ),
        (
            &[name, ("x-hub-signature-256", &good), ("x-hub-signature-256", &good)],
            BODY.as_bytes(),
            "401 signature_invalid",
        ),
        (&[name, ("x-hub-signature-256", &good)], &changed, "401 signature_invalid"),
        (&[("x-hub-signature-256", &good)], BODY.as_bytes(), "400 invalid_forge_headers"),
        (&[name, name, ("x-hub-signature-256", &good)], BODY.as_bytes(), "400 invalid_forge_headers"),
    ];
    for (headers, body, expect) in cases {
        assert_eq!(call(&house, PATH, headers, body.to_vec()).await.verdict(), *expect, "{headers:?}");
    }
    assert!(stored(&house).await.is_empty());
}

/// Whether there is such a forge, whether it has a secret: nobody outside is told.
#[tokio::test]
async fn what_is_not_there_answers_like_a_wrong_signature() {
    let house = House::new();
    let wrong = signed("other", BODY.as_bytes());
    let headers = [("x-hub-signature-256", &*wrong), ("x-github-event", "issues")];
    let expect = call(&house, PATH, &headers, BODY).await;
    assert_eq!(expect.verdict(), "401 signature_invalid");
    for key in ["", "none", SECRET] {
        let signature = signed(key, BODY.as_bytes());
        let headers = [("x-hub-signature-256", &*signature), ("x-github-event", "issues")];
        for path in
            ["/hooks/forges/gitlab", "/hooks/forges/bare", "/hooks/forges/%2e%2e", "/hooks/forges/GitHub"]
        {
            let answer = call(&house, path, &headers, BODY).await;
            assert_eq!((answer.status, answer.text()), (expect.status, expect.text()), "{path} {key:?}");
        }
    }
    assert!(stored(&house).await.is_empty());
}

#[tokio::test]
async fn the_same_webhook_many_times_is_stored_once() {
    let house = House::new();
    let good = signed(SECRET, BODY.as_bytes());
    let ids: Vec<String> = (0..50).map(|n| format!("delivery-{n}")).collect();
    let headers: Vec<_> = ids
        .iter()
        .map(|id| [("x-hub-signature-256", &*good), ("x-github-event", "issues"), ("x-github-delivery", id)])
        .collect();
    let answers =
        futures::future::join_all(headers.iter().map(|headers| call(&house, PATH, headers, BODY))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(answers.iter().filter(|answer| answer.json()["duplicate"] == false).count(), 1);
    assert_eq!(stored(&house).await.len(), 1);
}

#[tokio::test]
async fn a_body_has_a_bound_also_without_a_length() {
    let house = House::with(|settings| settings.hook_body = 1 << 20);
    let pieces = || (0..17).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10])));
    for path in [PATH, "/hooks/forges/gitlab"] {
        let body = Body::from_stream(futures::stream::iter(pieces()));
        assert_eq!(
            call(&house, path, &[("x-github-event", "issues")], body).await.verdict(),
            "413 body_too_large"
        );
    }
}
