//! A run that is only tried: the daemon's triggers decide, and nothing is done outside.

use domain::effect::EffectStatus;
use domain::event::{Event, EventKind};
use domain::id::EventId;
use domain::value::Taint;
use ports::clock::Clock;
use ports::store::Outbox;
use serde_json::{Map, Value as Json, json};
use testkit::build;

use super::house::House;
use crate::rehearsal::{self, Past, Rehearsal, Rehearsed};

const SORTER: &str = "  on: { issues: { types: [opened], skip_if: \"event.issue.title == ''\" } }
  stages: [{ name: Say, script: say done }]
  outcomes: [add-comment: { body: \"${event.issue.title}\" }]
";

fn event(house: &House, action: &str, title: &str) -> Event {
    Event {
        id: EventId::new(house.clock.unique()),
        repository: house.repository.id,
        kind: EventKind::Issues,
        action: Some(action.to_owned()),
        branch: None,
        commit: None,
        paths: Vec::new(),
        actor: build::actor(),
        labels: Vec::new(),
        draft: false,
        payload: json!({ "issue": { "number": 7, "title": title } }),
        taint: Taint::External,
        depth: 0,
        occurred_at: house.clock.now(),
    }
}

async fn rehearse(
    house: &House,
    event: Option<Event>,
    inputs: Map<String, Json>,
) -> Result<Rehearsed, String> {
    let address = build::name("ada/book/sorter");
    let past = Past::default();
    let rehearsal = Rehearsal { address, inputs, actor: build::actor(), event, past };
    rehearsal::start(&house.world, rehearsal).await.map_err(|refusal| refusal.code.to_owned())
}

#[tokio::test]
async fn an_event_starts_a_run_that_does_nothing_outside() {
    let house = House::new(&[("sorter", SORTER)]).await;
    let happened = event(&house, "opened", "It crashes");
    let Ok(Rehearsed::Started(run)) = rehearse(&house, Some(happened), Map::new()).await else {
        panic!("it does not start");
    };
    house.work().await;
    let effects = house.store.effect_list(run).await.unwrap();
    assert_eq!(effects.iter().map(|effect| &effect.status).collect::<Vec<_>>(), [&EffectStatus::Staged]);
    assert_eq!(serde_json::to_value(&effects[0].kind).unwrap()["body"], "It crashes");
}

#[tokio::test]
async fn what_starts_no_run_is_told() {
    let house = House::new(&[("sorter", SORTER)]).await;
    let closed = event(&house, "closed", "It crashes");
    let Ok(Rehearsed::NotStarted(reason)) = rehearse(&house, Some(closed), Map::new()).await else {
        panic!("it starts");
    };
    assert!(reason.contains("closed"), "{reason}");
    let untitled = event(&house, "opened", "");
    let skipped = Rehearsed::NotStarted("`skip_if: event.issue.title == ''` holds".to_owned());
    assert_eq!(rehearse(&house, Some(untitled), Map::new()).await, Ok(skipped));
    let inputs = Map::from_iter([("nothing".to_owned(), json!(1))]);
    assert_eq!(rehearse(&house, None, inputs).await, Err("inputs_invalid".to_owned()));
    assert!(house.statuses("sorter").await.is_empty());
}
