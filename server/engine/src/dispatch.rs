//! Dispatch: which daemons an event starts. Every decision is recorded with its reason.

pub(crate) mod answers;
pub(crate) mod commands;
pub(crate) mod subject;

use std::time::Duration;

use domain::effect::{Act, Effect, EffectKind};
use domain::event::{Event, EventKind};
use domain::id::RunId;
use domain::repository::{BranchHead, BranchRole};
use domain::revision::{Pause, Revision, RevisionContent};
use domain::run::{Cause, Concurrency, EffectMode, Order, Run, Standing};
use domain::trigger::{Match, Trigger, matching};
use manifest::Manifest;
use manifest::expression::Expression;
use manifest::model::InputKind;
use ports::store::events::{Dispatch, Dispatched, MatchRecord, Rest};
use ports::store::runs::{NewRun, Priority, RunFilter};
use ports::store::{Page, StoreError};
use serde_json::{Map, Value as Json};

use self::subject::{About, Pull, Scene, Undecided, is_about_pull};
use crate::context::Context;
use crate::refusal::{Refusal, RefusalKind};
use crate::world::World;
use crate::{address, group, inputs, plan};

/// So many daemons may have started one another; the next is taken for a loop.
const DEEPEST: u32 = 5;
/// So many runs may programs start for one issue or pull request within an hour; more are taken for a loop.
const MOST_BY_PROGRAMS: usize = 20;
const HOUR: Duration = Duration::from_secs(3_600);
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

/// Who says that a daemon may work on a stranger's pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Whoever made the event happen, if they may write.
    OfActor,
    /// Somebody who may write has approved just this commit.
    Given,
}

/// What is decided about a daemon.
#[derive(Debug)]
pub(crate) enum Considered {
    /// It is started.
    Run(Box<NewRun>),
    /// It would be, once somebody approves.
    Waits(String),
    /// It is not.
    No(String),
}

/// Whether an event starts a daemon, and why not.
pub(crate) async fn consider(
    scene: &Scene<'_>,
    candidate: &Candidate,
    consent: Consent,
) -> Result<Considered, Undecided> {
    match considered(scene, candidate, consent).await? {
        Ok(considered) => Ok(considered),
        Err(reason) => Ok(Considered::No(reason)),
    }
}

async fn considered(
    scene: &Scene<'_>,
    candidate: &Candidate,
    consent: Consent,
) -> Result<Result<Considered, String>, Undecided> {
    let (world, event) = (scene.world, &scene.event);
    let Candidate { head, revision, given } = candidate;
    if !matches!(revision.content, RevisionContent::Valid { .. }) {
        return Ok(Err("its manifest is invalid".to_owned()));
    }
    if event.depth >= DEEPEST {
        return Ok(Err(format!("{DEEPEST} daemons have started one another; this looks like a loop")));
    }
    if let Some(Pause { by, .. }) = pause(world, revision).await? {
        return Ok(Err(format!("it rests: {by} has paused it")));
    }
    let trigger = match first_match(candidate.triggers(), event) {
        Ok(trigger) => trigger,
        Err(reason) => return Ok(Err(reason)),
    };
    if let About::Lost(reason) = &scene.about {
        return Ok(Err(reason.clone()));
    }
    if let Some(reason) = obstacle(scene, trigger, revision).await? {
        return Ok(Err(reason));
    }
    let ordered = Ordered { scene, head, revision, given };
    let (run, manifest) = match ordered.run(trigger.debounce.unwrap_or_default()).await? {
        Ok(ordered) => ordered,
        Err(reason) => return Ok(Err(reason)),
    };
    let new = match complete(run, &manifest, trigger, event) {
        Ok(new) => new,
        Err(reason) => return Ok(Err(reason)),
    };
    Ok(Ok(match scene.pull().and_then(|pull| approval(scene, pull, consent)) {
        Some(reason) => Considered::Waits(reason),
        None => Considered::Run(new),
    }))
}

/// How the reason of those begins that wait for somebody to approve.
pub(crate) const WAITS_FOR_APPROVAL: &str = "it waits for approval of ";

