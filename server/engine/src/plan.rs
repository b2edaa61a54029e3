//! Plans: what a change would make of daemons, said before it is merged. For a pull request, whoever it is
//! from, it is one comment and one check; nothing is run for it.

mod changes;
mod render;

use std::collections::BTreeMap;

use domain::effect::{Act, Annotation, AnnotationLevel, CheckConclusion, CommentTarget, Effect, EffectKind};
use domain::money::NanoUsd;
use domain::name::{Address, At, Commit, DaemonId};
use domain::repository::Repository;
use domain::run::Subject;
use manifest::Diagnostic;
use ports::source::View;
use serde_json::Map;

use crate::dispatch::subject::base;
use crate::effects;
use crate::estimate::{self, Estimate, Spread};
use crate::refusal::{Refusal, RefusalKind};
use crate::survey::{Survey, Surveyed, Verdict};
use crate::world::World;

pub use changes::{Bearing, Change, Heading, between};
pub use render::{markdown, text};

/// The check that says what came of it.
pub const CHECK: &str = "spellbook/plan";
/// So many remarks a check has at most; what else is wrong is in its summary.
const MOST_ANNOTATIONS: usize = 200;

/// What a change would make of daemons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The daemons that it touches, by name.
    pub daemons: Vec<DaemonPlan>,
    /// What is wrong with the repository's own file, with code frames.
    pub problems: String,
    /// Everything that is wrong, in daemons too.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a change would make of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonPlan {
    /// Its name; it may be no id, which is then one of the diagnostics.
    pub name: String,
    /// Where it is.
    pub directory: String,
    /// What becomes of it.
    pub fate: Fate,
    /// What it may do, when it runs and what it does, as far as that differs; the weightiest first.
    pub changes: Vec<Change>,
    /// What is wrong with it, with code frames.
    pub problems: String,
    /// What its runs will cost.
    pub cost: Cost,
}

/// What becomes of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It comes.
    New,
    /// It differs.
    Changed,
    /// It could not run, and can.
    Mended,
    /// It cannot run.
    Invalid,
    /// It goes.
    Removed,
}

impl Fate {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Mended => "mended",
            Self::Invalid => "invalid",
            Self::Removed => "removed",
        }
    }
}

/// What the runs of a daemon cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of the version that is deployed.
    pub deployed: Option<Estimate>,
    /// Of the changed one, by the sizes of what it asks; where its models or stages differ.
    pub expected: Option<Spread<NanoUsd>>,
}

impl Plan {
    /// Whether everything that it touches can run.
    pub fn is_valid(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.daemons.is_empty() && self.diagnostics.is_empty()
    }
}

impl DaemonPlan {
    /// A daemon of which nothing is known beyond the difference of its manifests.
    pub fn new(name: &str, directory: &str, fate: Fate, changes: Vec<Change>) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            fate,
            changes,
            problems: String::new(),
            cost: Cost::default(),
        }
    }

    /// Whether it may do more than before.
    pub fn is_wider(&self) -> bool {
        self.changes.iter().any(|change| change.bearing == Bearing::Wider)
    }
}

/// What becomes of the daemons of a commit by what another one changes; `None` when that touches none.
///
/// # Errors
/// When a commit is not there, or git or the store do not answer.
pub async fn of(
    world: &World,
    repository: &Repository,
    base: &Commit,
    head: &Commit,
) -> Result<Option<Plan>, Refusal> {
    let view = View::of(repository.id);
    let before = Survey::at(world, repository, view.clone(), base).await?;
    let after = Survey::at(world, repository, view, head).await?;
    let changed = after.with_calls(after.changed(Some(base)).await?.daemons).await?;
    // A daemon that moves to another directory is gone from one and there in the other.
    let mut by_name: BTreeMap<String, Surveyed> = BTreeMap::new();
    for daemon in changed {
        let known = by_name.get(&daemon.name).is_some_and(|known| !known.is_removed());
        if !known || !daemon.is_removed() {
            by_name.insert(daemon.name.clone(), daemon);
        }
    }
    let mut plan = Plan::default();
    if before.spellbook.diagnostics != after.spellbook.diagnostics {
        plan.problems = after.spellbook_problems();
        plan.diagnostics.clone_from(&after.spellbook.diagnostics);
    }
    for daemon in by_name.into_values() {
        let known = match daemon.id() {
            Some(id) => before.find(&id).await?,
            None => None,
        };
        if let Some((one, diagnostics)) = judged(world, repository, known, daemon).await? {
            plan.daemons.push(one);
            plan.diagnostics.extend(diagnostics);
        }
    }
    Ok(Some(plan).filter(|plan| !plan.is_empty()))
}

