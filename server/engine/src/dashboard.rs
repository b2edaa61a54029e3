//! The dashboard: one issue of a repository on a forge that says how its daemons fare, where its `spellbook.yaml`
//! asks for it.
//!
//! Nothing hints at it: it is made anew now and then from what is recorded, and edited in place when it says
//! something else than before, at most once in each [`WINDOW`]. So it is right after a crash as well, and a busy
//! repository costs its forge no more than a quiet one.

mod render;

use std::collections::BTreeMap;
use std::time::Duration;

use domain::budget::{Limit, Period, Scope, Window};
use domain::effect::{Act, Effect, EffectKind, EffectStatus};
use domain::event::EventKind;
use domain::money::NanoUsd;
use domain::name::{Branch, Commit, DaemonId};
use domain::repository::{Repository, SyncStatus};
use domain::revision::{Health, Pause, RevisionContent};
use domain::run::{Run, RunState};
use domain::time::Timestamp;
use ports::store::repositories::{DaemonFilter, DaemonRow};
use ports::store::runs::RunFilter;
use ports::store::{Page, Recorded, StoreError};

use crate::dispatch::waiting::waiting;
use crate::refusal::Refusal;
use crate::world::World;
use crate::{effects, reconcile};

/// How often everything is looked at.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// An issue is edited at most once in each of these.
pub const WINDOW: Duration = Duration::from_secs(300);
/// By which the issue is found again.
const KEY: &str = "dashboard";
const TITLE: &str = "Daemons of this repository";
const OFF: &str = "This dashboard is switched off: `spellbook.yaml` does not ask for it any more.";
/// So many daemons have a line; how many more there are is said.
const MOST_LINES: usize = 100;
/// So many daemons are asked for at once.
const AT_ONCE: u32 = 500;
/// So many runs of a daemon are looked through for the last one that has ended.
const LOOKED_RUNS: u32 = 20;
/// So many events are looked through for pull requests that wait.
const LOOKED_EVENTS: u32 = 200;

/// How the daemons of a repository fare.
#[derive(Debug, Clone)]
struct Board {
    /// The branch whose name needs not be said.
    default_branch: Branch,
    /// Whether the repository does not answer the server, so that all this may be old.
    is_away: bool,
    /// How many daemons there are.
    count: usize,
    /// How many of them need a look.
    degraded: usize,
    /// Those that have a line, those who need a look first.
    daemons: Vec<Daemon>,
    /// What its runs cost in this month.
    cost: NanoUsd,
    /// Pull requests that wait for approval.
    waiting: BTreeMap<u64, Waiting>,
    /// What the server answers to.
    prefix: String,
}

/// How one daemon fares.
#[derive(Debug, Clone)]
struct Daemon {
    id: DaemonId,
    branch: Branch,
    health: Health,
    is_invalid: bool,
    pause: Option<Pause>,
    /// The last run that has ended.
    last: Option<Run>,
    /// What its runs cost in this month.
    cost: NanoUsd,
}

/// Daemons that wait for somebody to approve a pull request.
#[derive(Debug, Clone)]
struct Waiting {
    /// Where it is; forges write its number in different ways.
    url: Option<String>,
    /// Its newest commit, as far as is known.
    commit: Option<Commit>,
    daemons: Vec<DaemonId>,
}

/// Brings the issue of a repository up to date, or closes it when nobody asks for it any more. Says whether
/// there was anything to do.
///
/// # Errors
/// When git or the store do not answer.
pub async fn update(world: &World, repository: &Repository) -> Result<bool, Refusal> {
    // The built-in host has no issues.
    if repository.origin.place().is_none() {
        return Ok(false);
    }
    let last = world.store.effect_keyed(repository.id, KEY, 1).await?.pop();
    let window = window(world.clock.now());
    if last.as_ref().is_some_and(|last| is_under_way(last) || self::window(last.created_at) == window) {
        return Ok(false);
    }
    let wanted = match (is_asked_for(world, repository).await?, &last) {
        (Some(true), _) => issue(&board(world, repository).await?),
        (Some(false), Some(Effect { kind: EffectKind::CreateIssue { .. }, .. })) => {
            EffectKind::CloseIssue { body: OFF.to_owned() }
        }
        // Nobody can tell what a broken file wants.
        (Some(false) | None, _) => return Ok(false),
    };
    if last.is_some_and(|last| last.kind == wanted) {
        return Ok(false);
    }
    let effect = effects::own(world, repository.id, Act::Dashboard, KEY.to_owned(), wanted);
    // Another server on the same store may have been first.
    let recorded = world.store.effect_record(&effect, &format!("{KEY}/{window}")).await?;
    Ok(recorded == Recorded::New)
}

/// The number of the window that a moment is in.
fn window(at: Timestamp) -> i64 {
    at.millis().div_euclid(i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX))
}

fn is_under_way(effect: &Effect) -> bool {
    matches!(effect.status, EffectStatus::Pending { .. })
}

