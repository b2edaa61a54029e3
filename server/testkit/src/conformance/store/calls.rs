//! Runs that wait for the runs that their stages call, and the end of either.

use std::time::Duration;

use domain::id::RunId;
use domain::run::{Concurrency, ConcurrencyBehavior, RunOutcome, RunState, RunStatus};
use ports::clock::Clock;
use ports::store::runs::{Cancellation, NewRun, Renewal};
use ports::store::{Fenced, LeaseProof, Store, StoreError};

use super::scene::{ANSWERS, Scene, TTL};
use crate::{FixedClock, build};

/// A run that waits for as many children, which are queued.
async fn waiting(scene: Scene<'_>, children: usize) -> (LeaseProof, Vec<RunId>) {
    let parent = scene.running().await;
    let mut news = Vec::new();
    for nth in 0..children {
        news.push(build::child(
            scene.clock,
            &scene.repository().await,
            parent.run,
            &format!("Each[{nth}]/Call"),
        ));
    }
    suspend(scene, &parent, &news).await;
    (parent, news.iter().map(|new| new.run.id).collect())
}

async fn suspend(scene: Scene<'_>, parent: &LeaseProof, children: &[NewRun]) {
    let suspended = scene.store.run_suspend(parent, children, scene.clock.now()).await;
    assert_eq!(suspended.expect(ANSWERS), Fenced::Written);
}

/// A parent is queued again when the last of its children has ended, not before.
pub async fn a_parent_goes_on_after_its_last_child(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (parent, children) = waiting(scene, 2).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
    let listed: Vec<_> =
        store.run_children(parent.run).await.expect(ANSWERS).iter().map(|run| run.id).collect();
    assert_eq!(listed, children);
    for child in &children {
        assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
        let proof = scene.lease().await;
        assert_eq!(proof.run, *child);
        scene.finish(&proof).await;
    }
    assert_eq!(scene.run(parent.run).await.state, RunState::Queued { ready_at: clock.now() });
    let again = scene.lease().await;
    assert_eq!((again.run, again.attempt), (parent.run, 2));
    let late = store.run_finish(&parent, &scene.succeeded()).await.expect(ANSWERS);
    assert_eq!(late, Fenced::Lost, "the attempt before it waited is over");
}

/// A parent whose children have all ended, or that has none, is queued again at once.
pub async fn a_parent_without_children_goes_on_at_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (parent, _) = waiting(scene, 0).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
    let parent = scene.lease().await;
    let child = build::child(clock, &scene.repository().await, parent.run, "Call");
    suspend(scene, &parent, std::slice::from_ref(&child)).await;
    let proof = scene.lease().await;
    scene.finish(&proof).await;
    let parent = scene.lease().await;
    suspend(scene, &parent, std::slice::from_ref(&child)).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
}

/// A child of the same stage that is there already stays: a stage that is taken up again after a
/// crash does not call twice.
pub async fn a_stage_that_is_taken_up_again_calls_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let parent = scene.running().await;
    let repository = scene.repository().await;
    let first = build::child(clock, &repository, parent.run, "Call");
    suspend(scene, &parent, std::slice::from_ref(&first)).await;
    let proof = scene.lease().await;
    scene.finish(&proof).await;
    let parent = scene.lease().await;
    let again = build::child(clock, &repository, parent.run, "Call");
    let other = build::child(clock, &repository, parent.run, "Other");
    suspend(scene, &parent, &[again.clone(), other.clone()]).await;
    assert_eq!(store.run_get(again.run.id).await.expect(ANSWERS), None);
    let children: Vec<_> =
        store.run_children(parent.run).await.expect(ANSWERS).iter().map(|run| run.id).collect();
    assert_eq!(children, [first.run.id, other.run.id]);
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
}

/// A run cannot wait for somebody else's children; nothing is written then.
pub async fn a_foreign_child_is_refused(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let stranger = scene.running().await;
    let parent = scene.running().await;
    let repository = scene.repository().await;
    let good = build::child(clock, &repository, parent.run, "Call");
    for bad in [build::child(clock, &repository, stranger.run, "Call"), scene.new_run().await, good.clone()] {
        let refused = store.run_suspend(&parent, &[good.clone(), bad], clock.now()).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        assert_eq!(scene.status(parent.run).await, RunStatus::Running);
        assert_eq!(store.run_get(good.run.id).await.expect(ANSWERS), None);
    }
}

/// Children that are skipped or cancelled for their group end like any other, and no sooner.
pub async fn children_that_end_at_once_do_not_wake_too_early(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    for behavior in [ConcurrencyBehavior::Cancel, ConcurrencyBehavior::Fail] {
        let parent = scene.running().await;
        let group = Concurrency { key: format!("{behavior:?}"), limit: 1, behavior };
        let children = ["One", "Two"].map(|stage| NewRun {
            concurrency: Some(group.clone()),
            ..build::child(clock, &repository, parent.run, stage)
        });
        suspend(scene, &parent, &children).await;
        assert_eq!(scene.status(parent.run).await, RunStatus::Waiting, "{behavior:?}");
        let child = scene.lease().await;
        scene.finish(&child).await;
        let parent = scene.lease().await;
        scene.finish(&parent).await;
    }
}

