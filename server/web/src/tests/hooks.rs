//! Webhooks: who is let in, what is stored.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::RepositoryId;
use domain::repository::{BranchRole, Repository};
use domain::trigger::{Trigger, TriggerKind};
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use ports::clock::Clock;
use ports::store::Repositories;
use ports::store::events::Events;
use sha2::Sha256;
use testkit::build;

use super::house::{Answer, House, Move};

const SECRET: &str = "s3cret";
const BODY: &str = r#"{"repository":{"id":1},"commits":[]}"#;

fn signature(key: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A server with a watched repository whose secret is set.
async fn watched(house: &House) -> Repository {
    let repository = build::watched(&*house.clock, "ada/book");
    let _ = house.store.repository_create(&repository).await.unwrap();
    set(house, repository.id, "WEBHOOK_SECRET", SECRET);
    repository
}

fn set(house: &House, repository: RepositoryId, name: &str, secret: &str) {
    house.secrets.0.lock().unwrap().insert((repository, name.to_owned()), secret.to_owned());
}

async fn call(house: &House, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    house.send(request.body(body.into()).unwrap()).await
}

/// Takes deliveries out of the store until there are none.
async fn stored(house: &House) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(delivery) = house.store.delivery_next().await.unwrap() {
        house.store.delivery_settle(delivery.id, "seen", house.clock.now()).await.unwrap();
        bodies.push(delivery.body);
    }
    bodies
}

