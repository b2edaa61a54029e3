//! Builders of the nouns that tests are about: everything has a plain value until it is changed.
//! Ids and times are drawn from the clock that is passed in.

use domain::effect::{Author, Effect, EffectKind, EffectStatus, Provenance};
use domain::event::{Actor, Event, EventKind};
use domain::id::{EffectId, EventId, RepositoryId, RevisionId, RunId};
use domain::name::{Branch, Commit, DaemonId, Digest, RepositoryPath};
use domain::repository::{Origin, Repository, Sync};
use domain::revision::{DaemonSummary, Revision, RevisionContent};
use domain::run::{Cause, EffectMode, Order, ParentStage, Run};
use domain::stage::{StageEnd, StagePath, StageRecord, StageUsage};
use domain::trigger::Trigger;
use domain::value::Taint;
use ports::clock::Clock;
use ports::store::runs::{NewRun, Priority};
use serde_json::json;

/// A name that a test writes out; anything that has a parser.
///
/// # Panics
/// When the text breaks the rules of the name: the test is wrong then.
pub fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Display,
{
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A commit that is told apart by a number.
pub fn commit(number: u32) -> Commit {
    name(&format!("{number:040x}"))
}

/// A digest that is told apart by a number.
pub fn digest(number: u32) -> Digest {
    name(&format!("{number:040x}"))
}

/// A hosted repository, `owner/name`, whose branch is `main`.
pub fn repository(clock: &dyn Clock, path: &str) -> Repository {
    Repository {
        id: RepositoryId::new(clock.unique()),
        path: name::<RepositoryPath>(path),
        origin: Origin::Hosted,
        default_branch: name("main"),
        sync: Sync::NEVER,
        created_at: clock.now(),
    }
}

/// A watched repository that was never looked at.
pub fn watched(clock: &dyn Clock, path: &str) -> Repository {
    let origin =
        Origin::Watched { url: format!("https://git.example.com/{path}.git"), credential: None, place: None };
    Repository { origin, ..repository(clock, path) }
}

/// A valid revision of a daemon on `main`, without triggers.
pub fn revision(clock: &dyn Clock, repository: &Repository, daemon: &str, at: u32) -> Revision {
    Revision {
        id: RevisionId::new(clock.unique()),
        repository: repository.id,
        daemon: name::<DaemonId>(daemon),
        branch: name::<Branch>("main"),
        commit: commit(at),
        content: content(daemon, at, Vec::new()),
        created_at: clock.now(),
    }
}

/// What a commit makes of a valid daemon.
pub fn content(daemon: &str, at: u32, triggers: Vec<Trigger>) -> RevisionContent {
    RevisionContent::Valid {
        digest: digest(at),
        directory: format!("daemons/{daemon}"),
        summary: DaemonSummary { name: daemon.to_owned(), ..DaemonSummary::default() },
        triggers,
    }
}

/// Somebody asked for something.
pub fn event(clock: &dyn Clock, repository: &Repository) -> Event {
    Event {
        id: EventId::new(clock.unique()),
        repository: repository.id,
        kind: EventKind::Manual,
        action: None,
        branch: Some(name("main")),
        commit: Some(commit(1)),
        paths: Vec::new(),
        actor: actor(),
        labels: Vec::new(),
        draft: false,
        payload: json!({}),
        taint: Taint::Trusted,
        depth: 0,
        occurred_at: clock.now(),
    }
}

/// Ada, a person with the right to write.
pub fn actor() -> Actor {
    Actor { name: "ada".to_owned(), role: Some("write".to_owned()), bot: false }
}

/// A queued run of a daemon at [`commit`] 1 of `main`, ready at once.
pub fn run(clock: &dyn Clock, repository: &Repository, daemon: &str) -> Run {
    let now = clock.now();
    Order {
        repository: repository.id,
        daemon: name::<DaemonId>(daemon),
        branch: name::<Branch>("main"),
        commit: commit(1),
        digest: digest(1),
        subject: None,
        cause: Cause { event: None, kind: EventKind::Manual, actor: actor(), parent: None, replay: None },
        inputs: serde_json::Map::new(),
        effects: EffectMode::Perform,
    }
    .queued(RunId::new(clock.unique()), now, now)
}

/// The same, to be queued without a group.
pub fn new_run(clock: &dyn Clock, repository: &Repository, daemon: &str) -> NewRun {
    NewRun {
        run: run(clock, repository, daemon),
        concurrency: None,
        replaces: None,
        priority: Priority::Event,
    }
}

/// A run that a stage of another calls.
pub fn child(clock: &dyn Clock, repository: &Repository, parent: RunId, stage: &str) -> NewRun {
    let mut new = new_run(clock, repository, "called");
    new.run.cause.parent = Some(ParentStage { run: parent, stage: stage.to_owned() });
    new
}

/// A stage that ended well, without an output.
pub fn stage(clock: &dyn Clock, path: &str) -> StageRecord {
    StageRecord {
        path: StagePath::root(path),
        end: StageEnd::Succeeded,
        output: None,
        snapshot: None,
        usage: StageUsage::default(),
        state: Vec::new(),
        started_at: clock.now(),
        ended_at: clock.now(),
    }
}

/// An effect of a run, due at once.
pub fn effect(clock: &dyn Clock, run: &Run, key: &str, kind: EffectKind) -> Effect {
    Effect {
        id: EffectId::new(clock.unique()),
        repository: run.repository,
        author: Author::Run(provenance(run)),
        key: key.to_owned(),
        kind,
        status: EffectStatus::wanted(clock.now()),
        attempts: 0,
        created_at: clock.now(),
    }
}

/// Who a run is.
pub fn provenance(run: &Run) -> Provenance {
    Provenance {
        run: run.id,
        daemon: run.daemon.clone(),
        commit: run.commit.clone(),
        digest: run.digest.clone(),
    }
}