/// Whether the default branch asks for it; `None` when its file is broken.
async fn is_asked_for(world: &World, repository: &Repository) -> Result<Option<bool>, Refusal> {
    let branches = world.source.branches(repository.id).await?;
    let head = branches.into_iter().find(|(branch, _)| *branch == repository.default_branch);
    let head = head.map(|(_, commit)| commit);
    let rules = reconcile::rules(world, repository, head.as_ref()).await?;
    Ok(rules.map(|rules| rules.dashboard))
}

fn issue(board: &Board) -> EffectKind {
    EffectKind::CreateIssue {
        title: TITLE.to_owned(),
        body: render::markdown(board),
        labels: Vec::new(),
        assignees: Vec::new(),
        sticky: true,
    }
}

async fn board(world: &World, repository: &Repository) -> Result<Board, Refusal> {
    let mut rows = rows(world, repository).await?;
    rows.sort_by_key(|row| match health(row) {
        Health::Degraded => 0,
        Health::Suspended | Health::Missing => 1,
        Health::Healthy => 2,
    });
    let (count, degraded) = (rows.len(), rows.iter().filter(|row| health(row) == Health::Degraded).count());
    rows.truncate(MOST_LINES);
    let mut daemons = Vec::new();
    for row in rows {
        daemons.push(daemon(world, repository, row).await?);
    }
    let path = repository.path.to_string();
    Ok(Board {
        default_branch: repository.default_branch.clone(),
        is_away: repository.sync.status == SyncStatus::Unreachable,
        count,
        degraded,
        daemons,
        cost: cost(world, Scope::Repository, path.clone(), path).await?,
        waiting: pulls(world, repository).await?,
        prefix: world.settings.prefix.clone(),
    })
}

/// The daemons on deploy branches.
async fn rows(world: &World, repository: &Repository) -> Result<Vec<DaemonRow>, StoreError> {
    let filter = DaemonFilter { repository: Some(repository.id), branch: None };
    let (mut all, mut page) = (Vec::new(), Page::first(AT_ONCE));
    loop {
        let rows = world.store.daemon_list(&filter, &page).await?;
        let Some(last) = rows.last() else { break };
        page.after = Some(last.revision.id.uuid());
        all.extend(rows.into_iter().filter(|row| row.revision.content != RevisionContent::Removed));
    }
    Ok(all)
}

fn health(row: &DaemonRow) -> Health {
    Health::of(&row.revision.content, row.role, row.last_run, row.pause.as_ref())
}

async fn daemon(world: &World, repository: &Repository, row: DaemonRow) -> Result<Daemon, StoreError> {
    let health = health(&row);
    let DaemonRow { revision, pause, .. } = row;
    let filter = RunFilter {
        repository: Some(repository.id),
        daemon: Some(revision.daemon.clone()),
        branch: Some(revision.branch.clone()),
        ..RunFilter::default()
    };
    let runs = world.store.run_list(&filter, &Page::first(LOOKED_RUNS)).await?;
    let path = repository.path.to_string();
    let subject = format!("{path}/{}", revision.daemon);
    Ok(Daemon {
        health,
        is_invalid: matches!(revision.content, RevisionContent::Invalid { .. }),
        pause,
        last: runs.into_iter().find(|run| matches!(run.state, RunState::Ended { .. })),
        cost: cost(world, Scope::Daemon, subject, path).await?,
        id: revision.daemon,
        branch: revision.branch,
    })
}

/// What was spent in this month.
async fn cost(
    world: &World,
    scope: Scope,
    subject: String,
    repository: String,
) -> Result<NanoUsd, StoreError> {
    let Some(window) = Window::calendar(Period::Month, world.clock.now()) else { return Ok(NanoUsd::ZERO) };
    let limit = Limit { scope, subject, repository, window, amount: NanoUsd::ZERO };
    Ok(world.store.balance_get(&limit).await?.spent)
}

/// The open pull requests that wait for approval, as far as was told.
async fn pulls(world: &World, repository: &Repository) -> Result<BTreeMap<u64, Waiting>, StoreError> {
    let mut pulls: BTreeMap<u64, Waiting> = BTreeMap::new();
    for (event, daemon) in waiting(world, repository.id, None, LOOKED_EVENTS).await? {
        let Some(number) = event.thread() else { continue };
        let new = Waiting { url: None, commit: event.commit, daemons: Vec::new() };
        pulls.entry(number).or_insert(new).daemons.push(daemon);
    }
    let mut open = BTreeMap::new();
    for (number, mut waiting) in pulls {
        let events = world.store.event_list(repository.id, Some(number), &Page::first(LOOKED_EVENTS)).await?;
        let newest = events.into_iter().find(|event| event.kind == EventKind::PullRequest);
        let said = |field: &str| newest.as_ref()?.payload.pointer("/pull_request")?.get(field)?.as_str();
        if said("state").is_none_or(|state| state == "open") {
            waiting.url = said("html_url").map(str::to_owned);
            open.insert(number, waiting);
        }
    }
    Ok(open)
}