/// A queued run ends at once, with who ended it; asking again changes nothing.
pub async fn a_queued_run_is_cancelled_at_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let run = scene.queued().await;
    let at = clock.now();
    assert_eq!(scene.cancel(run).await, Cancellation::Cancelled);
    scene.later(TTL);
    assert_eq!(scene.cancel(run).await, Cancellation::Ended);
    let outcome = RunOutcome::Cancelled { by: "ada".to_owned() };
    assert_eq!(scene.run(run).await.state, RunState::Ended { outcome, at });
    scene.nothing_is_ready().await;
    assert_eq!(scene.cancel(RunId::new(clock.unique())).await, Cancellation::Unknown);
}

/// A running run is asked; its worker hears of it at the next renewal, and ends it.
pub async fn a_running_run_is_asked_to_end(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    for by in ["ada", "bob"] {
        let asked = store.run_cancel(proof.run, by, clock.now()).await.expect(ANSWERS);
        assert_eq!(asked, Cancellation::Requested);
    }
    assert_eq!(scene.status(proof.run).await, RunStatus::Running);
    let renewal = store.run_renew(&proof, clock.now().after(TTL)).await.expect(ANSWERS);
    assert_eq!(renewal, Renewal::Renewed { cancel_requested: true });
    scene.later(TTL);
    let again = scene.lease().await;
    assert_eq!(
        scene.run(again.run).await.cancel_requested.as_deref(),
        Some("ada"),
        "the next worker hears of it too"
    );
    scene.finish(&again).await;
    assert_eq!(scene.cancel(proof.run).await, Cancellation::Ended);
}

/// A run that was asked to end is neither put off nor left waiting.
pub async fn a_run_that_is_asked_to_end_is_not_put_off(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    scene.cancel(proof.run).await;
    let next_week = clock.now().after(Duration::from_secs(7 * 86_400));
    assert_eq!(store.run_release(&proof, clock.now(), next_week).await.expect(ANSWERS), Fenced::Written);
    let proof = scene.lease().await;
    let child = build::child(clock, &scene.repository().await, proof.run, "Call");
    suspend(scene, &proof, std::slice::from_ref(&child)).await;
    assert_eq!(store.run_get(child.run.id).await.expect(ANSWERS), None, "nothing new begins for its sake");
    assert_eq!(scene.lease().await.run, proof.run);
}

/// A waiting run is asked to end, and so is all that it waits for: what has not begun ends at once. Once
/// those have ended a worker takes it up, to clean up.
pub async fn a_waiting_run_is_cancelled_with_its_children(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (parent, children) = waiting(scene, 3).await;
    let [first, second, third] = [children[0], children[1], children[2]];
    let middle = scene.lease().await;
    let running = scene.lease().await;
    assert_eq!((middle.run, running.run), (first, second));
    let grandchild = build::child(clock, &scene.repository().await, first, "Call");
    suspend(scene, &middle, std::slice::from_ref(&grandchild)).await;

    assert_eq!(scene.cancel(parent.run).await, Cancellation::Requested);
    use RunStatus::{Cancelled, Queued, Running, Waiting};
    let expect = [(parent.run, Waiting), (first, Queued), (second, Running), (third, Cancelled)];
    for (run, status) in expect.into_iter().chain([(grandchild.run.id, Cancelled)]) {
        let run = scene.run(run).await;
        assert_eq!(run.state.status(), status, "{}", run.id);
        let asked = run.cancel_requested.is_some();
        assert_eq!((asked, run.cancel_insisted), (status != Cancelled, false), "{}", run.id);
    }
    scene.finish(&running).await;
    let middle = scene.lease().await;
    assert_eq!(middle.run, first);
    scene.nothing_is_ready().await;
    scene.finish(&middle).await;
    assert_eq!(scene.lease().await.run, parent.run);
}

/// Asked again, what no worker has ends at once, and a worker hears of it. Nobody is woken by their end.
pub async fn who_insists_is_not_let_wait(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (parent, children) = waiting(scene, 1).await;
    let running = scene.lease().await;
    assert_eq!(running.run, children[0]);
    assert_eq!(scene.cancel(parent.run).await, Cancellation::Requested);
    assert_eq!(scene.cancel(parent.run).await, Cancellation::Cancelled);
    assert_eq!(scene.status(parent.run).await, RunStatus::Cancelled);
    assert!(scene.run(running.run).await.cancel_insisted);
    scene.finish(&running).await;

    let released = scene.running().await;
    let next_week = clock.now().after(Duration::from_secs(7 * 86_400));
    assert_eq!(store.run_release(&released, clock.now(), next_week).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(scene.cancel(released.run).await, Cancellation::Requested);
    assert_eq!(scene.lease().await.run, released.run, "it does not wait for the retry");
    assert_eq!(scene.cancel(released.run).await, Cancellation::Requested);
    assert!(scene.run(released.run).await.cancel_insisted);
}

/// A parent goes on when its last child is cancelled.
pub async fn a_parent_goes_on_after_a_cancelled_child(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (parent, children) = waiting(scene, 2).await;
    scene.cancel(children[0]).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
    scene.cancel(children[1]).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
    assert_eq!(scene.lease().await.run, parent.run);
}
