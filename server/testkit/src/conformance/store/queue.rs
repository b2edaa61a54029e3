//! The queue: order, leases, fencing.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::id::{MemoWriteId, WorkerId};
use domain::memo::{Sealed, Seen};
use domain::money::NanoUsd;
use domain::route::{Ranking, Reason, Route, Verdict};
use domain::run::{
    Concurrency, ConcurrencyBehavior, Failure, ParentStage, Replay, RunOutcome, RunState, RunStatus,
};
use domain::stage::{
    HostUsage, ModelUsage, StageEnd, StageOutput, StagePath, StageRecord, StageUsage, Tokens,
};
use domain::value::Value;
use ports::clock::Clock;
use ports::store::runs::{Depth, LeaseOutcome, Priority, Renewal, RunFilter};
use ports::store::{Fenced, LeaseProof, Page, Recorded, Store, StoreError, Topic};
use serde_json::json;

use super::scene::{ANSWERS, Scene, TTL, all_pages};
use crate::{FixedClock, build};

/// A run comes back as it was queued, whatever it holds.
pub async fn a_run_comes_back_as_it_was(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut new = scene.new_run().await;
    new.run.inputs.insert("depth".to_owned(), json!("quick \u{1f600} '\"; --"));
    new.run.cause.event = Some(build::event(clock, &scene.repository().await).id);
    new.run.cause.replay =
        Some(Replay { of: new.run.id, from_stage: Some("Fix".to_owned()), agent: Some("gpt-4".to_owned()) });
    new.run.effects = domain::run::EffectMode::Stage;
    let id = scene.enqueue(&new).await;
    assert_eq!(scene.run(id).await, new.run);
    let again = store.run_enqueue(&new, None).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "the same id twice gave {again:?}");
    let mut ended = scene.new_run().await;
    ended.run.state = RunState::Waiting;
    assert!(matches!(store.run_enqueue(&ended, None).await, Err(StoreError::Conflict(_))));
    let mut nowhere = scene.new_run().await;
    nowhere.run.repository = build::repository(clock, "no/where").id;
    assert!(matches!(store.run_enqueue(&nowhere, None).await, Err(StoreError::Conflict(_))));
}

/// An idempotency key queues one run in its repository.
pub async fn an_idempotency_key_queues_one_run(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let other = build::repository(clock, "ada/other");
    store.repository_create(&other).await.expect(ANSWERS);
    let first = scene.new_run().await;
    assert_eq!(store.run_enqueue(&first, Some("k")).await.expect(ANSWERS), Recorded::New);
    let again = scene.new_run().await;
    assert_eq!(store.run_enqueue(&again, Some("k")).await.expect(ANSWERS), Recorded::Known(first.run.id));
    assert_eq!(store.run_get(again.run.id).await.expect(ANSWERS), None);
    let elsewhere = build::new_run(clock, &other, "review");
    assert_eq!(store.run_enqueue(&elsewhere, Some("k")).await.expect(ANSWERS), Recorded::New);
}

/// A run is given to one worker, with a proof, until its lease lapses.
pub async fn a_run_is_leased_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut woken = store.wakeups(Topic::Runs);
    woken.mark_unchanged();
    let id = scene.queued().await;
    assert!(woken.has_changed().expect("the store lives"));
    let LeaseOutcome::Leased(run, proof) = scene.lease_outcome().await else { panic!("nothing was ready") };
    assert_eq!(proof, LeaseProof { run: id, worker: scene.worker, attempt: 1 });
    assert_eq!((run.id, run.attempt, run.started_at), (id, 1, Some(clock.now())));
    assert_eq!(*run, scene.run(id).await);
    let RunState::Running { lease } = run.state else { panic!("{:?}", run.state) };
    assert_eq!((lease.worker, lease.attempt, lease.until), (scene.worker, 1, clock.now().after(TTL)));
    scene.other_worker().nothing_is_ready().await;
}

/// The highest priority goes first, then the oldest.
pub async fn the_queue_is_in_order(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut expect = Vec::new();
    for priority in [
        Priority::Background,
        Priority::Interactive,
        Priority::Event,
        Priority::Interactive,
        Priority::Background,
    ] {
        let mut new = scene.new_run().await;
        new.priority = priority;
        expect.push((std::cmp::Reverse(priority), scene.enqueue(&new).await));
    }
    expect.sort();
    for (_, id) in expect {
        assert_eq!(scene.lease().await.run, id);
    }
    scene.nothing_is_ready().await;
}

