//! From an address to a daemon at a commit.

use std::sync::Arc;

use domain::name::{Address, At, Branch, Commit, DaemonId, Digest, Tag};
use domain::repository::{BranchHead, BranchRole, Repository};
use domain::revision::{Revision, RevisionContent};
use domain::run::Run;
use manifest::Manifest;
use ports::source::View;

use crate::refusal::Refusal;
use crate::replay;
use crate::survey::{Survey, Surveyed, Verdict};
use crate::world::World;

/// A daemon at a commit.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Where it lives.
    pub repository: Repository,
    /// The branch that was meant, or the deploy branch for a tag or a bare commit.
    pub branch: Branch,
    /// The commit.
    pub commit: Commit,
    /// The daemon's directory.
    pub directory: String,
    /// Its tree.
    pub digest: Digest,
    /// What it is.
    pub manifest: Arc<Manifest>,
    /// Whether what it wants may be performed: only at the head of a deploy branch.
    pub role: BranchRole,
}

/// Finds what an address means.
///
/// # Errors
/// `repository_not_found`, `ref_not_found`, `daemon_not_found`, or `daemon_invalid` with what is wrong.
pub async fn resolve(world: &World, address: &Address) -> Result<Resolved, Refusal> {
    let found = world.store.repository_find(&address.repository).await?;
    let Some(repository) = found else {
        let message = format!("there is no repository {}", address.repository);
        return Err(Refusal::not_found("repository_not_found", message));
    };
    let Located { branch, commit, role, place } = locate(world, &repository, &address.at).await?;
    if place == Place::Head
        && let Some((directory, digest, manifest)) =
            known(world, &repository, &branch, &address.daemon).await?
    {
        return Ok(Resolved { repository, branch, commit, directory, digest, manifest, role });
    }
    let surveyed = survey(world, &repository, &commit, &address.daemon).await?;
    match surveyed.verdict {
        Verdict::Valid { digest, manifest, .. } => {
            Ok(Resolved { repository, branch, commit, directory: surveyed.directory, digest, manifest, role })
        }
        Verdict::Invalid { problems, .. } => {
            let message = format!("{address} is invalid and cannot run:\n\n{problems}");
            Err(Refusal::invalid("daemon_invalid", message))
        }
        Verdict::Removed => Err(unknown(address, &commit)),
    }
}

/// A daemon at the head of a branch, when its manifest was read lately: what is recorded there tells which
/// one it is, and git need not be asked.
async fn known(
    world: &World,
    repository: &Repository,
    branch: &Branch,
    daemon: &DaemonId,
) -> Result<Option<(String, Digest, Arc<Manifest>)>, Refusal> {
    let current = world.store.revision_current(repository.id, daemon, branch).await?;
    let Some(RevisionContent::Valid { digest, directory, .. }) = current.map(|revision| revision.content)
    else {
        return Ok(None);
    };
    Ok(world.manifests.get(&digest).map(|manifest| (directory, digest, manifest)))
}

fn unknown(address: &Address, commit: &Commit) -> Refusal {
    let short = &commit.as_str()[..12];
    let message = format!("{} has no daemon `{}` at {short}", address.repository, address.daemon);
    Refusal::not_found("daemon_not_found", message)
}

async fn survey(
    world: &World,
    repository: &Repository,
    commit: &Commit,
    daemon: &DaemonId,
) -> Result<Surveyed, Refusal> {
    let survey = Survey::at(world, repository, View::of(repository.id), commit).await?;
    let gone = Surveyed { name: daemon.to_string(), directory: String::new(), verdict: Verdict::Removed };
    Ok(survey.find(daemon).await?.unwrap_or(gone))
}

/// What an address means, before the daemon is looked at.
struct Located {
    branch: Branch,
    commit: Commit,
    role: BranchRole,
    place: Place,
}

impl Located {
    fn head(head: &BranchHead) -> Self {
        let BranchHead { branch, role, commit, .. } = head.clone();
        Self { branch, commit, role, place: Place::Head }
    }
}

