//! The published document, and what every door in it has in common.

use axum::body::Body;
use axum::http::{Method, header};
use domain::access::{Reach, Role};
use ports::store::Accounts;
use serde_json::Value as Json;

use super::house::{House, request};

/// Every operation of the document: method, path with its parameters filled in, the operation.
fn operations() -> Vec<(Method, String, Json)> {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let mut filled = path.clone();
            for (name, value) in [
                ("owner", "ada"),
                ("name", "book"),
                ("daemon", "review"),
                ("number", "1"),
                ("file", "daemon.v1.json"),
                ("run", "run_0198000000007000800000000000002a"),
                ("event", "evt_0198000000007000800000000000002a"),
                ("revision", "rev_0198000000007000800000000000002a"),
                ("token", "tok_0198000000007000800000000000002a"),
                ("budget", "bud_0198000000007000800000000000002a"),
                ("effect", "eff_0198000000007000800000000000002a"),
                ("stage", "One"),
                ("variable", "counter"),
                ("commit", "0123456789abcdef0123456789abcdef01234567"),
                ("forge", "github"),
                ("repository", "repo_0198000000007000800000000000002a"),
            ] {
                filled = filled.replace(&format!("{{{name}}}"), value);
            }
            assert!(!filled.contains('{'), "{filled}");
            operations.push((method.to_uppercase().parse().unwrap(), filled, operation.clone()));
        }
    }
    operations
}

/// Whether an operation says that it needs no token.
fn is_open(operation: &Json) -> bool {
    operation["security"] == serde_json::json!([{}])
}

async fn try_out(house: &House, method: Method, path: &str, token: &str) -> super::house::Answer {
    let request = request(method, path, token).header(header::CONTENT_TYPE, "application/json");
    house.send(request.body(Body::from("{}")).unwrap()).await
}

#[test]
fn the_document_is_the_published_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/openapi.json");
    let document = crate::openapi().to_pretty_json().unwrap() + "\n";
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var_os("SPELLBOOK_BLESS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        published == document,
        "schema/openapi.json is not what the code says; SPELLBOOK_BLESS=1 writes it anew"
    );
}

#[test]
fn the_document_is_whole() {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} names two operations");
        assert!(operation["summary"].is_string(), "{method} {path} is not described");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is used and not described");
    }
    for (name, schema) in schemas {
        assert!(!name.ends_with("Json"), "{name} is a name of the code, not of the API");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let parts = schema["oneOf"].as_array().into_iter().flatten().chain([schema]);
            let described =
                parts.into_iter().any(|part| part["description"].is_string() || part["$ref"].is_string());
            assert!(described, "{name}.{field} is not described");
        }
    }
}

