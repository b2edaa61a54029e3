//! How fast GitHub is asked: as it lets itself be asked, and no faster than it says.

use std::time::Duration;

use domain::effect::{CommentTarget, StatusState};
use ports::Retry;
use ports::clock::Clock;
use ports::forge::Forge;
use testkit::conformance::effects::{issue, new_comment, status};
use testkit::hub::ISSUE;
use testkit::{Trouble, build};

use crate::house::House;

#[tokio::test]
async fn nobody_asks_again_before_github_says_so() {
    let house = House::new().await;
    let effect = house.effect("status", status(StatusState::Success));
    house.gate.trouble(Some((4, Trouble::Limited)));
    let now = house.clock.now();
    let error = house.forge.perform(&house.repository, &effect).await.expect_err("it is limited");
    assert_eq!((error.retry, error.not_before), (Retry::Later, Some(now.after(Duration::from_secs(30)))));
    house.gate.trouble(None);
    house.gate.seen();
    let other = house.effect("other", issue("One.", false));
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
    let first = house.effect("a", new_comment(CommentTarget::Thread { number: ISSUE }, "One."));
    house.forge.perform(&house.repository, &first).await.expect("the first may");
    let second = build::effect(
        &*house.clock,
        &build::run(&*house.clock, &house.repository, "review"),
        "review/b",
        new_comment(CommentTarget::Thread { number: ISSUE }, "Two."),
    );
    let error = house.forge.perform(&house.repository, &second).await.expect_err("the second waits");
    assert_eq!(error.not_before, Some(house.clock.now().after(Duration::from_secs(1))));
    assert_eq!(house.gate.behind().hub.comments.len(), 1);
}
