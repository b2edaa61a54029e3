//! Admission: what is said about a push, before it is accepted and after. A broken manifest does not
//! reach a deploy branch; elsewhere it is only warned about, because forks are for trying.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use domain::files::Files;
use domain::id::RepositoryId;
use domain::name::{Branch, Commit};
use domain::repository::{BranchRole, Repository};
use domain::revision::RevisionContent;
use manifest::discover::{Layout, Location, SPELLBOOKS};
use manifest::{Checked, DaemonSource, Diagnostic, Manifest, POLICY, Siblings, Spellbook};
use ports::source::View;

use crate::reconcile::{self, BranchMove, Pushed};
use crate::refusal::Refusal;
use crate::standard::Standard;
use crate::survey::{self, Survey, Surveyed, Verdict};
use crate::world::World;

/// So many daemons are named one by one; of more the rest is counted.
const MOST_NAMED: usize = 20;

/// A push that is not accepted yet.
#[derive(Debug, Clone)]
pub struct Push {
    /// To which repository.
    pub repository: RepositoryId,
    /// Where its objects are.
    pub quarantine: Option<PathBuf>,
    /// Which branches it moves.
    pub updates: Vec<BranchUpdate>,
}

/// A branch that a push moves.
#[derive(Debug, Clone)]
pub struct BranchUpdate {
    /// Which.
    pub branch: Branch,
    /// Where it was.
    pub from: Option<Commit>,
    /// Where it goes; `None` when it is removed.
    pub to: Option<Commit>,
}

/// What the server thinks of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// Whether it is accepted.
    pub accepted: bool,
    /// What the person who pushes reads; empty when there is nothing to say.
    pub text: String,
}

/// Looks at a push before it is accepted.
///
/// # Errors
/// When it cannot be looked at; it must not be accepted then.
pub async fn review(world: &World, push: &Push) -> Result<Review, Refusal> {
    let Some(repository) = world.store.repository_get(push.repository).await? else {
        return Err(Refusal::not_found("repository_not_found", "there is no such repository"));
    };
    let view = View { repository: push.repository, quarantine: push.quarantine.clone() };
    let rules = rules(world, &repository, push, &view).await?;
    let mut review = Review { accepted: true, text: String::new() };
    for update in &push.updates {
        let Some(to) = &update.to else { continue };
        let role = rules.role(&update.branch, &repository.default_branch);
        if role == BranchRole::Ignored {
            continue;
        }
        let survey = Survey::at(world, &repository, view.clone(), to).await?;
        let base = match &update.from {
            Some(from) => Some(from.clone()),
            None => fork_base(world, &repository, &update.branch).await?,
        };
        let changed = survey.with_calls(survey.changed(base.as_ref()).await?.daemons).await?;
        let verdict = BranchReview { branch: &update.branch, role, survey: &survey, changed: &changed };
        review.accepted &= verdict.accepted();
        verdict.describe(&mut review.text);
    }
    Ok(review)
}

/// The rules about branches: of the default branch as this push leaves it.
async fn rules(
    world: &World,
    repository: &Repository,
    push: &Push,
    view: &View,
) -> Result<manifest::Spellbook, Refusal> {
    let pushed = push.updates.iter().find(|update| update.branch == repository.default_branch);
    let at = match pushed {
        Some(update) => update.to.clone(),
        None => head(world, repository, &repository.default_branch).await?,
    };
    let Some(at) = at else { return Ok(manifest::Spellbook::default()) };
    let survey = Survey::at(world, repository, view.clone(), &at).await?;
    Ok(survey.spellbook.value.unwrap_or_default())
}

/// A new branch is compared with the default branch.
async fn fork_base(
    world: &World,
    repository: &Repository,
    branch: &Branch,
) -> Result<Option<Commit>, Refusal> {
    if *branch == repository.default_branch {
        return Ok(None);
    }
    head(world, repository, &repository.default_branch).await
}

async fn head(world: &World, repository: &Repository, branch: &Branch) -> Result<Option<Commit>, Refusal> {
    let heads = world.source.branches(repository.id).await?;
    Ok(heads.into_iter().find(|(name, _)| name == branch).map(|(_, commit)| commit))
}

/// What is said of one branch of a push.
struct BranchReview<'a> {
    branch: &'a Branch,
    role: BranchRole,
    survey: &'a Survey<'a>,
    changed: &'a [Surveyed],
}

impl BranchReview<'_> {
    fn broken(&self) -> impl Iterator<Item = &Surveyed> {
        self.changed.iter().filter(|daemon| matches!(daemon.verdict, Verdict::Invalid { .. }))
    }

    fn accepted(&self) -> bool {
        let sound = self.survey.spellbook.value.is_some() && self.broken().next().is_none();
        sound || self.role != BranchRole::Deploy
    }

    fn describe(&self, text: &mut String) {
        text.push_str(&self.survey.spellbook_problems());
        for daemon in self.changed {
            match &daemon.verdict {
                Verdict::Invalid { problems, .. } => text.push_str(problems),
                Verdict::Valid { warnings, .. } => text.push_str(warnings),
                Verdict::Removed => {}
            }
        }
        let broken: Vec<&str> = self.broken().map(|daemon| daemon.name.as_str()).collect();
        let spellbook = self.survey.spellbook.value.is_none().then_some("spellbook.yaml");
        let names: Vec<&str> = spellbook.into_iter().chain(broken).collect();
        if names.is_empty() {
            return;
        }
        let (branch, names) = (self.branch, names.join(", "));
        // Writing to a string cannot fail.
        let _ = match self.role {
            BranchRole::Deploy => writeln!(
                text,
                "rejected: {names}\n{branch} is a deploy branch, so nothing of this push is taken; mend it and push again"
            ),
            BranchRole::Fork | BranchRole::Ignored => {
                writeln!(text, "warning: {names} cannot run on {branch} until it is mended")
            }
        };
    }
}