/// A run is not given out before it is ready, and the store says when that is.
pub async fn a_run_is_given_out_when_it_is_ready(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let ready_at = clock.now().after(Duration::from_secs(5));
    let mut new = scene.new_run().await;
    new.run.state = RunState::Queued { ready_at };
    new.priority = Priority::Interactive;
    scene.enqueue(&new).await;
    let next_at = async || match scene.lease_outcome().await {
        LeaseOutcome::Empty { next_at } => next_at,
        LeaseOutcome::Leased(run, _) => panic!("{} was given out", run.id),
    };
    assert_eq!(next_at().await, Some(ready_at));
    let sooner = scene.queued().await;
    assert_eq!(scene.lease().await.run, sooner, "one that is not ready is passed over");
    clock.set(ready_at);
    assert_eq!(scene.lease().await.run, new.run.id);
    assert_eq!(next_at().await, Some(FixedClock::START.after(TTL)), "then a lease lapses");
}

/// A lapsed run is given out again with the next attempt; a renewed one is not.
pub async fn a_lapsed_run_is_given_out_again(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = scene.running().await;
    scene.later(TTL / 2);
    let until = clock.now().after(TTL);
    let renewal = store.run_renew(&first, until).await.expect(ANSWERS);
    assert_eq!(renewal, Renewal::Renewed { cancel_requested: false });
    scene.later(TTL * 3 / 4);
    scene.other_worker().nothing_is_ready().await;
    scene.later(TTL / 4);
    let second = scene.other_worker().lease().await;
    assert_eq!((second.run, second.attempt), (first.run, 2));
    let run = scene.run(first.run).await;
    assert_eq!(
        (run.attempt, run.started_at),
        (2, Some(FixedClock::START)),
        "it began with the first attempt"
    );
}

/// Who lost a lease writes nothing more, by no method, also when it is the same worker.
pub async fn a_late_worker_is_refused(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let old = scene.running().await;
    scene.later(TTL);
    let new = scene.lease().await;
    assert_eq!((new.worker, new.attempt), (old.worker, 2));
    let forged = LeaseProof { worker: WorkerId::new(clock.unique()), ..new.clone() };
    let ahead = LeaseProof { attempt: 3, ..new.clone() };
    for proof in [&old, &forged, &ahead] {
        all_writes_are_lost(scene, proof).await;
    }
    assert!(store.run_journal(new.run).await.expect(ANSWERS).is_empty());
    assert!(store.log_read(new.run, 0, 9).await.expect(ANSWERS).is_empty());
    scene.finish(&new).await;
    all_writes_are_lost(scene, &new).await;
    assert_eq!(scene.status(new.run).await, RunStatus::Succeeded);
}

async fn all_writes_are_lost(scene: Scene<'_>, proof: &LeaseProof) {
    let (store, now) = (scene.store, scene.clock.now());
    let line = super::logs::line(scene.clock, "late");
    let child = build::child(scene.clock, &scene.repository().await, proof.run, "Call");
    assert_eq!(store.run_renew(proof, now.after(TTL)).await.expect(ANSWERS), Renewal::Lost);
    let writes = [
        store.stage_record(proof, &build::stage(scene.clock, "Late"), &[]).await,
        store.log_append(proof, &[line]).await,
        store.run_suspend(proof, &[child], now).await,
        store.run_release(proof, now, now).await,
        store.run_finish(proof, &scene.succeeded()).await,
    ];
    for write in writes {
        assert_eq!(write.expect(ANSWERS), Fenced::Lost);
    }
}

/// A run that is given back waits until it is ready, and keeps its journal.
pub async fn a_released_run_is_leased_again(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let stage = build::stage(clock, "One");
    assert_eq!(store.stage_record(&proof, &stage, &[]).await.expect(ANSWERS), Fenced::Written);
    let ready_at = clock.now().after(Duration::from_secs(30));
    assert_eq!(store.run_release(&proof, clock.now(), ready_at).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(scene.run(proof.run).await.state, RunState::Queued { ready_at });
    scene.nothing_is_ready().await;
    clock.set(ready_at);
    let again = scene.lease().await;
    assert_eq!((again.run, again.attempt), (proof.run, 2));
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), [stage]);
}

