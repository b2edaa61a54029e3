//! Replays: a run taken up again from one of its stages, as a new run. What came before that stage is
//! taken over from the old run's journal; its workspace begins at the old run's snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::event::{Actor, EventKind};
use domain::id::RunId;
use domain::run::{Cause, Order, Replay, Run};
use domain::stage::{StageEnd, StagePath, StageRecord};
use manifest::Manifest;
use manifest::model::{Stage, StageKind};
use ports::source::Diff;
use ports::store::runs::{NewRun, Priority};
use ports::store::{Fenced, LeaseProof, Recorded, StoreError};

use crate::intake::Started;
use crate::refusal::Refusal;
use crate::world::World;
use crate::{address, group};

/// The largest diff that is shown, bytes.
const LONGEST_DIFF: usize = 1 << 20;

/// What is to be taken up again.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which run.
    pub run: RunId,
    /// The first stage to run anew; `None` runs everything anew.
    pub from_stage: Option<String>,
    /// A model to use in place of that stage's own.
    pub agent: Option<String>,
    /// Who asks.
    pub actor: Actor,
}

/// Queues a replay.
///
/// # Errors
/// When there is no such run or stage, or the run has not ended.
pub async fn start(world: &World, request: Request) -> Result<Started, Refusal> {
    let new = prepare(world, request).await?;
    match world.store.run_enqueue(&new, None).await? {
        Recorded::New => Ok(Started { run: new.run.id, known: false }),
        Recorded::Known(run) => Ok(Started { run, known: true }),
    }
}

/// The replay, to be queued.
///
/// # Errors
/// When there is no such run or stage, or the run has not ended.
pub(crate) async fn prepare(world: &World, request: Request) -> Result<NewRun, Refusal> {
    let Some(old) = world.store.run_get(request.run).await? else {
        return Err(Refusal::not_found("run_not_found", format!("there is no run {}", request.run)));
    };
    if !old.state.status().is_final() {
        return Err(Refusal::conflict(
            "run_not_ended",
            format!("{} has not ended; cancel it or wait", old.id),
        ));
    }
    let manifest = address::manifest_of_run(world, &old).await?;
    check(&manifest, &request)?;
    let now = world.clock.now();
    let run = Order {
        repository: old.repository,
        daemon: old.daemon,
        branch: old.branch,
        commit: old.commit,
        digest: old.digest,
        subject: old.subject,
        inputs: old.inputs,
        effects: old.effects,
        cause: Cause {
            event: old.cause.event,
            kind: EventKind::Manual,
            actor: request.actor,
            parent: None,
            replay: Some(Replay { of: old.id, from_stage: request.from_stage, agent: request.agent }),
        },
    }
    .queued(RunId::new(world.clock.unique()), now, now);
    let event = match run.cause.event {
        Some(event) => world.store.event_get(event).await?,
        None => None,
    };
    let concurrency = group::of(&manifest, &run, event.as_ref())
        .map_err(|error| Refusal::invalid("concurrency_invalid", error.to_string()))?;
    Ok(NewRun { run, concurrency, replaces: None, priority: Priority::Interactive })
}

fn check(manifest: &Manifest, request: &Request) -> Result<(), Refusal> {
    let Some(from) = &request.from_stage else {
        return match &request.agent {
            None => Ok(()),
            Some(_) => {
                Err(Refusal::invalid("stage_missing", "another agent needs the stage that is to use it"))
            }
        };
    };
    let Some(stage) = manifest.stages.iter().find(|stage| stage.name == *from) else {
        let names: Vec<_> = manifest.stages.iter().map(|stage| format!("`{}`", stage.name)).collect();
        let message = format!("there is no stage `{from}`; there are {}", names.join(", "));
        return Err(Refusal::not_found("stage_not_found", message));
    };
    if request.agent.is_some()
        && !matches!(stage.kind, StageKind::Prompt(_) | StageKind::Hybrid(_) | StageKind::Agent(_))
    {
        let message = format!("stage `{from}` is of type `{}` and asks no agent", stage.kind.as_str());
        return Err(Refusal::invalid("stage_without_agent", message));
    }
    Ok(())
}

