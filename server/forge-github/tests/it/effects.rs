//! Each kind of effect: what it does, what it leaves alone, and what it is refused for. That each is done once,
//! whatever is lost, is the conformance suite's.

use domain::effect::{
    CommentKind, CommentRef, CommentTarget, Effect, EffectKind, IssueState, Reaction, StatusState,
};
use forge_github::Access;
use serde_json::{Value, json};
use testkit::build;
use testkit::conformance::effects::{
    KINDS, check, comment, done_once, issue, offer, offer_to, release, status,
};
use testkit::conformance::forge::suite;
use testkit::hub::{ADA, BOT, ISSUE, PULL, sha};

use crate::house::{House, REVIEWERS};

#[tokio::test]
async fn keeps_the_promises_of_a_forge() {
    suite(&House::new().await).await;
}

#[tokio::test]
async fn pull_requests_are_made_once() {
    done_once(House::new, &KINDS[..2]).await;
}

#[tokio::test]
async fn comments_are_made_once() {
    done_once(House::new, &KINDS[2..5]).await;
}

#[tokio::test]
async fn checks_are_made_once() {
    done_once(House::new, &KINDS[5..7]).await;
}

#[tokio::test]
async fn everything_else_is_done_once() {
    done_once(House::new, &KINDS[7..]).await;
}

