//! The run that an event, or whoever asks in a comment, orders of a daemon.

use std::sync::Arc;
use std::time::Duration;

use domain::event::{Event, EventKind};
use domain::id::RunId;
use domain::repository::BranchHead;
use domain::revision::{Revision, RevisionContent};
use domain::run::{Cause, Concurrency, EffectMode, Order, Run};
use domain::trigger::Trigger;
use manifest::Manifest;
use manifest::expression::Expression;
use manifest::model::InputKind;
use ports::store::StoreError;
use ports::store::runs::{NewRun, Priority};
use serde_json::{Map, Value as Json};

use super::subject::Scene;
use crate::context::Context;
use crate::refusal::{Refusal, RefusalKind};
use crate::{address, group, inputs};

/// A run that a scene orders.
pub(crate) struct Ordered<'a> {
    pub(crate) scene: &'a Scene<'a>,
    pub(crate) head: &'a BranchHead,
    pub(crate) revision: &'a Revision,
    pub(crate) given: &'a Map<String, Json>,
}

impl Ordered<'_> {
    /// The run, with its inputs, and what its daemon is; or why there is none.
    pub(crate) async fn run(
        &self,
        delay: Duration,
    ) -> Result<Result<(Run, Arc<Manifest>), String>, StoreError> {
        let Self { scene: Scene { world, event, .. }, head, revision, given } = self;
        let RevisionContent::Valid { digest, .. } = &revision.content else {
            return Ok(Err("its manifest is invalid".to_owned()));
        };
        let commit = event.commit.clone().filter(|_| event.kind == EventKind::Push);
        let commit = commit.unwrap_or_else(|| head.commit.clone());
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
        let mut run = Order {
            repository: revision.repository,
            daemon: revision.daemon.clone(),
            branch: head.branch.clone(),
            commit,
            digest,
            subject: self.scene.pull().map(|pull| pull.subject.clone()),
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
        .queued(RunId::new(world.clock.unique()), now, now.after(delay));
        let manifest = match address::manifest_of_run(world, &run).await {
            Ok(manifest) => manifest,
            Err(refusal) => return reason_or_later(refusal),
        };
        let secret = |name: &String| {
            manifest.inputs.iter().any(|input| input.name == *name && input.kind == InputKind::Secret)
        };
        if let Some(name) = given.keys().find(|name| secret(name)) {
            return Ok(Err(format!("`{name}` is a secret, and what stands in a comment is none; change it")));
        }
        match inputs::accept(&manifest.inputs, given) {
            Err(refusal) => Ok(Err(refusal.message)),
            Ok(accepted) => {
                run.inputs = accepted;
                Ok(Ok((run, manifest)))
            }
        }
    }
}

/// A refusal is a reason; but what is only busy or away is no decision, and the event comes again.
pub(crate) fn reason_or_later<T>(refusal: Refusal) -> Result<Result<T, String>, StoreError> {
    match refusal.kind {
        RefusalKind::Unavailable => Err(StoreError::Unavailable(refusal.message)),
        _ => Ok(Err(refusal.message)),
    }
}

/// Gives the run its group, unless the trigger's `skip_if` holds.
pub(super) fn complete(
    run: Run,
    manifest: &Manifest,
    trigger: &Trigger,
    event: &Event,
) -> Result<Box<NewRun>, String> {
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
