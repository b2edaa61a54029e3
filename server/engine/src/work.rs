//! Work: one run, from the moment that a worker takes it up to its end.

mod complaint;
pub(crate) mod stranger;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::budget::Payers;
use domain::effect::Effect;
use domain::event::{Actor, Event, EventKind};
use domain::id::{EventId, RunId, WorkerId};
use domain::money::NanoUsd;
use domain::name::Commit;
use domain::purse::Purse;
use domain::run::{EffectMode, Failure, Run, RunOutcome, RunState};
use domain::stage::{StageEnd, StageRecord};
use domain::time::Timestamp;
use domain::value::Taint;
use manifest::Manifest;
use manifest::expression::RunSoFar;
use manifest::model::InputKind;
use ports::store::runs::{Finish, LeaseOutcome, Renewal};
use ports::store::{Fenced, LeaseProof, StoreError, Topic};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allowance::{Allowance, Limit};
use crate::context::Context;
use crate::dispatch::subject;
use crate::execution::Execution;
use crate::graph::{Graph, Place};
use crate::logs::{self, RunLog};
use crate::refusal::{Refusal, RefusalKind};
use crate::stop::{Stop, StopReason, Turn, Under};
use crate::till::Till;
use crate::variables::Variables;
use crate::workspace::Workspace;
use crate::world::World;
use crate::{address, effects, replay};

/// A run that cost so many workers their life is not tried again.
const MOST_ATTEMPTS: usize = 25;
/// How long a run rests when git or the store does not answer.
const AWAY: Duration = Duration::from_secs(10);
/// How often a worker looks whether someone asked to end its run, when nothing tells it to.
const GLANCE: Duration = Duration::from_secs(1);
/// How long it leaves the store alone between two looks, and after it was given the run.
const CALM: Duration = Duration::from_millis(50);

/// What came of looking for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkOutcome {
    /// A run was taken up.
    Worked {
        /// Which.
        run: RunId,
        /// How far it came.
        left: Left,
    },
    /// Nothing is ready.
    Idle {
        /// When something will be, as far as is known.
        next_at: Option<Timestamp>,
    },
}

/// How a worker left a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has ended.
    Ended,
    /// It waits for the runs that it called.
    Waiting,
    /// It was put back for another worker.
    Released,
    /// Another worker has it.
    Lost,
}

/// Takes up the next run and brings it as far as it goes.
///
/// # Errors
/// When the store does not answer; the run's lease lapses and another worker goes on.
pub async fn next(
    world: &World,
    worker: WorkerId,
    shutdown: &CancellationToken,
) -> Result<WorkOutcome, StoreError> {
    match world.store.run_lease(worker, world.clock.now(), world.settings.lease).await? {
        LeaseOutcome::Empty { next_at } => Ok(WorkOutcome::Idle { next_at }),
        LeaseOutcome::Leased(run, proof) => {
            let left = attempt(world, &run, &proof, shutdown).await?;
            Ok(WorkOutcome::Worked { run: run.id, left })
        }
    }
}

#[tracing::instrument(skip_all, fields(run.id = %run.id, run.attempt = run.attempt, daemon = %run.daemon))]
async fn attempt(
    world: &World,
    run: &Run,
    proof: &LeaseProof,
    shutdown: &CancellationToken,
) -> Result<Left, StoreError> {
    let cancelled = run.cancel_requested.as_ref().map(|by| RunOutcome::Cancelled { by: by.clone() });
    if let Some(outcome) = cancelled.clone().filter(|_| run.cancel_insisted) {
        return end(world, run, proof, outcome.into()).await;
    }
    let prepared = match Prepared::load(world, run, proof).await? {
        Ok(prepared) => prepared,
        // Git or the store is busy or away: the run is none the worse for it.
        Err(refusal) if refusal.kind == RefusalKind::Unavailable => {
            let later = world.clock.now().after(AWAY);
            return fenced(world.store.run_release(proof, world.clock.now(), later).await?, Left::Released);
        }
        Err(refusal) => {
            let outcome = cancelled.unwrap_or_else(|| failed(Failure::new(refusal.code, refusal.message)));
            return end(world, run, proof, outcome.into()).await;
        }
    };
    // Waiting for called runs takes an attempt too, and leaves an entry in the journal each time.
    if run.attempt as usize > MOST_ATTEMPTS + prepared.journal.len() {
        let message = format!("{MOST_ATTEMPTS} workers ended before they could finish it");
        let outcome = cancelled.unwrap_or_else(|| failed(Failure::new("workers_lost", message)));
        return end(world, run, proof, outcome.into()).await;
    }
    let stop = Stop::default();
    if cancelled.is_some() {
        stop.because(StopReason::Cancelled);
    } else if prepared.allowance.left.is_zero() {
        stop.because(prepared.allowance.time_up());
    }
    let log = RunLog::new(world, proof.clone(), prepared.manifest.limits.output);
    let execution = prepared.execution(world, proof, &log, &stop);
    let working = conclude(&execution, prepared.context(world).await, prepared.event.as_ref());
    tokio::pin!(working);
    let watching = watch(Lease::taken(world, run, proof), &stop, &prepared.allowance, shutdown);
    let left = tokio::select! {
        left = &mut working => left,
        // Watching ends only once it has stopped the work; what is under way ends itself.
        () = watching => working.await,
    };
    prepared.workspace.clear(world, run).await;
    if matches!(left, Ok(Left::Ended))
        && log.is_begun()
        && let Err(error) = logs::seal(world, run.id).await
    {
        tracing::warn!(%error, "the log stays in the store");
    }
    left
}

