//! Signing in, tokens, accounts.

use axum::body::Body;
use axum::http::{Method, header};
use domain::access::{Account, Role};
use domain::id::AccountId;
use ports::clock::Clock;
use ports::store::Accounts;
use serde_json::json;

use super::house::{House, request};

async fn account(house: &House, role: Role) -> Account {
    let account = Account {
        id: AccountId::new(house.clock.unique()),
        name: format!("some-{role}"),
        role,
        created_at: house.clock.now(),
    };
    let _ = house.store.account_create(&account).await.unwrap();
    account
}

#[tokio::test]
async fn a_one_time_token_is_exchanged_once() {
    let house = House::new();
    let admin = account(&house, Role::Admin).await;
    let once = house.token_of(&admin, |token| token.once = true).await;
    assert_eq!(house.get("/api/v1/me", &once).await.verdict(), "401 token_once");

    let body = json!({ "token": once });
    let exchanges = (0..20).map(|_| house.post("/api/v1/sign-in", "", &body));
    let answers = futures::future::join_all(exchanges).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(won.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.verdict(), "401 token_invalid");
    }
    let secret = won[0].json()["secret"].as_str().unwrap().to_owned();
    let me = house.get("/api/v1/me", &secret).await.json();
    assert_eq!((me["account"]["name"].as_str(), me["role"].as_str()), (Some("some-admin"), Some("admin")));
    // The tokens of those who came too late are gone again.
    assert_eq!(house.store.token_list(admin.id).await.unwrap().len(), 1);
    assert_eq!(
        house.post("/api/v1/sign-in", "", &json!({ "token": secret })).await.verdict(),
        "401 token_lasting"
    );
}

#[tokio::test]
async fn tokens_are_known_by_both_schemes_and_no_other() {
    use base64::Engine as _;
    let house = House::new();
    let token = house.token("ada", Role::Viewer).await;
    let basic = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let cases = [
        (vec![format!("Bearer {token}")], "200"),
        (vec![format!("bearer {token}")], "200"),
        (vec![format!("Basic {}", basic(&format!("anybody:{token}")))], "200"),
        (vec![], "401 token_missing"),
        (vec![format!("Bearer {token}x")], "401 token_invalid"),
        (vec!["Bearer ".to_owned()], "401 token_invalid"),
        (vec!["Bearer".to_owned()], "401 authorization_invalid"),
        (vec![format!("Token {token}")], "401 authorization_invalid"),
        (vec![format!("Basic {}", basic(&token))], "401 authorization_invalid"),
        (vec!["Basic %%%".to_owned()], "401 authorization_invalid"),
        (vec![format!("Bearer {token}"), format!("Bearer {token}")], "401 authorization_invalid"),
        (vec!["Bearer sb_' OR 1=1 --".to_owned()], "401 token_invalid"),
    ];
    for (headers, expect) in cases {
        let mut request = request(Method::GET, "/api/v1/me", "");
        for value in &headers {
            request = request.header(header::AUTHORIZATION, value);
        }
        let answer = house.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.verdict(), expect, "{headers:?}");
        let challenged = answer.header("www-authenticate").starts_with("Bearer");
        assert_eq!(challenged, expect.starts_with("401"), "{headers:?}");
        assert!(!answer.text().contains(&token), "a token is shown again");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time_or_when_revoked() {
    let house = House::new();
    let ada = account(&house, Role::Runner).await;
    let expires = house.clock.now().after(std::time::Duration::from_secs(60));
    let brief = house.token_of(&ada, |token| token.expires_at = Some(expires)).await;
    let lasting = house.token_of(&ada, |_| {}).await;
    assert_eq!(house.get("/api/v1/me", &brief).await.verdict(), "200");
    house.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(house.get("/api/v1/me", &brief).await.verdict(), "401 token_invalid");

    let me = house.get("/api/v1/me", &lasting).await.json();
    let path = format!("/api/v1/tokens/{}", me["token"].as_str().unwrap());
    let other = house.token("bob", Role::Maintainer).await;
    let revoke = |token: &str| house.send(request(Method::DELETE, &path, token).body(Body::empty()).unwrap());
    assert_eq!(revoke(&other).await.verdict(), "404 not_found");
    assert_eq!(revoke(&lasting).await.verdict(), "204");
    assert_eq!(house.get("/api/v1/me", &lasting).await.verdict(), "401 token_invalid");
}

#[tokio::test]
async fn nobody_gets_a_token_for_more_than_they_may() {
    let house = House::new();
    let runner = house.token("ada", Role::Runner).await;
    let admin = account(&house, Role::Admin).await;
    let narrow = house.token_of(&admin, |token| token.role = Role::Viewer).await;
    let cases = [
        (&runner, json!({ "label": "ci" }), "201"),
        (&runner, json!({ "label": "ci", "role": "viewer", "days": 30 }), "201"),
        (&runner, json!({ "label": "ci", "role": "admin" }), "403 role_missing"),
        (&narrow, json!({ "label": "ci", "role": "admin" }), "403 role_missing"),
        (&runner, json!({ "label": "ci", "role": "god" }), "400 invalid_role"),
        (&runner, json!({ "label": "ci", "days": 0 }), "400 invalid_days"),
        (&runner, json!({ "label": "  " }), "400 invalid_label"),
        (&runner, json!({ "label": "a\nb" }), "400 invalid_label"),
        (&runner, json!({ "label": "ci", "scope": "all" }), "422 invalid_body"),
    ];
    for (token, body, expect) in cases {
        assert_eq!(house.post("/api/v1/tokens", token, &body).await.verdict(), expect, "{body}");
    }
    // A list never holds what was shown once.
    let list = house.get("/api/v1/tokens", &runner).await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 3);
    assert!(!list.text().contains("sb_"));
}

#[tokio::test]
async fn an_administrator_lets_others_in() {
    let house = House::new();
    let admin = house.token("root", Role::Admin).await;
    let made = house.post("/api/v1/accounts", &admin, &json!({ "name": "ada", "role": "runner" })).await;
    assert_eq!(made.verdict(), "201");
    let way_in = made.json()["sign_in"].as_str().unwrap().to_owned();
    let signed_in = house.post("/api/v1/sign-in", "", &json!({ "token": way_in, "label": "laptop" })).await;
    let ada = signed_in.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(house.get("/api/v1/me", &ada).await.json()["role"], "runner");

    let again = house.post("/api/v1/accounts", &admin, &json!({ "name": "ADA", "role": "admin" })).await;
    assert_eq!(again.verdict(), "409 account_exists");
    assert_eq!(
        house.post("/api/v1/accounts", &ada, &json!({ "name": "eve", "role": "admin" })).await.verdict(),
        "403 role_missing"
    );
    for name in ["", "a b", "../x", "a--b", "ada@example.com"] {
        let answer = house.post("/api/v1/accounts", &admin, &json!({ "name": name, "role": "viewer" })).await;
        assert_eq!(answer.verdict(), "400 invalid_parameter", "{name}");
    }
    assert_eq!(house.post("/api/v1/accounts/ada/sign-in", &admin, &json!({})).await.verdict(), "201");
    assert_eq!(
        house.post("/api/v1/accounts/eve/sign-in", &admin, &json!({})).await.verdict(),
        "404 not_found"
    );
}