/// Every way to end comes back as it was, with its time.
pub async fn an_end_comes_back_as_it_was(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let failure = Failure::new("exit_status", "it ended with 1").at("Test");
    let outcomes = [
        RunOutcome::Succeeded,
        RunOutcome::Failed { failure: failure.clone() },
        RunOutcome::TimedOut { failure },
        RunOutcome::Cancelled { by: "ada".to_owned() },
        RunOutcome::Skipped { reason: "nothing to do".to_owned() },
    ];
    for outcome in outcomes {
        let proof = scene.running().await;
        let at = scene.later(Duration::from_secs(1));
        let finish = ports::store::runs::Finish { outcome: outcome.clone(), ..scene.succeeded() };
        assert_eq!(store.run_finish(&proof, &finish).await.expect(ANSWERS), Fenced::Written);
        let run = scene.run(proof.run).await;
        assert_eq!(run.state.status(), outcome.status());
        assert_eq!(run.state, RunState::Ended { outcome, at });
        scene.later(TTL * 2);
        scene.nothing_is_ready().await;
    }
}

fn paid(clock: &FixedClock, path: &str, cost: i64) -> StageRecord {
    let call = ModelUsage {
        requested: "gpt-4".to_owned(),
        served: "gpt-4o".to_owned(),
        provider: "openai".to_owned(),
        tokens: Tokens { input: 3, reasoning: 1, ..Tokens::default() },
        cost: NanoUsd::from_nanos(cost),
        estimated: true,
        ..ModelUsage::default()
    };
    let host = HostUsage {
        host: "registry.example".to_owned(),
        port: 443,
        requests: 2,
        sent: 3,
        received: 4,
        refused: Some("no".to_owned()),
    };
    let output = StageOutput {
        name: Some("findings".to_owned()),
        value: Value::external(json!({"b": 1, "a": ["é\u{0}"]})),
    };
    let ranking = Ranking {
        route: Route::Cheapest,
        verdicts: vec![Verdict {
            target: "large".to_owned(),
            model: "house/large".to_owned(),
            place: None,
            reason: Reason::Open { wait_ms: 7 },
            cost: Some(NanoUsd::CREDIT),
            pace_ms: None,
        }],
    };
    StageRecord {
        output: Some(output),
        snapshot: Some(build::commit(7)),
        usage: StageUsage {
            calls: vec![call],
            rankings: vec![ranking],
            cpu_micros: 5,
            memory_peak: 6,
            sandbox: Some("d".to_owned()),
            hosts: vec![host],
        },
        state: vec![Seen {
            name: build::name("counter"),
            written: Some(MemoWriteId::new(clock.unique())),
            sealed: Some(Sealed { key: "k".to_owned(), bytes: vec![0, 255] }),
        }],
        end: StageEnd::Failed { failure: Failure::new("x", "y"), tolerated: true },
        ..build::stage(clock, path)
    }
}

/// The journal keeps stages in the order in which they ended, each once, and their cost once.
pub async fn the_journal_keeps_each_stage_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let each = StageRecord { path: StagePath::root("Each").item(3, "Label"), ..paid(clock, "", 30) };
    let records = [paid(clock, "Zoo", 10), build::stage(clock, "Ant"), each];
    for record in &records {
        assert_eq!(store.stage_record(&proof, record, &[]).await.expect(ANSWERS), Fenced::Written);
    }
    let again = paid(clock, "Zoo", 500);
    assert_eq!(store.stage_record(&proof, &again, &[]).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), records);
    assert_eq!(scene.run(proof.run).await.cost, NanoUsd::from_nanos(40));
}

