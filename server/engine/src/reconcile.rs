//! Reconcile: brings the server's picture of a repository up to what git has. It takes no input but
//! git, so that a push, a webhook and a timer reach the same state.

use std::collections::{BTreeMap, BTreeSet};

use domain::event::{Actor, Event, EventKind};
use domain::id::{EventId, RepositoryId, RevisionId};
use domain::name::{Branch, Commit};
use domain::repository::{BranchRole, Repository, Sync, SyncStatus};
use domain::revision::{Revision, RevisionContent};
use domain::value::Taint;
use manifest::Spellbook;
use ports::source::{CommitInfo, View};
use ports::store::repositories::{Advanced, BranchAdvance};
use serde_json::{Value as Json, json};

use crate::refusal::Refusal;
use crate::survey::{Survey, Surveyed};
use crate::world::World;

/// So many commits of one push become revisions of their own; of a longer one the newest.
const MOST_COMMITS: usize = 200;
/// So many changed paths are matched against triggers; of more the first.
const MOST_PATHS: usize = 10_000;
/// So many commits and files of a push a daemon sees; of more the newest commits.
const MOST_SHOWN: usize = 100;
/// So often a branch that moves under our hands is looked at anew.
const MOST_TRIES: usize = 5;

/// What is known of the push that brought the commits.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// Who pushed; `None` when it was seen from afar.
    pub actor: Option<Actor>,
    /// Whether the push said that it starts no runs.
    pub skip_runs: bool,
}

/// What reconciling made.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Each branch that moved, with the daemons that the move changed.
    pub branches: Vec<BranchMove>,
}

/// A branch that moved.
#[derive(Debug)]
pub struct BranchMove {
    /// Which.
    pub branch: Branch,
    /// What it is to the server.
    pub role: BranchRole,
    /// Where it is; `None` when it is gone.
    pub to: Option<Commit>,
    /// The newest revision of each daemon that the move changed.
    pub revisions: Vec<Revision>,
}

impl Reconciled {
    /// Whether everything that moved can run.
    pub fn status(&self) -> SyncStatus {
        let invalid = |revision: &Revision| matches!(revision.content, RevisionContent::Invalid { .. });
        let broken =
            |branch: &&BranchMove| branch.role == BranchRole::Deploy && branch.revisions.iter().any(invalid);
        if self.branches.iter().any(|branch| broken(&branch)) {
            SyncStatus::Invalid
        } else {
            SyncStatus::Synced
        }
    }
}

/// Brings the picture of one repository up to date.
///
/// # Errors
/// When there is no such repository, or git or the store do not answer; what was recorded until then
/// stays, and the next call goes on from there.
pub async fn repository(world: &World, id: RepositoryId, pushed: &Pushed) -> Result<Reconciled, Refusal> {
    let Some(repository) = world.store.repository_get(id).await? else {
        return Err(Refusal::not_found("repository_not_found", format!("there is no repository {id}")));
    };
    let git: BTreeMap<Branch, Commit> = world.source.branches(id).await?.into_iter().collect();
    let recorded = world.store.branch_list(id).await?;
    let rules = rules(world, &repository, git.get(&repository.default_branch)).await?;
    let role = |branch: &Branch| match (&rules, recorded.iter().find(|head| head.branch == *branch)) {
        (Some(rules), _) => rules.role(branch, &repository.default_branch),
        // Nobody can tell what a broken file wants: everything stays what it was, and nothing is added.
        (None, Some(head)) => head.role,
        (None, None) => BranchRole::Ignored,
    };
    let mut moved: Vec<(Branch, Option<Commit>)> = Vec::new();
    for head in &recorded {
        let now = git.get(&head.branch);
        if now != Some(&head.commit) || head.role != role(&head.branch) {
            moved.push((head.branch.clone(), now.cloned()));
        }
    }
    let known = |branch: &Branch| recorded.iter().any(|head| head.branch == *branch);
    moved.extend(
        git.iter()
            .filter(|(branch, _)| !known(branch))
            .map(|(branch, at)| (branch.clone(), Some(at.clone()))),
    );
    // The deploy branches first: forks are told apart from them.
    moved.sort_by_key(|(branch, _)| (role(branch) != BranchRole::Deploy, branch.clone()));
    let mut reconciled = Reconciled::default();
    for (branch, _) in moved {
        let role = role(&branch);
        if role == BranchRole::Ignored && !known(&branch) {
            continue;
        }
        reconciled.branches.extend(follow(world, &repository, branch, role, pushed).await?);
    }
    record_status(world, &repository, &reconciled).await?;
    Ok(reconciled)
}

