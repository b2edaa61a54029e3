//! The dashboard issue: what it says, and when it is touched at all.

use domain::effect::EffectKind;
use domain::repository::{Origin, Place, Repository};
use ports::source::Source;
use ports::store::Repositories;
use serde_json::json;
use testkit::build;

use super::house::House;
use super::talk::Talk;
use crate::dashboard::{self, WINDOW};
use crate::outbox::{self, OutboxOutcome};
use crate::reconcile::Pushed;

const SAYS: &str = "\n  stages: [{ name: A, script: say a }]";
const FAILS: &str = "\n  stages: [{ name: A, script: fail }]";
const ASKS: &str = "\n  stages: [{ name: A, agent: small, prompt_template: Look. }]";
const BROKEN: &str = "\n  stages: []";
const REVIEW: &str = "\n  on: { pull_request: {} }\n  stages: [{ name: A, script: say a }]";

const ASKED_FOR: &str = "dashboard: true\n";

async fn file(house: &House, name: &str, text: &str) {
    let pushed = Pushed { branches: vec![], actor: None, skip_runs: true };
    house.push(&[(name.to_owned(), text.to_owned())], pushed).await;
}

/// Makes the repository one of a forge, which git finds where it is.
async fn at_forge(mut house: House) -> House {
    let place = Place { forge: build::name("github"), path: "ada/book".to_owned(), id: 1 };
    let url = format!("file://{}", house.source.path(house.repository.id).display());
    let origin = Origin::Watched { url, credential: None, place: Some(place) };
    house.store.repository_origin(house.repository.id, &origin).await.unwrap();
    let world = std::sync::Arc::get_mut(&mut house.world).expect("nobody else has the world");
    world.settings.remotes.file = true;
    house
}

async fn known(house: &House) -> Repository {
    house.store.repository_get(house.repository.id).await.unwrap().expect("it is there")
}

/// What a look at this moment leads to on the forge, if to anything.
async fn looked(house: &House) -> Option<EffectKind> {
    let before = house.forge.performed().len();
    let updated = dashboard::update(&house.world, &known(house).await).await;
    let updated = updated.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    while outbox::next(&house.world, house.worker).await.unwrap() != OutboxOutcome::Empty {}
    let mut performed = house.forge.performed().split_off(before);
    assert_eq!(performed.len(), usize::from(updated), "{performed:?}");
    performed.pop().map(|effect| effect.kind)
}

/// The same when the next window has begun.
async fn looked_later(house: &House) -> Option<EffectKind> {
    house.clock.advance(WINDOW);
    looked(house).await
}

fn body(kind: Option<EffectKind>) -> String {
    match kind {
        Some(EffectKind::CreateIssue { body, sticky: true, .. }) => body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_says_how_each_daemon_fares() {
    let daemons = [
        ("fails", FAILS),
        ("asks", ASKS),
        ("broken", BROKEN),
        ("rests", SAYS),
        ("new", SAYS),
        ("review", REVIEW),
    ];
    let house = at_forge(House::new(&daemons).await).await;
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    for daemon in ["fails", "asks", "rests"] {
        house.ended(daemon, &json!({})).await;
    }
    let talk = Talk::about_pull(house);
    talk.says("ada", "/spellbook pause rests").await;
    let head = talk.house.proposed(&[("new.txt", "one\n")]);
    talk.house.git(&["update-ref", "refs/pull/7/head", head.as_str()]);
    talk.at(&head, "eve", true);
    talk.pull("opened", "eve", &head).await;
    let said = body(looked(&talk.house).await);
    // Runs are numbered by the clock, and commits by git.
    let said = said.replace(&head.as_str()[..12], "COMMIT");
    insta::assert_snapshot!("dashboard", said);
}

#[tokio::test]
async fn it_is_touched_when_it_says_something_else_and_seldom() {
    let house = at_forge(House::new(&[("one", SAYS)]).await).await;
    assert_eq!(looked(&house).await, None, "nobody asks for it");
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    let first = body(looked(&house).await);
    assert_eq!(looked_later(&house).await, None, "nothing else is said");
    house.ended("one", &json!({})).await;
    let second = body(looked(&house).await);
    assert_ne!(first, second);
    house.ended("one", &json!({})).await;
    assert_eq!(looked(&house).await, None, "it was touched a moment ago");
    assert_ne!(second, body(looked_later(&house).await));
}

#[tokio::test]
async fn it_ends_when_nobody_asks_for_it_any_more() {
    let house = at_forge(House::new(&[("one", SAYS)]).await).await;
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    body(looked(&house).await);
    file(&house, "spellbook.yaml", "dashboard: perhaps\n").await;
    assert_eq!(looked_later(&house).await, None, "nobody can tell what a broken file wants");
    file(&house, "spellbook.yaml", "publish: false\n").await;
    assert!(matches!(looked_later(&house).await, Some(EffectKind::CloseIssue { .. })));
    assert_eq!(looked_later(&house).await, None, "it is closed once");
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    body(looked_later(&house).await);
}

#[tokio::test]
async fn the_built_in_host_has_none() {
    let house = House::new(&[("one", SAYS)]).await;
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    assert_eq!(looked(&house).await, None);
}

/// A forge that is away gets one edit when it is back, not one for each window.
#[tokio::test]
async fn edits_do_not_pile_up() {
    let house = at_forge(House::new(&[("one", SAYS)]).await).await;
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    let recorded = dashboard::update(&house.world, &known(&house).await).await.unwrap();
    assert!(recorded);
    for _ in 0..3 {
        house.ended("one", &json!({})).await;
        house.clock.advance(WINDOW);
        assert!(!dashboard::update(&house.world, &known(&house).await).await.unwrap());
    }
}

#[tokio::test]
async fn of_many_daemons_those_who_need_a_look_come_first() {
    let names: Vec<String> = (0..130).map(|number| format!("d{number:03}")).collect();
    let mut daemons: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), SAYS)).collect();
    daemons.push(("zz", BROKEN));
    let house = at_forge(House::new(&daemons).await).await;
    file(&house, "spellbook.yaml", ASKED_FOR).await;
    let said = body(looked(&house).await);
    assert!(said.starts_with("**One of 131 daemons needs a look.**"), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!((lines.len(), lines[0].contains("`zz`")), (100, true));
    assert!(said.contains("\n… and 31 more.\n"), "{said}");
}