/// Where a commit is on the branch that it is located on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its newest, as recorded.
    Head,
    /// Anywhere, if at all.
    Elsewhere,
}

async fn locate(world: &World, repository: &Repository, at: &At) -> Result<Located, Refusal> {
    let heads = world.store.branch_list(repository.id).await?;
    let deployed = || {
        let deploy = |head: &&BranchHead| head.role == BranchRole::Deploy;
        let default = heads.iter().filter(deploy).find(|head| head.branch == repository.default_branch);
        default.or_else(|| heads.iter().find(deploy))
    };
    let branch = deployed().map_or_else(|| repository.default_branch.clone(), |head| head.branch.clone());
    let not_found =
        |what: String| Refusal::not_found("ref_not_found", format!("{} has no {what}", repository.path));
    match at {
        At::Deployed => {
            let head = deployed().ok_or_else(|| not_found("commit on a deploy branch yet".to_owned()))?;
            Ok(Located::head(head))
        }
        At::Named(name) => {
            if let Some(head) = heads.iter().find(|head| head.branch == *name) {
                return Ok(Located::head(head));
            }
            let tag = Tag::parse(name.as_str())
                .map_err(|error| Refusal::invalid("ref_invalid", error.to_string()))?;
            let commit = world.source.tag(repository.id, &tag).await?;
            let commit = commit.ok_or_else(|| not_found(format!("branch or tag `{name}`")))?;
            Ok(Located { branch, commit, role: BranchRole::Fork, place: Place::Elsewhere })
        }
        At::Commit(commit) => {
            let role = if heads.iter().any(|head| head.commit == *commit && head.role == BranchRole::Deploy) {
                BranchRole::Deploy
            } else {
                BranchRole::Fork
            };
            Ok(Located { branch, commit: commit.clone(), role, place: Place::Elsewhere })
        }
    }
}

/// The tree of a daemon at a commit other than its revision's.
///
/// # Errors
/// When the commit or the daemon is gone, or the daemon is invalid there.
pub(crate) async fn digest_at(
    world: &World,
    revision: &Revision,
    commit: &Commit,
) -> Result<Digest, Refusal> {
    let Some(repository) = world.store.repository_get(revision.repository).await? else {
        return Err(Refusal::not_found("repository_not_found", "the repository is gone"));
    };
    let surveyed = survey(world, &repository, commit, &revision.daemon).await?;
    match surveyed.verdict {
        Verdict::Valid { digest, .. } => Ok(digest),
        Verdict::Invalid { .. } => Err(Refusal::invalid("daemon_invalid", "it is invalid at that commit")),
        Verdict::Removed => Err(Refusal::not_found("daemon_not_found", "it is not there at that commit")),
    }
}

/// The manifest of a run: what its commit holds, whatever the branch holds by now.
///
/// # Errors
/// When the commit or the daemon is gone, or the manifest is invalid under today's rules.
pub(crate) async fn manifest_of_run(world: &World, run: &Run) -> Result<Arc<Manifest>, Refusal> {
    let replay = run.cause.replay.as_ref();
    if let Some(manifest) = world.manifests.get(&run.digest) {
        return Ok(replay::with_agent(manifest, replay));
    }
    let Some(repository) = world.store.repository_get(run.repository).await? else {
        return Err(Refusal::not_found("repository_not_found", "the run's repository is gone"));
    };
    let address = Address {
        repository: repository.path.clone(),
        daemon: run.daemon.clone(),
        at: At::Commit(run.commit.clone()),
    };
    let surveyed = survey(world, &repository, &run.commit, &run.daemon).await?;
    match surveyed.verdict {
        Verdict::Valid { manifest, digest, .. } if digest == run.digest => {
            Ok(replay::with_agent(manifest, replay))
        }
        Verdict::Valid { .. } | Verdict::Removed => Err(unknown(&address, &run.commit)),
        Verdict::Invalid { problems, .. } => Err(Refusal::invalid("daemon_invalid", problems)),
    }
}
