//! Dispatch: which daemons an event starts. Every decision is recorded with its reason.

use std::time::Duration;

use domain::event::{Event, EventKind};
use domain::id::RunId;
use domain::repository::{BranchHead, BranchRole};
use domain::revision::{Revision, RevisionContent};
use domain::run::{Cause, Concurrency, EffectMode, Order, Run};
use domain::trigger::{Match, Trigger, matching};
use manifest::Manifest;
use manifest::expression::Expression;
use ports::store::events::{Dispatch, Dispatched, MatchRecord};
use ports::store::runs::{NewRun, Priority, RunFilter};
use ports::store::{Page, StoreError};
use serde_json::{Map, Value as Json};

use crate::context::Context;
use crate::refusal::{Refusal, RefusalKind};
use crate::world::World;
use crate::{address, group, inputs};

/// So many daemons may have started one another; the next is taken for a loop.
const DEEPEST: u32 = 5;

/// What came of looking for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchOutcome {
    /// One was dispatched: so many runs.
    Dispatched {
        /// How many.
        runs: usize,
    },
    /// Somebody else was first.
    Already,
    /// There is none.
    Empty,
}

/// Dispatches the oldest event that is not dispatched.
///
/// # Errors
/// When the store does not answer; the event comes again.
pub async fn next(world: &World) -> Result<DispatchOutcome, StoreError> {
    let Some(event) = world.store.event_next(world.clock.now()).await? else {
        return Ok(DispatchOutcome::Empty);
    };
    let (matches, runs) = decide(world, &event).await?;
    let count = runs.len();
    let (learned, effects, once, rests) = (None, Vec::new(), Vec::new(), Vec::new());
    let at = world.clock.now();
    let dispatch = Dispatch { event: event.id, learned, matches, runs, effects, once, rests, at };
    match world.store.event_dispatch(&dispatch).await? {
        Dispatched::Recorded => {
            tracing::info!(event.id = %event.id, event.kind = event.kind.as_str(), "dispatched: {count} runs");
            Ok(DispatchOutcome::Dispatched { runs: count })
        }
        Dispatched::Already => Ok(DispatchOutcome::Already),
    }
}

async fn decide(world: &World, event: &Event) -> Result<(Vec<MatchRecord>, Vec<NewRun>), StoreError> {
    let mut matches = Vec::new();
    let mut runs = Vec::new();
    for head in world.store.branch_list(event.repository).await? {
        let concerned = event.branch.as_ref().is_none_or(|branch| *branch == head.branch);
        if head.role != BranchRole::Deploy || !concerned {
            continue;
        }
        for revision in world.store.revision_triggered(event.repository, &head.branch, event.kind).await? {
            if !is_addressed(event, &revision) {
                continue;
            }
            let (run, reason) = match consider(world, event, &head, &revision).await? {
                Ok(new) => {
                    let id = new.run.id;
                    runs.push(*new);
                    (Some(id), format!("`{}` matches", event.kind.as_str()))
                }
                Err(reason) => (None, reason),
            };
            matches.push(MatchRecord { daemon: revision.daemon, branch: head.branch.clone(), run, reason });
        }
    }
    Ok((matches, runs))
}

/// A schedule and a daemon's own endpoint are one daemon's; the others do not hear of it.
fn is_addressed(event: &Event, revision: &Revision) -> bool {
    let addressee = event.payload.pointer("/daemon/id").and_then(Json::as_str);
    match event.kind {
        EventKind::Schedule | EventKind::Webhook => addressee == Some(revision.daemon.as_str()),
        _ => true,
    }
}

