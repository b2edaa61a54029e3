//! Each kind of effect: what it does, what it leaves alone, and what it is refused for. That each is done once,
//! whatever is lost, is the conformance suite's.

use domain::effect::{CommentTarget, EffectKind, StatusState};
use serde_json::json;
use testkit::build;
use testkit::conformance::effects::{KINDS, check, comment, done_once, issue, offer, release, status};
use testkit::conformance::forge::suite;

use crate::house::House;
use crate::hub::{ADA, ISSUE, PULL, sha};

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
    done_once(House::new, &["comment", "long comment again", "check", "check again"]).await;
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
        assert_eq!(house.done(&first).await.summary, "opened pull request #3");
    }
    {
        let hub = house.gate.behind();
        let pull = hub.pull(3).unwrap();
        assert_eq!((&pull["title"], &pull["draft"]), (&json!("WIP: Fixes: one"), &json!(true)));
        assert_eq!((&pull["head"]["sha"], &pull["labels"][0]["id"]), (&json!(sha(8)), &json!(77)));
        assert_eq!(pull["requested_reviewers"][0]["login"], "bob");
        assert!(pull["body"].as_str().unwrap().starts_with("Look.\n\n---\n<sub>Daemon `review`"));
        assert!(hub.labels.is_empty(), "the organisation has it already, in other letters");
    }
    let second = house.effect("pull request", offer("two", 9));
    assert_eq!(house.done(&second).await.summary, "updated pull request #3");
    assert_eq!(house.gate.behind().pull(3).unwrap()["title"], "WIP: Fixes: two", "still a draft");
    assert!(house.refusal(&first).await.contains("a later run"));
    house.gate.behind().threads.get_mut(&3).unwrap()["title"] = json!("Fixes: two");
    house.done(&house.effect("pull request", offer("three", 10))).await;
    assert_eq!(house.gate.behind().pull(3).unwrap()["title"], "Fixes: three", "ready, as a person said");
}

#[tokio::test]
async fn what_others_did_is_theirs() {
    let house = House::new().await;
    house.gate.behind().branches.insert("spellbook/review/1".to_owned(), sha(5));
    let effect = house.effect("pull request", offer("one", 8));
    assert!(house.refusal(&effect).await.contains("not because of this daemon"));
    house.gate.behind().branches.remove("spellbook/review/1");
    let body = domain::marker::signed("Look.", &effect, &house.repository.path);
    house.gate.behind().branches.insert("spellbook/review/1".to_owned(), sha(8));
    let copied = json!({ "title": "x", "body": body, "head": "spellbook/review/1", "base": "main" });
    house.gate.behind().new_pull(9, ADA, &copied);
    let refusal = house.refusal(&effect).await;
    assert_eq!(refusal, "Forgejo says 409: pull request already exists for these targets");
    house.gate.behind().tags.insert("v1.2.0".to_owned(), sha(1));
    assert!(house.refusal(&house.effect("release", release(2))).await.contains("the tag v1.2.0 is at"));
}

#[tokio::test]
async fn a_check_is_a_status_and_a_comment_where_people_look() {
    let house = House::new().await;
    let receipt = house.done(&house.effect("check", check(2))).await;
    assert_eq!(receipt.summary, format!("reported on {}: review", &sha(2)[..12]));
    assert!(receipt.url.unwrap().starts_with(&format!("{}/acme/app/issues/2#issuecomment-", house.url)));
    let older = house.effect("check", check(1));
    house.done(&house.effect("check", check(3))).await;
    assert!(house.done(&older).await.summary.starts_with("a later run has reported already"));
    {
        let hub = house.gate.behind();
        assert_eq!(hub.comments.len(), 1, "in place");
        let body = hub.comments[0]["body"].as_str().unwrap();
        assert!(body.starts_with("**review**: failure, 3 remarks\n\nNot good.\n\n- `src/lib.rs:1` warning"));
        let newest = hub.statuses.last().unwrap();
        assert_eq!(
            (&newest["status"], &newest["description"]),
            (&json!("failure"), &json!("failure, 3 remarks"))
        );
        assert_eq!(newest["target_url"], hub.comments[0]["html_url"]);
    }
    house.gate.behind().threads.get_mut(&PULL).unwrap()["state"] = json!("closed");
    let EffectKind::CreateCheck { name, conclusion, summary, annotations, .. } = check(1) else {
        unreachable!("it is one")
    };
    let elsewhere =
        EffectKind::CreateCheck { commit: build::commit(6), name, conclusion, summary, annotations };
    let receipt = house.done(&house.effect("check", elsewhere)).await;
    assert!(receipt.summary.ends_with("no open pull request is at this commit"), "{}", receipt.summary);
}

#[tokio::test]
async fn what_forgejo_does_not_have_is_refused_in_words() {
    let house = House::new().await;
    let on_commit = comment(CommentTarget::Commit { commit: build::commit(2) }, "Hello.");
    let refusal = house.refusal(&house.effect("comment", on_commit)).await;
    assert!(refusal.contains("no comments on commits"), "{refusal}");
    let asks = EffectKind::AddReviewers { number: PULL, reviewers: vec!["ghost".to_owned()] };
    assert!(house.refusal(&house.effect("reviewers", asks)).await.contains("can't read"));
    let gone = EffectKind::AddLabels { number: 99, labels: vec!["x".to_owned()] };
    assert!(house.refusal(&house.effect("labels", gone)).await.contains("404"));
}

#[tokio::test]
async fn long_lists_are_read_to_their_end() {
    let house = House::new().await;
    let effect = house.effect("issue", issue("One.", true));
    house.done(&effect).await;
    {
        let mut hub = house.gate.behind();
        for number in 10..130 {
            hub.new_thread(number, crate::hub::OWN, &json!({ "title": "Other", "body": "x" }));
        }
    }
    house.gate.seen();
    assert_eq!(house.done(&house.effect("issue", issue("Two.", true))).await.summary, "updated issue #3");
    let pages = house.gate.seen().iter().filter(|seen| *seen == "GET /repos/acme/app/issues").count();
    assert_eq!(pages, 6, "three pages, twice");
}

#[tokio::test]
async fn nobody_asks_again_before_the_forge_says_so() {
    let house = House::new().await;
    let effect = house.effect("status", status(StatusState::Success));
    house.gate.trouble(Some((3, testkit::Trouble::Limited)));
    let now = ports::clock::Clock::now(&*house.clock);
    let forge = ports::forge::Forge::perform(&house.forge, &house.repository, &effect).await;
    let error = forge.expect_err("it is limited");
    assert_eq!(error.not_before, Some(now.after(std::time::Duration::from_secs(30))));
    house.gate.seen();
    let hello = comment(CommentTarget::Thread { number: ISSUE }, "Hello.");
    let other = house.effect("comment", hello);
    let waits = ports::forge::Forge::perform(&house.forge, &house.repository, &other).await;
    assert!(waits.expect_err("all of them wait").not_before.is_some());
    assert!(house.gate.seen().is_empty(), "nothing was asked");
    house.done(&effect).await;
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
