//! Concurrency groups.

use domain::run::{Concurrency, ConcurrencyBehavior, RunOutcome, RunState, RunStatus};
use ports::clock::Clock;
use ports::store::runs::NewRun;
use ports::store::{Fenced, Store};

use super::scene::{ANSWERS, Scene, TTL};
use crate::{FixedClock, build};

use ConcurrencyBehavior::{Cancel, Fail, Queue};

/// A full group is passed over until there is room; other groups and repositories go on.
pub async fn a_full_group_is_passed_over(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = scene.grouped("pr-1", 1, Queue).await;
    let second = scene.grouped("pr-1", 1, Queue).await;
    let other = scene.grouped("pr-2", 1, Queue).await;
    let repository = build::repository(clock, "ada/other");
    store.repository_create(&repository).await.expect(ANSWERS);
    let group = Concurrency { key: "pr-1".to_owned(), limit: 1, behavior: Queue };
    let mut elsewhere = build::new_run(clock, &repository, "review");
    elsewhere.concurrency = Some(group);
    scene.enqueue(&elsewhere).await;

    let proof = scene.lease().await;
    assert_eq!(proof.run, first);
    assert_eq!(scene.lease().await.run, other);
    assert_eq!(scene.lease().await.run, elsewhere.run.id);
    scene.nothing_is_ready().await;
    scene.finish(&proof).await;
    assert_eq!(scene.lease().await.run, second);
}

/// As many runs of a group go at once as its limit says; a limit of nothing is one.
pub async fn a_group_runs_up_to_its_limit(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    for (key, limit, expect) in [("three", 3, 3), ("none", 0, 1)] {
        for _ in 0..5 {
            scene.grouped(key, limit, Queue).await;
        }
        let mut leased = 0;
        while scene.try_lease().await.is_some() {
            leased += 1;
        }
        assert_eq!(leased, expect, "of the group {key}");
    }
}

/// Many workers at a group with a limit do not overrun it.
pub async fn many_workers_keep_to_the_limit(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    for _ in 0..20 {
        scene.grouped("k", 2, Queue).await;
    }
    let workers: Vec<_> = (0..20).map(|_| scene.other_worker()).collect();
    let leased = futures::future::join_all(workers.into_iter().map(Scene::try_lease)).await;
    assert_eq!(leased.into_iter().flatten().count(), 2);
}

/// A lapsed run has its place in its group already: it is given out again although the group is full.
pub async fn a_lapsed_run_keeps_its_place(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = scene.grouped("k", 1, Queue).await;
    scene.grouped("k", 1, Queue).await;
    scene.lease().await;
    scene.later(TTL);
    let again = scene.lease().await;
    assert_eq!((again.run, again.attempt), (first, 2));
    scene.nothing_is_ready().await;
}

/// Runs that wait for their children leave their place to others.
pub async fn a_waiting_run_takes_no_place(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    scene.grouped("k", 1, Queue).await;
    let parent = scene.lease().await;
    let mut child = build::child(clock, &scene.repository().await, parent.run, "Call");
    child.concurrency = Some(Concurrency { key: "k".to_owned(), limit: 1, behavior: Queue });
    assert_eq!(
        store.run_suspend(&parent, &[child.clone()], clock.now()).await.expect(ANSWERS),
        Fenced::Written
    );
    assert_eq!(scene.lease().await.run, child.run.id, "or the two would wait for one another for ever");
}

/// `cancel`: the newer run takes the place of the older ones of its group, and of no others.
pub async fn a_newer_run_cancels_the_older(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let bystander = scene.grouped("other", 1, Cancel).await;
    let running = scene.grouped("k", 1, Queue).await;
    assert_eq!(scene.lease().await.run, bystander);
    assert_eq!(scene.lease().await.run, running);
    let queued = scene.grouped("k", 1, Queue).await;
    let newer = scene.grouped("k", 1, Cancel).await;

    let ended = scene.run(queued).await;
    let RunState::Ended { outcome: RunOutcome::Cancelled { by }, .. } = &ended.state else {
        panic!("{:?}", ended.state)
    };
    assert!(by.contains(&newer.to_string()), "{by}");
    let asked = scene.run(running).await;
    assert_eq!((asked.state.status(), asked.cancel_requested), (RunStatus::Running, Some(by.clone())));
    assert_eq!(scene.run(bystander).await.cancel_requested, None);
    scene.nothing_is_ready().await;
}

/// `cancel` with a limit of more than one makes just enough room.
pub async fn a_newer_run_cancels_no_more_than_it_must(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(scene.grouped("k", 3, Cancel).await);
    }
    let mut statuses = Vec::new();
    for run in runs {
        statuses.push(scene.status(run).await);
    }
    use RunStatus::{Cancelled, Queued};
    assert_eq!(statuses, [Cancelled, Cancelled, Queued, Queued, Queued]);
}