/// Deploys what a push brought, and says so.
///
/// # Errors
/// When git or the store do not answer; the push is accepted all the same, and deployed later.
pub async fn received(world: &World, repository: RepositoryId, pushed: &Pushed) -> Result<String, Refusal> {
    let reconciled = reconcile::repository(world, repository, pushed).await?;
    let mut text = String::new();
    for branch in reconciled.branches.iter().filter(|moved| pushed.branches.contains(&moved.branch)) {
        describe_move(world, repository, branch, &mut text).await?;
    }
    if pushed.skip_runs && !text.is_empty() {
        text.push_str("this push starts no runs, as it asked\n");
    }
    Ok(text)
}

async fn describe_move(
    world: &World,
    repository: RepositoryId,
    moved: &BranchMove,
    text: &mut String,
) -> Result<(), Refusal> {
    let mut lines: Vec<(String, &str)> = Vec::new();
    for revision in &moved.revisions {
        let word = match (&revision.content, moved.role) {
            (RevisionContent::Removed, _) => "removed",
            (RevisionContent::Invalid { .. }, _) => "invalid",
            (RevisionContent::Valid { .. }, BranchRole::Deploy) => "deployed",
            (RevisionContent::Valid { .. }, BranchRole::Fork | BranchRole::Ignored) => "forked, triggers off",
        };
        lines.push((revision.daemon.to_string(), word));
    }
    if let (Some(to), BranchRole::Deploy) = (&moved.to, moved.role) {
        let changed: BTreeSet<String> = lines.iter().map(|(name, _)| name.clone()).collect();
        let unchanged = survey::names(world, &View::of(repository), to)
            .await?
            .into_iter()
            .filter(|name| !changed.contains(name));
        lines.extend(unchanged.map(|name| (name, "unchanged")));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let at = moved.to.as_ref().map_or_else(|| "gone".to_owned(), |to| to.as_str()[..12].to_owned());
    let width = lines.iter().take(MOST_NAMED).map(|(name, _)| name.len()).max().unwrap_or(0);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} at {at}", moved.branch);
    for (name, word) in lines.iter().take(MOST_NAMED) {
        let _ = writeln!(text, "  {name:width$}  {word}");
    }
    if lines.len() > MOST_NAMED {
        let _ = writeln!(text, "  … and {} more", lines.len() - MOST_NAMED);
    }
    Ok(())
}

/// Checks files that are not pushed, as they would lie in a repository: what a push of them would be held to.
pub fn check(world: &World, files: &Files) -> Vec<Diagnostic> {
    let standard = Standard::of(world);
    let own = SPELLBOOKS.into_iter().find(|name| files.get(name).is_some()).unwrap_or(SPELLBOOKS[0]);
    let Checked { value: spellbook, mut diagnostics } = Standard::spellbook(own, files.get(own));
    if let Some(policy) = files.get(POLICY) {
        diagnostics.extend(manifest::check_policy(POLICY, policy).diagnostics);
    }
    let layout = Layout::new("spellbook", spellbook.as_ref().unwrap_or(&Spellbook::default()));
    let discovered = layout.discover(files.paths());
    diagnostics.extend(discovered.diagnostics);
    let daemons: Vec<(Location, Files)> = discovered
        .daemons
        .into_iter()
        .map(|location| {
            let inside = below(&location.directory, files);
            (location, inside)
        })
        .collect();
    let check = |(Location { directory, id }, files): &(Location, Files), siblings: Option<&Siblings>| {
        let source = DaemonSource { id: id.as_str(), directory, files };
        standard.daemon(source, spellbook.as_ref(), siblings)
    };
    let mut checked: Vec<Checked<Manifest>> = daemons.iter().map(|daemon| check(daemon, None)).collect();
    let inputs = |one: &Checked<Manifest>| one.value.as_ref().map(|manifest| manifest.inputs.clone());
    let called = daemons.iter().zip(&checked).map(|((location, _), one)| (location.id.clone(), inputs(one)));
    let siblings = Siblings {
        ids: daemons.iter().map(|(location, _)| location.id.clone()).collect(),
        called: called.collect(),
    };
    for (daemon, one) in daemons.iter().zip(&mut checked) {
        if one.value.as_ref().is_some_and(|manifest| !manifest.callees().is_empty()) {
            *one = check(daemon, Some(&siblings));
        }
    }
    diagnostics.extend(checked.into_iter().flat_map(|one| one.diagnostics));
    diagnostics
}

/// The files below a directory, by path relative to it.
fn below(directory: &str, files: &Files) -> Files {
    let inside = |path: &str| match directory {
        "" => Some(path.to_owned()),
        directory => path.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned),
    };
    files.paths().filter_map(|path| Some((inside(path)?, files.get(path)?.clone()))).collect()
}
