//! Each kind of effect: what it does, what it leaves alone, and what it is refused for. That each is done once,
//! whatever is lost, is the conformance suite's.

use domain::effect::{CommentTarget, EffectKind, IssueState, StatusState};
use serde_json::json;
use testkit::build;
use testkit::conformance::effects::{KINDS, check, comment, done_once, issue, offer, release, status};
use testkit::conformance::forge::suite;

use crate::house::House;
use crate::hub::{ADA, ISSUE, ISSUE_IID, PULL, sha};

#[tokio::test]
async fn keeps_the_promises_of_a_forge() {
    suite(&House::new().await).await;
}

#[tokio::test]
async fn pull_requests_are_made_once() {
    done_once(House::new, &KINDS[..2]).await;
}

#[tokio::test]
async fn comments_and_checks_are_made_once() {
    done_once(House::new, &KINDS[2..7]).await;
}

#[tokio::test]
async fn everything_else_is_done_once() {
    done_once(House::new, &KINDS[7..]).await;
}

#[tokio::test]
async fn a_change_is_offered_on_its_own_branch_and_brought_up_to_date() {
    let house = House::new().await;
    let first = house.effect("pull request", offer("one", 8));
    for _ in 0..2 {
        assert_eq!(house.done(&first).await.summary, "opened pull request !2");
    }
    {
        let hub = house.gate.behind();
        let request = hub.thread("merge_requests", 2).unwrap();
        assert_eq!((&request["title"], &request["draft"]), (&json!("Draft: Fixes: one"), &json!(true)));
        assert_eq!((&request["sha"], &request["labels"]), (&json!(sha(8)), &json!(["spellbook"])));
        assert_eq!(request["reviewers"][0]["username"], "bob");
    }
    let second = house.effect("pull request", offer("two", 9));
    assert_eq!(house.done(&second).await.summary, "updated pull request !2");
    assert_eq!(house.gate.behind().thread("merge_requests", 2).unwrap()["title"], "Draft: Fixes: two");
    assert!(house.refusal(&first).await.contains("a later run"));
}

#[tokio::test]
async fn no_word_of_a_daemon_is_an_order() {
    let house = House::new().await;
    let evil = "Look:\n/merge\n  /approve\n\\/close\n```\n/label ~x\n```";
    for target in [ISSUE, PULL].map(|number| CommentTarget::Thread { number }) {
        let effect = house.effect("comment", comment(target, evil));
        for _ in 0..2 {
            house.done(&effect).await;
        }
    }
    house
        .done(&house.effect("comment", comment(CommentTarget::Commit { commit: build::commit(2) }, evil)))
        .await;
    house.done(&house.effect("issue", issue(evil, true))).await;
    let EffectKind::CreatePullRequest { title, base, branch, commit, draft, labels, reviewers, .. } =
        offer("x", 8)
    else {
        unreachable!("it is one")
    };
    let body = evil.to_owned();
    let kind = EffectKind::CreatePullRequest { title, body, base, branch, commit, draft, labels, reviewers };
    house.done(&house.effect("pull request", kind)).await;
    let change =
        EffectKind::UpdateIssue { number: PULL, title: None, body: Some(evil.to_owned()), state: None };
    house.done(&house.effect("change", change)).await;
    let EffectKind::CreateRelease { tag, commit, name, draft, prerelease, .. } = release(2) else {
        unreachable!("it is one")
    };
    let body = evil.to_owned();
    let kind = EffectKind::CreateRelease { tag, commit, name, body, draft, prerelease };
    house.done(&house.effect("release", kind)).await;
    let hub = house.gate.behind();
    assert!(hub.orders.is_empty(), "{:?}", hub.orders);
    let body = hub.notes[0]["body"].as_str().unwrap();
    assert!(body.starts_with("Look:\n\\/merge\n  \\/approve\n\\\\/close\n"), "{body}");
    assert_eq!(hub.notes.len(), 2, "and each was found again");
}