/// A run's last stage is in the journal once, and paid for, when the run has ended; a late worker adds
/// none.
pub async fn the_last_stage_comes_with_the_end_of_its_run(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let (first, last) = (paid(clock, "First", 10), paid(clock, "Last", 30));
    assert_eq!(store.stage_record(&proof, &first, &[]).await.expect(ANSWERS), Fenced::Written);
    let finish = ports::store::runs::Finish { record: Some(last.clone()), ..scene.succeeded() };
    let late = LeaseProof { attempt: proof.attempt - 1, ..proof.clone() };
    assert_eq!(store.run_finish(&late, &finish).await.expect(ANSWERS), Fenced::Lost);
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), std::slice::from_ref(&first));
    assert_eq!(store.run_finish(&proof, &finish).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), [first, last]);
    let run = scene.run(proof.run).await;
    assert_eq!((run.state.status(), run.cost), (RunStatus::Succeeded, NanoUsd::from_nanos(40)));

    // One that was recorded before stays as it was.
    let proof = scene.running().await;
    let known = paid(clock, "Only", 10);
    assert_eq!(store.stage_record(&proof, &known, &[]).await.expect(ANSWERS), Fenced::Written);
    let again = Some(paid(clock, "Only", 500));
    let finish = ports::store::runs::Finish { record: again, ..scene.succeeded() };
    assert_eq!(store.run_finish(&proof, &finish).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), [known]);
    assert_eq!(scene.run(proof.run).await.cost, NanoUsd::from_nanos(10));
}

/// Runs are listed newest first, in parts, by any filter.
pub async fn runs_are_listed_newest_first(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let event = build::event(clock, &scene.repository().await).id;
    let mut ids = Vec::new();
    for nth in 0..8 {
        let mut new = scene.new_run().await;
        if nth % 2 == 0 {
            new.run.daemon = build::name("lint");
        }
        if nth % 4 == 1 {
            new.run.branch = build::name("fork");
        }
        if nth == 5 {
            new.run.cause.event = Some(event);
        }
        ids.insert(0, scene.enqueue(&new).await);
    }
    scene.cancel(ids[0]).await;
    let list = async |filter: RunFilter| {
        let filter = &filter;
        let read = |page: Page| async move { store.run_list(filter, &page).await.expect(ANSWERS) };
        let runs = all_pages(3, |run: &domain::run::Run| run.id.uuid(), read).await;
        runs.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    let daemon = Some(build::name("lint"));
    let branch = Some(build::name("fork"));
    let repository = Some(scene.repository);
    let elsewhere = Some(build::repository(clock, "no/where").id);
    let none = RunFilter::default;
    assert_eq!(list(none()).await, ids);
    assert_eq!(list(RunFilter { repository, ..none() }).await, ids);
    assert!(list(RunFilter { repository: elsewhere, ..none() }).await.is_empty());
    assert_eq!(list(RunFilter { daemon: daemon.clone(), ..none() }).await, [ids[1], ids[3], ids[5], ids[7]]);
    assert_eq!(list(RunFilter { repository, branch: branch.clone(), ..none() }).await, [ids[2], ids[6]]);
    assert_eq!(list(RunFilter { event: Some(event), ..none() }).await, [ids[2]]);
    assert_eq!(list(RunFilter { status: Some(RunStatus::Cancelled), ..none() }).await, [ids[0]]);
    assert_eq!(list(RunFilter { status: Some(RunStatus::Queued), ..none() }).await, ids[1..]);
    assert!(list(RunFilter { repository, daemon, branch, ..none() }).await.is_empty());
}

/// The depth counts what is under way.
pub async fn the_depth_counts_what_is_under_way(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let parent = scene.running().await;
    let child = build::child(clock, &scene.repository().await, parent.run, "Call");
    assert_eq!(store.run_suspend(&parent, &[child], clock.now()).await.expect(ANSWERS), Fenced::Written);
    scene.queued().await;
    scene.lease().await;
    scene.queued().await;
    scene.queued().await;
    let ended = scene.queued().await;
    scene.cancel(ended).await;
    assert_eq!(store.run_depth().await.expect(ANSWERS), Depth { queued: 3, running: 1, waiting: 1 });
}

/// Fifty workers at fifty runs: each run is given out once.
pub async fn many_workers_share_the_queue(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut queued = BTreeSet::new();
    for _ in 0..50 {
        queued.insert(scene.queued().await);
    }
    let workers: Vec<_> = (0..60).map(|_| scene.other_worker()).collect();
    let leased = futures::future::join_all(workers.into_iter().map(Scene::try_lease)).await;
    let leased: Vec<_> = leased.into_iter().flatten().collect();
    assert!(leased.iter().all(|proof| proof.attempt == 1));
    assert_eq!(leased.len(), 50);
    assert_eq!(leased.into_iter().map(|proof| proof.run).collect::<BTreeSet<_>>(), queued);
}

/// Fifty writers at once: everything that was answered is there.
pub async fn many_writers_lose_nothing(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut news = Vec::new();
    for _ in 0..50 {
        news.push(scene.new_run().await);
    }
    let outcomes = futures::future::join_all(news.iter().map(|new| store.run_enqueue(new, None))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Recorded::New))), "{outcomes:?}");
    let mut workers = Vec::new();
    for _ in &news {
        workers.push(scene.lease().await);
    }
    let work = workers.iter().map(|proof| async move {
        for stage in ["One", "Two"] {
            assert_eq!(
                store.stage_record(proof, &build::stage(clock, stage), &[]).await.expect(ANSWERS),
                Fenced::Written
            );
        }
        scene.finish(proof).await;
    });
    futures::future::join_all(work).await;
    for new in &news {
        assert_eq!(scene.status(new.run.id).await, RunStatus::Succeeded);
        assert_eq!(store.run_journal(new.run.id).await.expect(ANSWERS).len(), 2);
    }
    assert_eq!(store.run_depth().await.expect(ANSWERS), Depth::default());
}

