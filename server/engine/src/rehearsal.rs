//! A run as an event or a person would start it, with everything that it wants only staged: what a test of a
//! daemon runs.

use std::collections::BTreeMap;

use domain::event::{Actor, Event, EventKind};
use domain::id::RunId;
use domain::memo::{MemoKey, MemoKind, MemoOwner};
use domain::name::{Address, MemoName};
use domain::run::{Cause, EffectMode, Order, Run};
use manifest::expression::Expression;
use ports::store::runs::{NewRun, Priority};
use serde_json::{Map, Value as Json};

use crate::context::Context;
use crate::dispatch::consider;
use crate::refusal::Refusal;
use crate::state::{self, Change};
use crate::world::World;
use crate::{address, group, inputs, session};

/// A run to be tried.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// Which daemon, at which version.
    pub address: Address,
    /// What it is given.
    pub inputs: Map<String, Json>,
    /// Who starts it, when nothing has happened.
    pub actor: Actor,
    /// What happened, in the repository of the daemon; its branch and commit are those of the daemon.
    pub event: Option<Event>,
    /// What it remembers.
    pub past: Past,
}

/// What a daemon remembers of runs before, though there were none.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// Its variables, where they are not as at first.
    pub variables: BTreeMap<String, Json>,
    /// Its conversations: questions, each with its answer.
    pub sessions: BTreeMap<MemoName, Vec<(String, String)>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsed {
    /// The run is queued.
    Started(RunId),
    /// The event starts none, and why.
    NotStarted(String),
}

/// Queues the run, if what happened starts one. `cooldown`, `debounce` and `concurrency` have no part in it.
///
/// # Errors
/// When there is no such daemon, or it cannot be run so.
pub async fn start(world: &World, rehearsal: Rehearsal) -> Result<Rehearsed, Refusal> {
    let target = address::resolve(world, &rehearsal.address).await?;
    if let Some((stage, what)) = manifest::unsupported_stages(&target.manifest).first() {
        let message = format!("this version cannot run stage `{stage}`: it cannot run {what} yet");
        return Err(Refusal::invalid("stage_unsupported", message));
    }
    let event = rehearsal.event.map(|event| Event {
        repository: target.repository.id,
        branch: Some(target.branch.clone()),
        commit: Some(target.commit.clone()),
        ..event
    });
    let trigger = match &event {
        None => None,
        Some(event) => match consider::first_match(&target.manifest.triggers, event) {
            Ok(trigger) => Some(trigger),
            Err(reason) => return Ok(Rehearsed::NotStarted(reason)),
        },
    };
    let inputs = inputs::accept(&target.manifest.inputs, &rehearsal.inputs)?;
    let now = world.clock.now();
    let (kind, actor) = match &event {
        Some(event) => (event.kind, event.actor.clone()),
        None => (EventKind::Manual, rehearsal.actor),
    };
    let run = Order {
        repository: target.repository.id,
        daemon: rehearsal.address.daemon.clone(),
        branch: target.branch,
        commit: target.commit,
        digest: target.digest,
        subject: None,
        cause: Cause { event: event.as_ref().map(|event| event.id), kind, actor, parent: None, replay: None },
        inputs,
        effects: EffectMode::Stage,
    }
    .queued(RunId::new(world.clock.unique()), now, now);
    if let Some(source) = trigger.and_then(|trigger| trigger.skip_if.as_ref()) {
        let context = Context::new(&run, &run.inputs, Vec::new(), event.as_ref(), "");
        let invalid = |error: String| Refusal::invalid("skip_if_invalid", format!("`skip_if`: {error}"));
        let condition = Expression::parse_condition(source).map_err(|error| invalid(error.to_string()))?;
        if condition.holds(&context).map_err(|error| invalid(error.to_string()))? {
            return Ok(Rehearsed::NotStarted(format!("`skip_if: {source}` holds")));
        }
    }
    group::of(&target.manifest, &run, event.as_ref())
        .map_err(|error| Refusal::invalid("concurrency_invalid", error.to_string()))?;
    if let Some(event) = &event {
        world.store.event_record(event, None).await?;
    }
    remember(world, &rehearsal.address, &run, rehearsal.past).await?;
    let id = run.id;
    let new = NewRun { run, concurrency: None, replaces: None, priority: Priority::Interactive };
    world.store.run_enqueue(&new, None).await?;
    Ok(Rehearsed::Started(id))
}

/// Keeps it as if it had been.
async fn remember(world: &World, address: &Address, run: &Run, past: Past) -> Result<(), Refusal> {
    let Past { variables, sessions } = past;
    if !variables.is_empty() {
        let owner = state::owner(world, address).await?;
        for (name, value) in variables {
            let change = Change { name, value, version: None, by: "test".to_owned() };
            state::set(world, &owner, change).await?;
        }
    }
    for (name, turns) in sessions {
        let owner =
            MemoOwner { repository: run.repository, daemon: run.daemon.clone(), branch: run.branch.clone() };
        let key = MemoKey { owner, kind: MemoKind::Session, name };
        session::suppose(world, &key, turns).await?;
    }
    Ok(())
}