fn bodies(list: &[Value]) -> Vec<String> {
    list.iter().map(|item| item["body"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_change_is_offered_on_its_own_branch_and_brought_up_to_date() {
    let house = House::new().await;
    let first = house.effect("pull/1", offer_to(REVIEWERS, "one", 8));
    for _ in 0..2 {
        assert_eq!(house.done(&first).await.summary, "opened pull request #3");
    }
    {
        let hub = &house.gate.behind().hub;
        let pull = hub.pull(3).unwrap();
        assert_eq!(pull["head"]["sha"], sha(8));
        assert_eq!((&pull["draft"], &pull["labels"][0]["name"]), (&json!(true), &json!("spellbook")));
        assert_eq!(pull["requested_reviewers"][0]["login"], "bob");
        assert_eq!(pull["requested_teams"][0]["slug"], "core");
        assert!(pull["body"].as_str().unwrap().starts_with("Look.\n\n---\n<sub>Daemon `review`"));
        assert_eq!(hub.branches["main"], sha(1));
    }
    let second = house.effect("pull/1", offer_to(REVIEWERS, "two", 9));
    assert_eq!(house.done(&second).await.summary, "updated pull request #3");
    assert_eq!(house.gate.behind().hub.pull(3).unwrap()["title"], "Fixes: two");
    assert_eq!(house.gate.behind().hub.branches["spellbook/review/1"], sha(9));
    let old = house.refusal(&first).await;
    assert!(old.contains("a later run"), "{old}");
}

#[tokio::test]
async fn what_others_did_on_a_branch_is_theirs() {
    let house = House::new().await;
    house.gate.behind().hub.branches.insert("spellbook/review/1".to_owned(), sha(5));
    let effect = house.effect("pull/1", offer("one", 8));
    let refusal = house.refusal(&effect).await;
    assert!(refusal.contains("not because of this daemon"), "{refusal}");
    house.gate.behind().hub.branches.remove("spellbook/review/1");
    house.done(&effect).await;
    house.gate.behind().hub.branches.insert("spellbook/review/1".to_owned(), sha(6));
    let refusal = house.refusal(&house.effect("pull/1", offer("two", 9))).await;
    assert!(refusal.contains("not because of this daemon"), "{refusal}");
    assert_eq!(house.gate.behind().hub.branches["spellbook/review/1"], sha(6));
}

#[tokio::test]
async fn a_change_that_was_declined_is_not_offered_again_by_the_same_run() {
    let house = House::new().await;
    let effect = house.effect("pull/1", offer("one", 8));
    house.done(&effect).await;
    house.gate.behind().hub.threads.get_mut(&3).unwrap()["state"] = json!("closed");
    house.gate.behind().hub.pulls.get_mut(&3).unwrap()["head"]["sha"] = json!(sha(8));
    assert_eq!(house.done(&effect).await.summary, "offered pull request #3");
    let next = house.effect("pull/1", offer("two", 9));
    assert_eq!(house.done(&next).await.summary, "opened pull request #4");
}

#[tokio::test]
async fn a_copied_marker_does_not_make_a_pull_request_ours() {
    let house = House::new().await;
    let effect = house.effect("pull/1", offer("one", 8));
    let body = domain::marker::signed("Look.", &effect, &house.repository.path);
    {
        let hub = &mut house.gate.behind().hub;
        hub.branches.insert("spellbook/review/1".to_owned(), sha(8));
        hub.new_pull(
            9,
            ADA,
            &json!({ "title": "x", "body": body, "head": "spellbook/review/1", "base": "main" }),
        );
    }
    let refusal = house.refusal(&effect).await;
    assert!(refusal.contains("already exists"), "{refusal}");
}

#[tokio::test]
async fn reviewers_who_cannot_be_asked_do_not_cost_the_change() {
    let house = House::new().await;
    let summary = house.done(&house.effect("pull/1", offer_to(&["ghost"], "x", 8))).await.summary;
    assert!(
        summary.starts_with("opened pull request #3; reviewers were not asked: GitHub says 422"),
        "{summary}"
    );
    let asks = EffectKind::AddReviewers { number: PULL, reviewers: vec!["ghost".to_owned()] };
    assert!(house.refusal(&house.effect("ask", asks)).await.contains("collaborators"));
    let asks = EffectKind::AddReviewers { number: PULL, reviewers: vec!["bob".to_owned()] };
    let effect = house.effect("ask-bob", asks);
    house.done(&effect).await;
    house.gate.seen();
    house.done(&effect).await;
    assert!(!house.gate.seen().iter().any(|seen| seen.ends_with("requested_reviewers")), "asked once");
}

#[tokio::test]
async fn a_pull_requests_branch_moves_only_from_where_the_run_began() {
    let house = House::new().await;
    let push = |from, to| EffectKind::PushToPullRequestBranch {
        number: PULL,
        branch: build::name("topic"),
        from: build::commit(from),
        commit: build::commit(to),
    };
    let effect = house.effect("push", push(2, 5));
    assert_eq!(house.done(&effect).await.summary, format!("pushed {} to #2", &sha(5)[..12]));
    house.done(&effect).await;
    assert_eq!(house.gate.behind().hub.branches["topic"], sha(5));
    let late = house.refusal(&house.effect("push-2", push(2, 6))).await;
    assert!(late.contains("moved on"), "{late}");
    house.gate.behind().hub.pulls.get_mut(&PULL).unwrap()["head"]["repo"] = json!({ "id": 99 });
    let fork = house.refusal(&house.effect("push-3", push(5, 6))).await;
    assert!(fork.contains("another repository"), "{fork}");
    assert_eq!(house.gate.behind().hub.branches["topic"], sha(5));
}

#[tokio::test]
async fn nothing_is_pushed_with_a_stale_view() {
    let house = House::new().await;
    house.gate.behind().hub.branches.insert("topic".to_owned(), sha(7));
    let kind = EffectKind::PushToPullRequestBranch {
        number: PULL,
        branch: build::name("topic"),
        from: build::commit(2),
        commit: build::commit(5),
    };
    house.refusal(&house.effect("push", kind)).await;
    assert_eq!(house.gate.behind().hub.branches["topic"], sha(7));
}

#[tokio::test]
async fn a_long_text_becomes_several_comments_and_a_shorter_one_fewer() {
    let house = House::new().await;
    let thread = CommentTarget::Thread { number: ISSUE };
    let long = "Some words, and then some more.\n\n".repeat(4_000);
    house.done(&house.effect("long", comment(thread.clone(), &long))).await;
    let there = bodies(&house.gate.behind().hub.comments);
    assert_eq!(there.len(), 3);
    assert!(there.iter().all(|body| body.encode_utf16().count() <= 65_536));
    house.done(&house.effect("long", comment(thread.clone(), "Short."))).await;
    let there = bodies(&house.gate.behind().hub.comments);
    assert!(there.len() == 1 && there[0].starts_with("Short."), "{there:?}");
    house.done(&house.effect("long", comment(thread, &long.repeat(5)))).await;
    let there = bodies(&house.gate.behind().hub.comments);
    assert!(there.len() == 4 && there[3].contains("the rest is on the page of the run"));
}

#[tokio::test]
async fn of_two_comments_that_were_made_at_once_the_oldest_stays() {
    let house = House::new().await;
    let effect = house.effect("twin", comment(CommentTarget::Thread { number: ISSUE }, "New."));
    let older = Effect { author: house.effect("x", effect.kind.clone()).author, ..effect.clone() };
    let effect = Effect { author: house.effect("x", effect.kind.clone()).author, ..effect };
    let body = domain::marker::signed("Old.", &older, &house.repository.path);
    let ids = [BOT, BOT, ADA].map(|author| house.gate.behind().hub.comment(ISSUE, author, &body));
    house.done(&effect).await;
    let hub = &house.gate.behind().hub;
    let there: Vec<u64> = hub.comments.iter().filter_map(|comment| comment["id"].as_u64()).collect();
    assert_eq!(there, [ids[0], ids[2]], "ours once, and the copy that is not ours");
    assert!(bodies(&hub.comments)[0].starts_with("New."));
}

#[tokio::test]
async fn a_commit_is_commented_too() {
    let house = House::new().await;
    let target = CommentTarget::Commit { commit: build::commit(2) };
    let effect = house.by_server("plan/x", comment(target, "What it would change."));
    house.done(&effect).await;
    house.done(&effect).await;
    let there = bodies(&house.gate.behind().hub.commit_comments);
    assert!(there.len() == 1 && there[0].starts_with("What it would change."), "{there:?}");
}

#[tokio::test]
async fn remarks_come_in_parts_and_all_of_them() {
    let house = House::new().await;
    let effect = house.effect("check", check(120));
    house.done(&effect).await;
    house.done(&effect).await;
    let hub = &house.gate.behind().hub;
    assert_eq!(hub.checks.len(), 1);
    let remarks = hub.checks[0]["remarks"].as_array().unwrap();
    let lines: Vec<u64> = remarks.iter().filter_map(|remark| remark["start_line"].as_u64()).collect();
    assert_eq!(lines, (1..=120).collect::<Vec<_>>());
    assert_eq!(hub.checks[0]["external_id"], effect.id.to_string());
}

#[tokio::test]
async fn an_issue_is_opened_once_and_brought_up_to_date_while_it_is_open() {
    let house = House::new().await;
    house.done(&house.effect("issue", issue("One.", true))).await;
    let receipt = house.done(&house.effect("issue", issue("Two.", true))).await;
    assert_eq!(receipt.summary, "updated issue #3");
    house.gate.behind().hub.threads.get_mut(&3).unwrap()["state"] = json!("closed");
    let receipt = house.done(&house.effect("issue", issue("Three.", true))).await;
    assert_eq!(receipt.summary, "opened issue #4");
    for _ in 0..2 {
        house.done(&house.effect("each", issue("Each time.", false))).await;
    }
    assert_eq!(house.gate.behind().hub.threads.len(), 6);
}

#[tokio::test]
async fn an_issue_is_changed_where_it_says_something_else() {
    let house = House::new().await;
    let kind = EffectKind::UpdateIssue {
        number: ISSUE,
        title: Some("It broke".to_owned()),
        body: None,
        state: Some(IssueState::Closed),
    };
    let effect = house.effect("close", kind);
    house.done(&effect).await;
    house.gate.seen();
    house.done(&effect).await;
    assert!(house.gate.seen().iter().all(|seen| !seen.starts_with("PATCH")), "once");
    let hub = &house.gate.behind().hub;
    let thread = &hub.threads[&ISSUE];
    assert_eq!(
        (&thread["title"], &thread["state"], &thread["body"]),
        (&json!("It broke"), &json!("closed"), &json!("Look."))
    );
}

#[tokio::test]
async fn labels_go_on_and_off() {
    let house = House::new().await;
    let labels = || vec!["needs review".to_owned(), "ünïcode/x".to_owned()];
    house.done(&house.effect("on", EffectKind::AddLabels { number: PULL, labels: labels() })).await;
    assert_eq!(house.gate.behind().hub.threads[&PULL]["labels"].as_array().unwrap().len(), 2);
    let off = house.effect("off", EffectKind::RemoveLabels { number: PULL, labels: labels() });
    house.done(&off).await;
    house.done(&off).await;
    assert_eq!(house.gate.behind().hub.threads[&PULL]["labels"], json!([]));
    let gone = EffectKind::AddLabels { number: 99, labels: labels() };
    assert!(house.refusal(&house.effect("none", gone)).await.contains("404"));
}

#[tokio::test]
async fn statuses_releases_and_reactions_are_made_once() {
    let house = House::new().await;
    for state in [StatusState::Pending, StatusState::Success] {
        let effect = house.effect("status", status(state));
        house.done(&effect).await;
        house.done(&effect).await;
    }
    assert_eq!(house.gate.behind().hub.statuses.len(), 2);

    let effect = house.effect("release", release(2));
    assert_eq!(house.done(&effect).await.summary, "released v1.2.0");
    house.done(&effect).await;
    assert_eq!(house.gate.behind().hub.releases.len(), 1);
    let other = house.refusal(&house.effect("release-2", release(2))).await;
    assert!(other.contains("already"), "{other}");

    let id = house.gate.behind().hub.comment(ISSUE, ADA, "/spellbook help");
    let on = |id| EffectKind::React {
        comment: CommentRef { id, kind: CommentKind::Issue, thread: ISSUE },
        reaction: Reaction::Eyes,
    };
    let effect = house.by_server("receipt/1", on(id));
    house.done(&effect).await;
    house.done(&effect).await;
    assert_eq!(house.gate.behind().hub.reactions.len(), 1);
    assert!(house.refusal(&house.by_server("receipt/2", on(7))).await.contains("404"));
}

#[tokio::test]
async fn a_tag_is_never_moved() {
    let house = House::new().await;
    house.gate.behind().hub.tags.insert("v1.2.0".to_owned(), sha(1));
    let refusal = house.refusal(&house.effect("release", release(2))).await;
    assert!(refusal.contains("the tag v1.2.0 is at"), "{refusal}");
    assert!(house.gate.behind().hub.releases.is_empty());
}

#[tokio::test]
async fn an_account_does_what_an_app_does_but_for_checks() {
    let house = House::with(Access::Token { token: "ghp_plain".into(), account: None }).await;
    house.done(&house.effect("pull/1", offer("one", 8))).await;
    house.done(&house.effect("c", comment(CommentTarget::Thread { number: ISSUE }, "Hello."))).await;
    let refusal = house.refusal(&house.effect("check", check(1))).await;
    assert!(refusal.contains("apps only"), "{refusal}");
    assert!(house.gate.behind().hub.tokens.is_empty(), "no token was minted");
}

#[tokio::test]
async fn each_effect_has_a_token_for_just_that() {
    let house = House::new().await;
    house.done(&house.effect("status", status(StatusState::Success))).await;
    house.done(&house.effect("issue", issue("One.", false))).await;
    let hub = &house.gate.behind().hub;
    let allowed: Vec<String> = hub.tokens.values().map(Value::to_string).collect();
    let distinct: std::collections::BTreeSet<&str> = allowed.iter().map(String::as_str).collect();
    assert_eq!(distinct, [r#"{"issues":"write"}"#, r#"{"statuses":"write"}"#].into());
}
