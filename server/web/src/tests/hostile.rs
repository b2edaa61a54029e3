//! Bad input: each gets its own words, the right status and a stable code.

use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{Method, header};
use domain::access::Role;
use serde_json::json;

use super::house::{Answer, House, request};
use crate::rate::Rate;

async fn send(house: &House, request: Builder, content_type: &str, body: impl Into<Body>) -> Answer {
    house.send(request.header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()).await
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_words() {
    let house = House::with(|settings| settings.api_body = 10_000);
    let admin = house.token("root", Role::Admin).await;
    let json = "application/json";
    let deep =
        format!("{{\"daemon\":\"a/b/c\",\"inputs\":{{\"x\":{}{}}}}}", "[".repeat(4000), "]".repeat(4000));
    let long = "x".repeat(10_001);
    let cases: &[(Method, &str, &str, &str, &str)] = &[
        (Method::POST, "/api/v1/runs", json, "{", "400 invalid_json"),
        (Method::POST, "/api/v1/runs", json, "", "400 invalid_json"),
        (Method::POST, "/api/v1/runs", json, &deep, "400 invalid_json"),
        (
            Method::POST,
            "/api/v1/runs",
            json,
            r#"{"daemon":"a/b/c","inputs":{"x":1e400}}"#,
            "400 invalid_json",
        ),
        (
            Method::POST,
            "/api/v1/runs",
            json,
            r#"{"daemon":"a/b/c","inputs":{"x":"\ud800"}}"#,
            "400 invalid_json",
        ),
        (Method::POST, "/api/v1/runs", json, "[]", "422 invalid_body"),
        (Method::POST, "/api/v1/runs", json, "{}", "422 invalid_body"),
        (Method::POST, "/api/v1/runs", json, r#"{"daemon":1}"#, "422 invalid_body"),
        (Method::POST, "/api/v1/runs", json, r#"{"daemon":"a/b/c","daemon":"a/b/d"}"#, "422 invalid_body"),
        (Method::POST, "/api/v1/runs", json, r#"{"daemon":"a/b/c","input":{}}"#, "422 invalid_body"),
        (Method::POST, "/api/v1/runs", json, r#"{"daemon":"../../etc"}"#, "400 invalid_parameter"),
        (
            Method::POST,
            "/api/v1/runs",
            json,
            r#"{"daemon":"a/b/c@--upload-pack=x"}"#,
            "400 invalid_parameter",
        ),
        (Method::POST, "/api/v1/runs", "text/plain", "{}", "415 unsupported_media_type"),
        (
            Method::POST,
            "/api/v1/runs",
            "application/x-www-form-urlencoded",
            "daemon=x",
            "415 unsupported_media_type",
        ),
        (Method::POST, "/api/v1/runs", json, &long, "413 body_too_large"),
        (Method::PUT, "/api/v1/runs", json, "{}", "405 method_not_allowed"),
        (Method::GET, "/api/v1/nothing", json, "", "404 not_found"),
        (Method::GET, "/api/v1/runs/", json, "", "404 not_found"),
        (Method::GET, "/api/v1//runs", json, "", "404 not_found"),
        (Method::GET, "/api/v1/../v1/runs", json, "", "404 not_found"),
        (Method::GET, "/api/v1/repositories/%ff/x", json, "", "404 not_found"),
        (Method::GET, "/api/v1/repositories/..%2f/x", json, "", "404 not_found"),
    ];
    for (method, path, content_type, body, expect) in cases {
        let answer =
            send(&house, request(method.clone(), path, &admin), content_type, (*body).to_owned()).await;
        assert_eq!(answer.verdict(), *expect, "{method} {path} {}", &body[..body.len().min(60)]);
        assert_eq!(answer.header("allow").is_empty(), !expect.starts_with("405"), "{method} {path}");
    }
}

#[tokio::test]
async fn parameters_are_names_and_numbers_or_refused() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let lists = ["runs", "daemons", "repositories"];
    for sql in ["'", "1' OR '1'='1", "x'); DROP TABLE runs; --", "%00", "a b", "-x", "..", &"9".repeat(40)] {
        let sql: String = sql.replace(' ', "+").replace('\'', "%27").replace(';', "%3B");
        for list in lists {
            let answer = house.get(&format!("/api/v1/{list}?after={sql}"), &viewer).await;
            assert_eq!(answer.verdict(), "400 invalid_cursor", "{list} {sql}");
            let answer = house.get(&format!("/api/v1/{list}?limit={sql}"), &viewer).await;
            assert_eq!(answer.verdict(), "400 invalid_limit", "{list} {sql}");
        }
        for filter in ["repository", "daemon", "status", "event"] {
            let answer = house.get(&format!("/api/v1/runs?{filter}={sql}"), &viewer).await;
            let name = filter == "daemon" && sql.bytes().all(|b| b.is_ascii_digit());
            assert_eq!(
                answer.verdict(),
                if name { "200" } else { "400 invalid_parameter" },
                "{filter} {sql}"
            );
        }
    }
    for (path, expect) in [
        ("runs?limit=0", "400 invalid_limit"),
        ("runs?limit=201", "400 invalid_limit"),
        ("runs?limit=-1", "400 invalid_limit"),
        ("runs?limit=1e2", "400 invalid_limit"),
        ("runs?limit=1&limit=2", "400 invalid_query"),
        ("runs?statsu=failed", "400 invalid_query"),
        ("runs?status=failed%ff", "400 invalid_parameter"),
        ("runs?after=evt_0198000000007000800000000000002a", "400 invalid_cursor"),
        ("runs?repository=ada/none", "404 not_found"),
        ("runs?status=failed&limit=200", "200"),
        ("repositories/ada/none/comments?thread=1&commit=x", "404 not_found"),
    ] {
        assert_eq!(house.get(&format!("/api/v1/{path}"), &viewer).await.verdict(), expect, "{path}");
    }
}

#[tokio::test]
async fn ids_of_nothing_are_not_found_for_every_verb() {
    let house = House::new();
    house.repository("ada/book", &[]).await;
    let admin = house.token("root", Role::Admin).await;
    let whole = "0198000000007000800000000000002a";
    for id in [
        format!("run_{whole}"),
        format!("evt_{whole}"),
        "run_".to_owned(),
        "1".to_owned(),
        "%2e%2e".to_owned(),
        "a%00b".to_owned(),
    ] {
        for (method, path) in [
            (Method::GET, "runs/ID"),
            (Method::GET, "runs/ID/logs"),
            (Method::GET, "runs/ID/events"),
            (Method::GET, "runs/ID/journal"),
            (Method::GET, "runs/ID/execution"),
            (Method::GET, "runs/ID/stages/x/diff"),
            (Method::GET, "runs/ID/effects"),
            (Method::POST, "runs/ID/cancel"),
            (Method::POST, "runs/ID/replays"),
            (Method::POST, "runs/ID/effects/x/promote"),
            (Method::DELETE, "tokens/ID"),
            (Method::GET, "revisions/ID"),
            (Method::GET, "revisions/ID/diff?from=rev_x"),
            (Method::GET, "revisions/ID/plan?from=rev_x"),
            (Method::GET, "repositories/ada/book/proposals/ID"),
            (Method::POST, "repositories/ada/book/proposals/ID/merge"),
            (Method::POST, "repositories/ada/book/proposals/ID/close"),
            (Method::GET, "repositories/ada/book/commits/ID/checks"),
            (Method::GET, "repositories/ada/ID/branches"),
            (Method::GET, "repositories/ada/book/daemons/ID"),
            (Method::POST, "repositories/ada/ID/sync"),
        ] {
            let path = format!("/api/v1/{}", path.replace("ID", &id));
            let answer = send(&house, request(method.clone(), &path, &admin), "application/json", "{}").await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        if !id.starts_with("evt_0") {
            assert_eq!(
                house.get(&format!("/api/v1/events/{id}/matches"), &admin).await.verdict(),
                "404 not_found"
            );
        }
    }
    for number in ["0", "-1", "1.0", "18446744073709551615", "99999999999999999999", "1%20"] {
        let path = format!("/api/v1/repositories/ada/book/proposals/{number}");
        assert_eq!(house.get(&path, &admin).await.verdict(), "404 not_found", "{number}");
    }
}

#[tokio::test]
async fn addresses_that_lead_astray_are_not_watched() {
    let house = House::new();
    let maintainer = house.token("mia", Role::Maintainer).await;
    let add = async |origin: serde_json::Value| {
        house
            .post("/api/v1/repositories", &maintainer, &json!({ "path": "ada/book", "origin": origin }))
            .await
    };
    for url in
        ["ext::sh -c id", "file:///etc", "--upload-pack=x", "https://user:hunter2@host/a", "http://host/a"]
    {
        let answer = add(json!({ "kind": "watched", "url": url })).await;
        assert_eq!(answer.verdict(), "422 remote_refused", "{url}");
        assert!(!answer.text().contains("hunter2"), "a credential is said back");
    }
    for origin in [
        json!({ "kind": "stolen" }),
        json!({ "kind": "watched" }),
        json!({ "kind": "hosted", "url": "x" }),
        json!("x"),
    ] {
        assert_eq!(add(origin).await.verdict(), "422 invalid_body");
    }
    let odd = json!({ "kind": "watched", "url": "https://host/a", "credential": "A B" });
    assert_eq!(add(odd).await.verdict(), "400 invalid_parameter");
    let fine = add(json!({ "kind": "watched", "url": "https://host/a", "credential": "TOKEN" })).await;
    assert_eq!((fine.verdict().as_str(), fine.header("location")), ("201", "/api/v1/repositories/ada/book"));
    assert_eq!(add(json!({ "kind": "hosted" })).await.verdict(), "409 repository_exists");
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let house = House::with(|settings| {
        settings.address_rate = Some(Rate { per_second: 1, burst: 5 });
        settings.token_rate = Some(Rate { per_second: 1, burst: 2 });
    });
    let (ada, bob) = (house.token("ada", Role::Viewer).await, house.token("bob", Role::Viewer).await);
    let me = async |token: &str| house.get("/api/v1/me", token).await;
    assert_eq!(me(&ada).await.verdict(), "200");
    assert_eq!(me(&ada).await.verdict(), "200");
    assert_eq!(me(&ada).await.verdict(), "429 rate_limited");
    assert_eq!(me(&bob).await.verdict(), "200");
    assert_eq!(me(&bob).await.verdict(), "200");
    // Now the address has used up its share, whoever asks; health is always told.
    let last = me("").await;
    assert_eq!((last.verdict().as_str(), last.header("retry-after")), ("429 rate_limited", "1"));
    assert_eq!(house.get("/healthz", "").await.verdict(), "200");
    house.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(me(&ada).await.verdict(), "200");
}

#[tokio::test]
async fn callers_behind_a_proxy_are_told_apart() {
    let behind = |edit: fn(&mut crate::doors::Settings)| {
        House::with(move |settings| {
            settings.address_rate = Some(Rate { per_second: 1, burst: 1 });
            edit(settings);
        })
    };
    let ask = async |house: &House, from: &str| {
        let request = request(Method::GET, "/api/v1/me", "").header("x-forwarded-for", from);
        house.send(request.body(Body::empty()).unwrap()).await.verdict()
    };
    let (fresh, busy) = ("401 token_missing", "429 rate_limited");
    let house = behind(|settings| settings.client_address = crate::doors::ClientAddress::Forwarded);
    for (from, expect) in [
        ("192.0.2.1", fresh),
        ("192.0.2.1", busy),
        ("::ffff:192.0.2.1", busy),
        ("198.51.100.7, 192.0.2.1", busy),
        ("192.0.2.1, 192.0.2.2", fresh),
        ("2001:db8:1:2::1", fresh),
        ("2001:db8:1:2:ffff::2", busy),
        ("2001:db8:1:3::1", fresh),
        ("nonsense", fresh),
        ("other nonsense", busy),
    ] {
        assert_eq!(ask(&house, from).await, expect, "{from}");
    }
    // Without a proxy the header is anybody's, and counts for nothing.
    let house = behind(|_| {});
    assert_eq!(ask(&house, "192.0.2.1").await, fresh);
    assert_eq!(ask(&house, "192.0.2.2").await, busy);
}

#[tokio::test]
async fn a_panic_is_an_answer_and_says_nothing() {
    let house = House::telling(|settings| settings.public_metrics = true, || panic!("s3cret"));
    let answer = house.get("/metrics", "").await;
    assert_eq!(answer.verdict(), "500 internal");
    assert!(!answer.text().contains("s3cret"));
    assert_eq!(answer.header("x-request-id").len(), 32);
    assert_eq!(house.get("/healthz", "").await.verdict(), "200");
}

#[tokio::test]
async fn the_end_of_time_breaks_nothing() {
    let house = House::new();
    let admin = house.token("root", Role::Admin).await;
    house.clock.set(domain::time::Timestamp::from_millis(i64::MAX));
    assert_eq!(house.get("/api/v1/me", &admin).await.verdict(), "200");
    assert_eq!(
        house.post("/api/v1/tokens", &admin, &json!({ "label": "x", "days": 3650 })).await.verdict(),
        "201"
    );
}

#[tokio::test]
async fn answers_are_compressed_when_asked() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let ask = |path: &str| request(Method::GET, path, &viewer).header(header::ACCEPT_ENCODING, "gzip");
    let answer = house.send(ask("/api/v1/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.body[..2], [0x1f, 0x8b]);
}

#[tokio::test]
async fn problems_read_well() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let mut told = String::new();
    for (path, token) in [
        ("/api/v1/me", ""),
        ("/api/v1/accounts", &*viewer),
        ("/api/v1/runs?limit=9999", &viewer),
        ("/api/v1/runs?colour=red", &viewer),
        ("/api/v1/runs?status=done", &viewer),
        ("/api/v1/runs?daemon=Review", &viewer),
        ("/api/v1/runs/run_1", &viewer),
        ("/api/v1/repositories/ada/none", &viewer),
        ("/nowhere", ""),
    ] {
        let answer = house.get(path, token).await;
        answer.verdict();
        told += &format!("GET {path}\n{:#}\n\n", answer.json());
    }
    let answer = house.post("/api/v1/tokens", &viewer, &json!({ "name": "x" })).await;
    answer.verdict();
    told += &format!("POST /api/v1/tokens\n{:#}\n", answer.json());
    insta::assert_snapshot!(told);
}
