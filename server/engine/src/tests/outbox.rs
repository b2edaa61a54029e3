//! The outbox, when the forge says "later".

use std::time::Duration;

use domain::effect::{Act, Author, CommentTarget, Effect, EffectKind, EffectStatus};
use domain::id::EffectId;
use domain::time::Timestamp;
use ports::Retry;
use ports::clock::Clock;
use ports::forge::ForgeError;
use ports::store::Outbox;

use super::house::House;
use crate::outbox::{self, OutboxOutcome};

const SECOND: Duration = Duration::from_secs(1);

async fn wanted(house: &House) {
    let now = house.clock.now();
    let target = CommentTarget::Thread { number: 1 };
    let effect = Effect {
        id: EffectId::new(house.clock.unique()),
        repository: house.repository.id,
        author: Author::Server { act: Act::Answer },
        key: "k".to_owned(),
        kind: EffectKind::AddComment { target, body: "Here.".to_owned(), sticky: false },
        status: EffectStatus::wanted(now),
        attempts: 0,
        created_at: now,
    };
    house.store.effect_record(&effect, "k").await.unwrap();
}

async fn next(house: &House) -> OutboxOutcome {
    outbox::next(&house.world, house.worker).await.unwrap()
}

fn later(not_before: Option<Timestamp>) -> ForgeError {
    ForgeError { message: "later".to_owned(), retry: Retry::Later, not_before }
}

#[tokio::test]
async fn what_is_put_off_comes_at_its_moment_however_often() {
    let house = House::new(&[]).await;
    wanted(&house).await;
    for _ in 0..20 {
        house.forge.fail(later(Some(house.clock.now().after(SECOND))));
        assert_eq!(next(&house).await, OutboxOutcome::Postponed);
        assert_eq!(next(&house).await, OutboxOutcome::Empty, "it is not asked before");
        house.clock.advance(SECOND);
    }
    house.forge.fail(later(None));
    assert_eq!(next(&house).await, OutboxOutcome::Postponed, "its first failure");
    house.clock.advance(SECOND);
    assert_eq!(next(&house).await, OutboxOutcome::Performed);
}

#[tokio::test]
async fn what_fails_comes_later_and_later_and_is_given_up() {
    let house = House::new(&[]).await;
    wanted(&house).await;
    for failure in 0..7 {
        house.forge.fail(later(None));
        assert_eq!(next(&house).await, OutboxOutcome::Postponed);
        house.clock.advance(SECOND * (1 << failure) - Duration::from_millis(1));
        assert_eq!(next(&house).await, OutboxOutcome::Empty);
        house.clock.advance(Duration::from_millis(1));
    }
    house.forge.fail(later(None));
    assert_eq!(next(&house).await, OutboxOutcome::GivenUp);
}

#[tokio::test]
async fn what_an_earlier_life_performed_is_performed_soon() {
    let house = House::new(&[]).await;
    wanted(&house).await;
    let now = house.clock.now();
    let held = house.store.effect_next(house.worker, now, Duration::from_secs(60)).await.unwrap();
    assert!(held.is_some());
    assert_eq!(outbox::take_over(&house.world, house.worker).await.unwrap(), 1);
    assert_eq!(next(&house).await, OutboxOutcome::Empty, "what it asked for may be on its way");
    house.clock.advance(SECOND * 2);
    assert_eq!(next(&house).await, OutboxOutcome::Performed);
}
