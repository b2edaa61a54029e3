//! Each kind of effect: what it does, what it leaves alone, and what it is refused for.

use domain::effect::{
    Annotation, AnnotationLevel, CheckConclusion, CommentKind, CommentRef, CommentTarget, Effect, EffectKind,
    IssueState, Reaction, StatusState,
};
use domain::name::Commit;
use forge_github::Access;
use serde_json::{Value, json};
use testkit::build;
use testkit::conformance::forge::suite;
use testkit::hub::{ADA, BOT, ISSUE, PULL, sha};

use crate::house::House;

#[tokio::test]
async fn keeps_the_promises_of_a_forge() {
    suite(&House::new().await).await;
}

pub(crate) fn commit(number: u32) -> Commit {
    build::name(&sha(number))
}

pub(crate) fn offer(text: &str, at: u32) -> EffectKind {
    EffectKind::CreatePullRequest {
        title: format!("Fixes: {text}"),
        body: "Look.".to_owned(),
        base: build::name("main"),
        branch: build::name("spellbook/review/1"),
        commit: commit(at),
        draft: true,
        labels: vec!["spellbook".to_owned()],
        reviewers: vec!["bob".to_owned(), "acme/core".to_owned()],
    }
}

pub(crate) fn comment(target: CommentTarget, body: &str, sticky: bool) -> EffectKind {
    EffectKind::AddComment { target, body: body.to_owned(), sticky }
}

pub(crate) fn check(remarks: u32) -> EffectKind {
    let remark = |line| Annotation {
        path: "src/lib.rs".to_owned(),
        start_line: line,
        end_line: line,
        level: AnnotationLevel::Warning,
        message: format!("Remark {line}"),
    };
    EffectKind::CreateCheck {
        commit: commit(2),
        name: "review".to_owned(),
        conclusion: CheckConclusion::Failure,
        summary: "Not good.".to_owned(),
        annotations: (1..=remarks).map(remark).collect(),
    }
}

pub(crate) fn issue(text: &str, sticky: bool) -> EffectKind {
    EffectKind::CreateIssue {
        title: "Report".to_owned(),
        body: text.to_owned(),
        labels: vec!["report".to_owned()],
        assignees: vec!["ada".to_owned()],
        sticky,
    }
}

pub(crate) fn status(state: StatusState) -> EffectKind {
    EffectKind::SetStatus {
        commit: commit(2),
        context: "review".to_owned(),
        state,
        description: "Done.".to_owned(),
        url: Some("https://spellbook.example/runs/1".to_owned()),
    }
}

pub(crate) fn release(at: u32) -> EffectKind {
    EffectKind::CreateRelease {
        tag: build::name("v1.2.0"),
        commit: commit(at),
        name: "1.2".to_owned(),
        body: "What is new.".to_owned(),
        draft: false,
        prerelease: false,
    }
}

