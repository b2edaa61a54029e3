//! Consent: what a repository does not want is not done there, and all else is.

use domain::effect::{EffectKind, EffectStatus};
use domain::repository::Origin;
use ports::store::{Outbox, Repositories};
use serde_json::json;

use super::house::House;
use crate::outbox::{self, OutboxOutcome};
use crate::reconcile::Pushed;

const WRITER: &str = "
  permissions: { contents: write }
  inputs: [{ name: key, default: one }]
  stages: [{ name: Write, script: put new.txt word }]
  outcomes:
    - create-pull-request: { title: Change, key: \"${key}\", labels: [own] }
    - add-comment: { body: Said. }
    - create-issue: { title: Broken, body: Look. }
    - create-check: { name: writer }
";

async fn house() -> House {
    House::new(&[("writer", WRITER)]).await
}

async fn policy(house: &House, text: &str) {
    let pushed = Pushed { branches: vec![], actor: None, skip_runs: true };
    house.push(&[(manifest::POLICY.to_owned(), text.to_owned())], pushed).await;
}

/// A run, and what became of each thing that it wanted.
async fn came(house: &House, key: &str) -> Vec<String> {
    let run = house.ended("writer", &json!({ "key": key })).await.run;
    perform(house).await;
    let effects = house.store.effect_list(run.id).await.unwrap();
    let shown = effects.into_iter().map(|effect| match effect.status {
        EffectStatus::Done { .. } => "done".to_owned(),
        EffectStatus::Refused { reason } => reason,
        other => format!("{other:?}"),
    });
    shown.collect()
}

async fn perform(house: &House) {
    while outbox::next(&house.world, house.worker).await.unwrap() != OutboxOutcome::Empty {}
}

const ALL: [&str; 4] = ["done"; 4];

fn refused(rule: &str) -> String {
    format!("`.spellbook/policy.yaml` of the repository does not allow it: `{rule}`")
}

#[tokio::test]
async fn what_is_not_wanted_is_not_done() {
    let house = house().await;
    assert_eq!(came(&house, "one").await, ALL, "nothing is said");
    policy(&house, "bots: deny\n").await;
    assert_eq!(came(&house, "one").await, ["bots: deny"; 4].map(refused));
    policy(&house, "comments: deny\nissues: deny\n").await;
    let expect = ["done", &refused("comments: deny"), &refused("issues: deny"), "done"];
    assert_eq!(came(&house, "one").await, expect, "other effects go on");
    policy(&house, "daemons: { block: writer }\n").await;
    assert_eq!(came(&house, "one").await, ["daemons.block: writer"; 4].map(refused));
    policy(&house, "daemons: { allow: [\"ada/book/*\"] }\n").await;
    assert_eq!(came(&house, "one").await, ALL);
}

#[tokio::test]
async fn only_so_many_pull_requests_are_open() {
    let house = house().await;
    policy(&house, "pull_requests: { max_open: 1, labels: [automated, own] }\n").await;
    assert_eq!(came(&house, "one").await, ALL);
    let more = "`.spellbook/policy.yaml` of the repository allows no more: `pull_requests.max_open: 1`, and 1 are open";
    assert_eq!(came(&house, "two").await, [more, "done", "done", "done"]);
    assert_eq!(came(&house, "one").await, ALL, "what is open is brought up to date");
    for effect in house.forge.performed() {
        if let EffectKind::CreatePullRequest { labels, .. } = effect.kind {
            assert_eq!(labels, ["own", "automated"]);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_understood_allows_nothing() {
    let house = house().await;
    policy(&house, "bot: deny\n").await;
    let came = came(&house, "one").await;
    assert_eq!(came.len(), 4);
    for reason in came {
        assert!(reason.contains("so nothing is done here until it is mended (SB0101, line 1:"), "{reason}");
    }
}

#[tokio::test]
async fn what_was_pushed_a_moment_ago_counts() {
    let mut house = house().await;
    let head = house.head().await.unwrap();
    house.move_out(&head).await;
    assert_eq!(came(&house, "one").await, ALL);
    let run = house.ended("writer", &json!({})).await.run;
    let closed = house.commit(&[(manifest::POLICY.to_owned(), "bots: deny\n".to_owned())], Some(&head));
    let there = house.store.repository_get(house.repository.id).await.unwrap().unwrap();
    let Origin::Watched { url, .. } = there.origin else { panic!("it is elsewhere") };
    let receive = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack";
    house.git(&["push", "--quiet", receive, &url, &format!("{closed}:refs/heads/main")]);
    assert_eq!(house.head().await, Some(head), "nobody has looked yet");
    perform(&house).await;
    for effect in house.store.effect_list(run.id).await.unwrap() {
        assert_eq!(effect.status, EffectStatus::Refused { reason: refused("bots: deny") });
    }
}
