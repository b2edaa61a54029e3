//! Proposals of the built-in host: offering, merging and declining a change. What runs want goes
//! through the outbox; this is what people do.

use domain::id::{ProposalId, RepositoryId};
use domain::name::{Branch, Commit};
use domain::proposal::{Proposal, ProposalStatus};
use domain::repository::{Origin, Repository};
use ports::source::{Diff, MergeSpec, Merged, Moved};

use crate::admission::{self, BranchUpdate, Push};
use crate::reconcile::{self, Pushed};
use crate::refusal::Refusal;
use crate::world::World;

/// The largest diff that is shown, bytes.
const LONGEST_DIFF: usize = 1 << 20;
/// So often a base branch that moves under our hands is merged into anew.
const MOST_TRIES: usize = 5;

/// A change that somebody offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// The branch that holds it.
    pub branch: Branch,
    /// The branch to be changed.
    pub base: Branch,
    /// Who offers it.
    pub by: String,
}

/// Offers a branch for merging.
///
/// # Errors
/// When a branch is not there, or there is nothing to merge.
pub async fn create(world: &World, repository: RepositoryId, offer: Offer) -> Result<Proposal, Refusal> {
    let repository = hosted(world, repository).await?;
    let head = tip(world, &repository, &offer.branch).await?;
    let base = tip(world, &repository, &offer.base).await?;
    if head == base {
        let message = format!("{} holds nothing that {} does not", offer.branch, offer.base);
        return Err(Refusal::invalid("nothing_to_merge", message));
    }
    let now = world.clock.now();
    let proposal = Proposal {
        id: ProposalId::new(world.clock.unique()),
        repository: repository.id,
        number: 0,
        key: None,
        provenance: None,
        title: offer.title,
        body: offer.body,
        base: offer.base,
        branch: offer.branch,
        head,
        draft: false,
        labels: Vec::new(),
        status: ProposalStatus::Open,
        created_at: now,
        updated_at: now,
    };
    tracing::info!(repository = %repository.path, by = offer.by, "a proposal: {}", proposal.title);
    Ok(world.store.proposal_put(&proposal).await?)
}

/// What a proposal changes: while it is open against its base branch, once it was merged against the
/// commit that a run made it from. Nothing when that is not known any more.
///
/// # Errors
/// When git does not answer.
pub async fn diff(world: &World, proposal: &Proposal) -> Result<Option<Diff>, Refusal> {
    let base = match &proposal.status {
        ProposalStatus::Merged { .. } => {
            proposal.provenance.as_ref().map(|provenance| provenance.commit.clone())
        }
        ProposalStatus::Open | ProposalStatus::Closed { .. } => {
            find_tip(world, proposal.repository, &proposal.base).await?
        }
    };
    let Some(base) = base else { return Ok(None) };
    Ok(Some(world.source.diff(proposal.repository, &base, &proposal.head, LONGEST_DIFF).await?))
}

/// Brings a proposal into its base branch, and deploys what that changes.
///
/// # Errors
/// `proposal_not_open`, `proposal_draft`, `merge_conflict` with the paths, or `branch_moving`.
pub async fn merge(
    world: &World,
    repository: RepositoryId,
    number: u64,
    by: &str,
) -> Result<Proposal, Refusal> {
    let repository = hosted(world, repository).await?;
    let proposal = open(world, repository.id, number).await?;
    if proposal.draft {
        return Err(Refusal::conflict("proposal_draft", format!("proposal #{number} is a draft")));
    }
    let commit = bring_in(world, &repository, &proposal, by).await?;
    let status = ProposalStatus::Merged { commit, by: by.to_owned() };
    // A crash between the branch and this line heals: merged again, the branch already holds the head.
    world.store.proposal_settle(proposal.id, &status, world.clock.now()).await?;
    let actor = domain::event::Actor { name: by.to_owned(), role: Some("write".to_owned()), bot: false };
    let pushed = Pushed { branches: vec![proposal.base.clone()], actor: Some(actor), skip_runs: false };
    reconcile::repository(world, repository.id, &pushed).await?;
    get(world, repository.id, number).await
}