/// The run that an event starts of a daemon, or why it starts none.
async fn consider(
    world: &World,
    event: &Event,
    head: &BranchHead,
    revision: &Revision,
) -> Result<Result<Box<NewRun>, String>, StoreError> {
    let RevisionContent::Valid { digest, triggers, .. } = &revision.content else {
        return Ok(Err("its manifest is invalid".to_owned()));
    };
    if event.depth >= DEEPEST {
        return Ok(Err(format!("{DEEPEST} daemons have started one another; this looks like a loop")));
    }
    let trigger = match first_match(triggers, event) {
        Ok(trigger) => trigger,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Some(reason) = cooling(world, trigger.cooldown, revision).await? {
        return Ok(Err(reason));
    }
    let commit =
        event.commit.clone().filter(|_| event.kind == EventKind::Push).unwrap_or_else(|| head.commit.clone());
    // The branch may have moved on since: a run is of its event's commit, daemon and all.
    let digest = if commit == head.commit {
        digest.clone()
    } else {
        match address::digest_at(world, revision, &commit).await {
            Ok(digest) => digest,
            Err(refusal) => return reason_or_later(refusal),
        }
    };
    let now = world.clock.now();
    let run = Order {
        repository: revision.repository,
        daemon: revision.daemon.clone(),
        branch: head.branch.clone(),
        commit,
        digest,
        subject: None,
        cause: Cause {
            event: Some(event.id),
            kind: event.kind,
            actor: event.actor.clone(),
            parent: None,
            replay: None,
        },
        inputs: Map::new(),
        effects: EffectMode::Perform,
    }
    .queued(RunId::new(world.clock.unique()), now, now.after(trigger.debounce.unwrap_or_default()));
    match address::manifest_of_run(world, &run).await {
        Err(refusal) => reason_or_later(refusal),
        Ok(manifest) => Ok(complete(run, &manifest, trigger, event)),
    }
}

/// A refusal is a reason; but what is only busy or away is no decision, and the event comes again.
fn reason_or_later(refusal: Refusal) -> Result<Result<Box<NewRun>, String>, StoreError> {
    match refusal.kind {
        RefusalKind::Unavailable => Err(StoreError::Unavailable(refusal.message)),
        _ => Ok(Err(refusal.message)),
    }
}

/// The first trigger that matches, or why the last one that could does not.
pub(crate) fn first_match<'t>(triggers: &'t [Trigger], event: &Event) -> Result<&'t Trigger, String> {
    let mut reason = format!("it does not wait for {}", event.kind.as_str());
    for trigger in triggers {
        match matching(trigger, event) {
            Match::Yes => return Ok(trigger),
            Match::No(mismatch) if trigger.on.event() == event.kind => reason = mismatch.to_string(),
            Match::No(_) => {}
        }
    }
    Err(reason)
}

/// Why a daemon rests: it ran a short while ago.
async fn cooling(
    world: &World,
    cooldown: Option<Duration>,
    revision: &Revision,
) -> Result<Option<String>, StoreError> {
    let Some(cooldown) = cooldown else { return Ok(None) };
    let filter = RunFilter {
        repository: Some(revision.repository),
        daemon: Some(revision.daemon.clone()),
        branch: Some(revision.branch.clone()),
        ..RunFilter::default()
    };
    let last = world.store.run_list(&filter, &Page::first(1)).await?.into_iter().next();
    let since = last.map(|run| world.clock.now().since(run.created_at));
    Ok(since.filter(|since| *since < cooldown).map(|since| {
        format!(
            "`cooldown`: it ran {} ago, and rests {}",
            crate::report::span(since),
            crate::report::span(cooldown)
        )
    }))
}

/// Gives the run its inputs and its group, unless the trigger's `skip_if` holds.
fn complete(
    mut run: Run,
    manifest: &Manifest,
    trigger: &Trigger,
    event: &Event,
) -> Result<Box<NewRun>, String> {
    run.inputs = inputs::accept(&manifest.inputs, &Map::new()).map_err(|refusal| refusal.message)?;
    let context = Context::new(&run, &run.inputs, Vec::new(), Some(event), "");
    if let Some(source) = &trigger.skip_if {
        let holds =
            Expression::parse_condition(source).map_err(|error| format!("`skip_if`: {error}")).and_then(
                |expression| expression.holds(&context).map_err(|error| format!("`skip_if`: {error}")),
            )?;
        if holds {
            return Err(format!("`skip_if: {source}` holds"));
        }
    }
    let concurrency =
        group::of(manifest, &run, Some(event)).map_err(|error| format!("`concurrency`: {error}"))?;
    let replaces = trigger.debounce.map(|_| burst(&run, event, concurrency.as_ref()));
    let priority = match event.kind {
        EventKind::Schedule => Priority::Background,
        EventKind::Comment | EventKind::Manual => Priority::Interactive,
        EventKind::Push
        | EventKind::PullRequest
        | EventKind::Issues
        | EventKind::Label
        | EventKind::Release
        | EventKind::CheckSuite
        | EventKind::Webhook
        | EventKind::Daemon => Priority::Event,
    };
    Ok(Box::new(NewRun { run, concurrency, replaces, priority }))
}

/// What one burst of events is about (`debounce`): the newest of them takes the place of the others. Two
/// pull requests are two bursts, and so are two of the daemon's groups.
fn burst(run: &Run, event: &Event, concurrency: Option<&Concurrency>) -> String {
    let daemon = || format!("{}@{}", run.daemon, run.branch);
    let group = concurrency.map_or_else(daemon, |group| group.key.clone());
    let thread = event.thread().map_or_else(String::new, |number| format!("#{number}"));
    format!("{}{thread} {group}", event.kind.as_str())
}
