//! Offering a change: first the branch, then the pull request, then what is put on it, then a look at all.

use domain::effect::{EffectKind, Receipt};
use domain::name::{Branch, Commit};
use serde_json::json;

use super::labels::Asked;
use super::{Ours, Wanted, is_same_text, said};
use crate::failure::Failure;
use crate::shape::{is_from_fork, number, text};

const LONGEST_TITLE: usize = 250;

/// A change that a run offers.
struct Offer<'a> {
    title: String,
    body: String,
    base: &'a Branch,
    branch: &'a Branch,
    commit: &'a Commit,
    draft: bool,
    labels: &'a [String],
    reviewers: &'a [String],
}

impl Wanted<'_> {
    /// Offers a change, or brings the open pull request of the same key up to date. Whether it is a draft
    /// is decided when it is opened; afterwards that is for people to say.
    pub(super) async fn pull_request(&self) -> Result<Receipt, Failure> {
        let offer = self.offer()?;
        let earlier = self.pulls_of_key(offer.branch).await?;
        let open = earlier.iter().find(|ours| said(&ours.thing, "/state") == "open");
        let settled = earlier.iter().find(|ours| self.is_done(ours, &offer) && open.is_none());
        if let Some(settled) = settled {
            return Ok(self.pull_receipt(settled, &offer, "offered", &Asked::All));
        }
        if let Some(open) = open {
            self.refuse_change(open, &offer)?;
        }
        self.bring_branch(&offer, &earlier).await?;
        let (number, verb) = match open {
            Some(open) => {
                let verb = if self.is_made_by(open) { "opened" } else { "updated" };
                (self.update_pull(open, &offer).await?, verb)
            }
            None => (self.open_pull(&offer).await?, "opened"),
        };
        self.put_labels(number, offer.labels).await?;
        let asked = self.ask_reviewers(number, offer.reviewers).await?;
        let there = self.verify_pull(number, &offer).await?;
        Ok(self.pull_receipt(&there, &offer, verb, &asked))
    }

    fn offer(&self) -> Result<Offer<'_>, Failure> {
        let EffectKind::CreatePullRequest { title, body, base, branch, commit, draft, labels, reviewers } =
            &self.effect.kind
        else {
            return Err(Failure::Refused("it is not a pull request".to_owned()));
        };
        if branch == base || *branch == self.site.repository().default_branch {
            return Err(Failure::Refused(format!(
                "a change is offered on a branch of its own, not on {branch}"
            )));
        }
        let title = title.chars().take(LONGEST_TITLE).collect();
        let body = self.signed(body);
        Ok(Offer { title, body, base, branch, commit, draft: *draft, labels, reviewers })
    }

    /// The pull requests of this effect's key, open and closed ones, newest first.
    async fn pulls_of_key(&self, branch: &Branch) -> Result<Vec<Ours>, Failure> {
        let list = self.site.pulls_from(branch).await?;
        let of_key = |ours: &Ours| {
            ours.marker.key == self.effect.key
                && said(&ours.thing, "/head/ref") == branch.as_str()
                && !is_from_fork(&ours.thing)
        };
        let mut found: Vec<Ours> = self.ours(list).into_iter().filter(of_key).collect();
        found.reverse();
        Ok(found)
    }

    /// Whether this very effect made the pull request; somebody may have merged or closed it since.
    fn is_done(&self, ours: &Ours, offer: &Offer<'_>) -> bool {
        self.is_by_author(&ours.marker) && ours.marker.head.as_deref() == Some(offer.commit.as_str())
    }

    /// Refuses to change a pull request into another one, or back into an older one.
    fn refuse_change(&self, open: &Ours, offer: &Offer<'_>) -> Result<(), Failure> {
        let (called, base) = (self.site.called(open.number()), said(&open.thing, "/base/ref"));
        if base != offer.base.as_str() {
            return Err(Failure::Refused(format!(
                "{called} offers {} for {base}; close it before it is offered for {} in its place",
                offer.branch, offer.base
            )));
        }
        match open.marker.run {
            Some(run) if open.marker.outdates(self.effect) => {
                Err(Failure::Refused(format!("{called} was brought up to date by {run}, a later run")))
            }
            _ => Ok(()),
        }
    }

    /// Makes the branch, or moves it from where an effect of this key left it. A branch that is anywhere
    /// else is somebody's work.
    async fn bring_branch(&self, offer: &Offer<'_>, earlier: &[Ours]) -> Result<(), Failure> {
        let tip = self.site.branch_at(offer.branch).await?;
        let left_here =
            |tip: &Commit| earlier.iter().any(|ours| ours.marker.head.as_deref() == Some(tip.as_str()));
        match &tip {
            Some(tip) if tip == offer.commit => return Ok(()),
            Some(tip) if !left_here(tip) => {
                return Err(Failure::Refused(format!(
                    "the branch {} is at {}, and not because of this daemon; rename or remove the branch",
                    offer.branch,
                    &tip.as_str()[..12]
                )));
            }
            Some(_) | None => {}
        }
        self.move_branch(offer.branch, tip.as_ref(), offer.commit).await
    }

    async fn open_pull(&self, offer: &Offer<'_>) -> Result<u64, Failure> {
        let made = self
            .site
            .pull_open(&json!({
                "title": offer.title, "body": offer.body, "draft": offer.draft,
                "head": offer.branch.as_str(), "base": offer.base.as_str(),
            }))
            .await?;
        number(&made, "/number")
            .ok_or_else(|| Failure::odd(self.site.service(), "the number of the pull request that it made"))
    }

    async fn update_pull(&self, open: &Ours, offer: &Offer<'_>) -> Result<u64, Failure> {
        let number = open.number();
        let same = is_same_text(said(&open.thing, "/body"), &offer.body)
            && said(&open.thing, "/title") == offer.title;
        if !same {
            let change = json!({ "title": offer.title, "body": offer.body });
            self.site.pull_change(number, &change).await?;
        }
        Ok(number)
    }

    /// Looks whether the pull request, and the commit in it, are there.
    async fn verify_pull(&self, number: u64, offer: &Offer<'_>) -> Result<Ours, Failure> {
        let pull = self.site.pull(number).await?;
        let at = text(&pull, "/head/sha").map(str::to_owned);
        let there = self.ours(vec![pull]).pop().filter(|ours| self.is_done(ours, offer));
        there.filter(|_| at.as_deref() == Some(offer.commit.as_str())).ok_or_else(|| {
            Failure::later(format!(
                "{} or its branch was changed while it was being made",
                self.site.called(number)
            ))
        })
    }

    fn pull_receipt(&self, pull: &Ours, offer: &Offer<'_>, verb: &str, asked: &Asked) -> Receipt {
        let summary = format!("{verb} pull request {}", self.site.called(pull.number()));
        let summary = match asked {
            Asked::All => summary,
            Asked::Not(why) => format!("{summary}; reviewers were not asked: {why}"),
        };
        Receipt::new(pull.url(), summary).says(&offer.body)
    }
}