/// Everything that a run needs, read anew for each attempt.
struct Prepared {
    manifest: Arc<Manifest>,
    event: Option<Event>,
    journal: Vec<StageRecord>,
    variables: Variables,
    workspace: Workspace,
    path: String,
    run: Run,
    allowance: Allowance,
    /// What earlier attempts spent, also on stages that they did not record.
    spent: NanoUsd,
}

impl Prepared {
    async fn load(world: &World, run: &Run, proof: &LeaseProof) -> Result<Result<Self, Refusal>, StoreError> {
        let mut event = match run.cause.event {
            Some(id) => world.store.event_get(id).await?,
            None => None,
        };
        let path =
            world.store.repository_get(run.repository).await?.map(|repository| repository.path.to_string());
        let manifest = match address::manifest_of_run(world, run).await {
            Ok(manifest) => manifest,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some((stage, what)) = manifest::unsupported_stages(&manifest).first() {
            let message = format!("this version cannot run stage `{stage}`: it cannot run {what} yet");
            return Ok(Err(Refusal::invalid("stage_unsupported", message)));
        }
        let allowance = Allowance::of(world, run, manifest.limits.timeout).await?;
        let journal = replay::journal(world, run, &manifest, proof).await?;
        let spent = spent(world, run).await?;
        let variables = match Variables::resumed(world, run, &manifest, &journal).await {
            Ok(variables) => variables,
            Err(failure) => return Ok(Err(Refusal::invalid("state_unreadable", failure.message))),
        };
        if let Some(event) = event.as_mut().filter(|_| manifest.reads_diff)
            && let Err(refusal) = subject::show_diff(world, run, event).await
        {
            return Ok(Err(refusal));
        }
        let start = match stranger::start(world, run).await {
            Ok(start) => start,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let tip = tip_of(&journal).unwrap_or_else(|| start.clone());
        let workspace = Workspace::new(run, start, tip);
        let path = path.unwrap_or_default();
        let run = run.clone();
        Ok(Ok(Self { manifest, event, journal, variables, workspace, path, run, allowance, spent }))
    }

    fn execution<'w>(
        &'w self,
        world: &'w World,
        proof: &'w LeaseProof,
        log: &'w RunLog<'w>,
        stop: &'w Stop,
    ) -> Execution<'w> {
        Execution {
            world,
            run: &self.run,
            manifest: &self.manifest,
            workspace: &self.workspace,
            variables: &self.variables,
            log,
            proof,
            stop,
            journal: self
                .journal
                .iter()
                .map(|record| (record.path.clone(), record.clone()))
                .collect::<BTreeMap<_, _>>(),
            recording: tokio::sync::Mutex::new(()),
            last: Mutex::default(),
            till: Till::new(
                world,
                proof,
                Payers::of(&self.run, &self.path, self.event.as_ref()),
                Purse::new(self.manifest.limits.cost, self.spent),
            ),
        }
    }

    async fn context(&self, world: &World) -> Context {
        let secret = |input: &&manifest::model::Input| input.kind == InputKind::Secret;
        let secret_inputs =
            self.manifest.inputs.iter().filter(secret).map(|input| input.name.clone()).collect();
        let mut context =
            Context::new(&self.run, &self.run.inputs, secret_inputs, self.event.as_ref(), &self.path);
        let tip = self.workspace.tip().await;
        context.changed = self.workspace.differs(world, &self.run, &tip).await.unwrap_or(false);
        context
    }
}

