//! Which runs go one after the other.

use serde_json::json;

use super::house::House;
use crate::replay;

const ONE_AT_A_TIME: &str = "
  concurrency: { group: g, limit: 1, behavior: fail }
  stages:
    - { name: Only, script: say done }
";

/// Calls itself once.
const TWICE: &str = r#"
  inputs:
    - { name: depth, type: integer, default: 0 }
  concurrency: { group: g, limit: 1 }
  stages:
    - { name: Again, if: "depth == 0", type: daemon, uses: ./twice, inputs: { depth: 1 } }
    - { name: Last, script: say done }
"#;

const CALLER: &str = "
  stages:
    - { name: Call, type: daemon, uses: ./one }
";

#[tokio::test]
async fn a_replay_is_of_its_daemons_group() {
    let house = House::new(&[("one", ONE_AT_A_TIME)]).await;
    let first = house.ended("one", &json!({})).await;
    let holder = house.start("one", &json!({})).await;
    let request =
        replay::Request { run: first.run.id, from_stage: None, agent: None, actor: testkit::build::actor() };
    let replayed = replay::start(&house.world, request).await.unwrap().run;
    let refused = house.end_of(replayed).await.outcome();
    assert_eq!(refused, "skipped: the concurrency group `one@main/g` is full (limit 1)");
    house.work().await;
    assert_eq!(house.end_of(holder).await.outcome(), "succeeded");
}

#[tokio::test]
async fn a_called_run_is_of_its_daemons_group() {
    let house = House::new(&[("one", ONE_AT_A_TIME), ("caller", CALLER)]).await;
    let caller = house.start("caller", &json!({})).await;
    let holder = house.start("one", &json!({})).await;
    house.work_once().await;
    assert_eq!(house.run(caller).await.state.status().as_str(), "queued", "what it called has ended at once");
    house.work().await;
    assert_eq!(house.end_of(holder).await.outcome(), "succeeded");
    assert_eq!(house.statuses("one").await, ["succeeded", "skipped"]);
}

#[tokio::test]
async fn a_caller_and_its_callee_share_a_group_of_one() {
    let house = House::new(&[("twice", TWICE)]).await;
    let runs = [house.start("twice", &json!({})).await, house.start("twice", &json!({})).await];
    house.work().await;
    for run in runs {
        assert_eq!(house.end_of(run).await.to_string(), "succeeded (Again succeeded, Last succeeded)");
    }
    assert_eq!(house.statuses("twice").await, ["succeeded"; 4]);
}
