//! Loops: call a `next()` of the engine while it has something to do, then wait for a hint or for the
//! time to look again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::id::WorkerId;
use engine::World;
use engine::dispatch::DispatchOutcome;
use engine::intake::IntakeOutcome;
use engine::outbox::OutboxOutcome;
use engine::schedule::Struck;
use engine::sweep::Swept;
use engine::watch::{WatchOutcome, Watching};
use engine::work::WorkOutcome;
use ports::store::{StoreError, Topic};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a loop waits without a hint: another server may have written.
const LOOK: Duration = Duration::from_secs(1);
/// How many remotes are looked at at once.
const WATCHERS: usize = 4;
/// How long a loop waits after an error.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// Whether a loop goes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more.
    Again,
    /// There is nothing for now.
    Wait,
}

/// Starts the loops of a server that answers: intake, dispatch, outbox, schedules, watching.
pub(crate) fn serve(performer: WorkerId, running: Running<'_>) {
    spawn("intake", Topic::Events, running, |world| async move {
        Ok(step(engine::intake::next(&world).await? != IntakeOutcome::Empty))
    });
    spawn("dispatch", Topic::Events, running, |world| async move {
        Ok(step(engine::dispatch::next(&world).await? != DispatchOutcome::Empty))
    });
    spawn("outbox", Topic::Outbox, running, move |world| async move {
        Ok(step(engine::outbox::next(&world, performer).await? != OutboxOutcome::Empty))
    });
    let watching = Watching::default();
    for _ in 0..WATCHERS {
        let watching = watching.clone();
        spawn("watch", Topic::Events, running, move |world| {
            let watching = watching.clone();
            async move { Ok(step(engine::watch::next(&world, &watching).await? != WatchOutcome::Empty)) }
        });
    }
    sweep(running);
    let (world, stop) = (Arc::clone(running.world), running.stop.clone());
    running.tasks.spawn(async move {
        let mut struck = Struck::default();
        while !stop.is_cancelled() {
            if let Err(error) = engine::schedule::next(&world, &mut struck).await {
                tracing::warn!(%error, "schedules");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
    });
}

/// Starts the loop that asks forges what no webhook told: at once, since the server was away, then now and then.
fn sweep(running: Running<'_>) {
    if running.world.hosts.is_empty() {
        return;
    }
    let (world, stop) = (Arc::clone(running.world), running.stop.clone());
    running.tasks.spawn(async move {
        while !stop.is_cancelled() {
            // Given up in the middle, a sweep is done again.
            let swept = tokio::select! {
                swept = engine::sweep::all(&world) => swept,
                () = stop.cancelled() => return,
            };
            match swept {
                Ok(swept) => count(&swept),
                Err(error) => tracing::warn!(%error, "forges were not swept"),
            }
            // Ten per cent more or less, so that several servers do not ask in the same moment.
            let permille = 900 + u32::try_from(world.clock.unique().as_u128() % 201).unwrap_or(100);
            tokio::select! {
                () = tokio::time::sleep(engine::sweep::INTERVAL * permille / 1_000) => {}
                () = stop.cancelled() => {}
            }
        }
    });
}

fn count(swept: &Swept) {
    for (forge, number) in &swept.missed {
        metrics::counter!("spellbook_missed_events_total", "forge" => forge.to_string()).increment(*number);
    }
    for (forge, number) in &swept.redelivered {
        metrics::counter!("spellbook_redelivered_total", "forge" => forge.to_string()).increment(*number);
    }
}

/// Starts the loops of a server that works on runs, so many at once.
pub(crate) fn work(worker: WorkerId, slots: usize, running: Running<'_>) {
    for _ in 0..slots {
        let until = running.stop.clone();
        spawn("work", Topic::Runs, running, move |world| {
            let until = until.clone();
            async move {
                let outcome = engine::work::next(&world, worker, &until).await?;
                Ok(step(!matches!(outcome, WorkOutcome::Idle { .. })))
            }
        });
    }
}

fn step(worked: bool) -> Step {
    if worked { Step::Again } else { Step::Wait }
}

/// Where loops live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    /// The rest of the product.
    pub(crate) world: &'a Arc<World>,
    /// Who waits for them at the end.
    pub(crate) tasks: &'a TaskTracker,
    /// Ends them.
    pub(crate) stop: &'a CancellationToken,
}

fn spawn<F, Fut>(name: &'static str, topic: Topic, running: Running<'_>, next: F)
where
    F: Fn(Arc<World>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Step, StoreError>> + Send,
{
    let (world, stop) = (Arc::clone(running.world), running.stop.clone());
    let mut hints = world.store.wakeups(topic);
    running.tasks.spawn(async move {
        while !stop.is_cancelled() {
            // Seen before looking, so that what comes while looking is not missed.
            hints.mark_unchanged();
            let wait = match next(Arc::clone(&world)).await {
                Ok(Step::Again) => continue,
                Ok(Step::Wait) => LOOK,
                Err(error) => {
                    tracing::error!(%error, "{name}");
                    AFTER_ERROR
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = hints.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    });
}