/// What becomes of one daemon from one commit to another; `None` when nothing does.
///
/// # Errors
/// When a commit is not there, or git or the store do not answer.
pub async fn of_daemon(
    world: &World,
    repository: &Repository,
    daemon: &DaemonId,
    base: &Commit,
    head: &Commit,
) -> Result<Option<DaemonPlan>, Refusal> {
    let view = View::of(repository.id);
    let before = Survey::at(world, repository, view.clone(), base).await?.find(daemon).await?;
    let after = Survey::at(world, repository, view, head).await?.find(daemon).await?;
    let gone = before.as_ref().map(|before| Surveyed {
        name: before.name.clone(),
        directory: before.directory.clone(),
        verdict: Verdict::Removed,
    });
    let Some(after) = after.or(gone) else { return Ok(None) };
    Ok(judged(world, repository, before, after).await?.map(|(plan, _)| plan))
}

/// What becomes of one daemon, and what is wrong with it; `None` when nothing does.
async fn judged(
    world: &World,
    repository: &Repository,
    known: Option<Surveyed>,
    daemon: Surveyed,
) -> Result<Option<(DaemonPlan, Vec<Diagnostic>)>, Refusal> {
    let id = daemon.id();
    let before = known.map(|known| known.verdict);
    let mut plan = DaemonPlan::new(&daemon.name, &daemon.directory, Fate::Removed, Vec::new());
    let (manifest, diagnostics) = match (&before, daemon.verdict) {
        (None | Some(Verdict::Removed), Verdict::Removed) => return Ok(None),
        (Some(_), Verdict::Removed) => return Ok(Some((plan, Vec::new()))),
        (_, Verdict::Invalid { problems, diagnostics, .. }) => {
            let plan = DaemonPlan { fate: Fate::Invalid, problems, ..plan };
            return Ok(Some((plan, diagnostics)));
        }
        (
            Some(Verdict::Valid { digest: known, manifest: was, .. }),
            Verdict::Valid { digest, manifest, diagnostics, warnings },
        ) => {
            plan.fate = Fate::Changed;
            plan.changes = between(Some(was), &manifest);
            plan.problems = warnings;
            // Its licence may come from the repository's own file, which is no file of its own.
            if *known == digest && plan.changes.is_empty() {
                return Ok(None);
            }
            (manifest, diagnostics)
        }
        (before, Verdict::Valid { manifest, diagnostics, warnings, .. }) => {
            plan.fate =
                if matches!(before, Some(Verdict::Invalid { .. })) { Fate::Mended } else { Fate::New };
            plan.changes = between(None, &manifest);
            plan.problems = warnings;
            (manifest, diagnostics)
        }
    };
    if matches!(before, Some(Verdict::Valid { .. }))
        && let Some(daemon) = id
    {
        let address = Address { repository: repository.path.clone(), daemon, at: At::Deployed };
        plan.cost.deployed = match estimate::of(world, &address, &Map::new()).await {
            Ok(estimate) => Some(estimate),
            Err(refusal) if refusal.kind == RefusalKind::Unavailable => return Err(refusal),
            // What is not deployed has no runs.
            Err(_) => None,
        };
    }
    let weighs = |change: &Change| matches!(change.heading, Heading::Models | Heading::Stages);
    if plan.changes.iter().any(weighs) {
        plan.cost.expected = estimate::by_sizes(world, &manifest, &Map::new(), &mut Vec::new());
    }
    Ok(Some((plan, diagnostics)))
}

/// What is said of a pull request whose commits are here: a comment that is kept up to date, and a check on its
/// newest commit. Nothing when it touches no daemon and never did.
///
/// # Errors
/// When git or the store do not answer.
pub async fn effects(world: &World, repository: &Repository, pull: &Subject) -> Result<Vec<Effect>, Refusal> {
    // What its base has got since is not the pull request's doing.
    let Some(base) = base(world, repository, pull).await? else { return Ok(Vec::new()) };
    let plan = of(world, repository, &base, &pull.commit).await?;
    let key = format!("plan/{}", pull.number);
    if plan.is_none() && world.store.effect_keyed(repository.id, &key, 1).await?.is_empty() {
        return Ok(Vec::new());
    }
    let plan = plan.unwrap_or_default();
    let summary = markdown(&plan);
    let conclusion = if plan.is_valid() { CheckConclusion::Success } else { CheckConclusion::Failure };
    let comment = EffectKind::AddComment {
        target: CommentTarget::Thread { number: pull.number },
        body: summary.clone(),
        sticky: true,
    };
    let check = EffectKind::CreateCheck {
        commit: pull.commit.clone(),
        name: CHECK.to_owned(),
        conclusion,
        summary,
        annotations: plan.diagnostics.iter().take(MOST_ANNOTATIONS).map(annotation).collect(),
    };
    let check_key = format!("{key}/{}", pull.commit);
    let own = |(key, kind)| effects::own(world, repository.id, Act::Plan, key, kind);
    Ok([(key, comment), (check_key, check)].map(own).to_vec())
}

fn annotation(diagnostic: &Diagnostic) -> Annotation {
    let help = diagnostic.help.as_ref().map_or(String::new(), |help| format!("\n{help}"));
    Annotation {
        path: diagnostic.file.clone(),
        start_line: diagnostic.line,
        end_line: diagnostic.end_line,
        level: if diagnostic.is_error() { AnnotationLevel::Failure } else { AnnotationLevel::Warning },
        message: format!("{} [{}]{help}", diagnostic.message, diagnostic.code),
    }
}
