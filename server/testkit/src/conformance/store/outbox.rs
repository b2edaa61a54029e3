//! The outbox.

use std::time::Duration;

use domain::effect::{
    Annotation, AnnotationLevel, CheckConclusion, CommentTarget, Effect, EffectKind, EffectStatus, Receipt,
};
use domain::id::WorkerId;
use domain::run::Run;
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::store::runs::Finish;
use ports::store::{Fenced, Recorded, Store, StoreError, Topic};

use super::scene::{ANSWERS, Scene};
use crate::{FixedClock, build};

const HOLD: Duration = Duration::from_secs(30);

fn noop(reason: &str) -> EffectKind {
    EffectKind::Noop { reason: reason.to_owned() }
}

fn done() -> EffectStatus {
    EffectStatus::Done {
        receipt: Receipt::new(Some("/ada/book/proposals/3".to_owned()), "opened proposal #3")
            .says("Mend it."),
    }
}

/// Ends a fresh run with these effects.
async fn finished(scene: Scene<'_>, make: impl FnOnce(&Run) -> Vec<Effect>) -> (Run, Vec<Effect>) {
    let proof = scene.running().await;
    let run = scene.run(proof.run).await;
    let effects = make(&run);
    let finish = Finish { effects: effects.clone(), ..scene.succeeded() };
    assert_eq!(scene.store.run_finish(&proof, &finish).await.expect(ANSWERS), Fenced::Written);
    (run, effects)
}

async fn next(scene: Scene<'_>) -> Option<Effect> {
    scene.store.effect_next(scene.worker, scene.clock.now(), HOLD).await.expect(ANSWERS)
}

async fn settle(scene: Scene<'_>, effect: &Effect, status: &EffectStatus) -> Fenced {
    scene.store.effect_settle(effect.id, effect.attempts, status).await.expect(ANSWERS)
}

fn pending(at: Timestamp) -> EffectStatus {
    EffectStatus::wanted(at)
}

fn kinds() -> Vec<EffectKind> {
    vec![
        EffectKind::CreatePullRequest {
            title: "Fixes é".to_owned(),
            body: "**b**\n".to_owned(),
            base: build::name("main"),
            branch: build::name("spellbook/review/1"),
            commit: build::commit(5),
            draft: true,
            labels: vec!["a b".to_owned()],
            reviewers: vec!["ada".to_owned()],
        },
        EffectKind::AddComment {
            target: CommentTarget::Thread { number: 3 },
            body: "hi".to_owned(),
            sticky: true,
        },
        EffectKind::CreateCheck {
            commit: build::commit(5),
            name: "review".to_owned(),
            conclusion: CheckConclusion::Neutral,
            summary: "s".to_owned(),
            annotations: vec![Annotation {
                path: "src/a.rs".to_owned(),
                start_line: 1,
                end_line: 2,
                level: AnnotationLevel::Warning,
                message: "m".to_owned(),
            }],
        },
        noop("nothing to do"),
    ]
}

/// Effects come into the store with the end of their run, as they were, in their order.
pub async fn effects_come_with_the_end_of_their_run(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut woken = store.wakeups(Topic::Outbox);
    woken.mark_unchanged();
    let (run, effects) = finished(scene, |run| {
        kinds()
            .into_iter()
            .enumerate()
            .map(|(nth, kind)| build::effect(clock, run, &format!("k{nth}"), kind))
            .collect()
    })
    .await;
    assert!(woken.has_changed().expect("the store lives"));
    assert_eq!(store.effect_list(run.id).await.expect(ANSWERS), effects);
}

