//! Whether an event starts one daemon, and why not.

use std::time::Duration;

use domain::event::{Event, EventKind};
use domain::revision::{Pause, Revision, RevisionContent};
use domain::run::{Run, Standing};
use domain::trigger::{Match, Trigger, matching};
use ports::store::runs::{NewRun, RunFilter};
use ports::store::{Page, StoreError};

use super::Candidate;
use super::ordered::{Ordered, complete};
use super::subject::{About, Pull, Scene, Undecided};
use crate::world::World;

/// So many daemons may have started one another; the next is taken for a loop.
const DEEPEST: u32 = 5;
/// So many runs may programs start for one issue or pull request within an hour; more are taken for a loop.
const MOST_BY_PROGRAMS: usize = 20;
const HOUR: Duration = Duration::from_secs(3_600);
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