/// What a run has spent. What an attempt that is over had set aside counts as spent.
async fn spent(world: &World, run: &Run) -> Result<NanoUsd, StoreError> {
    if run.attempt <= 1 || world.store.ledger_close(Some(run.id)).await? == 0 {
        return Ok(run.cost);
    }
    Ok(world.store.run_get(run.id).await?.map_or(run.cost, |run| run.cost))
}

/// Where the journal left the run's branch.
fn tip_of(journal: &[StageRecord]) -> Option<Commit> {
    journal.iter().rev().find_map(|record| record.snapshot.clone())
}

/// Runs the stages and ends the run, or leaves it for later.
async fn conclude(
    execution: &Execution<'_>,
    context: Context,
    event: Option<&Event>,
) -> Result<Left, StoreError> {
    let under = |turn| Under { turn, cancel: execution.stop.token(turn) };
    let stages = execution.graph(&execution.manifest.stages, Place::Root, context, under(Turn::Work));
    let (world, run, proof) = (execution.world, execution.run, execution.proof);
    let mut graph = with_books(execution, stages).await?;
    if let Some(left) = left_early(execution, &mut graph).await? {
        return Ok(left);
    }
    let outcome = outcome(execution, &graph).await?;
    let broken = matches!(outcome, RunOutcome::Failed { .. } | RunOutcome::TimedOut { .. });
    if broken && !execution.manifest.on_failure.is_empty() {
        graph.context.status = RunSoFar::Failure;
        // What a run does whose time is up is to clean up.
        let turn = if execution.stop.reason().is_some() { Turn::CleanUp } else { Turn::Work };
        let (list, context) = (&execution.manifest.on_failure, graph.context.clone());
        let stages = execution.graph(list, Place::OnFailure, context, under(turn));
        let mut rescue = with_books(execution, stages).await?;
        if let Some(left) = left_early(execution, &mut rescue).await? {
            return Ok(left);
        }
        graph.context = rescue.context;
    }
    let effects = match &outcome {
        RunOutcome::Succeeded => wanted(execution, &graph.context, event).await,
        RunOutcome::Failed { .. } | RunOutcome::TimedOut { .. } => {
            graph.context.status = RunSoFar::Failure;
            wanted(execution, &graph.context, event).await
        }
        RunOutcome::Cancelled { .. } | RunOutcome::Skipped { .. } => Vec::new(),
    };
    execution.log.flush().await.map(drop)?;
    execution.till.flush().await.map(drop)?;
    let record = execution.take_last();
    end(world, run, proof, Ending { outcome, record, effects }).await
}

/// What a run wants done, by what is known at its end.
async fn wanted(execution: &Execution<'_>, context: &Context, event: Option<&Event>) -> Vec<Effect> {
    let Execution { world, manifest, variables, .. } = execution;
    match variables.read(world, manifest, manifest.outcomes_read.iter()).await {
        Ok(held) => {
            let context = context.with_state(held.iter().map(|(name, known)| (name, &known.value)));
            effects::wanted(execution, &context, event).await
        }
        Err(failure) => {
            tracing::warn!(%failure, "what the run wants done cannot be told");
            Vec::new()
        }
    }
}

/// How a worker leaves a run that cannot end yet: the lease is lost, the worker stops, or stages wait
/// for the runs that they called.
async fn left_early(execution: &Execution<'_>, graph: &mut Graph) -> Result<Option<Left>, StoreError> {
    let (store, proof) = (&execution.world.store, execution.proof);
    let now = execution.world.clock.now();
    match execution.stop.reason() {
        Some(StopReason::Lost) => return Ok(Some(Left::Lost)),
        Some(StopReason::Shutdown) => {
            execution.log.flush().await.map(drop)?;
            // If the lease is lost, giving the run back will say so.
            if let Some(record) = execution.take_last() {
                let _ = store.stage_record(proof, &record, &[]).await?;
            }
            execution.till.flush().await.map(drop)?;
            return fenced(store.run_release(proof, now, now).await?, Left::Released).map(Some);
        }
        Some(StopReason::Cancelled | StopReason::TimeUp(_)) => return Ok(None),
        None => {}
    }
    match graph.waits.take().filter(|_| graph.failure().is_none()) {
        None => Ok(None),
        Some(calls) => {
            execution.log.flush().await.map(drop)?;
            let left = fenced(store.run_suspend(proof, &calls, now).await?, Left::Waiting)?;
            tracing::info!("waits for the runs that it called; {} are new", calls.len());
            Ok(Some(left))
        }
    }
}

