//! What a run wants done, and what it may not.

use domain::effect::EffectStatus;
use ports::store::Outbox;
use serde_json::json;

use super::house::House;

async fn check(file: &str, field: &str, expect: &str) {
    let daemon = format!(
        "
  stages: [{{ name: Write, script: put {file} word }}]
  outcomes: [create-pull-request: {{ title: Change{field} }}]
"
    );
    let house = House::new(&[("writer", &daemon)]).await;
    let ended = house.ended("writer", &json!({})).await;
    let effects = house.store.effect_list(ended.run.id).await.unwrap();
    let shown = match &effects[0].status {
        EffectStatus::Refused { reason } => reason.clone(),
        EffectStatus::Pending { .. } => "wanted".to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(shown, expect, "{file}{field}");
}

#[tokio::test]
async fn protected_files_are_changed_with_leave_only() {
    let refused = |file: &str, what: &str| {
        format!(
            "create-pull-request: `{file}` is {what}, and a daemon may change it only where the outcome says \
             `protected_files: allowed`"
        )
    };
    check("shared.txt", "", "wanted").await;
    check("CODEOWNERS", "", &refused("CODEOWNERS", "an order to a forge")).await;
    check("daemons/writer/new.txt", "", &refused("daemons/writer/new.txt", "a file of daemons")).await;
    check("CODEOWNERS", ", protected_files: blocked", &refused("CODEOWNERS", "an order to a forge")).await;
    check("CODEOWNERS", ", protected_files: allowed", "wanted").await;
}

/// What came of one outcome, `kind: fields`, of a daemon that a person runs.
async fn outcome(outcome: &str) -> String {
    let daemon = format!(
        "
  permissions: {{ contents: write }}
  stages: [{{ name: Write, script: put shared.txt word }}]
  outcomes: [{outcome}]
"
    );
    let house = House::new(&[("writer", &daemon)]).await;
    let ended = house.ended("writer", &json!({})).await;
    let effects = house.store.effect_list(ended.run.id).await.unwrap();
    match &effects[0].status {
        EffectStatus::Refused { reason } => reason.clone(),
        EffectStatus::Pending { .. } => {
            let mut shown = json!(effects[0].kind);
            shown.as_object_mut().unwrap().remove("commit");
            shown.to_string()
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_kind_says_what_it_wants() {
    let wants = [
        "create-issue: { title: Broken, title_prefix: \"[bot]\", body: It is, labels: [bug], key: \"a b\" }",
        "update-issue: { target: \"#4\", title: Mended, status: closed }",
        "add-labels: { target: 4, labels: [a, b] }",
        "add-reviewers: { target: 4, reviewers: [ada, acme/team] }",
        "set-status: { state: success, description: Fine }",
        "create-release: { tag: v1.2.0, body: News, draft: true }",
    ];
    let mut shown = Vec::new();
    for wanted in wants {
        shown.push(outcome(wanted).await);
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn what_cannot_be_wanted_is_refused_with_its_reason() {
    for (wanted, expect) in [
        (
            "add-labels: { labels: [a] }",
            "add-labels: the run is about no issue and no pull request; name one by `target`",
        ),
        (
            "add-labels: { target: soon, labels: [a] }",
            "add-labels: `target` is `soon`, not the number of a thread",
        ),
        ("push-to-pull-request-branch: {}", "push-to-pull-request-branch: the run is about no pull request"),
        (
            "add-comment: { body: \"key AKIAABCDEFGHIJKLMNOP\" }",
            "add-comment: `body` holds what looks like a key of AWS",
        ),
        (
            "create-issue: { title: \"-----BEGIN RSA PRIVATE KEY-----\" }",
            "create-issue: `title` holds what looks like a private key",
        ),
    ] {
        assert_eq!(outcome(wanted).await, expect, "{wanted}");
    }
}
