//! Offering a change: first the branch, then the proposal, then a look at both.

use domain::effect::{Author, EffectKind, Receipt};
use domain::id::ProposalId;
use domain::marker::signed;
use domain::name::{Branch, Commit};
use domain::proposal::{Proposal, ProposalStatus};
use domain::repository::{Origin, Repository};
use ports::forge::{ForgeError, Offer};
use ports::source::Moved;

use crate::failure::{git_failed, store_failed};
use crate::forge::{HostedForge, Wanted};

/// So often a branch that moves under our hands is looked at anew.
const MOST_TRIES: usize = 3;

/// A change that a run offers.
struct Change<'a> {
    title: &'a str,
    body: &'a str,
    base: &'a Branch,
    branch: &'a Branch,
    commit: &'a Commit,
    draft: bool,
    labels: &'a [String],
    reviewers: &'a [String],
}

impl HostedForge {
    /// The open proposals that runs made.
    pub(crate) async fn open_offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        let mut offers = Vec::new();
        let mut after = None;
        loop {
            let part = self.store.proposal_list(repository.id, Some("open"), &Wanted::page(after)).await;
            let part = part.map_err(|error| store_failed(&error))?;
            let Some(last) = part.last() else { return Ok(offers) };
            after = Some(last.id.uuid());
            let made = part.into_iter().filter(|proposal| proposal.provenance.is_some());
            offers.extend(made.map(|Proposal { number, key, .. }| Offer { number, key }));
        }
    }
}

