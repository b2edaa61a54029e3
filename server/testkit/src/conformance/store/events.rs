//! Deliveries, events, dispatch.

use std::time::Duration;

use domain::effect::EffectStatus;
use domain::event::Event;
use domain::id::DeliveryId;
use domain::revision::Pause;
use domain::run::RunStatus;
use domain::value::Taint;
use ports::clock::Clock;
use ports::store::events::{
    Delivery, DeliveryRecord, Dispatch, Dispatched, MatchRecord, Rest, Sweep, SweepOf,
};
use ports::store::runs::RunFilter;
use ports::store::{Fenced, Page, Recorded, Store, StoreError, Topic};
use serde_json::json;

use super::scene::{ANSWERS, Scene};
use crate::{FixedClock, build};

fn delivery(scene: Scene<'_>, external_id: Option<&str>, content: u8) -> Delivery {
    Delivery {
        id: DeliveryId::new(scene.clock.unique()),
        source: "remote".to_owned(),
        repository: Some(scene.repository),
        name: None,
        external_id: external_id.map(str::to_owned),
        content: [content; 32],
        // Some are long, and say little.
        body: [&[0, 255, content][..], &b"again, ".repeat(usize::from(content % 2) * 500)].concat(),
        received_at: scene.clock.now(),
    }
}

/// A delivery is known by the sender's id for it and by what it says, from the same sender.
pub async fn a_delivery_is_recorded_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let other = build::repository(clock, "ada/other");
    store.repository_create(&other).await.expect(ANSWERS);
    let first = delivery(scene, Some("1"), 1);
    let known = Recorded::Known(first.id);
    let cases = [
        (first.clone(), Recorded::New),
        (delivery(scene, Some("1"), 1), known),
        (delivery(scene, Some("2"), 1), known),
        (delivery(scene, None, 1), known),
        (delivery(scene, Some("1"), 2), known),
        (delivery(scene, None, 3), Recorded::New),
        (delivery(scene, None, 4), Recorded::New),
        (Delivery { source: "daemon".to_owned(), ..delivery(scene, Some("1"), 1) }, Recorded::New),
        (Delivery { repository: Some(other.id), ..delivery(scene, Some("1"), 1) }, Recorded::New),
    ];
    for (nth, (delivery, expect)) in cases.iter().enumerate() {
        assert_eq!(store.delivery_record(delivery).await.expect(ANSWERS), *expect, "case {nth}");
    }
}

/// What a forge sends names its repository in the body, which nobody has read yet.
pub async fn a_delivery_without_a_repository_is_recorded_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let sent = |external_id, content, name: &str| Delivery {
        source: "forge/github".to_owned(),
        repository: None,
        name: Some(name.to_owned()),
        ..delivery(scene, external_id, content)
    };
    let first = sent(Some("1"), 1, "issues");
    let known = Recorded::Known(first.id);
    let cases = [
        (first.clone(), Recorded::New),
        (sent(Some("1"), 2, "issues"), known),
        (sent(Some("2"), 1, "push"), known),
        (sent(Some("3"), 3, "push"), Recorded::New),
        (Delivery { source: "forge/other".to_owned(), ..sent(Some("1"), 1, "issues") }, Recorded::New),
    ];
    for (nth, (delivery, expect)) in cases.iter().enumerate() {
        assert_eq!(store.delivery_record(delivery).await.expect(ANSWERS), *expect, "case {nth}");
    }
    assert_eq!(store.delivery_next().await.expect(ANSWERS), Some(first));
}

/// The same delivery many times at once is recorded once.
pub async fn a_delivery_is_recorded_by_one_of_many(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let copies: Vec<_> = (0..50).map(|nth| delivery(scene, Some(&format!("{nth}")), 7)).collect();
    let outcomes = futures::future::join_all(copies.iter().map(|copy| store.delivery_record(copy))).await;
    let new = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Recorded::New))).count();
    assert_eq!(new, 1);
}

