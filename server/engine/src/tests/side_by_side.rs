//! Stages that run at the same time, and a worker that dies between their ends.

use std::sync::Arc;

use async_trait::async_trait;
use domain::money::NanoUsd;
use ports::models::{Answer, Drawing, Drawn, ModelError, Models, Question};
use ports::store::Runs;
use serde_json::json;
use testkit::ScriptedModels;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::house::House;

/// Two models: `slow` answers when it may, `quick` once `slow` was asked.
#[derive(Debug, Default, Clone)]
struct Pair {
    slow_may_answer: CancellationToken,
    slow_is_asked: CancellationToken,
}

#[async_trait]
impl Models for Pair {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        if question.choice.targets == ["slow"] {
            self.slow_is_asked.cancel();
            self.slow_may_answer.cancelled().await;
        } else {
            self.slow_is_asked.cancelled().await;
        }
        ScriptedModels::saying("well").with_names(&["slow", "quick"]).ask(question, pieces, cancel).await
    }

    async fn draw(&self, _: Drawing, _: CancellationToken) -> Result<Drawn, ModelError> {
        unreachable!("neither of them draws")
    }

    fn names(&self) -> Vec<String> {
        vec!["slow".to_owned(), "quick".to_owned()]
    }

    fn price(&self, _: &str, _: u64, _: u64) -> Option<NanoUsd> {
        None
    }
}

/// `Think` has done its work and waits for its model when `Quick` is recorded.
const THINKING: &str = "
  stages:
    - { name: Think, needs: [], type: hybrid, agent: slow, script: put think.txt thought }
    - { name: Quick, needs: [], type: hybrid, agent: quick, script: put quick.txt done }
    - { name: Both, needs: [Think, Quick], script: \"show think.txt\\nshow quick.txt\" }
";

#[tokio::test]
async fn what_is_not_recorded_does_not_find_itself_done() {
    let models = Pair::default();
    let house = House::asking(&[("both", THINKING)], Arc::new(models.clone())).await;
    let run = house.start("both", &json!({})).await;
    tokio::select! {
        _ = house.work_once() => panic!("the slow model does not answer"),
        // The worker dies when the journal has the one, and the other has done its work.
        () = house.until(async |house| {
            (!house.store.run_journal(run).await.unwrap().is_empty()).then_some(())
        }) => {}
    }
    models.slow_may_answer.cancel();
    house.clock.advance(house.world.settings.lease);
    house.work().await;
    let ended = house.end_of(run).await;
    assert_eq!(ended.to_string(), "succeeded (Quick succeeded, Think succeeded, Both succeeded)");
    assert_eq!(ended.output("Both"), "thought done ");
}

const TRIED_AGAIN: &str = "
  stages:
    - { name: Twice, needs: [], retry: { limit: 1, backoff: { duration: 1ms } }, script: \"put tries.txt once\\nshow tries.txt\\nfail\" }
    - { name: Beside, needs: [], script: put beside.txt done }
    - { name: After, needs: [Twice, Beside], if: always(), script: \"show tries.txt\\nshow beside.txt\" }
";

#[tokio::test]
async fn a_stage_that_is_tried_again_goes_on_from_what_it_left() {
    let house = House::new(&[("tried", TRIED_AGAIN)]).await;
    let ended = house.ended("tried", &json!({})).await;
    assert_eq!(ended.output("Twice"), "once once ");
    assert_eq!(ended.output("After"), "once once done ");
}
