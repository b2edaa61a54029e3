//! What is asked of the forge, and what is made of its answers.

use std::time::Duration;

use forge_gitlab::GitLab;
use forge_remote::{BuildError, Surroundings};
use ports::clock::Clock;
use ports::forge::{Forge, Host, Understood};
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::build;

use crate::house::House;
use crate::hub::{ADA, BOB, ISSUE, ISSUE_IID, OWN, PULL, TOKEN, account};

#[tokio::test]
async fn roles_are_asked_for() {
    let house = House::new().await;
    let role = async |name: &str| house.forge.role(&house.repository, name).await.unwrap();
    for (level, expect) in [
        (5, None),
        (10, Some("read")),
        (20, Some("triage")),
        (30, Some("write")),
        (40, Some("maintain")),
        (50, Some("admin")),
    ] {
        house.gate.behind().levels.insert(ADA, level);
        assert_eq!(role("ada").await.as_deref(), expect, "{level}");
    }
    assert_eq!((role("bob").await, role("nobody").await, role("../x&y").await), (None, None, None));
    house.gate.behind().levels.insert(BOB, 10);
    house.gate.behind().visibility = "public";
    assert_eq!(role("bob").await, None, "as everybody");
}

#[tokio::test]
async fn a_merge_request_is_as_it_is_now() {
    let house = House::new().await;
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert_eq!((pull.head, pull.branch.as_str(), pull.base.as_str()), (build::commit(2), "topic", "main"));
    assert_eq!((pull.from_fork, pull.open, pull.author.as_str()), (false, true, "ada"));
    assert_eq!(pull.reference, "refs/merge-requests/1/head");
    insta::assert_json_snapshot!(pull.payload);
    house.gate.behind().threads.get_mut(&("merge_requests".to_owned(), PULL)).unwrap()["source_project_id"] =
        json!(8);
    let pull = house.forge.pull_request(&house.repository, PULL).await.unwrap().expect("it is there");
    assert!(pull.from_fork);
    for number in [99, ISSUE] {
        assert_eq!(house.forge.pull_request(&house.repository, number).await.unwrap(), None);
    }
}

#[tokio::test]
async fn it_is_at_home_where_it_is_told() {
    let house = House::new().await;
    let comment = json!({ "user": account(OWN), "issue": { "iid": 1 },
        "object_attributes": { "id": 5, "note": "x", "noteable_type": "Issue" },
        "project": { "id": 7, "path_with_namespace": "acme/team/app" } });
    let comment = serde_json::to_vec(&comment).unwrap();
    let understood = || house.forge.understand("note", &comment, house.clock.now());
    assert!(matches!(understood(), Understood::About { .. }), "it does not know itself yet");
    assert_eq!(house.forge.places().await.unwrap(), None, "a token does not say");
    assert!(matches!(understood(), Understood::Ignored(_)), "but whose it is");
    let url = format!("{}/acme/team/app", house.url);
    assert_eq!(house.forge.issue_number(ISSUE_IID), ISSUE, "its issues are counted apart");
    let found = house.forge.place(&url).await.unwrap().expect("it is there");
    assert_eq!((found.place.path.as_str(), found.place.id), ("acme/team/app", 7));
    assert_eq!(found.url, format!("{url}.git"), "and not where the answer says");
    assert_eq!(house.forge.place(&format!("{url}.git")).await.unwrap(), Some(found));
    for elsewhere in ["https://elsewhere.example/acme/app", "nonsense", &format!("{url}/-/tree/main")] {
        assert_eq!(house.forge.place(elsewhere).await.unwrap(), None, "{elsewhere}");
    }
    house.gate.behind().path = "acme/renamed".to_owned();
    house.gate.behind().levels.insert(ADA, 30);
    assert_eq!(house.forge.role(&house.repository, "ada").await.unwrap().as_deref(), Some("write"));
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
        let at = hub.time();
        hub.note("issues", ISSUE_IID, ADA, "/spellbook help");
        hub.note("merge_requests", PULL, ADA, "/spellbook retry");
        let at_line = hub.note("merge_requests", PULL, ADA, "/spellbook run x");
        let edited = hub.note("issues", ISSUE_IID, ADA, "/spellbook run y");
        let internal = hub.note("issues", ISSUE_IID, ADA, "/spellbook run z");
        hub.note("issues", ISSUE_IID, OWN, "An answer.");
        for note in &mut hub.notes {
            if note["id"] == at_line {
                (note["type"], note["position"]) =
                    (json!("DiffNote"), json!({ "new_path": "a", "new_line": 3 }));
            } else if note["id"] == edited {
                note["updated_at"] = json!("2026-12-01T00:00:00.000Z");
            } else if note["id"] == internal {
                note["internal"] = json!(true);
            }
        }
        hub.new_thread("issues", 5, ADA, &json!({ "title": "New", "labels": "bug" }));
        hub.new_thread("issues", 6, ADA, &json!({ "title": "Hidden" }));
        hub.threads.get_mut(&("issues".to_owned(), 6)).unwrap()["confidential"] = json!(true);
        let offer = json!({ "title": "New", "source_branch": "main", "target_branch": "main" });
        hub.new_thread("merge_requests", 6, ADA, &offer);
        let merged = hub.threads.get_mut(&("merge_requests".to_owned(), PULL)).unwrap();
        (merged["state"], merged["merged_at"], merged["updated_at"]) =
            (json!("merged"), json!(at), json!(at));
        merged["merged_by"] = account(BOB);
        for (name, action) in [("bug", "add"), ("bug", "remove"), ("gone", "add")] {
            hub.label_events
                .push(json!({ "kind": "issues", "iid": 5, "action": action, "user": account(ADA),
                "label": { "name": name }, "created_at": at }));
        }
        hub.releases.push(json!({ "tag_name": "v1", "released_at": at, "author": account(ADA) }));
        hub.releases.push(json!({ "tag_name": "v0", "released_at": "2020-01-01T00:00:00.000Z" }));
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
        let config = GitLab::config(build::name("gitlab"), url, token.into());
        let surroundings = Surroundings { clock: house.clock.clone(), source: house.gate.clone() };
        GitLab::build(config, surroundings).map(drop)
    };
    assert!(build("https://gitlab.com/", "x").is_ok());
    assert!(matches!(build("http://gitlab.com", "x"), Err(BuildError::Address { .. })));
    assert!(matches!(build("https://gitlab.com", "x\n"), Err(BuildError::Token)));
}