fn bodies(list: &[Value]) -> Vec<String> {
    list.iter().map(|item| item["body"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_change_is_offered_on_its_own_branch_and_brought_up_to_date() {
    let house = House::new().await;
    let first = house.effect("review/pull/1", offer("one", 8));
    for _ in 0..2 {
        assert_eq!(house.done(&first).await.summary, "opened pull request #3");
    }
    {
        let hub = house.gate.hub();
        let pull = hub.pull(3).unwrap();
        assert_eq!(pull["head"]["sha"], sha(8));
        assert_eq!((&pull["draft"], &pull["labels"][0]["name"]), (&json!(true), &json!("spellbook")));
        assert_eq!(pull["requested_reviewers"][0]["login"], "bob");
        assert_eq!(pull["requested_teams"][0]["slug"], "core");
        assert!(pull["body"].as_str().unwrap().starts_with("Look.\n\n---\n<sub>Daemon `review`"));
        assert_eq!(hub.branches["main"], sha(1));
    }
    let second = house.effect("review/pull/1", offer("two", 9));
    assert_eq!(house.done(&second).await.summary, "updated pull request #3");
    assert_eq!(house.gate.hub().pull(3).unwrap()["title"], "Fixes: two");
    assert_eq!(house.gate.hub().branches["spellbook/review/1"], sha(9));
    let old = house.refusal(&first).await;
    assert!(old.contains("a later run"), "{old}");
}

#[tokio::test]
async fn what_others_did_on_a_branch_is_theirs() {
    let house = House::new().await;
    house.gate.hub().branches.insert("spellbook/review/1".to_owned(), sha(5));
    let effect = house.effect("review/pull/1", offer("one", 8));
    let refusal = house.refusal(&effect).await;
    assert!(refusal.contains("not because of this daemon"), "{refusal}");
    house.gate.hub().branches.remove("spellbook/review/1");
    house.done(&effect).await;
    house.gate.hub().branches.insert("spellbook/review/1".to_owned(), sha(6));
    let refusal = house.refusal(&house.effect("review/pull/1", offer("two", 9))).await;
    assert!(refusal.contains("not because of this daemon"), "{refusal}");
    assert_eq!(house.gate.hub().branches["spellbook/review/1"], sha(6));
}

#[tokio::test]
async fn a_change_that_was_declined_is_not_offered_again_by_the_same_run() {
    let house = House::new().await;
    let effect = house.effect("review/pull/1", offer("one", 8));
    house.done(&effect).await;
    house.gate.hub().threads.get_mut(&3).unwrap()["state"] = json!("closed");
    house.gate.hub().pulls.get_mut(&3).unwrap()["head"]["sha"] = json!(sha(8));
    assert_eq!(house.done(&effect).await.summary, "offered pull request #3");
    let next = house.effect("review/pull/1", offer("two", 9));
    assert_eq!(house.done(&next).await.summary, "opened pull request #4");
}

#[tokio::test]
async fn a_copied_marker_does_not_make_a_pull_request_ours() {
    let house = House::new().await;
    let effect = house.effect("review/pull/1", offer("one", 8));
    let body = domain::marker::signed("Look.", &effect, &house.repository.path);
    {
        let mut hub = house.gate.hub();
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
    let EffectKind::CreatePullRequest { title, body, base, branch, commit, draft, labels, .. } =
        offer("x", 8)
    else {
        unreachable!("it is one")
    };
    let reviewers = vec!["ghost".to_owned()];
    let kind = EffectKind::CreatePullRequest { title, body, base, branch, commit, draft, labels, reviewers };
    let summary = house.done(&house.effect("review/pull/1", kind)).await.summary;
    assert!(
        summary.starts_with("opened pull request #3; reviewers were not asked: GitHub says 422"),
        "{summary}"
    );
    let asks = EffectKind::AddReviewers { number: PULL, reviewers: vec!["ghost".to_owned()] };
    assert!(house.refusal(&house.effect("review/ask", asks)).await.contains("collaborators"));
    let asks = EffectKind::AddReviewers { number: PULL, reviewers: vec!["bob".to_owned()] };
    let effect = house.effect("review/ask-bob", asks);
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
        from: commit(from),
        commit: commit(to),
    };
    let effect = house.effect("review/push", push(2, 5));
    assert_eq!(house.done(&effect).await.summary, format!("pushed {} to #2", &sha(5)[..12]));
    house.done(&effect).await;
    assert_eq!(house.gate.hub().branches["topic"], sha(5));
    let late = house.refusal(&house.effect("review/push-2", push(2, 6))).await;
    assert!(late.contains("moved on"), "{late}");
    house.gate.hub().pulls.get_mut(&PULL).unwrap()["head"]["repo"] = json!({ "id": 99 });
    let fork = house.refusal(&house.effect("review/push-3", push(5, 6))).await;
    assert!(fork.contains("another repository"), "{fork}");
    assert_eq!(house.gate.hub().branches["topic"], sha(5));
}

#[tokio::test]
async fn a_long_text_becomes_several_comments_and_a_shorter_one_fewer() {
    let house = House::new().await;
    let thread = CommentTarget::Thread { number: ISSUE };
    let long = "Some words, and then some more.\n\n".repeat(4_000);
    house.done(&house.effect("review/long", comment(thread.clone(), &long, true))).await;
    let there = bodies(&house.gate.hub().comments);
    assert_eq!(there.len(), 3);
    assert!(there.iter().all(|body| body.encode_utf16().count() <= 65_536));
    house.done(&house.effect("review/long", comment(thread.clone(), "Short.", true))).await;
    let there = bodies(&house.gate.hub().comments);
    assert!(there.len() == 1 && there[0].starts_with("Short."), "{there:?}");
    house.done(&house.effect("review/long", comment(thread, &long.repeat(5), true))).await;
    let there = bodies(&house.gate.hub().comments);
    assert!(there.len() == 4 && there[3].contains("the rest is on the page of the run"));
}

#[tokio::test]
async fn of_two_comments_that_were_made_at_once_the_oldest_stays() {
    let house = House::new().await;
    let effect = house.effect("review/twin", comment(CommentTarget::Thread { number: ISSUE }, "New.", true));
    let older = Effect { author: house.effect("x", effect.kind.clone()).author, ..effect.clone() };
    let effect = Effect { author: house.effect("x", effect.kind.clone()).author, ..effect };
    let body = domain::marker::signed("Old.", &older, &house.repository.path);
    let ids = [BOT, BOT, ADA].map(|author| house.gate.hub().comment(ISSUE, author, &body));
    house.done(&effect).await;
    let hub = house.gate.hub();
    let there: Vec<u64> = hub.comments.iter().filter_map(|comment| comment["id"].as_u64()).collect();
    assert_eq!(there, [ids[0], ids[2]], "ours once, and the copy that is not ours");
    assert!(bodies(&hub.comments)[0].starts_with("New."));
}

#[tokio::test]
async fn a_commit_is_commented_too() {
    let house = House::new().await;
    let target = CommentTarget::Commit { commit: commit(2) };
    let effect = house.by_server("plan/x", comment(target, "What it would change.", true));
    house.done(&effect).await;
    house.done(&effect).await;
    let there = bodies(&house.gate.hub().commit_comments);
    assert!(there.len() == 1 && there[0].starts_with("What it would change."), "{there:?}");
}

#[tokio::test]
async fn remarks_come_in_parts_and_all_of_them() {
    let house = House::new().await;
    let effect = house.effect("review/check", check(120));
    house.done(&effect).await;
    house.done(&effect).await;
    let hub = house.gate.hub();
    assert_eq!(hub.checks.len(), 1);
    let remarks = hub.checks[0]["remarks"].as_array().unwrap();
    let lines: Vec<u64> = remarks.iter().filter_map(|remark| remark["start_line"].as_u64()).collect();
    assert_eq!(lines, (1..=120).collect::<Vec<_>>());
    assert_eq!(hub.checks[0]["external_id"], effect.id.to_string());
}

#[tokio::test]
async fn an_issue_is_opened_once_and_brought_up_to_date_while_it_is_open() {
    let house = House::new().await;
    house.done(&house.effect("review/issue", issue("One.", true))).await;
    let receipt = house.done(&house.effect("review/issue", issue("Two.", true))).await;
    assert_eq!(receipt.summary, "updated issue #3");
    house.gate.hub().threads.get_mut(&3).unwrap()["state"] = json!("closed");
    let receipt = house.done(&house.effect("review/issue", issue("Three.", true))).await;
    assert_eq!(receipt.summary, "opened issue #4");
    for _ in 0..2 {
        house.done(&house.effect("review/each", issue("Each time.", false))).await;
    }
    assert_eq!(house.gate.hub().threads.len(), 6);
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
    let effect = house.effect("review/close", kind);
    house.done(&effect).await;
    house.gate.seen();
    house.done(&effect).await;
    assert!(house.gate.seen().iter().all(|seen| !seen.starts_with("PATCH")), "once");
    let hub = house.gate.hub();
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
    house.done(&house.effect("review/on", EffectKind::AddLabels { number: PULL, labels: labels() })).await;
    assert_eq!(house.gate.hub().threads[&PULL]["labels"].as_array().unwrap().len(), 2);
    let off = house.effect("review/off", EffectKind::RemoveLabels { number: PULL, labels: labels() });
    house.done(&off).await;
    house.done(&off).await;
    assert_eq!(house.gate.hub().threads[&PULL]["labels"], json!([]));
    let gone = EffectKind::AddLabels { number: 99, labels: labels() };
    assert!(house.refusal(&house.effect("review/none", gone)).await.contains("404"));
}

#[tokio::test]
async fn statuses_releases_and_reactions_are_made_once() {
    let house = House::new().await;
    for state in [StatusState::Pending, StatusState::Success] {
        let effect = house.effect("review/status", status(state));
        house.done(&effect).await;
        house.done(&effect).await;
    }
    assert_eq!(house.gate.hub().statuses.len(), 2);

    let effect = house.effect("review/release", release(2));
    assert_eq!(house.done(&effect).await.summary, "released v1.2.0");
    house.done(&effect).await;
    assert_eq!(house.gate.hub().releases.len(), 1);
    let other = house.refusal(&house.effect("review/release-2", release(2))).await;
    assert!(other.contains("already"), "{other}");

    let id = house.gate.hub().comment(ISSUE, ADA, "/spellbook help");
    let on = |id| EffectKind::React {
        comment: CommentRef { id, kind: CommentKind::Issue, thread: ISSUE },
        reaction: Reaction::Eyes,
    };
    let effect = house.by_server("receipt/1", on(id));
    house.done(&effect).await;
    house.done(&effect).await;
    assert_eq!(house.gate.hub().reactions.len(), 1);
    assert!(house.refusal(&house.by_server("receipt/2", on(7))).await.contains("404"));
}

#[tokio::test]
async fn a_tag_is_never_moved() {
    let house = House::new().await;
    house.gate.hub().tags.insert("v1.2.0".to_owned(), sha(1));
    let refusal = house.refusal(&house.effect("review/release", release(2))).await;
    assert!(refusal.contains("the tag v1.2.0 is at"), "{refusal}");
    assert!(house.gate.hub().releases.is_empty());
}

#[tokio::test]
async fn an_account_does_what_an_app_does_but_for_checks() {
    let house = House::with(Access::Token { token: "ghp_plain".into(), account: None }).await;
    house.done(&house.effect("review/pull/1", offer("one", 8))).await;
    house
        .done(&house.effect("review/c", comment(CommentTarget::Thread { number: ISSUE }, "Hello.", true)))
        .await;
    let refusal = house.refusal(&house.effect("review/check", check(1))).await;
    assert!(refusal.contains("apps only"), "{refusal}");
    assert!(house.gate.hub().tokens.is_empty(), "no token was minted");
}

#[tokio::test]
async fn each_effect_has_a_token_for_just_that() {
    let house = House::new().await;
    house.done(&house.effect("review/status", status(StatusState::Success))).await;
    house.done(&house.effect("review/issue", issue("One.", false))).await;
    let hub = house.gate.hub();
    let allowed: Vec<String> = hub.tokens.values().map(Value::to_string).collect();
    let distinct: std::collections::BTreeSet<&str> = allowed.iter().map(String::as_str).collect();
    assert_eq!(distinct, [r#"{"issues":"write"}"#, r#"{"statuses":"write"}"#].into());
}
