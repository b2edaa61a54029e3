//! What is asked of the forge, and what is made of its answers.

use std::time::Duration;

use forge_forgejo::Forgejo;
use forge_remote::{BuildError, Surroundings};
use ports::clock::Clock;
use ports::forge::{Forge, Host, Understood};
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::build;

use crate::house::House;
use crate::hub::{ADA, ISSUE, OWN, PULL, TOKEN, account};

#[tokio::test]
async fn roles_are_asked_for() {
    let house = House::new().await;
    for (name, role) in [("ada", "owner"), ("bob", "write"), ("eve", "read"), ("joe", "admin")] {
        house.gate.behind().roles.insert(name.to_owned(), role.to_owned());
    }
    let role = async |name: &str| house.forge.role(&house.repository, name).await.unwrap();
    assert_eq!(role("ada").await.as_deref(), Some("admin"));
    assert_eq!(role("bob").await.as_deref(), Some("write"));
    assert_eq!(role("eve").await.as_deref(), Some("read"));
    assert_eq!(role("joe").await.as_deref(), Some("admin"));
    assert_eq!((role("stranger").await, role("nobody").await, role("../x").await), (None, None, None));
    house.gate.behind().private = false;
    assert_eq!(role("eve").await, None, "as everybody");
    house.gate.behind().is_admin = false;
    let error = house.forge.role(&house.repository, "ada").await.expect_err("it may not ask");
    assert!(error.message.ends_with("make spellbook one"), "{error}");
}

#[tokio::test]
async fn a_pull_request_is_as_it_is_now() {
    let house = House::new().await;
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert_eq!((pull.head, pull.branch.as_str(), pull.base.as_str()), (build::commit(2), "topic", "main"));
    assert_eq!((pull.from_fork, pull.open, pull.author.as_str()), (false, true, "ada"));
    assert_eq!(pull.reference, "refs/pull/2/head");
    insta::assert_json_snapshot!(pull.payload);
    house.gate.behind().pulls.get_mut(&PULL).unwrap()["head"]["repo"] = json!(null);
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert!(pull.from_fork, "a repository that is gone was another");
    assert_eq!(house.forge.pull_request(&house.repository, 99).await.unwrap(), None);
}

#[tokio::test]
async fn a_repository_is_known_by_its_number() {
    let house = House::new().await;
    {
        let mut hub = house.gate.behind();
        (hub.path, hub.other_path) = ("acme/renamed".to_owned(), Some("acme/app".to_owned()));
        hub.roles.insert("ada".to_owned(), "write".to_owned());
    }
    assert_eq!(house.forge.role(&house.repository, "ada").await.unwrap().as_deref(), Some("write"));
    let asked = house.gate.seen();
    assert_eq!(asked.last().unwrap(), "GET /repos/acme/renamed/collaborators/ada/permission");
}

#[tokio::test]
async fn it_is_at_home_where_it_is_told() {
    let house = House::new().await;
    let comment = json!({ "action": "created", "sender": account(OWN), "issue": { "number": 1 },
        "comment": { "id": 5 }, "repository": { "id": 7, "full_name": "acme/app" } });
    let comment = serde_json::to_vec(&comment).unwrap();
    let understood = || house.forge.understand("issue_comment", &comment, house.clock.now());
    assert!(matches!(understood(), Understood::About { .. }), "it does not know itself yet");
    assert_eq!(house.forge.places().await.unwrap(), None, "a token does not say");
    assert!(matches!(understood(), Understood::Ignored(_)), "but whose it is");
    let url = format!("{}/acme/app", house.url);
    let found = house.forge.place(&url).await.unwrap().expect("it is there");
    assert_eq!((found.place.path.as_str(), found.place.id), ("acme/app", 7));
    assert_eq!(found.url, format!("{url}.git"), "and not where the answer says");
    assert_eq!(house.forge.place(&format!("{url}.git")).await.unwrap(), Some(found));
    for elsewhere in ["https://elsewhere.example/acme/app", "nonsense", &format!("{url}/src/main")] {
        assert_eq!(house.forge.place(elsewhere).await.unwrap(), None, "{elsewhere}");
    }
    let credential = house.forge.credential(&house.repository).await.unwrap().expect("a token");
    assert_eq!(credential.expose_secret(), TOKEN);
    assert!(!format!("{:?}", house.forge).contains(TOKEN), "it is not shown");
    assert_eq!(house.forge.redeliver(house.clock.now()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_happened_is_told_under_the_keys_of_webhooks() {
    let house = House::new().await;
    let since = house.clock.advance(Duration::from_secs(60));
    {
        let mut hub = house.gate.behind();
        hub.now = since;
        hub.comment(ISSUE, ADA, "/spellbook help");
        hub.comment(PULL, ADA, "/spellbook retry");
        let edited = hub.comment(ISSUE, ADA, "/spellbook run x");
        hub.comments.iter_mut().find(|comment| comment["id"] == edited).unwrap()["updated_at"] =
            json!("2026-12-01T00:00:00Z");
        hub.comment(ISSUE, OWN, "An answer.");
        hub.labels.push(json!({ "id": 5, "name": "bug" }));
        hub.new_thread(5, ADA, &json!({ "title": "New", "labels": [5] }));
        hub.new_pull(6, ADA, &json!({ "title": "New", "head": "topic", "base": "main" }));
        let at = hub.time();
        hub.threads.get_mut(&PULL).unwrap()["updated_at"] = json!(at);
        for (name, body) in [("bug", "1"), ("bug", ""), ("gone", "1")] {
            hub.timeline.push(json!({ "type": "label", "thread": 5, "body": body, "label": { "name": name },
                "user": account(ADA), "created_at": at }));
        }
        hub.releases.push(json!({ "id": 4, "tag_name": "v1", "published_at": at, "author": account(ADA) }));
        hub.releases.push(json!({ "id": 5, "tag_name": "v2", "published_at": at, "draft": true }));
    }
    let facts = house.forge.recent(&house.repository, since).await.unwrap();
    let told: Vec<String> = facts.iter().map(|fact| format!("{} {}", fact.key, fact.actor.name)).collect();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(house.forge.recent(&house.repository, since).await.unwrap(), facts, "twice the same");
    let later = since.after(Duration::from_secs(1));
    assert!(house.forge.recent(&house.repository, later).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let house = House::new().await;
    let build = |url: &str, token: &str| {
        let config = Forgejo::config(build::name("codeberg"), url, token.into());
        let surroundings = Surroundings { clock: house.clock.clone(), source: house.gate.clone() };
        Forgejo::build(config, surroundings).map(drop)
    };
    assert!(build("https://codeberg.org/", "x").is_ok());
    for url in ["http://codeberg.org", "codeberg.org", "https://me:pw@codeberg.org", "https://x/?y"] {
        assert!(matches!(build(url, "x"), Err(BuildError::Address { .. })), "{url}");
    }
    assert!(matches!(build("https://codeberg.org", "x\n"), Err(BuildError::Token)));
}
