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
