//! `daemon`: another daemon does the work, as a run of its own. This run waits for it without a
//! worker, so that any number may wait.

use domain::event::{Actor, EventKind};
use domain::id::RunId;
use domain::name::{Address, At as Version};
use domain::run::{Cause, EffectMode, Failure, Order, ParentStage, Run, RunOutcome, RunState};
use domain::value::Value;
use manifest::model::{Callee, DaemonStage};
use ports::Retry;
use ports::store::runs::{NewRun, Priority};
use serde_json::{Map, Value as Json};

use super::{At, Ended, Made, Trouble};
use crate::refusal::Refusal;
use crate::work::stranger;
use crate::{address, export, group, inputs};

/// How many daemons may have called one another.
const DEEPEST: u32 = 8;

/// Takes the result of the called run, or waits for it.
pub(super) async fn run(stage: &DaemonStage, at: &At<'_>) -> Ended {
    let store = &at.run.world.store;
    let children = match store.run_children(at.run.run.id).await {
        Ok(children) => children,
        Err(error) => return Made::failed(Failure::new("store_unavailable", error.to_string())).into(),
    };
    let mine = |run: &&Run| run.cause.parent.as_ref().is_some_and(|parent| parent.stage == at.path.as_str());
    match children.iter().find(mine) {
        Some(child) => match &child.state {
            RunState::Ended { outcome, .. } => result(at, child, outcome).await.into(),
            RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => {
                Ended::Waits(Vec::new())
            }
        },
        None => match call(stage, at).await {
            Ok(new) => {
                at.note(format!("calls {} as {}", new.run.daemon, new.run.id));
                Ended::Waits(vec![new])
            }
            Err(trouble) => Made::from(trouble).into(),
        },
    }
}

/// The run to be queued. A daemon of another repository may only show what it wants, not do it: the
/// caller has no say there.
async fn call(stage: &DaemonStage, at: &At<'_>) -> Result<NewRun, Trouble> {
    let run = at.run.run;
    let depth = depth(at).await?;
    if depth >= DEEPEST {
        let message = format!("{DEEPEST} daemons have called one another; the next call is refused");
        return Err(Failure::new("call_too_deep", message).into());
    }
    if run.is_for_stranger() && matches!(stage.uses, Callee::Address(_)) {
        return Err(stranger::without("daemons of other repositories", "call_withheld").into());
    }
    let (target, effects) = match &stage.uses {
        Callee::Sibling(daemon) => (sibling(at, daemon.clone()).await?, run.effects),
        Callee::Address(address) => (address.clone(), EffectMode::Stage),
    };
    let callee = address::resolve(at.run.world, &target).await.map_err(refused)?;
    let mut given = Map::new();
    for (name, template) in &stage.inputs {
        given.insert(name.clone(), at.json(template)?.json);
    }
    let inputs = inputs::accept(&callee.manifest.inputs, &given).map_err(refused)?;
    let now = at.run.world.clock.now();
    let called = Order {
        repository: callee.repository.id,
        daemon: target.daemon,
        branch: match &stage.uses {
            Callee::Sibling(_) => run.branch.clone(),
            Callee::Address(_) => callee.branch,
        },
        commit: callee.commit,
        digest: callee.digest,
        subject: match &stage.uses {
            Callee::Sibling(_) => run.subject.clone(),
            Callee::Address(_) => None,
        },
        cause: Cause {
            event: run.cause.event,
            kind: EventKind::Daemon,
            actor: Actor { name: run.daemon.to_string(), role: None, bot: true },
            parent: Some(ParentStage { run: run.id, stage: at.path.to_string() }),
            replay: None,
        },
        inputs,
        effects,
    }
    .queued(RunId::new(at.run.world.clock.unique()), now, now);
    let event = match called.cause.event {
        Some(event) => {
            let event = at.run.world.store.event_get(event).await;
            event.map_err(|error| Failure::new("store_unavailable", error.to_string()))?
        }
        None => None,
    };
    let concurrency = group::of(&callee.manifest, &called, event.as_ref())
        .map_err(|error| Failure::new("concurrency_invalid", error.to_string()))?;
    Ok(NewRun { run: called, concurrency, replaces: None, priority: Priority::Interactive })
}

/// A daemon of the same repository, at the same commit.
async fn sibling(at: &At<'_>, daemon: domain::name::DaemonId) -> Result<Address, Trouble> {
    let repository = at.run.world.store.repository_get(at.run.run.repository).await;
    match repository.map_err(|error| Failure::new("store_unavailable", error.to_string()))? {
        Some(repository) => Ok(Address {
            repository: repository.path,
            daemon,
            at: Version::Commit(at.run.run.commit.clone()),
        }),
        None => Err(Failure::new("repository_not_found", "the run's repository is gone").into()),
    }
}

/// How many runs have called one another to reach this one.
async fn depth(at: &At<'_>) -> Result<u32, Trouble> {
    let mut parent = at.run.run.cause.parent.clone();
    let mut depth = 0;
    while let Some(ParentStage { run, .. }) = parent.take() {
        depth += 1;
        if depth >= DEEPEST {
            break;
        }
        let caller = at.run.world.store.run_get(run).await;
        parent = caller
            .map_err(|error| Failure::new("store_unavailable", error.to_string()))?
            .and_then(|run| run.cause.parent);
    }
    Ok(depth)
}

async fn result(at: &At<'_>, child: &Run, outcome: &RunOutcome) -> Made {
    let why = outcome.message().unwrap_or_default();
    let failed = |code, message| Made::failed(Failure::new(code, message));
    match outcome {
        RunOutcome::Succeeded => match export::output(at.run.world, child).await {
            Ok(value) => Made::value(value),
            Err(refusal) => failed(refusal.code, refusal.message),
        },
        RunOutcome::Skipped { .. } => {
            at.note(format!("{} was skipped: {why}", child.id));
            Made::value(Value::trusted(Json::Null))
        }
        RunOutcome::Cancelled { .. } => {
            failed("callee_cancelled", format!("{} ({}): {why}", child.daemon, child.id))
        }
        RunOutcome::Failed { .. } | RunOutcome::TimedOut { .. } => {
            failed("callee_failed", format!("{} ({}) failed: {why}", child.daemon, child.id))
        }
    }
}

fn refused(refusal: Refusal) -> Trouble {
    Trouble { failure: Failure::new(refusal.code, refusal.message), timed_out: false, retry: Retry::Never }
}