/// The rules about branches: those of the default branch, so that no other branch can change them.
/// `None` when the file that states them is broken.
async fn rules(
    world: &World,
    repository: &Repository,
    at: Option<&Commit>,
) -> Result<Option<Spellbook>, Refusal> {
    let Some(at) = at else { return Ok(Some(Spellbook::default())) };
    let survey = Survey::at(world, repository, View::of(repository.id), at).await?;
    Ok(survey.spellbook.value)
}

/// Records that a branch moved, whatever moves it meanwhile.
async fn follow(
    world: &World,
    repository: &Repository,
    branch: Branch,
    role: BranchRole,
    pushed: &Pushed,
) -> Result<Option<BranchMove>, Refusal> {
    for _ in 0..MOST_TRIES {
        let heads = world.store.branch_list(repository.id).await?;
        let recorded = heads.iter().find(|head| head.branch == branch);
        let from = recorded.map(|head| head.commit.clone());
        let to = world
            .source
            .branches(repository.id)
            .await?
            .into_iter()
            .find(|(b, _)| *b == branch)
            .map(|(_, at)| at);
        // A branch that is to be ignored is gone as far as daemons are concerned.
        let to = to.filter(|_| role != BranchRole::Ignored);
        if from == to && recorded.is_none_or(|head| head.role == role) {
            return Ok(None);
        }
        // A fork has only what differs from the default branch; a deploy branch needs every daemon.
        let promoted =
            role == BranchRole::Deploy && recorded.is_some_and(|head| head.role != BranchRole::Deploy);
        let base = from.clone().filter(|_| !promoted).or_else(|| {
            let default = heads.iter().find(|head| head.branch == repository.default_branch);
            default.filter(|_| role == BranchRole::Fork).map(|head| head.commit.clone())
        });
        let step = Step { world, repository, branch: &branch, base };
        let line = match &to {
            Some(to) => world.source.line(repository.id, step.base.as_ref(), to, MOST_COMMITS).await?,
            None => Vec::new(),
        };
        let revisions = step.revisions(&line).await?;
        let event = match (&to, role) {
            (Some(to), BranchRole::Deploy) if !pushed.skip_runs && from.as_ref() != Some(to) => {
                Some(step.event(from.as_ref(), to, &line, pushed).await?)
            }
            _ => None,
        };
        let advance = BranchAdvance {
            repository: repository.id,
            branch: branch.clone(),
            role,
            from,
            to: to.clone(),
            revisions: revisions.clone(),
            event,
            at: world.clock.now(),
        };
        match world.store.branch_advance(&advance).await? {
            Advanced::Recorded => {
                return Ok(Some(BranchMove { branch, role, to, revisions: newest(revisions) }));
            }
            Advanced::Stale { .. } => {}
        }
    }
    let message =
        format!("{branch} of {} moves faster than it can be followed; it is tried again", repository.path);
    Err(Refusal { kind: crate::RefusalKind::Unavailable, code: "branch_moving", message })
}

/// One move of one branch.
struct Step<'a> {
    world: &'a World,
    repository: &'a Repository,
    branch: &'a Branch,
    /// What the branch is compared with: where it was, or for a new fork the default branch.
    base: Option<Commit>,
}