/// An effect that is there already ends the whole transaction: the run goes on.
pub async fn an_end_is_all_or_nothing(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) = finished(scene, |run| vec![build::effect(clock, run, "k", noop("x"))]).await;
    let proof = scene.running().await;
    let run = scene.run(proof.run).await;
    let event = build::event(clock, &scene.repository().await);
    let fresh = build::effect(clock, &run, "k", noop("y"));
    let bad = Finish {
        effects: vec![fresh.clone(), effects[0].clone()],
        record: Some(build::stage(clock, "Last")),
        event: Some(event.clone()),
        ..scene.succeeded()
    };
    assert!(matches!(store.run_finish(&proof, &bad).await, Err(StoreError::Conflict(_))));
    assert_eq!(scene.run(proof.run).await, run);
    assert!(store.run_journal(run.id).await.expect(ANSWERS).is_empty());
    assert_eq!(store.event_get(event.id).await.expect(ANSWERS), None);
    assert!(store.effect_list(run.id).await.expect(ANSWERS).is_empty());
    let good = Finish { effects: vec![fresh], event: Some(event.clone()), ..scene.succeeded() };
    assert_eq!(store.run_finish(&proof, &good).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS), Some(event));
}

/// What the server wants by itself is wanted once, and belongs to no run.
pub async fn the_servers_own_effect_is_recorded_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (first, second) = (scene.answer("plan"), scene.answer("plan"));
    let record = async |effect, dedupe| store.effect_record(effect, dedupe).await.expect(ANSWERS);
    assert_eq!(record(&first, "plan/1/a").await, Recorded::New);
    assert_eq!(record(&second, "plan/1/a").await, Recorded::Known(first.id));
    assert_eq!(record(&second, "plan/1/b").await, Recorded::New);
    let given = next(scene).await.expect("one is due");
    assert_eq!((given.id, &given.author, &given.kind), (first.id, &first.author, &first.kind));
    let (run, _) = finished(scene, |_| Vec::new()).await;
    assert!(store.effect_list(run.id).await.expect(ANSWERS).is_empty());
}

/// An effect is given out, counted, and not given out again while it is held.
pub async fn an_effect_is_held_while_it_is_performed(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (run, effects) = finished(scene, |run| vec![build::effect(clock, run, "k", noop("x"))]).await;
    let first = next(scene).await.expect("one is due");
    assert_eq!((first.id, first.attempts), (effects[0].id, 1));
    assert_eq!(next(scene).await, None);
    scene.later(HOLD);
    let second = next(scene).await.expect("the hold is over");
    assert_eq!((second.id, second.attempts), (first.id, 2));
    assert_eq!(settle(scene, &first, &done()).await, Fenced::Lost, "the first performer is late");
    assert_eq!(settle(scene, &second, &done()).await, Fenced::Written);
    assert_eq!(settle(scene, &second, &pending(clock.now())).await, Fenced::Lost, "done is done");
    assert_eq!(store.effect_list(run.id).await.expect(ANSWERS)[0].status, done());
    scene.later(HOLD);
    assert_eq!(next(scene).await, None);
}

/// What a performer held that is gone is given out at the moment that is named, not later; what others hold
/// stays theirs.
pub async fn what_a_gone_performer_held_is_given_out_soon(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) = finished(scene, |run| vec![build::effect(clock, run, "k", noop("x"))]).await;
    let first = next(scene).await.expect("one is due");
    let soon = clock.now().after(Duration::from_secs(2));
    let release = async |performer, until| store.performer_release(performer, until).await.expect(ANSWERS);
    assert_eq!(release(WorkerId::new(clock.unique()), soon).await, 0, "it is another's");
    assert_eq!(release(scene.worker, soon).await, 1);
    assert_eq!(release(scene.worker, clock.now().after(HOLD)).await, 0, "nothing is held for longer");
    assert_eq!(next(scene).await, None, "what it asked for may be on its way");
    scene.later(Duration::from_secs(2));
    let second = next(scene).await.expect("the hold is over");
    assert_eq!((second.id, second.attempts), (effects[0].id, 2));
    assert_eq!(settle(scene, &first, &done()).await, Fenced::Lost, "the first performer is late");
    assert_eq!(settle(scene, &second, &done()).await, Fenced::Written);
    assert_eq!(release(scene.worker, clock.now()).await, 0);
}