/// `fail`: a run that finds its group full is skipped, with the reason.
pub async fn a_run_is_skipped_when_its_group_is_full(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = scene.grouped("pr-1", 1, Fail).await;
    let second = scene.grouped("pr-1", 1, Fail).await;
    let skipped = scene.run(second).await;
    let RunState::Ended { outcome: RunOutcome::Skipped { reason }, .. } = &skipped.state else {
        panic!("{:?}", skipped.state)
    };
    assert!(reason.contains("pr-1"), "{reason}");
    let proof = scene.lease().await;
    assert_eq!(proof.run, first);
    scene.finish(&proof).await;
    let third = scene.grouped("pr-1", 1, Fail).await;
    assert_eq!(scene.status(third).await, RunStatus::Queued);
}

/// A child of the same group neither cancels the runs that wait for it nor is skipped for them.
pub async fn a_child_does_not_contend_with_its_parents(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    for behavior in [Cancel, Fail] {
        let key = format!("{behavior:?}");
        let top = scene.grouped(&key, 1, behavior).await;
        let parent = scene.lease().await;
        let called = |of, stage: &str, repository: &domain::repository::Repository| -> NewRun {
            let mut child = build::child(clock, repository, of, stage);
            child.concurrency = Some(Concurrency { key: key.clone(), limit: 1, behavior });
            child
        };
        let child = called(top, "Call", &scene.repository().await);
        assert_eq!(store.run_suspend(&parent, &[child], clock.now()).await.expect(ANSWERS), Fenced::Written);
        let middle = scene.lease().await;
        let grandchild = called(middle.run, "Call", &scene.repository().await);
        assert_eq!(
            store.run_suspend(&middle, &[grandchild], clock.now()).await.expect(ANSWERS),
            Fenced::Written
        );
        let bottom = scene.lease().await;
        assert_eq!(scene.status(top).await, RunStatus::Waiting);
        assert_eq!(scene.status(middle.run).await, RunStatus::Waiting);
        scene.finish(&bottom).await;
        let middle = scene.lease().await;
        scene.finish(&middle).await;
        let top = scene.lease().await;
        scene.finish(&top).await;
    }
}

/// A run that replaces others ends those that no worker has taken up, and lets the others be; it still
/// has a group of its own.
pub async fn a_newer_run_takes_the_place_of_those_not_begun(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let replacing = async |key: &str| {
        let mut new = scene.new_run().await;
        new.replaces = Some(key.to_owned());
        new.concurrency = Some(Concurrency { key: key.to_owned(), limit: 1, behavior: Queue });
        scene.enqueue(&new).await
    };
    let (running, other) = (replacing("k").await, replacing("other").await);
    let proof = scene.lease().await;
    assert_eq!(proof.run, running);
    let older = replacing("k").await;
    let newer = replacing("k").await;
    let RunState::Ended { outcome: RunOutcome::Skipped { reason }, .. } = scene.run(older).await.state else {
        panic!("{older} is not skipped")
    };
    assert!(reason.contains(&newer.to_string()), "{reason}");
    let run = scene.run(running).await;
    assert_eq!((run.state.status(), run.cancel_requested), (RunStatus::Running, None));

    // In the queue again, but begun.
    assert_eq!(store.run_release(&proof, clock.now(), clock.now()).await.expect(ANSWERS), Fenced::Written);
    let newest = replacing("k").await;
    let statuses = [scene.status(running).await, scene.status(newer).await, scene.status(newest).await];
    assert_eq!(statuses, [RunStatus::Queued, RunStatus::Skipped, RunStatus::Queued]);
    assert_eq!(scene.status(other).await, RunStatus::Queued);
    assert_eq!([scene.lease().await.run, scene.lease().await.run], [running, other]);
    scene.nothing_is_ready().await;
}

/// What is queued, running or waiting in a group is counted, what has ended is not.
pub async fn a_group_counts_what_has_not_ended(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let count = || store.run_group(scene.repository, "g");
    assert_eq!(count().await.expect(ANSWERS), 0);
    for _ in 0..3 {
        scene.grouped("g", 1, ConcurrencyBehavior::Queue).await;
    }
    scene.grouped("h", 1, ConcurrencyBehavior::Queue).await;
    scene.queued().await;
    let proof = scene.lease().await;
    assert_eq!(count().await.expect(ANSWERS), 3);
    scene.finish(&proof).await;
    assert_eq!(count().await.expect(ANSWERS), 2);
    let elsewhere = build::repository(clock, "a/b").id;
    assert_eq!(store.run_group(elsewhere, "g").await.expect(ANSWERS), 0);
}
