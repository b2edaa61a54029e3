//! Reconcile: brings the server's picture of a repository up to what git has. It takes no input but
//! git, so that a push, a webhook and a timer reach the same state.

use std::collections::{BTreeMap, BTreeSet};

use domain::event::{Actor, Event, EventKind};
use domain::id::{EventId, RepositoryId, RevisionId};
use domain::name::{Branch, Commit};
use domain::repository::{BranchRole, Origin, Repository, Sync, SyncStatus};
use domain::revision::Revision;
use domain::value::Taint;
use manifest::Spellbook;
use ports::source::{CommitInfo, View};
use ports::store::repositories::{Advanced, BranchAdvance};
use serde_json::{Value as Json, json};

use crate::refusal::Refusal;
use crate::survey::{Changed, Survey, Surveyed};
use crate::world::World;

/// So many commits of one push become revisions of their own; of a longer one the newest.
const MOST_COMMITS: usize = 200;
/// So many changed paths are matched against triggers; of more the first.
const MOST_PATHS: usize = 10_000;
/// So many commits and files of a push a daemon sees; of more the newest commits.
const MOST_SHOWN: usize = 100;
/// So often a branch that moves under our hands is looked at anew.
const MOST_TRIES: usize = 5;

/// What is known of the push that brought the commits; by default nothing, as it was seen from afar.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// The branches that it moved. Others may have moved as well, by somebody else's push.
    pub branches: Vec<Branch>,
    /// Who pushed.
    pub actor: Option<Actor>,
    /// Whether the push said that it starts no runs.
    pub skip_runs: bool,
}

impl Pushed {
    fn moved(&self, branch: &Branch) -> bool {
        self.branches.contains(branch)
    }
}

/// What reconciling made.
#[derive(Debug)]
pub struct Reconciled {
    /// Whether everything that is deployed can run.
    pub status: SyncStatus,
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
    let mut branches = Vec::new();
    for (branch, _) in moved {
        let role = role(&branch);
        if role == BranchRole::Ignored && !known(&branch) {
            continue;
        }
        branches.extend(follow(world, &repository, branch, role, pushed).await?);
    }
    let is_broken = rules.is_none() || world.store.revision_any_invalid(id).await?;
    let status = if is_broken { SyncStatus::Invalid } else { SyncStatus::Synced };
    record_status(world, &repository, status).await?;
    Ok(Reconciled { status, branches })
}

/// The rules about branches: those of the default branch, so that no other branch can change them.
/// `None` when the file that states them is broken.
pub(crate) async fn rules(
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
        let made = step.make(&line).await?;
        let skip = pushed.moved(&branch) && pushed.skip_runs;
        let event = match (&to, role) {
            (Some(to), BranchRole::Deploy) if !skip && from.as_ref() != Some(to) => {
                let paths = step.paths(to, made.paths).await?;
                let actor = pushed.actor.clone().filter(|_| pushed.moved(&branch));
                Some(step.event(Move { from: from.as_ref(), to, line: &line }, paths, actor).await?)
            }
            _ => None,
        };
        let advance = BranchAdvance {
            repository: repository.id,
            branch: branch.clone(),
            role,
            from,
            to: to.clone(),
            revisions: made.revisions.clone(),
            event,
            at: world.clock.now(),
        };
        match world.store.branch_advance(&advance).await? {
            Advanced::Recorded => {
                return Ok(Some(BranchMove { branch, role, to, revisions: newest(made.revisions) }));
            }
            Advanced::Stale { .. } => {}
        }
    }
    let message =
        format!("{branch} of {} moves faster than it can be followed; it is tried again", repository.path);
    Err(Refusal { kind: crate::RefusalKind::Unavailable, code: "branch_moving", message })
}

/// What the commits of a line made.
#[derive(Default)]
struct Made {
    revisions: Vec<Revision>,
    /// What a line of one commit changed: looking is dear in a large tree, and is not done twice.
    paths: Option<Vec<String>>,
}

/// Where a branch went.
struct Move<'a> {
    from: Option<&'a Commit>,
    to: &'a Commit,
    line: &'a [Commit],
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
    async fn make(&self, line: &[Commit]) -> Result<Made, Refusal> {
        let view = View::of(self.repository.id);
        let mut before = self.base.clone();
        let mut made = Made::default();
        for commit in line {
            let survey = Survey::at(self.world, self.repository, view.clone(), commit).await?;
            let Changed { daemons: changed, paths } = survey.changed(before.as_ref()).await?;
            made.paths = Some(paths).filter(|_| line.len() == 1);
            let there: BTreeSet<_> =
                changed.iter().filter(|daemon| !daemon.is_removed()).filter_map(Surveyed::id).collect();
            // A daemon that moved to another directory is gone from one and there in the other.
            let moved =
                |daemon: &&Surveyed| daemon.is_removed() && daemon.id().is_some_and(|id| there.contains(&id));
            made.revisions.extend(
                changed
                    .iter()
                    .filter(|daemon| !moved(daemon))
                    .filter_map(|daemon| self.revision(daemon, commit)),
            );
            before = Some(commit.clone());
        }
        Ok(made)
    }

    /// The paths that the whole move changed.
    async fn paths(&self, to: &Commit, known: Option<Vec<String>>) -> Result<Vec<String>, Refusal> {
        if let Some(paths) = known {
            return Ok(paths);
        }
        let view = View::of(self.repository.id);
        let changes = self.world.source.changes(&view, self.base.as_ref(), to).await?;
        Ok(changes.into_iter().map(|change| change.path).collect())
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
        Move { from, to, line }: Move<'_>,
        mut paths: Vec<String>,
        actor: Option<Actor>,
    ) -> Result<Event, Refusal> {
        paths.truncate(MOST_PATHS);
        let shown = &line[line.len().saturating_sub(MOST_SHOWN)..];
        let commits = self.world.source.describe(self.repository.id, shown).await?;
        let actor = actor.unwrap_or_else(Actor::server);
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

/// A hosted repository has no remote that could be away, so its status is known here and now; that of a
/// watched one is recorded by whoever looks at its remote.
async fn record_status(world: &World, repository: &Repository, status: SyncStatus) -> Result<(), Refusal> {
    if repository.origin != Origin::Hosted || repository.sync.status == status {
        return Ok(());
    }
    let sync = Sync { status, message: None, checked_at: Some(world.clock.now()), ..repository.sync.clone() };
    Ok(world.store.repository_synced(repository.id, &sync).await?)
}
