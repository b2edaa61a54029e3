//! Runs that are ended: by a person, by their time limit, by the end of their worker.

use std::time::Duration;

use domain::id::RunId;
use domain::run::RunState;
use ports::clock::Clock;
use ports::store::Runs;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::house::House;
use crate::intake;
use crate::work::{Left, WorkOutcome};

/// Works on a run of these stages; once the journal has so many entries someone asks it to end, again
/// for each number. Gives how it ended.
async fn cancelled(stages: &str, when: &[usize]) -> String {
    let house = House::new(&[("test", stages)]).await;
    let run = house.start("test", &json!({})).await;
    let asking = async {
        for recorded in when {
            hanging(&house, run, *recorded).await;
            intake::cancel(&house.world, run, "ada").await.unwrap();
        }
    };
    tokio::join!(house.work(), asking);
    house.end_of(run).await.to_string()
}

/// Waits until so much is recorded and a further stage has spoken.
async fn hanging(house: &House, run: RunId, recorded: usize) {
    house
        .until(async |house| {
            let journal = house.store.run_journal(run).await.unwrap().len();
            let spoken = house.sandbox.jails().len();
            (journal >= recorded && spoken > recorded).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_cancelled_run_cleans_up() {
    let stages = "
  stages:
    - { name: Hang, script: hang }
    - { name: Next, script: say never }
    - { name: Always, needs: [Next], if: always(), script: say cleaned }
    - { name: Cancelled, needs: [Always], if: cancelled(), script: say cleaned }
    - { name: Failure, needs: [Hang], if: failure(), script: say never }
    - { name: Beside, needs: [Failure], script: say never }
  on_failure:
    - { name: Tell, script: say never }
";
    let end = cancelled(stages, &[0]).await;
    // `Beside` and `Always` have no order between them.
    let beside = "Beside cancelled, Always succeeded";
    assert_eq!(
        end.replace("Always succeeded, Beside cancelled", beside),
        format!(
            "cancelled: cancelled by ada (Hang cancelled, Next cancelled, Failure skipped, {beside}, Cancelled succeeded)"
        )
    );
}

#[tokio::test]
async fn who_asks_twice_is_not_let_wait() {
    let stages = "
  stages:
    - { name: Hang, script: hang }
    - { name: Clean, if: always(), script: hang }
    - { name: More, if: always(), script: say never }
";
    let end = cancelled(stages, &[0, 1]).await;
    assert_eq!(end, "cancelled: cancelled by ada (Hang cancelled, Clean cancelled, More cancelled)");
}

#[tokio::test]
async fn what_cleans_up_may_fail() {
    let stages = "
  stages:
    - { name: Hang, script: hang }
    - { name: Clean, if: always(), script: fail }
    - { name: More, if: cancelled(), script: say cleaned }
";
    let end = cancelled(stages, &[0]).await;
    assert_eq!(end, "cancelled: cancelled by ada (Hang cancelled, Clean failed, More succeeded)");
}

#[tokio::test]
async fn items_clean_up_after_themselves() {
    let stages = r#"
  stages:
    - name: Each
      type: foreach
      items: "${fromJSON('[1]')}"
      stages:
        - { name: Hang, script: hang }
        - { name: Clean, if: always(), script: say cleaned }
"#;
    let end = cancelled(stages, &[0]).await;
    assert_eq!(
        end,
        "cancelled: cancelled by ada (Each[0]/Hang cancelled, Each[0]/Clean succeeded, Each cancelled)"
    );
}

#[tokio::test]
async fn a_run_whose_time_is_up_cleans_up() {
    let check = async |limit: &str, clean: &str, expect: &str| {
        let stages = format!(
            "
  limits: {{ timeout: {limit} }}
  stages:
    - {{ name: Hang, continue_on_error: true, script: hang }}
    - {{ name: Next, script: say never }}
    - {{ name: Clean, if: always(), script: {clean} }}
  on_failure:
    - {{ name: Tell, script: say told }}
"
        );
        let house = House::new(&[("test", &stages)]).await;
        assert_eq!(house.ended("test", &json!({})).await.to_string(), expect);
    };
    check(
        "1s",
        "say cleaned",
        "timed_out: Hang: the run took longer than its time limit of 1 s (Hang timed_out, Next cancelled, \
         Clean succeeded, on_failure/Tell succeeded)",
    )
    .await;
    check(
        "1s",
        "hang",
        "timed_out: Hang: the run took longer than its time limit of 1 s (Hang timed_out, Next cancelled, \
         Clean timed_out, on_failure/Tell cancelled)",
    )
    .await;
}

#[tokio::test]
async fn a_worker_that_stops_cleans_nothing_up_and_the_next_one_does() {
    let stages = "
  stages:
    - { name: Hang, script: hang }
    - { name: Clean, if: always(), script: say cleaned }
";
    let house = House::new(&[("test", stages)]).await;
    let run = house.start("test", &json!({})).await;
    let shutdown = CancellationToken::new();
    let stopping = async {
        hanging(&house, run, 0).await;
        shutdown.cancel();
    };
    let (left, ()) = tokio::join!(house.work_until(&shutdown), stopping);
    assert_eq!(left, WorkOutcome::Worked { run, left: Left::Released });
    assert!(house.store.run_journal(run).await.unwrap().is_empty());

    // It has begun, so that whoever cancels it now lets it clean up.
    intake::cancel(&house.world, run, "ada").await.unwrap();
    house.work().await;
    let end = house.end_of(run).await.to_string();
    assert_eq!(end, "cancelled: cancelled by ada (Hang cancelled, Clean succeeded)");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_in_time_and_not_before() {
    let house = House::new(&[("test", "\n  stages:\n    - { name: Hang, script: hang }\n")]).await;
    let run = house.start("test", &json!({})).await;
    let shutdown = CancellationToken::new();
    let until = async || match house.run(run).await.state {
        RunState::Running { lease } => lease.until,
        other => panic!("{other:?}"),
    };
    let watching = async {
        hanging(&house, run, 0).await;
        let (lease, taken) = (house.world.settings.lease, until().await);
        house.clock.advance(Duration::from_secs(1));
        let pass = async |time| {
            tokio::time::advance(time).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        pass(lease / 4).await;
        assert_eq!(until().await, taken);
        pass(lease / 4).await;
        assert_eq!(until().await, house.clock.now().after(lease));
        shutdown.cancel();
    };
    let (left, ()) = tokio::join!(house.work_until(&shutdown), watching);
    assert_eq!(left, WorkOutcome::Worked { run, left: Left::Released });
}

/// A caller that takes 50 minutes itself, of the hour that it has.
fn caller(callee: &str) -> String {
    format!(
        "
  limits: {{ timeout: 1h }}
  stages:
    - {{ name: First, script: take 50 }}
    - {{ name: Call, type: daemon, uses: ./{callee} }}
    - {{ name: Last, script: say done }}
    - {{ name: Clean, if: always(), script: say cleaned }}
"
    )
}

#[tokio::test]
async fn the_time_of_a_run_is_that_of_all_its_attempts_and_of_the_runs_that_it_calls() {
    let check = async |minutes: u64, waits: u64, expect: &str| {
        let callee = format!("\n  stages:\n    - {{ name: Only, script: take {minutes} }}\n");
        let house = House::new(&[("callee", &callee), ("caller", &caller("callee"))]).await;
        let run = house.start("caller", &json!({})).await;
        house.work_once().await;
        // In the queue: it does not count.
        house.clock.advance(Duration::from_secs(60 * waits));
        house.work().await;
        assert_eq!(house.end_of(run).await.to_string(), expect, "the callee takes {minutes} minutes");
    };
    check(5, 90, "succeeded (First succeeded, Call succeeded, Last succeeded, Clean succeeded)").await;
    check(
        20,
        0,
        "timed_out: the run took longer than its time limit of 60 min (First succeeded, Call cancelled, \
         Last cancelled, Clean succeeded)",
    )
    .await;
}

#[tokio::test]
async fn a_called_run_ends_with_the_time_of_its_caller() {
    let callee = "\n  stages:\n    - { name: Only, script: say never }\n";
    let late = caller("callee").replace("take 50", "take 70");
    let house = House::new(&[("callee", callee), ("caller", &late)]).await;
    house.start("caller", &json!({})).await;
    house.work().await;
    assert_eq!(house.statuses("callee").await, ["timed_out"]);
    assert_eq!(house.statuses("caller").await, ["timed_out"]);
}