/// Effects of one repository are given out one at a time, in their order; another repository's
/// meanwhile.
pub async fn effects_of_a_repository_go_one_at_a_time(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) =
        finished(scene, |run| ["a", "b"].map(|key| build::effect(clock, run, key, noop(key))).to_vec()).await;
    let repository = build::repository(clock, "ada/other");
    store.repository_create(&repository).await.expect(ANSWERS);
    let elsewhere = Scene { repository: repository.id, ..scene };
    let (_, others) = finished(elsewhere, |run| vec![build::effect(clock, run, "a", noop("z"))]).await;

    let first = next(scene).await.expect("one is due");
    assert_eq!(first.id, effects[0].id);
    assert_eq!(next(scene).await.map(|effect| effect.id), Some(others[0].id));
    assert_eq!(next(scene).await, None);
    assert_eq!(
        settle(scene, &first, &EffectStatus::Refused { reason: "no".to_owned() }).await,
        Fenced::Written
    );
    assert_eq!(
        next(scene).await.map(|effect| effect.id),
        Some(effects[1].id),
        "a refused one is out of the way"
    );
}

/// An effect that is put off lets the later ones pass, until it is due again.
pub async fn an_effect_that_is_put_off_lets_others_pass(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) =
        finished(scene, |run| ["a", "b", "c"].map(|key| build::effect(clock, run, key, noop(key))).to_vec())
            .await;
    let first = next(scene).await.expect("one is due");
    let at = clock.now().after(Duration::from_secs(5));
    assert_eq!(settle(scene, &first, &pending(at)).await, Fenced::Written);
    let second = next(scene).await.expect("the next one passes");
    assert_eq!(second.id, effects[1].id);
    clock.set(at);
    assert_eq!(next(scene).await, None, "one at a time");
    assert_eq!(settle(scene, &second, &done()).await, Fenced::Written);
    let third = next(scene).await.expect("one is due");
    assert_eq!(third.id, effects[2].id, "it is longest due");
    assert_eq!(settle(scene, &third, &done()).await, Fenced::Written);
    let again = next(scene).await.expect("one is due");
    assert_eq!((again.id, again.attempts), (first.id, 2));
}

/// A staged effect waits for somebody to promote it, once.
pub async fn a_staged_effect_waits_to_be_promoted(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) = finished(scene, |run| {
        vec![Effect { status: EffectStatus::Staged, ..build::effect(clock, run, "k", noop("x")) }]
    })
    .await;
    assert_eq!(next(scene).await, None);
    let promote = async || store.effect_promote(effects[0].id, clock.now()).await.expect(ANSWERS);
    assert!(promote().await);
    assert!(!promote().await);
    let effect = next(scene).await.expect("it is due now");
    assert_eq!((effect.id, effect.status), (effects[0].id, pending(clock.now())));
}

/// Of many performers at one effect, one is given it.
pub async fn an_effect_is_given_to_one_of_many(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    finished(scene, |run| ["a", "b", "c"].map(|key| build::effect(clock, run, key, noop(key))).to_vec())
        .await;
    let given = futures::future::join_all((0..20).map(|_| next(scene))).await;
    assert_eq!(given.into_iter().flatten().count(), 1);
}

/// What is kept up to date in one place is found by its key: the newest first.
pub async fn the_newest_effects_of_a_key_are_found(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (_, effects) = finished(scene, |run| {
        ["a", "b", "a", "a"].map(|key| build::effect(clock, run, key, noop(key))).to_vec()
    })
    .await;
    let keyed = async |repository, key| {
        let found = store.effect_keyed(repository, key, 2).await.expect(ANSWERS);
        found.into_iter().map(|effect| effect.id).collect::<Vec<_>>()
    };
    assert_eq!(keyed(scene.repository, "a").await, [effects[3].id, effects[2].id]);
    assert_eq!(keyed(scene.repository, "b").await, [effects[1].id]);
    assert_eq!(keyed(scene.repository, "c").await, []);
    let other = build::repository(clock, "ada/other");
    assert_eq!(keyed(other.id, "a").await, []);
}