#[tokio::test]
async fn issues_and_merge_requests_are_told_apart() {
    let house = House::new().await;
    let close =
        |number| EffectKind::UpdateIssue { number, title: None, body: None, state: Some(IssueState::Closed) };
    assert_eq!(house.done(&house.effect("close", close(ISSUE))).await.summary, "changed #1");
    {
        let hub = house.gate.behind();
        assert_eq!(hub.thread("issues", ISSUE_IID).unwrap()["state"], "closed");
        assert_eq!(hub.thread("merge_requests", PULL).unwrap()["state"], "opened");
    }
    let hello = |number| comment(CommentTarget::Thread { number }, "Hello.");
    assert_eq!(house.done(&house.effect("a", hello(PULL))).await.summary, "commented on !1");
    assert_eq!(house.done(&house.effect("b", hello(ISSUE))).await.summary, "commented on #1");
    let asks = EffectKind::AddReviewers { number: ISSUE, reviewers: vec!["bob".to_owned()] };
    let EffectKind::PushToPullRequestBranch { .. } = push(PULL) else { unreachable!("it is one") };
    assert!(house.refusal(&house.effect("push", push(ISSUE))).await.contains("#1 is an issue"));
    assert!(!house.refusal(&house.effect("asks", asks)).await.is_empty());
}

fn push(number: u64) -> EffectKind {
    let (branch, from, commit) = (build::name("topic"), build::commit(2), build::commit(5));
    EffectKind::PushToPullRequestBranch { number, branch, from, commit }
}

#[tokio::test]
async fn what_others_did_is_theirs() {
    let house = House::new().await;
    house.gate.behind().branches.insert("spellbook/review/1".to_owned(), sha(8));
    let effect = house.effect("pull request", offer("one", 8));
    let body = domain::marker::signed("Look.", &effect, &house.repository.path);
    let copied = json!({ "title": "x", "description": body, "source_branch": "spellbook/review/1",
        "target_branch": "main" });
    house.gate.behind().new_thread("merge_requests", 9, ADA, &copied);
    assert!(house.refusal(&effect).await.starts_with("GitLab says 409"));
    house.gate.behind().branches.insert("spellbook/review/1".to_owned(), sha(5));
    assert!(house.refusal(&effect).await.contains("not because of this daemon"));
    house.gate.behind().tags.insert("v1.2.0".to_owned(), sha(1));
    assert!(house.refusal(&house.effect("release", release(2))).await.contains("the tag v1.2.0 is at"));
}

#[tokio::test]
async fn a_check_is_a_status_and_a_comment_where_people_look() {
    let house = House::new().await;
    let receipt = house.done(&house.effect("check", check(2))).await;
    assert_eq!(receipt.summary, format!("reported on {}: review", &sha(2)[..12]));
    house.done(&house.effect("check", check(3))).await;
    let hub = house.gate.behind();
    assert_eq!(hub.notes.len(), 1, "in place");
    assert!(hub.notes[0]["body"].as_str().unwrap().starts_with("**review**: failure, 3 remarks"));
    let newest = hub.statuses.last().unwrap();
    assert_eq!((&newest["status"], &newest["description"]), (&json!("failed"), &json!("failure, 3 remarks")));
}

#[tokio::test]
async fn what_gitlab_does_not_do_is_refused_in_words() {
    let house = House::new().await;
    let asks = |name: &str| EffectKind::AddReviewers { number: PULL, reviewers: vec![name.to_owned()] };
    let refusal = house.refusal(&house.effect("ghost", asks("ghost"))).await;
    assert_eq!(refusal, "GitLab knows no account ghost");
    let refusal = house.refusal(&house.effect("ada", asks("ada"))).await;
    assert_eq!(refusal, "GitLab took 0 of 1 reviewers");
    let refusal = house.refusal(&house.effect("team", asks("acme/core"))).await;
    assert!(refusal.contains("not teams such as core"), "{refusal}");
    let EffectKind::CreateRelease { tag, commit, name, body, prerelease, .. } = release(2) else {
        unreachable!("it is one")
    };
    let draft = EffectKind::CreateRelease { tag, commit, name, body, draft: true, prerelease };
    assert!(house.refusal(&house.effect("draft", draft)).await.contains("no drafts"));
    house.done(&house.effect("error", status(StatusState::Error))).await;
    assert_eq!(house.gate.behind().statuses[0]["status"], "failed", "there is no `error`");
}

#[tokio::test]
async fn who_has_to_wait_asks_nothing() {
    let house = House::new().await;
    let hello = || comment(CommentTarget::Thread { number: ISSUE }, "Hello.");
    let (first, second) = (house.effect("first", hello()), house.effect("second", hello()));
    house.done(&first).await;
    house.gate.seen();
    let waits = ports::forge::Forge::perform(&house.forge, &house.repository, &second).await;
    assert!(waits.expect_err("writes are a second apart").not_before.is_some());
    assert!(house.gate.seen().is_empty());
    house.done(&second).await;
}
