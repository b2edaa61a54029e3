//! Dispatch: which daemons an event starts. Every decision is recorded with its reason.

pub(crate) mod answers;
pub(crate) mod commands;
pub(crate) mod consider;
pub(crate) mod ordered;
pub(crate) mod subject;
pub(crate) mod waiting;

use std::time::Duration;

use domain::effect::{Act, Effect, EffectKind};
use domain::event::{Event, EventKind};
use domain::id::RunId;
use domain::repository::{BranchHead, BranchRole};
use domain::revision::{Revision, RevisionContent};
use domain::trigger::Trigger;
use ports::store::StoreError;
use ports::store::events::{Dispatch, Dispatched, MatchRecord, Rest};
use ports::store::runs::NewRun;
use serde_json::{Map, Value as Json};

use self::consider::{Consent, Considered, consider};
use self::subject::{About, Scene, Undecided, is_about_pull};
use crate::plan;
use crate::refusal::{Refusal, RefusalKind};
use crate::world::World;

/// The shortest and the longest wait for a forge that does not answer.
const WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(900));
/// How long a forge is waited for.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// What came of looking for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchOutcome {
    /// One was dispatched: so many runs.
    Dispatched {
        /// How many.
        runs: usize,
    },
    /// One lets the others pass: its forge does not answer.
    Postponed,
    /// Somebody else was first.
    Already,
    /// There is none.
    Empty,
}

/// What is decided about an event.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) matches: Vec<MatchRecord>,
    pub(crate) runs: Vec<NewRun>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) once: Vec<(Effect, String)>,
    pub(crate) rests: Vec<Rest>,
}

/// Dispatches the oldest event that is not dispatched.
///
/// # Errors
/// When the store does not answer; the event comes again.
pub async fn next(world: &World) -> Result<DispatchOutcome, StoreError> {
    let Some(event) = world.store.event_next(world.clock.now()).await? else {
        return Ok(DispatchOutcome::Empty);
    };
    let (learned, decision) = match decide(world, &event).await {
        Ok(decided) => decided,
        Err(Undecided::Store(error)) => return Err(error),
        Err(Undecided::Away { message, not_before }) => {
            let now = world.clock.now();
            let age = now.since(event.occurred_at);
            if age < PATIENCE {
                let wait = now.after(age.clamp(WAITS.0, WAITS.1));
                let until = not_before.map_or(wait, |at| at.max(wait));
                tracing::warn!(event.id = %event.id, "put off: {message}");
                world.store.event_postpone(event.id, until).await?;
                return Ok(DispatchOutcome::Postponed);
            }
            tracing::error!(event.id = %event.id, "given up after a day: {message}");
            (None, Decision::default())
        }
    };
    let count = decision.runs.len();
    let Decision { matches, runs, effects, once, rests } = decision;
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

/// What an event leads to, and the event with what was asked about it, when that is more than was known.
async fn decide(world: &World, event: &Event) -> Result<(Option<Event>, Decision), Undecided> {
    let Some(repository) = world.store.repository_get(event.repository).await? else {
        return Ok((None, Decision::default()));
    };
    let mut scene = Scene::new(world, repository, event.clone());
    let mut decision = match event.kind {
        EventKind::Comment => commands::decide(&mut scene).await?,
        _ => by_triggers(&mut scene).await?,
    };
    decision.effects.extend(planned(&mut scene).await?);
    Ok(((scene.event != *event).then_some(scene.event), decision))
}

/// Asks every daemon that could wait for the event.
pub(crate) async fn by_triggers(scene: &mut Scene<'_>) -> Result<Decision, Undecided> {
    let mut decision = Decision::default();
    let candidates = candidates(scene).await?;
    if candidates.is_empty() {
        return Ok(decision);
    }
    scene.meet_actor().await?;
    if is_about_pull(&scene.event) || scene.event.kind == EventKind::Daemon {
        if scene.about == About::Nothing {
            scene.meet_pull().await?;
        }
        if candidates.iter().any(|candidate| candidate.asks_paths(scene.event.kind)) {
            scene.meet_paths().await?;
        }
    }
    let mut waiting = Vec::new();
    let mut taken = false;
    for candidate in &candidates {
        let considered = consider(scene, candidate, Consent::OfActor).await?;
        if let Considered::Waits(_) = considered {
            waiting.push(candidate.revision.daemon.clone());
        }
        taken |= matches!(considered, Considered::Run(_));
        decision.add(candidate, considered, &format!("`{}` matches", scene.event.kind.as_str()));
    }
    if let Some(pull) = scene.pull().filter(|_| !waiting.is_empty()) {
        decision.effects.push(answers::asks_approval(scene, pull, &waiting));
    }
    if scene.event.kind == EventKind::Label && taken {
        decision.effects.extend(label_taken(scene));
    }
    Ok(decision)
}

/// What a pull request would make of daemons, said whenever its commits or its base may be others.
async fn planned(scene: &mut Scene<'_>) -> Result<Vec<Effect>, Undecided> {
    const MOVES: [&str; 4] = ["opened", "reopened", "synchronize", "edited"];
    let Event { kind, action, .. } = &scene.event;
    if *kind != EventKind::PullRequest || !action.as_deref().is_some_and(|action| MOVES.contains(&action)) {
        return Ok(Vec::new());
    }
    if scene.about == About::Nothing {
        scene.meet_pull().await?;
    }
    let Some(pull) = scene.pull() else { return Ok(Vec::new()) };
    match plan::effects(scene.world, &scene.repository, &pull.subject).await {
        Ok(effects) => Ok(effects),
        Err(Refusal { kind: RefusalKind::Unavailable, message, .. }) => {
            Err(Undecided::Away { message, not_before: None })
        }
        Err(refusal) => {
            tracing::warn!(event.id = %scene.event.id, "no plan: {}", refusal.message);
            Ok(Vec::new())
        }
    }
}

impl Decision {
    /// Records what was decided about a daemon.
    pub(crate) fn add(&mut self, candidate: &Candidate, considered: Considered, matched: &str) {
        let (run, reason) = match considered {
            Considered::Run(new) => {
                let id = new.run.id;
                self.runs.push(*new);
                (Some(id), matched.to_owned())
            }
            Considered::Waits(reason) | Considered::No(reason) => (None, reason),
        };
        self.record(candidate, run, reason);
    }

    pub(crate) fn record(&mut self, candidate: &Candidate, run: Option<RunId>, reason: String) {
        let (daemon, branch) = (candidate.revision.daemon.clone(), candidate.head.branch.clone());
        self.matches.push(MatchRecord { daemon, branch, run, reason });
    }
}

/// A daemon that may be started, and what it is given.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) head: BranchHead,
    pub(crate) revision: Revision,
    pub(crate) given: Map<String, Json>,
}