/// Runs stages while their lines, and what their calls cost, are stored as they come.
async fn with_books(
    execution: &Execution<'_>,
    stages: impl Future<Output = Graph>,
) -> Result<Graph, StoreError> {
    tokio::pin!(stages);
    tokio::select! {
        graph = &mut stages => Ok(graph),
        stored = execution.log.pump() => {
            stored.map(drop)?;
            execution.stop.because(StopReason::Lost);
            Ok(stages.await)
        }
        stored = execution.till.pump(execution.log) => {
            stored.map(drop)?;
            execution.stop.because(StopReason::Lost);
            Ok(stages.await)
        }
    }
}

async fn outcome(execution: &Execution<'_>, graph: &Graph) -> Result<RunOutcome, StoreError> {
    if matches!(execution.stop.reason(), Some(StopReason::Cancelled)) {
        let asked =
            execution.world.store.run_get(execution.run.id).await?.and_then(|run| run.cancel_requested);
        return Ok(RunOutcome::Cancelled { by: asked.unwrap_or_else(|| "someone".to_owned()) });
    }
    let broken = graph.records.iter().find(|record| record.end.breaks_run());
    let outcome = match broken.map(|record| &record.end) {
        Some(StageEnd::TimedOut { failure, .. }) => RunOutcome::TimedOut { failure: failure.clone() },
        Some(StageEnd::Failed { failure, .. }) => failed(failure.clone()),
        Some(StageEnd::Succeeded | StageEnd::Cancelled | StageEnd::Skipped { .. }) | None => {
            match execution.stop.reason() {
                Some(StopReason::TimeUp(limit)) => RunOutcome::TimedOut { failure: limit.passed() },
                _ if graph.records.iter().any(|record| matches!(record.end, StageEnd::Cancelled)) => {
                    failed(Failure::new(
                        "stage_cancelled",
                        "a stage that was taken over had been cancelled; replay from it",
                    ))
                }
                _ if graph.records.iter().all(|record| matches!(record.end, StageEnd::Skipped { .. })) => {
                    RunOutcome::Skipped { reason: "every stage was skipped".to_owned() }
                }
                _ => RunOutcome::Succeeded,
            }
        }
    };
    Ok(outcome)
}

fn failed(failure: Failure) -> RunOutcome {
    RunOutcome::Failed { failure }
}

/// How a run ends.
struct Ending {
    outcome: RunOutcome,
    /// Its last stage, when the journal does not have it.
    record: Option<StageRecord>,
    effects: Vec<Effect>,
}

impl From<RunOutcome> for Ending {
    fn from(outcome: RunOutcome) -> Self {
        Self { outcome, record: None, effects: Vec::new() }
    }
}

/// Ends a run: its outcome, what it wants done, and the event that its end is, in one transaction.
async fn end(world: &World, run: &Run, proof: &LeaseProof, ending: Ending) -> Result<Left, StoreError> {
    let Ending { outcome, record, mut effects } = ending;
    effects.extend(complaint::about(world, run, &outcome, &effects).await?);
    let event = ended_event(world, run, &outcome).await?;
    let finish = Finish { outcome, record, effects, event, at: world.clock.now() };
    let left = fenced(world.store.run_finish(proof, &finish).await?, Left::Ended)?;
    match (left, finish.outcome.status(), finish.outcome.message()) {
        (Left::Ended, status, None) => tracing::info!("{status}"),
        (Left::Ended, status, Some(message)) => tracing::info!("{status}: {message}"),
        (Left::Waiting | Left::Released | Left::Lost, ..) => {}
    }
    Ok(left)
}

/// The event of a run's end, when some daemon of the branch waits for such events. Runs of forks and
/// called runs are their own affair.
async fn ended_event(world: &World, run: &Run, outcome: &RunOutcome) -> Result<Option<Event>, StoreError> {
    if run.effects == EffectMode::Stage || run.cause.parent.is_some() {
        return Ok(None);
    }
    let listening = world.store.revision_triggered(run.repository, &run.branch, EventKind::Daemon).await?;
    if listening.is_empty() {
        return Ok(None);
    }
    let cause = match run.cause.event {
        Some(id) => world.store.event_get(id).await?,
        None => None,
    };
    let status = outcome.status().as_str();
    let thread = run.subject.as_ref().map(|subject| subject.number);
    let thread = thread.or(cause.as_ref().and_then(Event::thread));
    let mut payload = json!({ "daemon": { "id": run.daemon.as_str() }, "run": { "id": run.id.to_string(), "status": status } });
    if let Some(number) = thread {
        payload["number"] = json!(number);
    }
    Ok(Some(Event {
        id: EventId::new(world.clock.unique()),
        repository: run.repository,
        kind: EventKind::Daemon,
        action: Some(status.to_owned()),
        branch: Some(run.branch.clone()),
        commit: Some(run.commit.clone()),
        paths: Vec::new(),
        actor: Actor::server(),
        labels: Vec::new(),
        draft: false,
        payload,
        taint: Taint::Trusted,
        depth: cause.map_or(0, |event| event.depth) + 1,
        occurred_at: world.clock.now(),
    }))
}