/// Many that come at once are each answered for themselves: one that contradicts what is there, or is known by
/// another that came with it, costs the others nothing.
pub async fn many_deliveries_at_once_are_kept_apart(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let nowhere = build::repository(clock, "ada/nowhere").id;
    let mut sent = Vec::new();
    for nth in 0..80_u8 {
        let id = format!("{nth}");
        sent.push(delivery(scene, Some(&id), nth));
        sent.push(delivery(scene, Some(&id), 100 + nth));
        sent.push(Delivery { repository: Some(nowhere), ..delivery(scene, None, nth) });
    }
    let outcomes =
        futures::future::join_all(sent.iter().map(|delivery| store.delivery_record(delivery))).await;
    for (of_one, sent) in outcomes.chunks(3).zip(sent.chunks(3)) {
        // Which of the two comes first is nobody's promise.
        let kept = match of_one {
            [Ok(Recorded::New), Ok(Recorded::Known(id)), Err(StoreError::Conflict(_))] => (*id, sent[0].id),
            [Ok(Recorded::Known(id)), Ok(Recorded::New), Err(StoreError::Conflict(_))] => (*id, sent[1].id),
            other => panic!("{other:?}"),
        };
        assert_eq!(kept.0, kept.1);
    }
    let mut number = 0;
    while let Some(next) = store.delivery_next().await.expect(ANSWERS) {
        store.delivery_settle(next.id, "seen", clock.now()).await.expect(ANSWERS);
        assert!(sent.contains(&next));
        number += 1;
    }
    assert_eq!(number, 80);
    let first = delivery(scene, None, 200);
    assert!(matches!(store.delivery_record(&first).await, Ok(Recorded::New)));
    let twin = Delivery { source: "daemon/review".to_owned(), ..first };
    assert!(matches!(store.delivery_record(&twin).await, Err(StoreError::Conflict(_))), "an id is used once");
}

/// How far was asked is kept for each forge and each repository.
pub async fn a_sweep_comes_back_as_it_was(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let all = [SweepOf::Forge(build::name("github")), SweepOf::Repository(scene.repository)];
    for (nth, of) in (0..).zip(&all) {
        assert_eq!(store.sweep_get(of).await.expect(ANSWERS), None);
        let first =
            Sweep { through: clock.now(), due_at: clock.now().after(Duration::from_secs(5)), failures: nth };
        for sweep in [first, Sweep { failures: nth + 7, ..first }] {
            store.sweep_record(of, &sweep).await.expect(ANSWERS);
            assert_eq!(store.sweep_get(of).await.expect(ANSWERS), Some(sweep));
        }
    }
    assert_eq!(store.sweep_get(&all[0]).await.expect(ANSWERS).map(|sweep| sweep.failures), Some(7));
}

/// Deliveries are given out oldest first until they are settled; the first verdict stays.
pub async fn a_delivery_is_given_out_until_it_is_settled(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut woken = store.wakeups(Topic::Events);
    woken.mark_unchanged();
    let (first, second) = (delivery(scene, Some("a"), 1), delivery(scene, None, 2));
    for delivery in [&first, &second] {
        store.delivery_record(delivery).await.expect(ANSWERS);
    }
    assert!(woken.has_changed().expect("the store lives"));
    for expect in [&first, &second] {
        for _ in 0..2 {
            assert_eq!(store.delivery_next().await.expect(ANSWERS).as_ref(), Some(expect));
        }
        for verdict in ["a push to main", "something else"] {
            store.delivery_settle(expect.id, verdict, clock.now()).await.expect(ANSWERS);
        }
    }
    assert_eq!(store.delivery_next().await.expect(ANSWERS), None);
    let unknown = delivery(scene, None, 9).id;
    assert!(store.delivery_settle(unknown, "", clock.now()).await.is_err());
}

/// Deliveries are listed newest first, page by page, with what was made of them and without their bodies.
pub async fn deliveries_are_listed_newest_first(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let of_forge = |content| Delivery {
        source: "forge/github".to_owned(),
        repository: None,
        name: Some("push".to_owned()),
        body: vec![b'x'; 70_000],
        ..delivery(scene, None, content)
    };
    let sent = [delivery(scene, Some("a"), 1), of_forge(2), of_forge(3)];
    for delivery in &sent {
        store.delivery_record(delivery).await.expect(ANSWERS);
    }
    store.delivery_settle(sent[1].id, "`ping` starts nothing", clock.now()).await.expect(ANSWERS);
    let expect = |at: usize| {
        let Delivery { id, source, repository, name, external_id, body, received_at, .. } = sent[at].clone();
        let bytes = body.len() as u64;
        let verdict = (at == 1).then(|| "`ping` starts nothing".to_owned());
        DeliveryRecord { id, source, repository, name, external_id, bytes, received_at, verdict }
    };
    let list = async |source, page: Page| store.delivery_list(source, &page).await.expect(ANSWERS);
    assert_eq!(list(None, Page::first(9)).await, [expect(2), expect(1), expect(0)]);
    assert_eq!(list(Some("forge/github"), Page::first(9)).await, [expect(2), expect(1)]);
    assert_eq!(list(None, Page { after: Some(sent[2].id.uuid()), size: 1 }).await, [expect(1)]);
    assert_eq!(list(Some("forge/other"), Page::first(9)).await, []);
}