impl Step<'_> {
    /// The revisions that the commits of a line make, oldest first.
    async fn revisions(&self, line: &[Commit]) -> Result<Vec<Revision>, Refusal> {
        let view = View::of(self.repository.id);
        let mut before = self.base.clone();
        let mut revisions = Vec::new();
        for commit in line {
            let survey = Survey::at(self.world, self.repository, view.clone(), commit).await?;
            let changed = match &before {
                Some(before) => survey.changed(Some(before)).await?,
                None => survey.all().await?,
            };
            let there: BTreeSet<_> =
                changed.iter().filter(|daemon| !daemon.is_removed()).filter_map(Surveyed::id).collect();
            // A daemon that moved to another directory is gone from one and there in the other.
            let moved =
                |daemon: &&Surveyed| daemon.is_removed() && daemon.id().is_some_and(|id| there.contains(&id));
            revisions.extend(
                changed
                    .iter()
                    .filter(|daemon| !moved(daemon))
                    .filter_map(|daemon| self.revision(daemon, commit)),
            );
            before = Some(commit.clone());
        }
        Ok(revisions)
    }

    fn revision(&self, daemon: &Surveyed, commit: &Commit) -> Option<Revision> {
        Some(Revision {
            id: RevisionId::new(self.world.clock.unique()),
            repository: self.repository.id,
            daemon: daemon.id()?,
            branch: self.branch.clone(),
            commit: commit.clone(),
            content: daemon.content(),
            created_at: self.world.clock.now(),
        })
    }

    async fn event(
        &self,
        from: Option<&Commit>,
        to: &Commit,
        line: &[Commit],
        pushed: &Pushed,
    ) -> Result<Event, Refusal> {
        let changes =
            self.world.source.changes(&View::of(self.repository.id), self.base.as_ref(), to).await?;
        let paths: Vec<String> = changes.into_iter().take(MOST_PATHS).map(|change| change.path).collect();
        let shown = &line[line.len().saturating_sub(MOST_SHOWN)..];
        let commits = self.world.source.describe(self.repository.id, shown).await?;
        let actor = pushed.actor.clone().unwrap_or_else(Actor::server);
        Ok(Event {
            id: EventId::new(self.world.clock.unique()),
            repository: self.repository.id,
            kind: EventKind::Push,
            action: None,
            branch: Some(self.branch.clone()),
            commit: Some(to.clone()),
            payload: json!({
                "ref": format!("refs/heads/{}", self.branch),
                "before": from.map(Commit::as_str),
                "after": to.as_str(),
                "repository": { "path": self.repository.path.to_string() },
                "pusher": { "name": actor.name },
                "commits": commits.iter().map(commit_json).collect::<Vec<_>>(),
                "files": paths.iter().take(MOST_SHOWN).collect::<Vec<_>>(),
            }),
            paths,
            actor,
            labels: Vec::new(),
            draft: false,
            taint: Taint::External,
            depth: 0,
            occurred_at: self.world.clock.now(),
        })
    }
}

/// A commit in the words of GitHub's push event.
fn commit_json(info: &CommitInfo) -> Json {
    json!({
        "id": info.commit.as_str(),
        "message": info.message,
        "author": { "name": info.author },
        "timestamp": info.at.to_string(),
    })
}

fn newest(revisions: Vec<Revision>) -> Vec<Revision> {
    let by_daemon: BTreeMap<_, _> =
        revisions.into_iter().map(|revision| (revision.daemon.clone(), revision)).collect();
    by_daemon.into_values().collect()
}

/// A hosted repository has no remote that could be away, so its status is known here and now.
async fn record_status(
    world: &World,
    repository: &Repository,
    reconciled: &Reconciled,
) -> Result<(), Refusal> {
    if reconciled.branches.is_empty() && repository.sync.status == SyncStatus::Synced {
        return Ok(());
    }
    let status = if reconciled.branches.is_empty() { repository.sync.status } else { reconciled.status() };
    let sync = Sync { status, message: None, checked_at: Some(world.clock.now()), ..repository.sync.clone() };
    Ok(world.store.repository_synced(repository.id, &sync, None).await?)
}