fn fenced(written: Fenced, left: Left) -> Result<Left, StoreError> {
    Ok(match written {
        Fenced::Written => left,
        Fenced::Lost => Left::Lost,
    })
}

/// Keeps the lease, and stops the work when there is a reason to; returns once the lease is lost.
async fn watch(mut lease: Lease<'_>, stop: &Stop, allowance: &Allowance, shutdown: &CancellationToken) {
    let began = Instant::now();
    // A run may have been cancelled, or its time been up, before this attempt.
    if stop.reason().is_none() {
        stop.because(tokio::select! {
            () = tokio::time::sleep(allowance.left) => allowance.time_up(),
            () = shutdown.cancelled() => StopReason::Shutdown,
            reason = lease.keep(|run| run.cancel_requested.is_some()) => reason,
        });
    }
    // The stages need time to end themselves, and to clean up; until they have, the run is still ours.
    if let Some(reason @ (StopReason::Cancelled | StopReason::TimeUp(_))) = stop.reason() {
        let time = allowance.clean_up_after(began.elapsed());
        let once = matches!(reason, StopReason::TimeUp(_));
        stop.at_last(tokio::select! {
            () = tokio::time::sleep(time) => StopReason::TimeUp(Limit::CleanUp(allowance.clean_up)),
            () = shutdown.cancelled() => StopReason::Shutdown,
            reason = lease.keep(|run| run.cancel_insisted || once && run.cancel_requested.is_some()) => reason,
        });
    }
    if stop.reason() != Some(StopReason::Lost) {
        lease.keep(|_| false).await;
    }
}

/// A lease that this worker holds.
struct Lease<'w> {
    world: &'w World,
    proof: &'w LeaseProof,
    wakeups: tokio::sync::watch::Receiver<u64>,
    /// When it is to be renewed.
    due: Instant,
    /// When the run may be looked at again.
    look: Instant,
}

impl<'w> Lease<'w> {
    /// The one under which a run was taken up a moment ago.
    fn taken(world: &'w World, run: &Run, proof: &'w LeaseProof) -> Self {
        let (now, whole) = (Instant::now(), world.settings.lease);
        let left = match &run.state {
            RunState::Running { lease } => lease.until.since(world.clock.now()),
            RunState::Queued { .. } | RunState::Waiting | RunState::Ended { .. } => Duration::ZERO,
        };
        let due = now + left.saturating_sub(whole - whole / 3);
        Self { world, proof, wakeups: world.store.wakeups(Topic::Runs), due, look: now + CALM }
    }

    /// Renews it until it is lost or someone has asked to end the run. May be dropped and called again.
    async fn keep(&mut self, is_asked: impl Fn(&Run) -> bool) -> StopReason {
        loop {
            // Every run that goes on wakes every worker; none of them asks the store all the time.
            tokio::time::sleep_until(self.look.min(self.due)).await;
            if Instant::now() >= self.look {
                match self.world.store.run_get(self.proof.run).await {
                    Ok(Some(run)) if is_asked(&run) => return StopReason::Cancelled,
                    Ok(_) | Err(_) => {}
                }
                self.look = Instant::now() + CALM;
            }
            if Instant::now() >= self.due && self.renew().await == Fenced::Lost {
                return StopReason::Lost;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.due) => {}
                () = tokio::time::sleep(GLANCE) => {}
                Ok(()) = self.wakeups.changed() => {}
            }
        }
    }

    async fn renew(&mut self) -> Fenced {
        let lease = self.world.settings.lease;
        match self.world.store.run_renew(self.proof, self.world.clock.now().after(lease)).await {
            Ok(Renewal::Renewed { .. }) => self.due = Instant::now() + lease / 3,
            Ok(Renewal::Lost) => return Fenced::Lost,
            // The store may answer again before the lease lapses.
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed");
                self.due = Instant::now() + lease / 10;
            }
        }
        Fenced::Written
    }
}