/// A run that a stage calls is queued by suspending its parent, not twice by the back door.
pub async fn a_stage_calls_one_run(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let parent = ParentStage { run: scene.queued().await, stage: "Call".to_owned() };
    let mut first = scene.new_run().await;
    first.run.cause.parent = Some(parent.clone());
    scene.enqueue(&first).await;
    let mut second = scene.new_run().await;
    second.run.cause.parent = Some(parent);
    assert!(matches!(store.run_enqueue(&second, None).await, Err(StoreError::Conflict(_))));
}

/// A group of a queued run does not matter to runs without one.
pub async fn a_run_without_a_group_waits_for_nobody(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut new = scene.new_run().await;
    new.concurrency =
        Some(Concurrency { key: "k".to_owned(), limit: 1, behavior: ConcurrencyBehavior::Queue });
    scene.enqueue(&new).await;
    scene.queued().await;
    scene.lease().await;
    scene.lease().await;
}

/// The time that workers are at a run adds up over its attempts; the time in the queue does not count.
/// An attempt whose worker died counts until its lease lapsed.
pub async fn the_time_at_work_adds_up(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let worked = async |run| scene.run(run).await.worked;
    let proof = scene.running().await;
    let run = proof.run;
    assert_eq!(worked(run).await, Duration::ZERO);
    scene.later(minutes(5));
    let ready_at = clock.now().after(minutes(1));
    assert_eq!(store.run_release(&proof, clock.now(), ready_at).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(worked(run).await, minutes(5));
    scene.later(minutes(10));
    let proof = scene.lease().await;
    scene.later(minutes(3));
    assert_eq!(store.run_suspend(&proof, &[], clock.now()).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(worked(run).await, minutes(8));
    scene.later(minutes(10));
    scene.lease().await;
    scene.later(TTL + minutes(10));
    let proof = scene.lease().await;
    assert_eq!(worked(run).await, minutes(8) + TTL);
    // A clock that is set back takes nothing away.
    clock.set(domain::time::Timestamp::from_millis(clock.now().millis() - 3_600_000));
    assert_eq!(store.run_release(&proof, clock.now(), clock.now()).await.expect(ANSWERS), Fenced::Written);
    assert_eq!(worked(run).await, minutes(8) + TTL);
    let proof = scene.lease().await;
    scene.later(minutes(2));
    scene.finish(&proof).await;
    assert_eq!(worked(run).await, minutes(10) + TTL);
}

/// What a worker holds that is known to be gone is given out at once, and its late writes are refused;
/// what others hold stays theirs.
pub async fn what_a_gone_worker_held_is_given_out_at_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let other = scene.other_worker();
    let (first, second) = (scene.running().await, scene.running().await);
    let theirs = other.running().await;
    scene.later(Duration::from_secs(5));
    assert_eq!(store.worker_release(scene.worker, clock.now()).await.expect(ANSWERS), 2);
    all_writes_are_lost(scene, &first).await;
    for lost in [&first, &second] {
        let again = other.lease().await;
        assert_eq!((again.run, again.attempt), (lost.run, 2));
        assert_eq!(scene.run(again.run).await.worked, Duration::from_secs(5));
    }
    scene.nothing_is_ready().await;
    other.finish(&theirs).await;
    assert_eq!(store.worker_release(scene.worker, clock.now()).await.expect(ANSWERS), 0);
}