#[tokio::test]
async fn only_the_right_signature_is_let_in() {
    let house = House::new();
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let good = signature(SECRET, BODY.as_bytes());
    let sha1 = "sha1=0123456789012345678901234567890123456789";
    let (upper, digits) = (good.to_uppercase().replace("SHA256", "sha256"), &good[7..]);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "401 signature_invalid"),
        (&[("x-hub-signature", sha1)], "401 signature_invalid"),
        (&[("x-hub-signature-256", "")], "401 signature_invalid"),
        (&[("x-hub-signature-256", "sha256=")], "401 signature_invalid"),
        (&[("x-hub-signature-256", digits)], "401 signature_invalid"),
        (&[("x-hub-signature-256", &good[..good.len() - 2])], "401 signature_invalid"),
        (&[("x-hub-signature-256", &format!("{good}00"))], "401 signature_invalid"),
        (&[("x-hub-signature-256", &upper)], "401 signature_invalid"),
        (&[("x-hub-signature-256", &good.replace("sha256", "SHA256"))], "401 signature_invalid"),
        (&[("x-hub-signature-256", &format!(" {good} x"))], "401 signature_invalid"),
        (&[("x-hub-signature-256", &signature("", BODY.as_bytes()))], "401 signature_invalid"),
        (&[("x-hub-signature-256", &signature("other", BODY.as_bytes()))], "401 signature_invalid"),
        (&[("x-hub-signature-256", &good), ("x-hub-signature-256", &good)], "401 signature_invalid"),
        (&[("x-hub-signature-256", &good), ("x-spellbook-signature-256", &good)], "401 signature_invalid"),
        (&[("x-spellbook-signature-256", &good), ("x-github-delivery", "a\tb")], "400 invalid_delivery_id"),
    ];
    for (headers, expect) in cases {
        let answer = call(&house, &path, headers, BODY).await;
        assert_eq!(answer.verdict(), *expect, "{headers:?}");
        assert!(stored(&house).await.is_empty(), "{headers:?}");
    }
    for name in ["x-hub-signature-256", "x-spellbook-signature-256"] {
        let other = format!(r#"{{"via":"{name}"}}"#);
        let answer =
            call(&house, &path, &[(name, &signature(SECRET, other.as_bytes()))], other.clone()).await;
        assert_eq!((answer.verdict().as_str(), answer.text()), ("202", r#"{"duplicate":false}"#));
        assert_eq!(stored(&house).await, [other.into_bytes()]);
    }
}

#[tokio::test]
async fn without_a_secret_nobody_is_let_in() {
    let house = House::new();
    let repository = watched(&house).await;
    let path = format!("/hooks/remotes/{}", repository.id);
    let nowhere = "/hooks/remotes/repo_0198000000007000800000000000002a".to_owned();
    for key in ["", "none", SECRET] {
        set(&house, repository.id, "WEBHOOK_SECRET", "");
        let headers = &[("x-hub-signature-256", &*signature(key, BODY.as_bytes()))];
        for path in
            [&path, &nowhere, &"/hooks/remotes/1".to_owned(), &"/hooks/daemons/ada/book/review".to_owned()]
        {
            assert_eq!(
                call(&house, path, headers, BODY).await.verdict(),
                "401 signature_invalid",
                "{path} {key:?}"
            );
        }
    }
    house.secrets.0.lock().unwrap().clear();
    let headers = &[("x-hub-signature-256", &*signature("none", BODY.as_bytes()))];
    assert_eq!(call(&house, &path, headers, BODY).await.verdict(), "401 signature_invalid");
    assert!(stored(&house).await.is_empty());
}

#[tokio::test]
async fn the_bytes_are_what_is_signed() {
    let house = House::new();
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let bodies: [&[u8]; 4] = [
        b"{ \"a\" :\t1,\r\n \"a\": 2 }\n",
        br#"{"x":"\u00fc\u0041","y":1.0}"#,
        "{\"ü\":\"\u{2028}\"}".as_bytes(),
        b"  {}  \r\n\r\n",
    ];
    for body in bodies {
        let signed = signature(SECRET, body);
        let mut other = body.to_vec();
        *other.last_mut().unwrap() ^= 1;
        let answer = call(&house, &path, &[("x-hub-signature-256", &signed)], other).await;
        assert_eq!(answer.verdict(), "401 signature_invalid");
        assert_eq!(
            call(&house, &path, &[("x-hub-signature-256", &signed)], body.to_vec()).await.verdict(),
            "202"
        );
        assert_eq!(stored(&house).await, [body.to_vec()]);
    }
}

#[tokio::test]
async fn what_no_forge_sends_is_refused() {
    let house = House::new();
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: &[(&str, &str)] = &[
        ("", "400 invalid_json"),
        ("not json", "400 invalid_json"),
        ("payload=%7B%7D", "400 invalid_json"),
        (&deep, "400 invalid_json"),
        (r#"{"x":1e400}"#, "400 invalid_json"),
        (r#"{"x":"\ud800"}"#, "400 invalid_json"),
        ("\u{feff}{}", "400 invalid_json"),
        ("[]", "400 invalid_payload"),
        ("null", "400 invalid_payload"),
        (r#"{"commits":null}"#, "400 invalid_payload"),
        (r#"{"repository":[]}"#, "400 invalid_payload"),
    ];
    for (body, expect) in cases {
        let signed = signature(SECRET, body.as_bytes());
        let answer = call(&house, &path, &[("x-hub-signature-256", &signed)], (*body).to_owned()).await;
        assert_eq!(answer.verdict(), *expect, "{}", &body[..body.len().min(40)]);
        // Without a signature nothing is said about the body.
        assert_eq!(call(&house, &path, &[], (*body).to_owned()).await.verdict(), "401 signature_invalid");
    }
    assert!(stored(&house).await.is_empty());
}

#[tokio::test]
async fn the_same_delivery_is_stored_once() {
    let house = House::new();
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let signed = signature(SECRET, BODY.as_bytes());
    let ids: Vec<String> = (0..50).map(|n| format!("delivery-{}", n / 2)).collect();
    let headers: Vec<_> =
        ids.iter().map(|id| [("x-hub-signature-256", &*signed), ("x-github-delivery", id)]).collect();
    let answers =
        futures::future::join_all(headers.iter().map(|headers| call(&house, &path, headers, BODY))).await;
    let new = answers.iter().filter(|answer| answer.json()["duplicate"] == false).count();
    assert_eq!((answers.len(), new), (50, 1));
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(stored(&house).await.len(), 1);
    let late =
        call(&house, &path, &[("x-hub-signature-256", &signed), ("x-github-delivery", "new")], BODY).await;
    assert!(late.json()["first"].as_str().unwrap().starts_with("dlv_"));
}

#[tokio::test]
async fn a_body_has_a_bound_also_without_a_length() {
    let house = House::with(|settings| settings.hook_body = 1 << 20);
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let signed = signature(SECRET, b"");
    let pieces =
        futures::stream::iter((0..17).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10]))));
    let answer = call(&house, &path, &[("x-hub-signature-256", &signed)], Body::from_stream(pieces)).await;
    assert_eq!(answer.verdict(), "413 body_too_large");
    let broken = futures::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
    let answer = call(&house, &path, &[("x-hub-signature-256", &signed)], Body::from_stream(broken)).await;
    assert_eq!(answer.verdict(), "400 body_broken");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let house = House::with(|settings| settings.patience = std::time::Duration::from_millis(20));
    let path = format!("/hooks/remotes/{}", watched(&house).await.id);
    let signed = signature(SECRET, b"{}");
    let slow = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from("{")) })
        .chain(futures::stream::pending());
    let answer = call(&house, &path, &[("x-hub-signature-256", &signed)], Body::from_stream(slow)).await;
    assert_eq!(answer.verdict(), "408 request_timeout");
    assert!(stored(&house).await.is_empty());
}

/// A server with a daemon that has an endpoint of its own.
async fn endpoint(house: &House) -> Repository {
    let repository = build::repository(&*house.clock, "ada/book");
    let _ = house.store.repository_create(&repository).await.unwrap();
    let mut revision = build::revision(&*house.clock, &repository, "review", 1);
    let trigger = Trigger::on(TriggerKind::Webhook { secret: build::name("HOOK") });
    revision.content = build::content("review", 1, vec![trigger]);
    let plain = build::revision(&*house.clock, &repository, "plain", 1);
    let moved = Move {
        branch: "main",
        role: BranchRole::Deploy,
        at: 1,
        files: &[],
        revisions: vec![revision, plain],
    };
    house.advance(&repository, moved).await;
    set(house, repository.id, "HOOK", SECRET);
    repository
}

