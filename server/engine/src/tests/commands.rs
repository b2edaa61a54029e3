//! What people ask for in comments, and what they are answered.

use std::sync::Arc;
use std::time::Duration;

use domain::command::{Language, read};
use domain::effect::{EffectKind, EffectStatus};
use domain::event::EventKind;
use ports::clock::Clock;
use ports::forge::ForgeError;
use ports::store::{Events, Outbox};

use super::house::House;
use super::talk::Talk;
use crate::dispatch::{self, DispatchOutcome};

const REVIEW: &str = "
  inputs:
    - { name: depth, type: enum, options: [quick, thorough], default: quick }
    - { name: note, type: string, required: false }
    - { name: token, type: secret, required: false }
  on: { comment: { command: review } }
  stages:
    - { name: Look, script: \"say looked\\ntell depth\" }
";

const FLAKY: &str = "
  inputs:
    - { name: well, type: boolean, default: false }
  stages:
    - { name: Try, if: \"!well\", script: fail }
    - { name: Done, if: \"well\", script: say done }
";

const LISTENER: &str = "
  on: { comment: {} }
  stages:
    - { name: Hear, script: say heard }
  outcomes:
    - add-comment: { body: Heard. }
";

const READERS: &str = "
  on: { comment: { command: look, roles: [read] } }
  stages:
    - { name: Look, script: say looked }
";

async fn talk(daemons: &[(&str, &str)]) -> Talk {
    Talk::about_issue(House::new(daemons).await)
}

#[tokio::test]
async fn a_command_starts_a_run() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.says("ada", "Please:\n\n/spellbook run review depth=thorough note=\"a b\"").await;
    talk.work().await;
    talk.says("ada", "/review").await;
    talk.work().await;
    assert_eq!(talk.house.statuses("review").await, ["succeeded"; 2]);
    let run = talk.runs().await.remove(0);
    assert_eq!(run.inputs["depth"], "thorough");
    assert_eq!(run.inputs["note"], "a b");
    assert_eq!((run.cause.kind, run.cause.actor.role.as_deref()), (EventKind::Comment, Some("write")));
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn mistakes_are_told() {
    let talk = talk(&[("review", REVIEW), ("flaky", FLAKY)]).await;
    for text in [
        "/spellbook rnu review",
        "/spellbook run reveiw",
        "/spellbook run review depth=deep",
        "/spellbook run review depht=quick",
        "/spellbook run review token=abc",
        "/review please",
        "/spellbook retry",
        "/spellbook cancel",
        "/spellbook cancel flaky",
        "/spellbook retry run_018f0000000070008000000000000001",
        "/spellbook resume review",
        "/spellbook approve abcdef1",
        "/spellbook status\n/spellbook frob\n/spellbook run review note=\"x",
        "/spellbook run `review`",
    ] {
        talk.says("ada", text).await;
    }
    assert_eq!(talk.house.statuses("review").await, Vec::<&str>::new());
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn questions_are_answered() {
    let talk = talk(&[("flaky", FLAKY), ("review", REVIEW)]).await;
    talk.says("ada", "/spellbook help").await;
    talk.says("ada", "/spellbook status").await;
    talk.says("ada", "/spellbook why").await;
    talk.says("ada", "/spellbook estimate review").await;
    talk.says("ada", "/spellbook run review").await;
    talk.work().await;
    talk.house.clock.advance(Duration::from_secs(300));
    talk.says("ada", "/spellbook status\n/spellbook why review\n/spellbook estimate review").await;
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn commands_steer_what_is_there() {
    let talk = talk(&[("flaky", FLAKY), ("review", REVIEW)]).await;
    talk.says("ada", "/spellbook run review\n/spellbook run review\n/spellbook run review").await;
    talk.says("ada", "/spellbook run review").await;
    talk.says("ada", "/spellbook cancel").await;
    talk.says("ada", "/spellbook retry").await;
    talk.says("ada", "/spellbook pause review").await;
    talk.says("ada", "/review").await;
    talk.says("ada", "/spellbook status").await;
    talk.says("ada", "/spellbook resume review").await;
    talk.says("ada", "/review").await;
    talk.work().await;
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn a_failure_is_told_in_one_place_until_it_is_mended() {
    let talk = talk(&[("flaky", FLAKY)]).await;
    for command in ["run flaky", "retry", "run flaky well=true", "run flaky well=true"] {
        talk.says("ada", &format!("/spellbook {command}")).await;
        talk.work().await;
    }
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn who_may_not_write_commands_little() {
    let talk = talk(&[("look", READERS), ("review", REVIEW)]).await;
    talk.says("tom", "/spellbook run review").await;
    talk.says("tom", "/review").await;
    talk.says("tom", "/look").await;
    talk.says("tom", "/spellbook status").await;
    talk.says("eve", "/spellbook run review").await;
    assert_eq!(talk.why().await, ["review: eve has no role here"]);
    talk.says("eve", "/spellbook help").await;
    talk.says("eve", "/look").await;
    talk.says("helper[bot]", "/spellbook run review").await;
    assert_eq!(
        talk.why().await,
        ["look: what programs say starts nothing", "review: what programs say starts nothing"]
    );
    talk.edits("ada", "/spellbook run review", "edited").await;
    talk.says("ada", "> /spellbook run review\n\nNo.").await;
    talk.work().await;
    assert_eq!(talk.house.statuses("review").await, Vec::<&str>::new());
    insta::assert_snapshot!(talk.script(&[]).await);
}

#[tokio::test]
async fn it_is_called_by_its_own_name_and_does_not_hear_itself() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.says("ada", "@robot run review").await;
    assert!(talk.runs().await.is_empty(), "nobody is called so");
    talk.house.forge.known_as(41, "Robot[bot]");
    talk.says("ada", "@robot run review").await;
    assert_eq!(talk.runs().await.len(), 1);
    talk.house.forge.known_as(41, "robot");
    for name in ["robot", "renamed"] {
        talk.house.forge.member(name, "admin");
        talk.says_as(41, name, "/spellbook run review").await;
        assert_eq!(talk.why().await, ["review: what programs say starts nothing"], "{name}");
    }
    talk.says("Robot", "/spellbook run review").await;
    assert_eq!(talk.runs().await.len(), 1, "where no number is told, the name counts");
    talk.says_as(42, "robot", "/spellbook run review").await;
    assert_eq!(talk.runs().await.len(), 2, "another account of that name is a person");
}

#[tokio::test]
async fn the_operator_may_name_it_otherwise() {
    let mut house = House::new(&[("review", REVIEW)]).await;
    Arc::get_mut(&mut house.world).expect("nobody else has it").settings.bot = Some("scribe".to_owned());
    house.forge.known_as(41, "robot[bot]");
    let talk = Talk::about_issue(house);
    talk.says("ada", "@robot run review").await;
    assert!(talk.runs().await.is_empty());
    talk.says("ada", "@scribe run review").await;
    assert_eq!(talk.runs().await.len(), 1);
}

#[tokio::test]
async fn a_role_is_what_it_is_at_the_moment() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.house.forge.member("ada", "read");
    talk.says("ada", "/review").await;
    assert_eq!(talk.why().await, ["review: `roles` wants write; the event has read"]);
    talk.house.forge.member("ada", "maintain");
    talk.says("ada", "/review").await;
    assert_eq!(talk.house.statuses("review").await, ["queued"]);
}

#[tokio::test]
async fn a_comment_without_a_command_reaches_who_listens() {
    let talk = talk(&[("listener", LISTENER), ("review", REVIEW)]).await;
    talk.says("ada", "Hello.").await;
    assert_eq!(
        talk.why().await,
        ["listener: `comment` matches", "review: `command` wants review; the event has none"]
    );
    talk.says("eve", "Hello.").await;
    assert_eq!(talk.why().await[0], "listener: `roles` wants write; the event has none");
    talk.says("ada", "/review").await;
    talk.work().await;
    assert_eq!(talk.house.statuses("listener").await, ["succeeded"]);
}

#[tokio::test]
async fn nothing_that_is_said_is_a_command() {
    let talk = talk(&[("flaky", FLAKY), ("review", REVIEW)]).await;
    talk.says("ada", "/spellbook help\n/spellbook pause review\n/spellbook why\n/spellbook status").await;
    talk.says("ada", "/spellbook run flaky").await;
    talk.work().await;
    let (daemons, words) = (["flaky", "review"].map(testkit::build::name), ["review".to_owned()]);
    let language = Language { prefix: "/spellbook", bot: None, daemons: &daemons, words: &words };
    let mut said = 0;
    for effect in talk.house.forge.performed() {
        if let EffectKind::AddComment { body, .. } = &effect.kind {
            said += 1;
            assert_eq!(read(body, &language), [], "{body}");
        }
    }
    assert_eq!(said, 2);
}

#[tokio::test]
async fn a_forge_that_is_away_holds_up_nobody() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.house.forge.fail(ForgeError::later("the forge is away"));
    talk.says("ada", "/spellbook run review").await;
    assert_eq!(talk.house.statuses("review").await, Vec::<&str>::new());
    talk.says("ada", "/review").await;
    assert_eq!(talk.house.statuses("review").await, ["queued"]);
    talk.house.clock.advance(Duration::from_secs(10));
    talk.house.dispatch().await;
    assert_eq!(talk.house.statuses("review").await, ["queued"; 2]);
    assert_eq!(dispatch::next(&talk.house.world).await.unwrap(), DispatchOutcome::Empty);
}

#[tokio::test]
async fn a_forge_that_never_answers_is_given_up() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.house.forge.fail(ForgeError::later("the forge is away"));
    talk.says("ada", "/spellbook run review").await;
    talk.house.clock.advance(Duration::from_secs(25 * 3_600));
    talk.house.forge.fail(ForgeError::later("the forge is away"));
    talk.house.dispatch().await;
    assert!(talk.house.store.event_next(talk.house.clock.now()).await.unwrap().is_none());
    assert_eq!(talk.house.statuses("review").await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_label_is_taken_off_once_it_has_started_something() {
    let daemon = "
  on: { label: { names: [fix] } }
  stages: [{ name: Fix, script: say fixed }]
";
    let talk = talk(&[("fix", daemon)]).await;
    talk.label("other", "ada").await;
    talk.label("fix", "ada").await;
    assert_eq!(talk.house.statuses("fix").await, ["queued"]);
    insta::assert_snapshot!(talk.script(&[]).await, @r"
    (ada labels it other)
    (ada labels it fix)
       < (takes off fix)
    ");
}

#[tokio::test]
async fn what_is_asked_of_the_outbox_is_done_once() {
    let talk = talk(&[("review", REVIEW)]).await;
    talk.says("ada", "/spellbook status").await;
    let done = talk.house.forge.performed();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|effect| matches!(effect.status, EffectStatus::Pending { .. })));
    let later = talk.house.clock.advance(Duration::from_secs(3_600));
    assert_eq!(talk.house.store.effect_next(talk.house.worker, later, Duration::ZERO).await.unwrap(), None);
}