/// An event comes back as it was, whatever its payload holds.
pub async fn an_event_comes_back_as_it_was(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    let plain = build::event(clock, &repository);
    let rich = Event {
        action: Some("opened".to_owned()),
        branch: None,
        commit: None,
        paths: vec!["src/é.rs".to_owned(), String::new()],
        labels: vec!["'; DROP TABLE runs; --".to_owned()],
        draft: true,
        payload: json!({"z": 1, "a": ["\u{0}", "\u{1f600}", 1.5, u64::MAX, null]}),
        taint: Taint::External,
        depth: 3,
        ..build::event(clock, &repository)
    };
    for event in [plain, rich] {
        assert_eq!(store.event_record(&event, None).await.expect(ANSWERS), Recorded::New);
        assert_eq!(store.event_get(event.id).await.expect(ANSWERS), Some(event.clone()));
        assert!(matches!(store.event_record(&event, None).await, Err(StoreError::Conflict(_))));
    }
}

/// A `dedupe` key is used once in a repository.
pub async fn an_event_is_recorded_once(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    let other = build::repository(clock, "ada/other");
    store.repository_create(&other).await.expect(ANSWERS);
    let first = build::event(clock, &repository);
    let record = async |event: &Event, dedupe| store.event_record(event, dedupe).await.expect(ANSWERS);
    assert_eq!(record(&first, Some("cron 9:00")).await, Recorded::New);
    assert_eq!(record(&build::event(clock, &repository), Some("cron 9:00")).await, Recorded::Known(first.id));
    assert_eq!(record(&build::event(clock, &repository), Some("cron 9:01")).await, Recorded::New);
    assert_eq!(record(&build::event(clock, &repository), None).await, Recorded::New);
    assert_eq!(record(&build::event(clock, &repository), None).await, Recorded::New);
    assert_eq!(record(&build::event(clock, &other), Some("cron 9:00")).await, Recorded::New);
}

async fn dispatch_of(scene: Scene<'_>, event: &Event) -> Dispatch {
    let mut new = scene.new_run().await;
    new.run.cause.event = Some(event.id);
    let said = |daemon: &str, run, reason: &str| MatchRecord {
        daemon: build::name(daemon),
        branch: build::name("main"),
        run,
        reason: reason.to_owned(),
    };
    let matches = vec![
        said("review", Some(new.run.id), "it answers to manual"),
        said("lint", None, "the branch does not match"),
        said("a", None, "the actor is a bot"),
    ];
    let answer = scene.answer("dispatch");
    Dispatch {
        event: event.id,
        learned: None,
        matches,
        runs: vec![new],
        effects: vec![answer],
        once: Vec::new(),
        rests: Vec::new(),
        at: scene.clock.now(),
    }
}

/// An event that cannot be decided yet lets the others pass.
pub async fn an_event_can_be_postponed(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let events = [build::event(clock, &repository), build::event(clock, &repository)];
    for event in &events {
        store.event_record(event, None).await.expect(ANSWERS);
    }
    let wait = Duration::from_secs(5);
    store.event_postpone(events[0].id, clock.now().after(wait)).await.expect(ANSWERS);
    assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS).as_ref(), Some(&events[1]));
    scene.later(wait);
    assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS).as_ref(), Some(&events[0]));
    let unknown = build::event(clock, &repository).id;
    assert!(matches!(store.event_postpone(unknown, clock.now()).await, Err(StoreError::Conflict(_))));
}

/// A dispatch of nothing.
async fn plain(scene: Scene<'_>, event: &Event) -> Dispatch {
    let dispatch = dispatch_of(scene, event).await;
    Dispatch { matches: Vec::new(), runs: Vec::new(), effects: Vec::new(), ..dispatch }
}

/// An event of a thread that is recorded.
async fn of_thread(scene: Scene<'_>, number: u64) -> Event {
    let payload = json!({ "issue": { "number": number } });
    let event = Event { payload, ..build::event(scene.clock, &scene.repository().await) };
    assert_eq!(scene.store.event_record(&event, None).await.expect(ANSWERS), Recorded::New);
    event
}