#[tokio::test]
async fn strangers_come_in_only_where_the_document_says_so() {
    for public_read in [false, true] {
        let house = House::with(|settings| settings.public_read = public_read);
        for (method, path, operation) in operations() {
            let answer = try_out(&house, method.clone(), &path, "").await;
            let people =
                ["/api/v1/me", "/api/v1/tokens", "/api/v1/accounts", "/api/v1/deliveries", "/metrics"];
            let money = ["/api/v1/budgets", "/api/v1/budgets/history", "/api/v1/spend"];
            let closed = people.iter().chain(&money).any(|closed| *closed == path);
            let reads = method == Method::GET && !closed && !path.ends_with("/state/counter");
            if is_open(&operation) || public_read && (reads || path == "/api/v1/validate") {
                assert_ne!(answer.json()["code"], "token_missing", "{method} {path}");
            } else {
                assert_eq!(answer.verdict(), "401 token_missing", "{method} {path}");
                assert!(answer.header("www-authenticate").starts_with("Bearer "), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn viewers_change_nothing() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let runner = house.token("rune", Role::Runner).await;
    let own = ["/api/v1/sign-in", "/api/v1/tokens", "/api/v1/validate"];
    let run = ["estimate_run", "start_run", "cancel_run", "replay_run", "create_proposal"];
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        if method == Method::GET || is_open(&operation) || own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        assert_eq!(
            try_out(&house, method.clone(), &path, &viewer).await.verdict(),
            "403 role_missing",
            "{id}"
        );
        let answer = try_out(&house, method.clone(), &path, &runner).await;
        assert_eq!(answer.verdict() == "403 role_missing", !run.contains(&id), "{id}");
    }
    assert_eq!(house.get("/api/v1/accounts", &runner).await.verdict(), "403 role_missing");
}

#[tokio::test]
async fn a_confined_token_opens_few_doors() {
    let house = House::with(|settings| settings.public_read = true);
    let ada = house.token("ada", Role::Admin).await;
    let account = house.store.account_find("ada").await.unwrap().unwrap();
    let reach = Some(Reach::new(vec!["ada/book/review".to_owned()]));
    let confined = house.token_of(&account, |token| token.reach = reach).await;
    let open = [
        "get_me",
        "revoke_token",
        "start_run",
        "get_run",
        "cancel_run",
        "get_journal",
        "read_logs",
        "follow_run",
        "list_effects",
        "list_artifacts",
        "read_artifact",
        "validate_files",
    ];
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        let verdict = try_out(&house, method.clone(), &path, &confined).await.verdict();
        let whole = try_out(&house, method, &path, &ada).await.verdict();
        if open.contains(&id) || is_open(&operation) {
            assert_eq!(verdict, whole, "{id}");
        } else {
            assert_eq!(verdict, "403 token_confined", "{id}");
        }
    }
    let git = "/git/ada/book.git/info/refs?service=git-upload-pack";
    let answer = house.get(git, &confined).await;
    assert_eq!((answer.status.as_u16(), answer.text().contains("token_confined")), (403, true), "{answer:?}");
    assert_eq!(house.post("/mcp", &confined, &serde_json::json!({})).await.verdict(), "403 token_confined");
}

#[tokio::test]
async fn every_answer_is_guarded_and_named() {
    let house = House::new();
    let admin = house.token("root", Role::Admin).await;
    let mut ids = std::collections::BTreeSet::new();
    let odd = [
        (Method::GET, "/nowhere"),
        (Method::PUT, "/api/v1/runs"),
        (Method::OPTIONS, "/api/v1/runs"),
        (Method::GET, "/git/x"),
    ];
    let all = operations().into_iter().map(|(method, path, _)| (method, path));
    for (method, path) in all.chain(odd.map(|(method, path)| (method, path.to_owned()))) {
        let request = request(method.clone(), &path, &admin)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ORIGIN, "https://evil.example")
            .header("x-request-id", "mine");
        let answer = house.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'",
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.header("cache-control").is_empty(), "{path}");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{path}");
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
        assert!(ids.insert(answer.header("x-request-id").to_owned()), "{path}: the same id twice");
        assert!(answer.status != 500, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn the_doors_of_an_operator_answer() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    assert_eq!(house.get("/healthz", "").await.json()["status"], "ok");
    assert_eq!(house.get("/readyz", "").await.json()["version"], "0.0.0-test");
    assert_eq!(house.get("/metrics", &viewer).await.text(), "spellbook_up 1\n");
    for (file, title) in
        [("daemon.v1.json", "daemon"), ("spellbook.v1.json", "properties"), ("policy.v1.json", "bots")]
    {
        let answer = house.get(&format!("/schema/{file}"), "").await;
        assert_eq!(answer.header("content-type"), "application/schema+json");
        assert!(answer.json()["$schema"].is_string() && answer.text().contains(title));
    }
    assert_eq!(house.get("/schema/..%2f..%2fetc%2fpasswd", "").await.verdict(), "404 not_found");
    assert_eq!(house.get("/api/v1/openapi.json", "").await.json()["openapi"], "3.1.0");
    house.closing.cancel();
    assert_eq!(house.get("/readyz", "").await.verdict(), "503 closing");
    assert_eq!(house.get("/healthz", "").await.verdict(), "200");
    let open = House::with(|settings| settings.public_metrics = true);
    assert_eq!(open.get("/metrics", "").await.verdict(), "200");
}
