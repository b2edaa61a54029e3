//! What is asked: roles, pull requests, what happened lately, where this server is at home.

use std::time::Duration;

use domain::effect::CommentTarget;
use domain::name::Commit;
use forge_github::{Access, BuildError, Config, GitHub, Surroundings, app_manifest, register};
use ports::clock::Clock;
use ports::forge::{Forge, Offer};
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::conformance::effects::{comment, offer};
use testkit::emulate::KEY;
use testkit::hub::{ADA, BOT, ISSUE, PULL, account, sha};

use crate::house::House;

#[tokio::test]
async fn roles_are_asked_for_each_time() {
    let house = House::new().await;
    let role = async |name: &str| house.forge.role(&house.repository, name).await.unwrap();
    assert_eq!(role("ada").await, None);
    for (said, expect) in [
        ("admin", Some("admin")),
        ("push", Some("write")),
        ("release-lead", Some("release-lead")),
        ("none", None),
    ] {
        house.gate.behind().hub.roles.insert("ada".to_owned(), said.to_owned());
        assert_eq!(role("ada").await.as_deref(), expect, "{said}");
    }
    house.gate.behind().hub.roles.insert("bob".to_owned(), "read".to_owned());
    assert_eq!(role("bob").await.as_deref(), Some("read"), "who may read what is private");
    house.gate.behind().hub.private = false;
    assert_eq!(role("bob").await, None, "everybody may");
    assert_eq!(role("eve/../../x?y").await, None);
}

#[tokio::test]
async fn a_pull_request_is_told_as_it_is_now() {
    let house = House::new().await;
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert_eq!((pull.head.as_str(), pull.from_fork, pull.open), (sha(2).as_str(), false, true));
    assert_eq!((pull.reference.as_str(), pull.author.as_str()), ("refs/pull/2/head", "ada"));
    assert_eq!(pull.payload["number"], PULL);
    house.gate.behind().hub.branches.insert("topic".to_owned(), sha(9));
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert_eq!(pull.head, Commit::parse(sha(9)).unwrap());
    house.gate.behind().hub.pulls.get_mut(&PULL).unwrap()["head"]["repo"] = json!(null);
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert!(pull.from_fork, "its repository is gone, so it was another");
    assert_eq!(house.forge.pull_request(&house.repository, 99).await.unwrap(), None);
}

#[tokio::test]
async fn a_renamed_repository_is_found_and_written_to() {
    let house = House::new().await;
    {
        let hub = &mut house.gate.behind().hub;
        (hub.path, hub.old_path) = ("acme/renamed".to_owned(), Some("acme/app".to_owned()));
        hub.roles.insert("ada".to_owned(), "write".to_owned());
    }
    assert_eq!(house.forge.role(&house.repository, "ada").await.unwrap().as_deref(), Some("write"));
    let effect = comment(CommentTarget::Thread { number: ISSUE }, "Hello.");
    house.done(&house.effect("x", effect)).await;
    house.done(&house.effect("pull/1", offer("one", 8))).await;
    let hub = &house.gate.behind().hub;
    assert_eq!((hub.comments.len(), hub.branches["spellbook/review/1"].as_str()), (1, sha(8).as_str()));
}

#[tokio::test]
async fn another_repository_of_the_old_name_is_not_it() {
    let house = House::new().await;
    // The token that was got under the old name is good for the new one too.
    house.forge.credential(&house.repository).await.unwrap();
    {
        let hub = &mut house.gate.behind().hub;
        (hub.path, hub.other_path) = ("acme/renamed".to_owned(), Some("acme/app".to_owned()));
        hub.roles.insert("ada".to_owned(), "write".to_owned());
    }
    house.gate.seen();
    assert_eq!(house.forge.role(&house.repository, "ada").await.unwrap().as_deref(), Some("write"));
    let asked = house.gate.seen();
    assert_eq!(
        asked.last().map(String::as_str),
        Some("GET /repos/acme/renamed/collaborators/ada/permission")
    );
}

