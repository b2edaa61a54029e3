//! What was written, looked at: it is found where its receipt says, as it stands there.

use domain::effect::{CommentTarget, EffectKind, print};
use domain::marker::Marker;
use domain::name::Commit;
use ports::forge::{Forge, Thing, ThingKind};
use serde_json::json;
use testkit::build;
use testkit::conformance::effects::{check, issue, new_comment, offer, release};
use testkit::hub::{ADA, ISSUE, PULL, account, sha};

use crate::house::House;

async fn at(house: &House, below: &str) -> Option<Thing> {
    house.forge.look(&house.repository, &format!("{}/acme/app/{below}", house.url)).await.unwrap()
}

#[tokio::test]
async fn every_kind_is_found_where_its_receipt_says() {
    let house = House::new().await;
    let on_commit = CommentTarget::Commit { commit: build::commit(2) };
    let kinds: [(EffectKind, ThingKind, Option<String>); 6] = [
        (new_comment(CommentTarget::Thread { number: PULL }, "Said."), ThingKind::Comment, None),
        (new_comment(on_commit, "Said."), ThingKind::Comment, None),
        (issue("Broken.", true), ThingKind::Issue, None),
        (check(60), ThingKind::Check, Some(sha(2))),
        (release(1), ThingKind::Release, None),
        (offer("one", 8), ThingKind::PullRequest, Some(sha(8))),
    ];
    for (kind, expect, commit) in kinds {
        let name = kind.as_str();
        let effect = house.effect(name, kind);
        let receipt = house.done(&effect).await;
        let [written] = &receipt.written[..] else { panic!("{name}: {receipt:?}") };
        let thing = house.forge.look(&house.repository, &written.url).await.unwrap().expect(name);
        let commit = commit.map(|commit| Commit::parse(commit).unwrap());
        assert_eq!((thing.kind, thing.own, thing.commit), (expect, Some(true), commit), "{name}");
        assert_eq!((thing.url, print(&thing.text)), (written.url.clone(), written.print.clone()), "{name}");
    }
}

#[tokio::test]
async fn each_part_of_a_long_text_is_found() {
    let house = House::new().await;
    let long = "A line of a long text.\n\n".repeat(4_000);
    let effect = house.effect("long", new_comment(CommentTarget::Thread { number: ISSUE }, &long));
    let receipt = house.done(&effect).await;
    assert_eq!(receipt.written.len(), 2);
    for (written, key) in receipt.written.iter().zip(["review/long", "review/long#2"]) {
        let thing = house.forge.look(&house.repository, &written.url).await.unwrap().unwrap();
        assert_eq!(print(&thing.text), written.print);
        assert_eq!(Marker::find(&thing.text).unwrap().key, key);
    }
}

#[tokio::test]
async fn what_others_wrote_is_theirs() {
    let house = House::new().await;
    {
        let hub = &mut house.gate.behind().hub;
        hub.comment(ISSUE, ADA, "Mine.");
        hub.review_comments
            .push(json!({ "id": 77, "user": account(ADA), "body": "Here.", "html_url": "https://x/77" }));
        hub.commits
            .push(json!({ "sha": sha(9), "commit": { "message": "Mend" }, "html_url": "https://x/9" }));
    }
    let shown = async |below: &str| at(&house, below).await.map(|thing| (thing.kind, thing.own, thing.text));
    let id = house.gate.behind().hub.comments[0]["id"].clone();
    let comment = shown(&format!("issues/1#issuecomment-{id}")).await;
    assert_eq!(comment, Some((ThingKind::Comment, Some(false), "Mine.".to_owned())));
    let review = shown("pull/2#discussion_r77").await;
    assert_eq!(review, Some((ThingKind::Comment, Some(false), "Here.".to_owned())));
    let commit = shown(&format!("commit/{}", sha(9))).await;
    assert_eq!(commit, Some((ThingKind::Commit, None, "Mend".to_owned())));
    assert_eq!(
        shown("pull/2").await.map(|(kind, own, _)| (kind, own)),
        Some((ThingKind::PullRequest, Some(false)))
    );
    for below in ["issues/99", "issues/1#issuecomment-5", "runs/5", "releases/tag/v9", "wiki"] {
        assert_eq!(shown(below).await, None, "{below}");
    }
    house.gate.seen();
    assert_eq!(
        house.forge.look(&house.repository, "https://elsewhere.example/acme/app/issues/1").await.unwrap(),
        None
    );
    assert!(house.gate.seen().is_empty(), "nobody is asked about other hosts");
}