#[tokio::test]
async fn a_daemon_is_called_by_its_own_secret() {
    let house = House::new();
    let repository = endpoint(&house).await;
    set(&house, repository.id, "WEBHOOK_SECRET", "another");
    let headers = |key: &str| signature(key, BODY.as_bytes());
    let cases = [
        ("/hooks/daemons/ada/book/review", SECRET, "202"),
        ("/hooks/daemons/ADA/book/review", SECRET, "202"),
        ("/hooks/daemons/ada/book/review", "another", "401 signature_invalid"),
        ("/hooks/daemons/ada/book/plain", SECRET, "401 signature_invalid"),
        ("/hooks/daemons/ada/book/none", SECRET, "401 signature_invalid"),
        ("/hooks/daemons/ada/book/..", SECRET, "401 signature_invalid"),
        ("/hooks/daemons/ada/other/review", SECRET, "401 signature_invalid"),
        ("/hooks/daemons/ada/%2e%2e/review", SECRET, "401 signature_invalid"),
    ];
    for (path, key, expect) in cases {
        let answer = call(&house, path, &[("x-spellbook-signature-256", &headers(key))], BODY).await;
        assert_eq!(answer.verdict(), expect, "{path} {key}");
    }
    assert_eq!(stored(&house).await.len(), 1);
    // Any JSON will do for a daemon.
    let answer =
        call(&house, cases[0].0, &[("x-spellbook-signature-256", &signature(SECRET, b"[1]"))], "[1]").await;
    assert_eq!(answer.verdict(), "202");
}

#[tokio::test]
async fn a_signed_time_makes_the_same_body_new() {
    let house = House::new();
    endpoint(&house).await;
    let now = house.clock.now().millis() / 1000;
    let send = async |at: &str, signed_at: &str| {
        let signed = signature(SECRET, format!("{signed_at}.{BODY}").as_bytes());
        let headers = [("x-spellbook-signature-256", &*signed), ("x-spellbook-timestamp", at)];
        call(&house, "/hooks/daemons/ada/book/review", &headers, BODY).await
    };
    let at = |offset: i64| (now + offset).to_string();
    assert_eq!(send(&at(0), &at(0)).await.text(), r#"{"duplicate":false}"#);
    assert_eq!(send(&at(1), &at(1)).await.text(), r#"{"duplicate":false}"#);
    assert_eq!(send(&at(1), &at(1)).await.json()["duplicate"], true);
    assert_eq!(send(&at(2), &at(1)).await.verdict(), "401 signature_invalid");
    assert_eq!(send(&at(-301), &at(-301)).await.verdict(), "401 timestamp_stale");
    assert_eq!(send(&at(301), &at(301)).await.verdict(), "401 timestamp_stale");
    for odd in ["", "x", "1e9", "9223372036854775808", "-9223372036854775808"] {
        assert!(send(odd, odd).await.verdict().starts_with("401"), "{odd:?}");
    }
}

#[tokio::test]
async fn zendesk_signs_in_its_own_way() {
    let house = House::new();
    endpoint(&house).await;
    let now = house.clock.now();
    let sign = |text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    };
    let send = async |headers: &[(&str, &str)]| {
        call(&house, "/hooks/daemons/ada/book/review", headers, BODY).await.verdict()
    };
    let [signature, time] = ["x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"];
    let at = |seconds: i64| domain::time::Timestamp::from_millis(now.millis() + seconds * 1000).to_string();
    let fresh = at(0);
    let good = sign(&format!("{fresh}{BODY}"));
    assert_eq!(send(&[(signature, &good), (time, &fresh)]).await, "202");
    for (second, signed_at, expect) in [
        (at(1), at(0), "401 signature_invalid"),
        (at(-400), at(-400), "401 timestamp_stale"),
        (at(400), at(400), "401 timestamp_stale"),
        ("0h".to_owned(), "0h".to_owned(), "401 signature_invalid"),
        ("1700000000".to_owned(), "1700000000".to_owned(), "401 signature_invalid"),
    ] {
        let signed = sign(&format!("{signed_at}{BODY}"));
        assert_eq!(send(&[(signature, &signed), (time, &second)]).await, expect, "{second}");
    }
    // Without its time, with half of it, or with a second signature, it is none.
    let ours = self::signature(SECRET, BODY.as_bytes());
    let invalid = "401 signature_invalid";
    assert_eq!(send(&[(signature, &sign(BODY))]).await, invalid);
    assert_eq!(send(&[(signature, &good[..20]), (time, &fresh)]).await, invalid);
    assert_eq!(send(&[(signature, &good), (time, &fresh), (time, &fresh)]).await, invalid);
    let two = [(signature, &*good), (time, &*fresh), ("x-hub-signature-256", &*ours)];
    assert_eq!(send(&two).await, invalid);
}