#[tokio::test]
async fn a_token_for_reading_is_kept_for_some_minutes() {
    let house = House::new().await;
    let credential = async || {
        house.forge.credential(&house.repository).await.unwrap().expect("a token").expose_secret().to_owned()
    };
    let first = credential().await;
    assert_eq!(credential().await, first);
    house.clock.advance(Duration::from_secs(601));
    assert_ne!(credential().await, first);
    assert!(house.gate.behind().hub.tokens[&first]["contents"] == "read", "it cannot write");
    assert!(!format!("{:?}", house.forge).contains(&first), "no token is shown");
    assert!(!format!("{:?}", house.forge).contains("PRIVATE"), "nor the key");
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_replaced() {
    let house = House::new().await;
    house.gate.behind().hub.roles.insert("ada".to_owned(), "write".to_owned());
    let role = async || house.forge.role(&house.repository, "ada").await;
    role().await.unwrap();
    house.gate.behind().hub.tokens.clear();
    let error = role().await.expect_err("it is good no more");
    assert!(error.message.contains("401"), "{error}");
    assert_eq!(role().await.unwrap().as_deref(), Some("write"), "with another");
}

#[tokio::test]
async fn what_happened_is_told_under_the_keys_of_webhooks() {
    let house = House::new().await;
    let since = house.clock.advance(Duration::from_secs(60));
    {
        let hub = &mut house.gate.behind().hub;
        hub.now = since;
        hub.comment(ISSUE, ADA, "/spellbook help");
        let edited = hub.comment(ISSUE, ADA, "/spellbook run x");
        hub.comments.iter_mut().find(|comment| comment["id"] == edited).unwrap()["updated_at"] =
            json!("2026-12-01T00:00:00Z");
        hub.comment(ISSUE, BOT, "An answer.");
        let at = hub.time();
        hub.review_comments.push(json!({
            "id": 77, "user": account(ADA), "body": "/spellbook retry", "path": "a", "line": 3,
            "created_at": at, "updated_at": at, "pull_request_url": "https://hub/pulls/2",
        }));
        hub.new_thread(5, ADA, &json!({ "title": "New", "labels": ["bug"] }));
        hub.new_pull(6, ADA, &json!({ "title": "New", "head": "topic", "base": "main" }));
        hub.threads.get_mut(&PULL).unwrap()["updated_at"] = json!(at);
        let thread = hub.threads[&5].clone();
        hub.events.push(json!({ "event": "labeled", "label": { "name": "bug" }, "issue": thread, "actor": account(ADA), "created_at": at }));
        hub.events.push(json!({ "event": "labeled", "label": { "name": "gone" }, "issue": thread, "actor": account(ADA), "created_at": at }));
        hub.releases.push(json!({ "id": 4, "tag_name": "v1", "published_at": at, "author": account(ADA) }));
    }
    let facts = house.forge.recent(&house.repository, since).await.unwrap();
    let told: Vec<String> = facts
        .iter()
        .map(|fact| format!("{} {}{}", fact.key, fact.actor.name, if fact.actor.bot { " (bot)" } else { "" }))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    let again = house.forge.recent(&house.repository, since).await.unwrap();
    assert_eq!(again, facts, "twice the same");
    assert!(
        house.forge.recent(&house.repository, since.after(Duration::from_secs(1))).await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn it_is_at_home_where_the_app_is_installed() {
    let house = House::new().await;
    let places = house.forge.places().await.unwrap().expect("an app knows");
    let [found] = &places[..] else { panic!("one repository: {places:?}") };
    assert_eq!((found.place.path.as_str(), found.place.id), ("acme/app", 7));
    assert!(found.url.ends_with("/acme/app.git"));
    let url = found.url.clone();
    assert_eq!(house.forge.place(&url).await.unwrap().as_ref(), Some(found));
    assert_eq!(house.forge.place(url.trim_end_matches(".git")).await.unwrap().as_ref(), Some(found));
    assert_eq!(house.forge.place("https://elsewhere.example/acme/app").await.unwrap(), None);
    assert_eq!(house.forge.place(&url.replace("app", "none")).await.unwrap(), None);

    let house = House::with(Access::Token { token: "ghp_plain".into(), account: None }).await;
    assert_eq!(house.forge.places().await.unwrap(), None, "a token does not say");
    assert_eq!(house.forge.known_own().map(|own| own.id), Some(BOT), "but whose it is");
    assert_eq!(house.forge.redeliver(house.clock.now()).await.unwrap(), 0);
}

#[tokio::test]
async fn whose_account_it_is_is_asked_once() {
    for access in [
        Access::App { id: "Iv1.abc".to_owned(), key: KEY.into() },
        Access::Token { token: "ghp_plain".into(), account: None },
    ] {
        let house = House::with(access).await;
        let own = house.forge.own_account(&house.repository).await.unwrap().expect("it has one");
        assert_eq!((own.id, own.name.as_str(), own.handle()), (BOT, "spellbook[bot]", "spellbook"));
        house.gate.seen();
        house.forge.own_account(&house.repository).await.unwrap();
        assert!(house.gate.seen().is_empty());
        let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
        assert_eq!(pull.author_id, Some(ADA));
    }
}

#[tokio::test]
async fn its_own_open_pull_requests_are_counted() {
    let house = House::new().await;
    assert_eq!(house.forge.offers(&house.repository).await.unwrap(), [], "ada's does not count");
    let effect = house.effect("pull/1", offer("one", 8));
    house.done(&effect).await;
    let offers = async || house.forge.offers(&house.repository).await.unwrap();
    let number = offers().await[0].number;
    assert_eq!(offers().await, [Offer { number, key: Some("review/pull/1".to_owned()) }]);
    house.gate.behind().hub.threads.get_mut(&number).unwrap()["body"] = json!("Mine now.");
    assert_eq!(offers().await, [Offer { number, key: None }]);
    house.gate.behind().hub.threads.get_mut(&number).unwrap()["state"] = json!("closed");
    assert_eq!(offers().await, []);
}

#[tokio::test]
async fn what_never_arrived_is_asked_for_again() {
    let house = House::new().await;
    let delivery = |id: u64, guid: &str, code: u16, at: &str| json!({ "id": id, "guid": guid, "status_code": code, "delivered_at": at, "event": "push" });
    house.gate.behind().hub.deliveries = vec![
        delivery(26, "d", 502, "2026-11-22T09:50:00Z"),
        delivery(25, "c", 500, "2026-11-22T09:45:00Z"),
        delivery(24, "b", 202, "2026-11-22T09:40:00Z"),
        delivery(23, "c", 500, "2026-11-22T09:35:00Z"),
        delivery(22, "b", 500, "2026-11-22T09:30:00Z"),
        delivery(21, "a", 500, "2026-11-22T08:00:00Z"),
    ];
    let since = house.clock.now();
    let since = domain::time::Timestamp::from_millis(since.millis() - 3_600_000);
    assert_eq!(house.forge.redeliver(since).await.unwrap(), 2);
    assert_eq!(house.gate.behind().hub.again, [25, 26], "not what arrived since, nor what is too old");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let house = House::new().await;
    let build = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::new(Access::App { id: "1".to_owned(), key: KEY.into() });
        change(&mut config);
        let surroundings = Surroundings { clock: house.clock.clone(), source: house.gate.clone() };
        GitHub::build(config, surroundings).map(drop)
    };
    assert!(build(&|_| {}).is_ok());
    for url in ["http://ghe.example.com", "ghe", "https://me:pw@ghe.example.com", "https://x/?y", "file:///x"]
    {
        let error = build(&|config| config.api_url = url.to_owned()).expect_err(url);
        assert!(matches!(error, BuildError::Address { .. }), "{error}");
    }
    let token = |token: &str| Access::Token { token: token.into(), account: None };
    assert!(matches!(build(&|config| config.access = token("ghp_x\n")), Err(BuildError::Token)));
    let key = Access::App { id: "1".to_owned(), key: "no key".into() };
    assert!(matches!(build(&|config| config.access = key.clone()), Err(BuildError::Key(_))));
}

#[tokio::test]
async fn an_app_is_made_from_its_description() {
    insta::assert_json_snapshot!(app_manifest(
        "https://spellbook.example/",
        "Spellbook of Acme",
        "github",
        "http://127.0.0.1:9000/made"
    ));
    let house = House::new().await;
    let mut config = Config::new(Access::App { id: "1".to_owned(), key: KEY.into() });
    config.api_url = house.url.clone();
    let made = register(&config, "c0de").await.unwrap();
    assert_eq!((made.id, made.slug.as_str(), made.key.expose_secret()), (12, "spellbook", "a key"));
    let error = register(&config, "used/up").await.expect_err("it is used up");
    assert!(error.message.contains("good once"), "{error}");
}