async fn bring_in(
    world: &World,
    repository: &Repository,
    proposal: &Proposal,
    by: &str,
) -> Result<Commit, Refusal> {
    let message = format!("Merge proposal #{}: {}\n\nMerged-by: {by}\n", proposal.number, proposal.title);
    for _ in 0..MOST_TRIES {
        let base = tip(world, repository, &proposal.base).await?;
        let spec = MergeSpec {
            repository: repository.id,
            base: &base,
            head: &proposal.head,
            message: &message,
            at: world.clock.now(),
        };
        let merged = match world.source.merge(spec).await? {
            Merged::Merged(commit) => commit,
            Merged::Conflict(paths) => {
                let message = format!(
                    "both sides changed {}; bring {} up to date first",
                    paths.join(", "),
                    proposal.branch
                );
                return Err(Refusal::conflict("merge_conflict", message));
            }
        };
        if merged == base {
            return Ok(merged);
        }
        check(world, repository, proposal, &base, &merged).await?;
        match world.source.move_branch(repository.id, &proposal.base, Some(&base), Some(&merged)).await? {
            Moved::Moved => return Ok(merged),
            Moved::Stale { .. } => {}
        }
    }
    Err(Refusal::conflict("branch_moving", format!("{} moves too fast; try again", proposal.base)))
}

/// A merge is held to what a push is held to: nothing broken reaches a deploy branch.
async fn check(
    world: &World,
    repository: &Repository,
    proposal: &Proposal,
    from: &Commit,
    to: &Commit,
) -> Result<(), Refusal> {
    let update =
        BranchUpdate { branch: proposal.base.clone(), from: Some(from.clone()), to: Some(to.clone()) };
    let push = Push { repository: repository.id, quarantine: None, updates: vec![update] };
    let review = admission::review(world, &push).await?;
    if review.accepted { Ok(()) } else { Err(Refusal::conflict("merge_rejected", review.text)) }
}

/// Declines a proposal. Its branch stays.
///
/// # Errors
/// `proposal_not_open`.
pub async fn close(
    world: &World,
    repository: RepositoryId,
    number: u64,
    by: &str,
) -> Result<Proposal, Refusal> {
    let proposal = open(world, repository, number).await?;
    let status = ProposalStatus::Closed { by: by.to_owned() };
    if !world.store.proposal_settle(proposal.id, &status, world.clock.now()).await? {
        return Err(not_open(number));
    }
    get(world, repository, number).await
}

async fn hosted(world: &World, id: RepositoryId) -> Result<Repository, Refusal> {
    match world.store.repository_get(id).await? {
        Some(repository) if repository.origin == Origin::Hosted => Ok(repository),
        Some(repository) => {
            let message = format!("{} is hosted elsewhere; merge there", repository.path);
            Err(Refusal::conflict("repository_not_hosted", message))
        }
        None => Err(Refusal::not_found("repository_not_found", "there is no such repository")),
    }
}

async fn get(world: &World, repository: RepositoryId, number: u64) -> Result<Proposal, Refusal> {
    let found = world.store.proposal_get(repository, number).await?;
    found.ok_or_else(|| Refusal::not_found("proposal_not_found", format!("there is no proposal #{number}")))
}

async fn open(world: &World, repository: RepositoryId, number: u64) -> Result<Proposal, Refusal> {
    let proposal = get(world, repository, number).await?;
    if proposal.status == ProposalStatus::Open { Ok(proposal) } else { Err(not_open(number)) }
}

fn not_open(number: u64) -> Refusal {
    Refusal::conflict("proposal_not_open", format!("proposal #{number} is not open any more"))
}

async fn tip(world: &World, repository: &Repository, branch: &Branch) -> Result<Commit, Refusal> {
    let found = find_tip(world, repository.id, branch).await?;
    found.ok_or_else(|| {
        Refusal::not_found("branch_not_found", format!("{} has no branch {branch}", repository.path))
    })
}

async fn find_tip(
    world: &World,
    repository: RepositoryId,
    branch: &Branch,
) -> Result<Option<Commit>, Refusal> {
    let branches = world.source.branches(repository).await?;
    Ok(branches.into_iter().find(|(name, _)| name == branch).map(|(_, commit)| commit))
}
