use async_trait::async_trait;
use domain::effect::CommentTarget;
use domain::id::{ProposalId, RepositoryId};
use domain::name::Commit;
use domain::proposal::{Check, Comment, Proposal, ProposalStatus};
use domain::time::Timestamp;
use ports::store::{Discussions, Page, StoreError};

use super::{MemoryStore, newest};

#[async_trait]
impl Discussions for MemoryStore {
    async fn proposal_put(&self, proposal: &Proposal) -> Result<Proposal, StoreError> {
        let mut state = self.state();
        state.refuse_unknown_repository(proposal.repository)?;
        let same = |known: &&mut Proposal| {
            known.repository == proposal.repository
                && known.status == ProposalStatus::Open
                && known.key.is_some()
                && known.key == proposal.key
        };
        if let Some(known) = state.proposals.iter_mut().find(same) {
            *known = Proposal {
                id: known.id,
                number: known.number,
                base: known.base.clone(),
                branch: known.branch.clone(),
                status: ProposalStatus::Open,
                created_at: known.created_at,
                ..proposal.clone()
            };
            return Ok(known.clone());
        }
        if state.proposals.iter().any(|known| known.id == proposal.id) {
            return Err(StoreError::Conflict(format!("{} is there already", proposal.id)));
        }
        let of_repository = state.proposals.iter().filter(|known| known.repository == proposal.repository);
        let number = 1 + of_repository.map(|known| known.number).max().unwrap_or(0);
        let stored = Proposal { number, ..proposal.clone() };
        state.proposals.push(stored.clone());
        Ok(stored)
    }

    async fn proposal_get(
        &self,
        repository: RepositoryId,
        number: u64,
    ) -> Result<Option<Proposal>, StoreError> {
        let state = self.state();
        let wanted = |known: &&Proposal| known.repository == repository && known.number == number;
        Ok(state.proposals.iter().find(wanted).cloned())
    }

    async fn proposal_list(
        &self,
        repository: RepositoryId,
        status: Option<&str>,
        page: &Page,
    ) -> Result<Vec<Proposal>, StoreError> {
        let state = self.state();
        let mut proposals: Vec<_> = state
            .proposals
            .iter()
            .filter(|known| known.repository == repository)
            .filter(|known| status.is_none_or(|status| known.status.as_str() == status))
            .map(|known| (known.id.uuid(), known.clone()))
            .collect();
        proposals.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        Ok(newest(proposals.into_iter(), page))
    }

    async fn proposal_settle(
        &self,
        id: ProposalId,
        status: &ProposalStatus,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.state();
        let open = |known: &&mut Proposal| known.id == id && known.status == ProposalStatus::Open;
        let Some(proposal) = state.proposals.iter_mut().find(open) else { return Ok(false) };
        proposal.status = status.clone();
        proposal.updated_at = at;
        Ok(true)
    }

    async fn comment_put(&self, comment: &Comment) -> Result<Comment, StoreError> {
        let mut state = self.state();
        state.refuse_unknown_repository(comment.repository)?;
        let same = |known: &&mut Comment| known.repository == comment.repository && known.key == comment.key;
        if let Some(known) = state.comments.values_mut().find(same) {
            *known = Comment { id: known.id, created_at: known.created_at, ..comment.clone() };
            return Ok(known.clone());
        }
        if state.comments.contains_key(&comment.id) {
            return Err(StoreError::Conflict(format!("{} is there already", comment.id)));
        }
        state.comments.insert(comment.id, comment.clone());
        Ok(comment.clone())
    }

    async fn comment_list(
        &self,
        repository: RepositoryId,
        target: Option<&CommentTarget>,
        page: &Page,
    ) -> Result<Vec<Comment>, StoreError> {
        let state = self.state();
        let of_repository = state.comments.values().filter(|comment| comment.repository == repository);
        Ok(match target {
            None => newest(of_repository.rev().map(|comment| (comment.id.uuid(), comment.clone())), page),
            Some(target) => of_repository
                .filter(|comment| comment.target == *target)
                .filter(|comment| page.after.is_none_or(|after| comment.id.uuid() > after))
                .take(page.size as usize)
                .cloned()
                .collect(),
        })
    }

    async fn check_put(&self, check: &Check) -> Result<(), StoreError> {
        let mut state = self.state();
        state.refuse_unknown_repository(check.repository)?;
        state.checks.insert((check.repository, check.commit.clone(), check.name.clone()), check.clone());
        Ok(())
    }

    async fn check_list(&self, repository: RepositoryId, commit: &Commit) -> Result<Vec<Check>, StoreError> {
        let state = self.state();
        let on_commit =
            |(key, _): &(&(RepositoryId, Commit, String), &Check)| key.0 == repository && key.1 == *commit;
        Ok(state.checks.iter().filter(on_commit).map(|(_, check)| check.clone()).collect())
    }
}