/// Why a daemon may not work on a pull request yet.
fn approval(scene: &Scene<'_>, pull: &Pull, consent: Consent) -> Option<String> {
    if pull.subject.standing == Standing::Member || consent == Consent::Given {
        return None;
    }
    // What was begun by a run goes on as that did; its end tells of no other commit.
    if scene.event.kind == EventKind::Daemon {
        return None;
    }
    let head = &pull.subject.commit;
    let seen = scene.event.commit.as_ref().is_none_or(|commit| commit == head);
    (!(seen && scene.is_by_writer())).then(|| format!("{WAITS_FOR_APPROVAL}{head}"))
}

/// Since when a daemon rests, and who says so.
pub(crate) async fn pause(world: &World, revision: &Revision) -> Result<Option<Pause>, StoreError> {
    let pauses = world.store.pause_list(revision.repository).await?;
    let here = |pause: &Pause| pause.daemon == revision.daemon && pause.branch == revision.branch;
    Ok(pauses.into_iter().find(here))
}

/// What keeps a daemon that would answer from doing so now.
async fn obstacle(
    scene: &Scene<'_>,
    trigger: &Trigger,
    revision: &Revision,
) -> Result<Option<String>, StoreError> {
    if let Some(reason) = crowded(scene).await? {
        return Ok(Some(reason));
    }
    if let Some(reason) = cooling(scene.world, trigger.cooldown, revision).await? {
        return Ok(Some(reason));
    }
    repeated(scene, revision).await
}

/// Why programs start nothing more here for now.
async fn crowded(scene: &Scene<'_>) -> Result<Option<String>, StoreError> {
    let Scene { world, event, .. } = scene;
    let Some(thread) = event.thread().filter(|_| event.actor.bot || event.depth > 0) else { return Ok(None) };
    let filter =
        RunFilter { repository: Some(event.repository), thread: Some(thread), ..RunFilter::default() };
    let now = world.clock.now();
    let runs = world.store.run_list(&filter, &Page::first(200)).await?;
    let by_programs = runs.iter().filter(|run| run.cause.actor.bot && now.since(run.created_at) < HOUR);
    Ok((by_programs.count() >= MOST_BY_PROGRAMS).then(|| {
        format!(
            "programs started {MOST_BY_PROGRAMS} runs for #{thread} within an hour; this looks like a loop"
        )
    }))
}

/// Why a daemon need not look at a commit again. A push to a pull request that came while the event before it
/// was looked at has been seen by then.
async fn repeated(scene: &Scene<'_>, revision: &Revision) -> Result<Option<String>, StoreError> {
    let Scene { world, event, .. } = scene;
    let Some(pull) = scene.pull().filter(|_| event.kind == EventKind::PullRequest) else { return Ok(None) };
    let head = &pull.subject.commit;
    let moved = event.commit.as_ref().is_some_and(|commit| commit != head);
    if !moved && event.action.as_deref() != Some("synchronize") {
        return Ok(None);
    }
    let filter = RunFilter {
        repository: Some(event.repository),
        daemon: Some(revision.daemon.clone()),
        branch: Some(revision.branch.clone()),
        thread: Some(pull.subject.number),
        ..RunFilter::default()
    };
    let same = |run: &&Run| {
        run.cause.kind == EventKind::PullRequest
            && run.subject.as_ref().is_some_and(|subject| subject.commit == *head)
    };
    let runs = world.store.run_list(&filter, &Page::first(50)).await?;
    Ok(runs.iter().find(same).map(|run| format!("{} is for {} already", run.id, &head.as_str()[..12])))
}

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
    ) -> Result<Result<(Run, std::sync::Arc<Manifest>), String>, StoreError> {
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

/// Gives the run its group, unless the trigger's `skip_if` holds.
fn complete(run: Run, manifest: &Manifest, trigger: &Trigger, event: &Event) -> Result<Box<NewRun>, String> {
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

/// Takes off the label that has started what it was to start.
fn label_taken(scene: &Scene<'_>) -> Option<Effect> {
    let event = &scene.event;
    let label = event.payload.pointer("/label/name").and_then(Json::as_str)?;
    let kind = EffectKind::RemoveLabels { number: event.thread()?, labels: vec![label.to_owned()] };
    Some(scene.wish(Act::Receipt, format!("label/{}", event.id), kind))
}