/// What is to be said once is said by the first who says it, in each repository.
pub async fn what_is_said_once_is_said_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (mut said, now) = (Vec::new(), clock.now());
    for key in ["stranger/1", "stranger/1", "stranger/2"] {
        let event = of_thread(scene, 1).await;
        let once = vec![(scene.answer("a"), key.to_owned())];
        let dispatch = Dispatch { once, ..plain(scene, &event).await };
        assert_eq!(store.event_dispatch(&dispatch).await.expect(ANSWERS), Dispatched::Recorded);
        while let Some(effect) = store.effect_next(scene.worker, now, Duration::ZERO).await.expect(ANSWERS) {
            let done = EffectStatus::Refused { reason: "seen".to_owned() };
            let _ = store.effect_settle(effect.id, 1, &done).await.expect(ANSWERS);
            said.push((key, effect.id == dispatch.once[0].0.id));
        }
    }
    assert_eq!(said, [("stranger/1", true), ("stranger/2", true)]);
    let known = store.effect_record(&scene.answer("a"), "stranger/1").await.expect(ANSWERS);
    assert!(matches!(known, Recorded::Known(_)));
}

/// What was asked about an event is kept with what was decided.
pub async fn an_event_is_learned_with_its_dispatch(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let event = of_thread(scene, 1).await;
    let mut learned = event.clone();
    learned.actor.role = Some("write".to_owned());
    let dispatch = Dispatch { learned: Some(learned.clone()), ..plain(scene, &event).await };
    assert_eq!(store.event_dispatch(&dispatch).await.expect(ANSWERS), Dispatched::Recorded);
    assert_eq!(store.event_get(event.id).await.expect(ANSWERS), Some(learned.clone()));
    let again = Dispatch { learned: Some(event.clone()), ..plain(scene, &event).await };
    assert_eq!(store.event_dispatch(&again).await.expect(ANSWERS), Dispatched::Already);
    assert_eq!(store.event_get(event.id).await.expect(ANSWERS), Some(learned));
}

/// A daemon that was told to rest does so until it is told to go on; who told it first is remembered.
pub async fn a_daemon_rests_until_it_goes_on(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let pause = |daemon: &str, by: &str| Pause {
        daemon: build::name(daemon),
        branch: build::name("main"),
        by: by.to_owned(),
        at: clock.now(),
    };
    let (fix, review) = (pause("fix", "bob"), pause("review", "ada"));
    let resume = Rest::Resume { daemon: review.daemon.clone(), branch: review.branch.clone() };
    let told = |rest: Rest| async move {
        let event = of_thread(scene, 1).await;
        let dispatch = Dispatch { rests: vec![rest], ..plain(scene, &event).await };
        assert_eq!(store.event_dispatch(&dispatch).await.expect(ANSWERS), Dispatched::Recorded);
        store.pause_list(scene.repository).await.expect(ANSWERS)
    };
    assert_eq!(told(Rest::Pause(review.clone())).await, std::slice::from_ref(&review));
    assert_eq!(told(Rest::Pause(fix.clone())).await, [fix.clone(), review.clone()]);
    assert_eq!(told(Rest::Pause(pause("review", "eve"))).await, [fix.clone(), review.clone()]);
    assert_eq!(told(resume.clone()).await, std::slice::from_ref(&fix));
    assert_eq!(told(resume).await, [fix]);
    assert_eq!(store.pause_list(build::repository(clock, "a/b").id).await.expect(ANSWERS), []);
}

/// The runs that events started are found by what those are about, newest first.
pub async fn a_thread_has_its_runs(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (first, other, second) =
        (of_thread(scene, 1).await, of_thread(scene, 2).await, of_thread(scene, 1).await);
    let mut runs = Vec::new();
    for event in [&first, &other, &second] {
        let dispatch = dispatch_of(scene, event).await;
        runs.push(dispatch.runs[0].run.id);
        assert_eq!(store.event_dispatch(&dispatch).await.expect(ANSWERS), Dispatched::Recorded);
    }
    scene.queued().await;
    let filter = RunFilter { repository: Some(scene.repository), thread: Some(1), ..RunFilter::default() };
    let found = store.run_list(&filter, &Page::first(9)).await.expect(ANSWERS);
    assert_eq!(found.iter().map(|run| run.id).collect::<Vec<_>>(), [runs[2], runs[0]]);
}