impl Candidate {
    fn triggers(&self) -> &[Trigger] {
        match &self.revision.content {
            RevisionContent::Valid { triggers, .. } => triggers,
            RevisionContent::Invalid { .. } | RevisionContent::Removed => &[],
        }
    }

    fn asks_paths(&self, kind: EventKind) -> bool {
        let filters = self.triggers().iter().filter(|trigger| trigger.on.event() == kind);
        filters
            .into_iter()
            .any(|Trigger { filter, .. }| !(filter.paths.is_empty() && filter.paths_ignore.is_empty()))
    }
}

/// The daemons on deployed branches that wait for events of this kind.
pub(crate) async fn candidates(scene: &Scene<'_>) -> Result<Vec<Candidate>, Undecided> {
    let Scene { world, event, .. } = scene;
    let mut candidates = Vec::new();
    for head in world.store.branch_list(event.repository).await? {
        let concerned = event.branch.as_ref().is_none_or(|branch| *branch == head.branch);
        if head.role != BranchRole::Deploy || !concerned {
            continue;
        }
        let revisions = world.store.revision_triggered(event.repository, &head.branch, event.kind).await?;
        candidates.extend(
            revisions
                .into_iter()
                .filter(|revision| is_addressed(event, revision))
                .map(|revision| Candidate { head: head.clone(), revision, given: Map::new() }),
        );
    }
    Ok(candidates)
}

/// A schedule and a daemon's own endpoint are one daemon's; the others do not hear of it.
fn is_addressed(event: &Event, revision: &Revision) -> bool {
    let addressee = event.payload.pointer("/daemon/id").and_then(Json::as_str);
    match event.kind {
        EventKind::Schedule | EventKind::Webhook => addressee == Some(revision.daemon.as_str()),
        _ => true,
    }
}

/// Takes off the label that has started what it was to start.
fn label_taken(scene: &Scene<'_>) -> Option<Effect> {
    let event = &scene.event;
    let label = event.payload.pointer("/label/name").and_then(Json::as_str)?;
    let kind = EffectKind::RemoveLabels { number: event.thread()?, labels: vec![label.to_owned()] };
    Some(scene.wish(Act::Receipt, format!("label/{}", event.id), kind))
}
