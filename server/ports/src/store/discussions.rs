//! What the built-in host keeps beside the commits: proposals, comments, checks.

use async_trait::async_trait;
use domain::effect::CommentTarget;
use domain::id::{ProposalId, RepositoryId};
use domain::name::Commit;
use domain::proposal::{Check, Comment, Proposal, ProposalStatus};
use domain::time::Timestamp;

use super::{Page, StoreError};

/// Proposals, comments and checks of hosted repositories.
#[async_trait]
pub trait Discussions {
    /// Stores a proposal and gives it the next number of its repository (whatever `number` says). An
    /// open one with the same key is changed in place instead: title, body, head, draft, labels,
    /// provenance; its id, number and age stay. Gives back what is stored.
    async fn proposal_put(&self, proposal: &Proposal) -> Result<Proposal, StoreError>;

    /// One proposal.
    async fn proposal_get(
        &self,
        repository: RepositoryId,
        number: u64,
    ) -> Result<Option<Proposal>, StoreError>;

    /// Proposals, newest first; `status` is the word of a [`ProposalStatus`].
    async fn proposal_list(
        &self,
        repository: RepositoryId,
        status: Option<&str>,
        page: &Page,
    ) -> Result<Vec<Proposal>, StoreError>;

    /// Ends an open proposal; false when it is not open.
    async fn proposal_settle(
        &self,
        id: ProposalId,
        status: &ProposalStatus,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Stores a comment; one with the same key is changed in place. Gives back what is stored.
    async fn comment_put(&self, comment: &Comment) -> Result<Comment, StoreError>;

    /// The comments on a target, oldest first; of the whole repository, newest first, without one.
    async fn comment_list(
        &self,
        repository: RepositoryId,
        target: Option<&CommentTarget>,
        page: &Page,
    ) -> Result<Vec<Comment>, StoreError>;

    /// Stores a check; one of the same name on the same commit is replaced.
    async fn check_put(&self, check: &Check) -> Result<(), StoreError>;

    /// The checks on a commit, sorted by name.
    async fn check_list(&self, repository: RepositoryId, commit: &Commit) -> Result<Vec<Check>, StoreError>;
}