impl Wanted<'_> {
    /// Offers a change, or brings the open proposal of the same key up to date.
    pub(crate) async fn proposal(&self) -> Result<Receipt, ForgeError> {
        let EffectKind::CreatePullRequest { title, body, base, branch, commit, draft, labels, reviewers } =
            &self.effect.kind
        else {
            return Err(ForgeError::refused("it is not a proposal"));
        };
        let offer = Change { title, body, base, branch, commit, draft: *draft, labels, reviewers };
        self.refuse_offer(&offer).await?;
        let earlier = self.proposals_of_key().await?;
        if let Some(done) = earlier.iter().find(|proposal| self.is_ours(proposal, &offer)) {
            return Ok(self.proposal_receipt(done, "offered"));
        }
        let open = earlier.iter().find(|proposal| proposal.status == ProposalStatus::Open);
        if let Some(open) = open {
            self.refuse_change(open, &offer)?;
        }
        self.bring_branch(&offer, &earlier).await?;
        let stored = self.forge.store.proposal_put(&self.proposal_of(&offer)).await;
        let stored = stored.map_err(|error| store_failed(&error))?;
        self.verify_proposal(stored.number, &offer).await?;
        Ok(self.proposal_receipt(&stored, if open.is_some() { "updated" } else { "opened" }))
    }

    async fn refuse_offer(&self, offer: &Change<'_>) -> Result<(), ForgeError> {
        if self.repository.origin != Origin::Hosted {
            let path = &self.repository.path;
            return Err(ForgeError::refused(format!(
                "{path} is hosted elsewhere: this server cannot open a proposal there"
            )));
        }
        if offer.branch == offer.base || *offer.branch == self.repository.default_branch {
            return Err(ForgeError::refused(format!(
                "a proposal is made on a branch of its own, not on {}",
                offer.branch
            )));
        }
        self.require_commit(offer.commit).await?;
        match self.tip(offer.base).await? {
            Some(_) => Ok(()),
            None => {
                Err(ForgeError::refused(format!("{} has no branch {}", self.repository.path, offer.base)))
            }
        }
    }

    /// Refuses to change a proposal into another one, or back into an older one.
    fn refuse_change(&self, open: &Proposal, offer: &Change<'_>) -> Result<(), ForgeError> {
        let number = open.number;
        if open.base != *offer.base || open.branch != *offer.branch {
            return Err(ForgeError::refused(format!(
                "proposal #{number} offers {} for {}; close it before {} is offered for {} in its place",
                open.branch, open.base, offer.branch, offer.base
            )));
        }
        match &open.provenance {
            Some(there) if self.is_outdated_by(&Author::Run(there.clone())) => Err(ForgeError::refused(
                format!("proposal #{number} was brought up to date by {}, a later run", there.run),
            )),
            _ => Ok(()),
        }
    }

    /// The proposals of this effect's key, open, merged and closed ones, newest first.
    async fn proposals_of_key(&self) -> Result<Vec<Proposal>, ForgeError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let part = self.forge.store.proposal_list(self.repository.id, None, &Self::page(after)).await;
            let part = part.map_err(|error| store_failed(&error))?;
            let Some(last) = part.last() else { return Ok(found) };
            after = Some(last.id.uuid());
            found.extend(part.into_iter().filter(|proposal| proposal.key.as_ref() == Some(&self.effect.key)));
        }
    }

    /// Whether this very effect made the proposal, before a crash; somebody may have merged or closed
    /// it since.
    fn is_ours(&self, proposal: &Proposal, offer: &Change<'_>) -> bool {
        let of_run = proposal.provenance.as_ref().map(|there| there.run) == self.effect.author.run();
        of_run && proposal.head == *offer.commit
    }

    /// Makes the branch, or moves it from where a proposal of this key has it. A branch that is
    /// anywhere else is somebody's work.
    async fn bring_branch(&self, offer: &Change<'_>, earlier: &[Proposal]) -> Result<(), ForgeError> {
        let left_here = |tip: &Commit| {
            earlier.iter().any(|proposal| proposal.branch == *offer.branch && proposal.head == *tip)
        };
        for _ in 0..MOST_TRIES {
            let from = self.tip(offer.branch).await?;
            match &from {
                Some(tip) if tip == offer.commit => return Ok(()),
                Some(tip) if !left_here(tip) => {
                    return Err(ForgeError::refused(format!(
                        "the branch {} is at {tip}, and not because of this daemon; rename or remove the branch",
                        offer.branch
                    )));
                }
                Some(_) | None => {}
            }
            let moved = self
                .forge
                .source
                .move_branch(self.repository.id, offer.branch, from.as_ref(), Some(offer.commit))
                .await;
            match moved.map_err(|error| git_failed(&error))? {
                Moved::Moved => return Ok(()),
                Moved::Stale { .. } => {}
            }
        }
        Err(ForgeError::later(format!("the branch {} moves too fast", offer.branch)))
    }

    async fn tip(&self, branch: &Branch) -> Result<Option<Commit>, ForgeError> {
        let branches =
            self.forge.source.branches(self.repository.id).await.map_err(|error| git_failed(&error))?;
        Ok(branches.into_iter().find(|(name, _)| name == branch).map(|(_, commit)| commit))
    }

    fn proposal_of(&self, offer: &Change<'_>) -> Proposal {
        let now = self.forge.clock.now();
        let mut body = offer.body.trim_end().to_owned();
        if !offer.reviewers.is_empty() {
            let asked = format!("Asked for a review: {}", offer.reviewers.join(", "));
            body = if body.is_empty() { asked } else { format!("{body}\n\n{asked}") };
        }
        Proposal {
            id: ProposalId::new(self.forge.clock.unique()),
            repository: self.repository.id,
            number: 0,
            key: Some(self.effect.key.clone()),
            provenance: self.effect.author.provenance().cloned(),
            title: offer.title.to_owned(),
            body: signed(&body, self.effect, &self.repository.path),
            base: offer.base.clone(),
            branch: offer.branch.clone(),
            head: offer.commit.clone(),
            draft: offer.draft,
            labels: offer.labels.to_vec(),
            status: ProposalStatus::Open,
            created_at: now,
            updated_at: now,
        }
    }

    /// Looks whether the proposal and its branch are there.
    async fn verify_proposal(&self, number: u64, offer: &Change<'_>) -> Result<(), ForgeError> {
        let stored = self.forge.store.proposal_get(self.repository.id, number).await;
        let stored = stored.map_err(|error| store_failed(&error))?;
        let is_there = stored.is_some_and(|proposal| self.is_ours(&proposal, offer));
        if is_there && self.tip(offer.branch).await?.as_ref() == Some(offer.commit) {
            return Ok(());
        }
        Err(ForgeError::later(format!(
            "proposal #{number} or its branch was changed while it was being made"
        )))
    }

    fn proposal_receipt(&self, proposal: &Proposal, verb: &str) -> Receipt {
        let url = format!("/{}/proposals/{}", self.repository.path, proposal.number);
        Receipt::new(Some(url), format!("{verb} proposal #{}", proposal.number)).says(&proposal.body)
    }
}
