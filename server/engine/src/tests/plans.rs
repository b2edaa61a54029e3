//! What is said of a change to daemons before it is merged.

use domain::effect::{Act, Author, CheckConclusion, Effect, EffectKind};
use domain::name::Commit;
use domain::run::{Standing, Subject};
use ports::store::Outbox;
use serde_json::json;
use testkit::build;

use super::house::House;
use super::talk::Talk;
use crate::plan::{self, Plan};

const REVIEW: &str = "
  license: MIT
  on:
    comment: { command: review, roles: [write] }
    pull_request: { paths: [\"src/**\"] }
  permissions: { network: { allowed: [api.example.com] } }
  limits: { timeout: 10m, cost: \"$0.50\" }
  stages:
    - { name: Ask, agent: small, prompt_template: Look at it. }
    - { name: Agree, type: approval, required: 2, groups: [owners] }
    - { name: Write, script: say one }
  outcomes:
    - add-comment: { body: Fine }
    - create-pull-request: { title: Fix }
";

const WIDER: &str = "
  license: Apache-2.0
  price: { amount: 5, currency: USD, model: monthly }
  on:
    comment: { command: review, roles: [read] }
    schedule: { cron: \"0 9 * * 1\" }
  permissions:
    contents: write
    network: { allowed: [cdn.example.com, api.example.com] }
    secrets: [TOKEN]
  limits: { timeout: 5m }
  stages:
    - { name: Ask, agent: small, prompt_template: Look closer. , tools: [read, run] }
    - { name: Call, type: http, request: { url: \"https://api.example.com/\", headers: { Authorization: \"${secrets.TOKEN}\" } } }
    - { name: Write, script: say two, timeout: 1m }
  outcomes:
    - add-comment: { body: Fine, max: 3 }
    - create-pull-request: { title: Fix it, protected_files: allowed }
    - add-labels: { labels: [seen] }
";

fn daemon(id: &str, body: &str) -> (String, String) {
    (format!("daemons/{id}/daemon.yaml"), format!("daemon:\n  name: {id}\n{body}"))
}

/// A book, and the commits of a change to it.
async fn changed(files: &[(String, String)]) -> (House, Commit, Commit) {
    let house =
        House::new(&[("review", REVIEW), ("other", "\n  stages: [{ name: A, script: say a }]")]).await;
    let base = house.head().await.expect("main is there");
    let head = house.commit(files, Some(&base));
    (house, base, head)
}

async fn planned(house: &House, base: &Commit, head: &Commit) -> Option<Plan> {
    plan::of(&house.world, &house.repository, base, head)
        .await
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

#[tokio::test]
async fn a_plan_says_what_a_daemon_may_do_first() {
    let other = daemon("other", "\n  stages: [{ name: A, script: say b }]");
    let (house, base, head) = changed(&[daemon("review", WIDER), daemon("new", REVIEW), other]).await;
    house.ended("other", &json!({})).await;
    let plan = planned(&house, &base, &head).await.expect("it touches daemons");
    assert!(plan.is_valid(), "{plan:#?}");
    insta::assert_snapshot!("plan_markdown", plan::markdown(&plan));
    insta::assert_snapshot!("plan_text", plan::text(&plan));
}

#[tokio::test]
async fn what_is_taken_away_is_said_too() {
    let (house, base, head) = changed(&[daemon("review", WIDER), daemon("new", REVIEW)]).await;
    // The other way round the new daemon goes, and the wider one is narrowed.
    let plan = planned(&house, &head, &base).await.expect("it touches daemons");
    insta::assert_snapshot!(plan::text(&plan));
}

#[tokio::test]
async fn a_change_of_anything_else_has_no_plan() {
    let (house, base, head) = changed(&[("src/a.rs".to_owned(), "x".to_owned())]).await;
    assert_eq!(planned(&house, &base, &head).await, None);
    let head = house.commit(&[("spellbook.yaml".to_owned(), "license: MIT\n".to_owned())], Some(&base));
    assert!(planned(&house, &base, &head).await.is_some(), "the other daemon has a licence now");
    let readme = ("daemons/other/README.md".to_owned(), "It says a.\n".to_owned());
    let next = house.commit(&[readme], Some(&head));
    let plan = planned(&house, &head, &next).await.expect("a file of a daemon differs");
    insta::assert_snapshot!(plan::text(&plan));
}

fn pull(head: &Commit) -> Subject {
    Subject {
        number: 7,
        commit: head.clone(),
        branch: build::name("try"),
        base: build::name("main"),
        standing: Standing::Stranger,
    }
}

/// The effects of a pull request, stored as its event stores them.
async fn effects(house: &House, head: &Commit) -> Vec<Effect> {
    let effects = plan::effects(&house.world, &house.repository, &pull(head)).await;
    let effects = effects.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    for effect in &effects {
        house.store.effect_record(effect, &effect.id.to_string()).await.unwrap();
    }
    effects
}

fn check(effects: &[Effect]) -> (CheckConclusion, Vec<String>) {
    let [comment, check] = effects else { panic!("a comment and a check: {effects:#?}") };
    assert_eq!((comment.key.as_str(), &comment.author), ("plan/7", &Author::Server { act: Act::Plan }));
    let EffectKind::AddComment { sticky: true, body, .. } = &comment.kind else { panic!("{comment:#?}") };
    let EffectKind::CreateCheck { name, conclusion, summary, annotations, .. } = &check.kind else {
        panic!("{check:#?}")
    };
    assert_eq!((name.as_str(), summary), ("spellbook/plan", body));
    let remarks = annotations.iter().map(|one| format!("{}:{} {}", one.path, one.start_line, one.message));
    (*conclusion, remarks.collect())
}

#[tokio::test]
async fn a_pull_request_has_one_comment_and_a_check() {
    let (house, base, nothing) = changed(&[("src/a.rs".to_owned(), "x".to_owned())]).await;
    assert_eq!(effects(&house, &nothing).await, [], "it touches no daemon");

    let broken = daemon("review", "\n  stagse: [{ name: A, script: say a }]");
    let broken = house.commit(&[broken], Some(&base));
    let said = effects(&house, &broken).await;
    let (conclusion, remarks) = check(&said);
    assert_eq!(conclusion, CheckConclusion::Failure);
    insta::assert_snapshot!(remarks.join("\n"));
    let EffectKind::AddComment { body, .. } = &said[0].kind else { panic!("{said:#?}") };
    insta::assert_snapshot!("plan_of_a_broken_daemon", body);

    let head = house.commit(&[daemon("review", WIDER)], Some(&base));
    let mended = house.commit(&[daemon("review", REVIEW)], Some(&head));
    let (conclusion, remarks) = check(&effects(&house, &mended).await);
    assert_eq!((conclusion, remarks), (CheckConclusion::Success, Vec::new()), "it is as it was");
    let EffectKind::AddComment { body, .. } = &effects(&house, &mended).await[0].kind else { panic!() };
    assert_eq!(body, "### Plan\n\nThis changes no daemon.\n");
}

#[tokio::test]
async fn what_the_base_got_since_is_not_in_the_plan() {
    let (house, base, head) = changed(&[daemon("other", "\n  stages: [{ name: B, script: say b }]")]).await;
    house.push(&[daemon("review", WIDER)], crate::reconcile::Pushed::default()).await;
    let said = effects(&house, &head).await;
    let EffectKind::AddComment { body, .. } = &said[0].kind else { panic!("{said:#?}") };
    assert!(body.contains("`other`") && !body.contains("review"), "{body}");
    assert_ne!(house.head().await, Some(base));
}

#[tokio::test]
async fn a_plan_is_told_whenever_commits_come() {
    let (house, base, wider) = changed(&[daemon("review", WIDER)]).await;
    let elsewhere = house.commit(&[("src/a.rs".to_owned(), "x".to_owned())], Some(&base));
    let talk = Talk::about_pull(house);
    for (action, head) in [("opened", &wider), ("assigned", &wider), ("synchronize", &elsewhere)] {
        talk.at(head, "eve", true);
        talk.pull(action, "eve", head).await;
    }
    insta::assert_snapshot!(talk.script(&[("WIDER", &wider), ("ELSEWHERE", &elsewhere)]).await);
}
