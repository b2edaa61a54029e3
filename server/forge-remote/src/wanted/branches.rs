//! Branches: moved by git, with what opens this repository for the moment.

use domain::effect::{EffectKind, Receipt};
use domain::name::{Branch, Commit};
use ports::source::{Moved, PushSpec};

use super::{Wanted, said};
use crate::failure::Failure;
use crate::shape::{self, is_from_fork};

impl Wanted<'_> {
    /// Moves a branch from where it was seen to a commit of the mirror.
    pub(super) async fn move_branch(
        &self,
        branch: &Branch,
        from: Option<&Commit>,
        to: &Commit,
    ) -> Result<(), Failure> {
        self.site.may_write()?;
        let (remote, repository) = (self.site.remote(), self.site.repository().id);
        let push = PushSpec { repository, remote: &remote, branch, from, to };
        match self.site.source().push(push).await? {
            Moved::Moved => Ok(()),
            Moved::Stale { actual } if actual.as_ref() == Some(to) => Ok(()),
            Moved::Stale { .. } => {
                Err(Failure::later(format!("the branch {branch} moved while it was being pushed")))
            }
        }
    }

    /// Brings a change to the branch of a pull request, when nobody else did meanwhile.
    pub(super) async fn push(&self) -> Result<Receipt, Failure> {
        let EffectKind::PushToPullRequestBranch { number, branch, from, commit } = &self.effect.kind else {
            return Err(Failure::Refused("it is not a push".to_owned()));
        };
        let pull = self.site.pull(*number).await?;
        let called = self.site.called(*number);
        let refuse = |why: String| Err(Failure::Refused(format!("{called}: {why}")));
        if is_from_fork(&pull) {
            return refuse("its branch is in another repository, where this server may not push".to_owned());
        }
        if said(&pull, "/head/ref") != branch.as_str() {
            return refuse(format!("its branch is {}, not {branch}", said(&pull, "/head/ref")));
        }
        if *branch == self.site.repository().default_branch {
            return refuse(format!("{branch} is the default branch, and is changed by pull requests only"));
        }
        let url = shape::text(&pull, "/html_url").map(str::to_owned);
        let receipt = Receipt::new(url, format!("pushed {} to {called}", &commit.as_str()[..12]));
        let tip = self.site.branch_at(branch).await?;
        if tip.as_ref() == Some(commit) {
            return Ok(receipt);
        }
        if said(&pull, "/state") != "open" {
            return refuse("it is closed".to_owned());
        }
        if tip.as_ref() != Some(from) {
            return refuse(format!(
                "its branch has moved on from {}, on which the run worked; nothing was pushed",
                &from.as_str()[..12]
            ));
        }
        self.move_branch(branch, Some(from), commit).await?;
        match self.site.branch_at(branch).await? {
            Some(tip) if tip == *commit => Ok(receipt),
            _ => Err(Failure::later(format!("the branch {branch} is not where it was pushed"))),
        }
    }
}