/// Events are given out oldest first until they are dispatched; what was decided is kept in order.
pub async fn an_event_is_dispatched_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let events = [build::event(clock, &repository), build::event(clock, &repository)];
    for event in &events {
        store.event_record(event, None).await.expect(ANSWERS);
    }
    assert!(store.match_list(events[0].id).await.expect(ANSWERS).is_empty());
    for event in &events {
        assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS).as_ref(), Some(event));
        let first = dispatch_of(scene, event).await;
        assert_eq!(store.event_dispatch(&first).await.expect(ANSWERS), Dispatched::Recorded);
        let second = dispatch_of(scene, event).await;
        assert_eq!(store.event_dispatch(&second).await.expect(ANSWERS), Dispatched::Already);
        assert_eq!(store.match_list(event.id).await.expect(ANSWERS), first.matches);
        assert_eq!(scene.status(first.runs[0].run.id).await, RunStatus::Queued);
        let answered = store
            .effect_next(scene.worker, clock.now(), Duration::ZERO)
            .await
            .expect(ANSWERS)
            .expect("it is due");
        assert_eq!(answered.id, first.effects[0].id);
        let done = EffectStatus::Refused { reason: "seen".to_owned() };
        assert_eq!(store.effect_settle(answered.id, 1, &done).await.expect(ANSWERS), Fenced::Written);
        assert_eq!(store.effect_next(scene.worker, clock.now(), Duration::ZERO).await.expect(ANSWERS), None);
        assert_eq!(store.run_get(second.runs[0].run.id).await.expect(ANSWERS), None);
    }
    assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS), None);
}

/// Of many who dispatch the same event, one does, and the runs are queued once.
pub async fn an_event_is_dispatched_by_one_of_many(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let event = build::event(clock, &scene.repository().await);
    store.event_record(&event, None).await.expect(ANSWERS);
    let mut dispatches = Vec::new();
    for _ in 0..20 {
        dispatches.push(dispatch_of(scene, &event).await);
    }
    let outcomes =
        futures::future::join_all(dispatches.iter().map(|dispatch| store.event_dispatch(dispatch))).await;
    let recorded = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Dispatched::Recorded))).count();
    assert_eq!(recorded, 1);
    assert_eq!(store.run_depth().await.expect(ANSWERS).queued, 1);
}

/// A dispatch with a run that cannot be queued records nothing, and can be mended.
pub async fn a_dispatch_is_all_or_nothing(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let event = build::event(clock, &scene.repository().await);
    store.event_record(&event, None).await.expect(ANSWERS);
    let good = dispatch_of(scene, &event).await;
    let mut bad = good.clone();
    bad.runs.push(bad.runs[0].clone());
    assert!(matches!(store.event_dispatch(&bad).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.run_depth().await.expect(ANSWERS).queued, 0);
    assert!(store.match_list(event.id).await.expect(ANSWERS).is_empty());
    assert_eq!(store.event_dispatch(&good).await.expect(ANSWERS), Dispatched::Recorded);
    let unknown = dispatch_of(scene, &build::event(clock, &scene.repository().await)).await;
    assert!(matches!(store.event_dispatch(&unknown).await, Err(StoreError::Conflict(_))));
}

/// Events are listed newest first, page by page, all or those of one thread of one repository.
pub async fn events_are_listed_newest_first(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let other = build::repository(clock, "ada/other");
    store.repository_create(&other).await.expect(ANSWERS);
    let own = scene.repository().await;
    let mut ids = Vec::new();
    for payload in [
        json!({ "issue": { "number": 7 } }),
        json!({ "pull_request": { "number": 7 }, "number": 8 }),
        json!({ "number": 8 }),
        json!({ "number": "7" }),
    ] {
        let event = Event { payload, ..build::event(clock, &own) };
        store.event_record(&event, None).await.expect(ANSWERS);
        ids.push(event.id);
    }
    let elsewhere = Event { payload: json!({ "number": 7 }), ..build::event(clock, &other) };
    store.event_record(&elsewhere, None).await.expect(ANSWERS);
    let list = async |thread, page: Page| -> Vec<_> {
        let found = store.event_list(scene.repository, thread, &page).await.expect(ANSWERS);
        found.into_iter().map(|event| event.id).collect()
    };
    assert_eq!(list(None, Page::first(10)).await, [ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(list(None, Page::first(2)).await, [ids[3], ids[2]]);
    assert_eq!(list(None, Page { after: Some(ids[2].uuid()), size: 1 }).await, [ids[1]]);
    assert_eq!(list(Some(7), Page::first(10)).await, [ids[1], ids[0]]);
    assert_eq!(list(Some(7), Page { after: Some(ids[1].uuid()), size: 9 }).await, [ids[0]]);
    assert_eq!(list(Some(9), Page::first(10)).await, []);
}
