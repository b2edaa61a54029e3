//! Requests and answers that are lost, one after another, for every kind of effect: what is there in the end
//! is what one try would have left. And GitHub's own "not so fast".

use std::time::Duration;

use domain::effect::{CommentKind, CommentRef, CommentTarget, EffectKind, IssueState, Reaction, StatusState};
use ports::Retry;
use ports::clock::Clock;
use ports::forge::Forge;
use testkit::build;
use testkit::hub::{ADA, ISSUE, PULL, sha};

use crate::effects::{check, comment, commit, issue, offer, release, status};
use crate::gate::Trouble;
use crate::house::House;

/// An effect of each kind, and one before it where there is something to bring up to date.
async fn effects(house: &House, which: usize) -> EffectKind {
    let thread = CommentTarget::Thread { number: ISSUE };
    match which {
        0 => offer("one", 8),
        1 => {
            house.done(&house.effect("review/1", offer("one", 8))).await;
            offer("two", 9)
        }
        2 => comment(thread, "Hello.", false),
        3 => {
            let long = "Some words, and then some more.\n\n".repeat(2_000);
            house.done(&house.effect("review/3", comment(thread.clone(), &long, true))).await;
            comment(thread, &format!("{long}End."), true)
        }
        4 => comment(CommentTarget::Commit { commit: commit(2) }, "Hello.", true),
        5 => check(120),
        6 => issue("One.", false),
        7 => {
            house.done(&house.effect("review/7", issue("One.", true))).await;
            issue("Two.", true)
        }
        8 => {
            let (title, body) = (Some("New".to_owned()), Some("Text.".to_owned()));
            EffectKind::UpdateIssue { number: ISSUE, title, body, state: Some(IssueState::Closed) }
        }
        9 => EffectKind::AddLabels { number: PULL, labels: vec!["a".to_owned(), "b".to_owned()] },
        10 => {
            let labels = vec!["a".to_owned(), "b".to_owned()];
            let on = EffectKind::AddLabels { number: PULL, labels: labels.clone() };
            house.done(&house.effect("review/on", on)).await;
            EffectKind::RemoveLabels { number: PULL, labels }
        }
        11 => EffectKind::AddReviewers { number: PULL, reviewers: vec!["bob".to_owned()] },
        12 => status(StatusState::Success),
        13 => release(2),
        14 => {
            let id = house.gate.hub().comment(ISSUE, ADA, "/spellbook help");
            let comment = CommentRef { id, kind: CommentKind::Issue, thread: ISSUE };
            EffectKind::React { comment, reaction: Reaction::Eyes }
        }
        15 => EffectKind::PushToPullRequestBranch {
            number: PULL,
            branch: build::name("topic"),
            from: commit(2),
            commit: commit(5),
        },
        _ => panic!("there is no kind {which}"),
    }
}

#[tokio::test]
async fn pull_requests_and_comments_are_made_once() {
    done_once(&[0, 1, 2, 4]).await;
}

#[tokio::test]
async fn long_comments_are_made_once() {
    done_once(&[3]).await;
}

#[tokio::test]
async fn checks_issues_and_releases_are_made_once() {
    done_once(&[5, 6, 7, 8, 13]).await;
}

#[tokio::test]
async fn labels_statuses_reactions_and_pushes_are_made_once() {
    done_once(&[9, 10, 11, 12, 14, 15]).await;
}

/// Loses each request of an effect, one after another, and each answer. Of what only asks, losing one or the
/// other is the same.
async fn done_once(kinds: &[usize]) {
    for which in kinds {
        let house = House::new().await;
        let kind = effects(&house, *which).await;
        house.gate.seen();
        house.done(&house.effect(&format!("review/{which}"), kind)).await;
        let (asked, expect) = (house.gate.seen(), shown(&house));
        assert!(asked.len() > 3, "{asked:?}");
        for (request, asked) in asked.iter().enumerate() {
            lose(*which, request, Trouble::LostAnswer, &expect).await;
            if !asked.starts_with("GET") {
                lose(*which, request, Trouble::LostRequest, &expect).await;
            }
        }
    }
}

async fn lose(which: usize, request: usize, trouble: Trouble, expect: &str) {
    let house = House::new().await;
    let kind = effects(&house, which).await;
    let effect = house.effect(&format!("review/{which}"), kind);
    house.gate.trouble(Some((request, trouble)));
    let error = house.perform(&effect).await.expect_err("something was lost");
    assert_eq!(error.retry, Retry::Later, "{error}");
    assert!(!house.gate.is_still_to_come(), "nothing was lost");
    house.done(&effect).await;
    assert_eq!(shown(&house), expect, "{} {trouble:?} {request}", effect.kind.as_str());
}

/// What people see. The names of runs are drawn from the clock, which waits more when something was lost.
fn shown(house: &House) -> String {
    let seen = serde_json::to_string_pretty(&house.gate.hub().seen()).unwrap();
    let mut words = String::new();
    for (number, part) in seen.split("run_").enumerate() {
        words.push_str(if number == 0 { part } else { part.get(36..).unwrap_or_default() });
    }
    words
}

#[tokio::test]
async fn nobody_asks_again_before_github_says_so() {
    let house = House::new().await;
    let effect = house.effect("review/status", status(StatusState::Success));
    house.gate.trouble(Some((4, Trouble::Limited)));
    let now = house.clock.now();
    let error = house.forge.perform(&house.repository, &effect).await.expect_err("it is limited");
    assert_eq!((error.retry, error.not_before), (Retry::Later, Some(now.after(Duration::from_secs(30)))));
    house.gate.trouble(None);
    house.gate.seen();
    let other = house.effect("review/other", issue("One.", false));
    let error = house.forge.perform(&house.repository, &other).await.expect_err("all of them wait");
    assert!(error.not_before.is_some());
    let asked = house.gate.seen();
    assert!(asked.iter().all(|seen| seen.contains("/installation")), "{asked:?}");
    house.clock.advance(Duration::from_secs(30));
    house.done(&effect).await;
}

#[tokio::test]
async fn writes_are_a_second_apart() {
    let house = House::new().await;
    let first = house.effect("review/a", comment(CommentTarget::Thread { number: ISSUE }, "One.", false));
    house.forge.perform(&house.repository, &first).await.expect("the first may");
    let second = build::effect(
        &*house.clock,
        &build::run(&*house.clock, &house.repository, "review"),
        "review/b",
        comment(CommentTarget::Thread { number: ISSUE }, "Two.", false),
    );
    let error = house.forge.perform(&house.repository, &second).await.expect_err("the second waits");
    assert_eq!(error.not_before, Some(house.clock.now().after(Duration::from_secs(1))));
    assert_eq!(house.gate.hub().comments.len(), 1);
}

#[tokio::test]
async fn nothing_is_pushed_with_a_stale_view() {
    let house = House::new().await;
    house.gate.hub().branches.insert("topic".to_owned(), sha(7));
    let kind = EffectKind::PushToPullRequestBranch {
        number: PULL,
        branch: build::name("topic"),
        from: commit(2),
        commit: commit(5),
    };
    house.refusal(&house.effect("review/push", kind)).await;
    assert_eq!(house.gate.hub().branches["topic"], sha(7));
}