/// The manifest as a replay runs it: one stage may ask another agent.
pub(crate) fn with_agent(manifest: Arc<Manifest>, replay: Option<&Replay>) -> Arc<Manifest> {
    let Some(Replay { from_stage: Some(from), agent: Some(agent), .. }) = replay else { return manifest };
    let mut changed = Manifest::clone(&manifest);
    for stage in changed.stages.iter_mut().filter(|stage| stage.name == *from) {
        match &mut stage.kind {
            StageKind::Prompt(stage) | StageKind::Image(stage) => stage.agent.clone_from(agent),
            StageKind::Hybrid(stage) => stage.question.agent.clone_from(agent),
            StageKind::Agent(stage) => stage.task.agent.clone_from(agent),
            StageKind::Script(_)
            | StageKind::Http(_)
            | StageKind::Rules(_)
            | StageKind::Approval(_)
            | StageKind::Daemon(_)
            | StageKind::Foreach(_) => {}
        }
    }
    Arc::new(changed)
}

/// The journal that an attempt goes on from: the run's own, to which the first attempt of a replay
/// copies what it takes over.
pub(crate) async fn journal(
    world: &World,
    run: &Run,
    manifest: &Manifest,
    proof: &LeaseProof,
) -> Result<Vec<StageRecord>, StoreError> {
    // The first attempt finds nothing.
    let own = if run.attempt == 1 { Vec::new() } else { world.store.run_journal(run.id).await? };
    let Some(Replay { of, from_stage: Some(from), .. }) = &run.cause.replay else { return Ok(own) };
    let old = world.store.run_journal(*of).await?;
    let anew = anew(&manifest.stages, from, &old);
    let known: BTreeSet<_> = own.iter().map(|record| record.path.clone()).collect();
    let mut journal = own;
    for record in old {
        let taken_over = manifest
            .stages
            .iter()
            .any(|stage| !anew.contains(stage.name.as_str()) && is_of(&record.path, stage));
        if taken_over && !known.contains(&record.path) {
            // What the old run paid, this one does not pay again; and it reads variables for itself.
            let usage = domain::stage::StageUsage::default();
            let record = StageRecord { usage, state: Vec::new(), ..record };
            if world.store.stage_record(proof, &record, &[]).await? == Fenced::Lost {
                break;
            }
            journal.push(record);
        }
    }
    Ok(journal)
}

/// The stages that a replay runs anew: the first, those that did not come to a good end, and all that
/// need one of these, near or far.
fn anew<'s>(stages: &'s [Stage], from: &'s str, old: &[StageRecord]) -> BTreeSet<&'s str> {
    let mut anew = BTreeSet::from([from]);
    let bad = |end: &StageEnd| end.breaks_run() || matches!(end, StageEnd::Cancelled);
    for stage in stages {
        if old.iter().any(|record| record.path.as_str() == stage.name && bad(&record.end)) {
            anew.insert(&stage.name);
        }
    }
    // Needs point to siblings in any order, so go on until nothing is added.
    loop {
        let before = anew.len();
        for stage in stages {
            if stage.needs.iter().any(|need| anew.contains(need.as_str())) {
                anew.insert(&stage.name);
            }
        }
        if anew.len() == before {
            return anew;
        }
    }
}

fn is_of(path: &StagePath, stage: &Stage) -> bool {
    path.as_str().strip_prefix(&stage.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// What a stage changed in the workspace.
///
/// # Errors
/// When there is no such run or stage, or the stage has no workspace.
pub async fn stage_diff(world: &World, run: RunId, stage: &str) -> Result<Diff, Refusal> {
    let Some(run) = world.store.run_get(run).await? else {
        return Err(Refusal::not_found("run_not_found", format!("there is no run {run}")));
    };
    let journal = world.store.run_journal(run.id).await?;
    let Some(at) = journal.iter().position(|record| record.path.as_str() == stage) else {
        return Err(Refusal::not_found(
            "stage_not_found",
            format!("{} has recorded no stage `{stage}`", run.id),
        ));
    };
    let Some(after) = &journal[at].snapshot else {
        return Err(Refusal::not_found("stage_without_files", format!("stage `{stage}` works on no files")));
    };
    let before =
        journal[..at].iter().rev().find_map(|record| record.snapshot.as_ref()).unwrap_or(run.start());
    Ok(world.source.diff(run.repository, before, after, LONGEST_DIFF).await?)
}

/// What a whole run changed in the workspace.
///
/// # Errors
/// When there is no such run.
pub async fn run_diff(world: &World, run: RunId) -> Result<Diff, Refusal> {
    let Some(run) = world.store.run_get(run).await? else {
        return Err(Refusal::not_found("run_not_found", format!("there is no run {run}")));
    };
    let journal = world.store.run_journal(run.id).await?;
    let after = journal.iter().rev().find_map(|record| record.snapshot.as_ref()).unwrap_or(run.start());
    Ok(world.source.diff(run.repository, run.start(), after, LONGEST_DIFF).await?)
}
