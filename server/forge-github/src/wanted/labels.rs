//! What is put on issues and pull requests: labels, and people who are asked to review.

use std::collections::BTreeSet;

use domain::effect::Receipt;
use serde_json::{Value, json};

use super::{Wanted, said};
use crate::client::escaped;
use crate::failure::Failure;
use crate::shape::{self, text};

/// Whether people were asked to review.
pub(super) enum Asked {
    /// All of them.
    All,
    /// Not, and why.
    Not(String),
}

impl Wanted<'_> {
    /// Puts labels on.
    pub(super) async fn labels(&self, number: u64, labels: &[String]) -> Result<Receipt, Failure> {
        let thing = self.visit.get(&format!("/issues/{number}")).await?;
        self.put_labels(number, labels).await?;
        let summary = format!("labelled #{number}: {}", labels.join(", "));
        Ok(Receipt { url: text(&thing, "/html_url").map(str::to_owned), summary })
    }

    /// Puts on those labels that are not there yet. GitHub makes labels that the repository does not have.
    pub(super) async fn put_labels(&self, number: u64, labels: &[String]) -> Result<(), Failure> {
        let is_missing = |there: &BTreeSet<String>| labels.iter().any(|label| !there.contains(&lower(label)));
        if labels.is_empty() || !is_missing(&self.labels_on(number).await?) {
            return Ok(());
        }
        self.visit.post(&format!("/issues/{number}/labels"), &json!({ "labels": labels })).await?;
        if is_missing(&self.labels_on(number).await?) {
            return Err(Failure::later(format!("the labels of #{number} are not there")));
        }
        Ok(())
    }

    /// Takes labels off.
    pub(super) async fn labels_off(&self, number: u64, labels: &[String]) -> Result<Receipt, Failure> {
        let there = self.labels_on(number).await?;
        for label in labels.iter().filter(|label| there.contains(&lower(label))) {
            self.visit.delete(&format!("/issues/{number}/labels/{}", escaped(label))).await?;
        }
        let left = self.labels_on(number).await?;
        if labels.iter().any(|label| left.contains(&lower(label))) {
            return Err(Failure::later(format!("the labels of #{number} are still there")));
        }
        Ok(Receipt { url: None, summary: format!("took off #{number}: {}", labels.join(", ")) })
    }

    /// GitHub does not tell labels apart by case.
    async fn labels_on(&self, number: u64) -> Result<BTreeSet<String>, Failure> {
        let list = self.visit.list(&format!("/issues/{number}/labels?per_page=100")).await?;
        Ok(list.iter().filter_map(|label| text(label, "/name")).map(lower).collect())
    }

    /// Asks people to review.
    pub(super) async fn reviewers(&self, number: u64, reviewers: &[String]) -> Result<Receipt, Failure> {
        match self.ask_reviewers(number, reviewers).await? {
            Asked::All => {
                let summary = format!("asked for a review of #{number}: {}", reviewers.join(", "));
                Ok(Receipt { url: None, summary })
            }
            Asked::Not(why) => Err(Failure::Refused(why)),
        }
    }

    /// Asks those who are not asked yet and have not reviewed yet: nobody is asked twice.
    pub(super) async fn ask_reviewers(&self, number: u64, reviewers: &[String]) -> Result<Asked, Failure> {
        if reviewers.is_empty() {
            return Ok(Asked::All);
        }
        let pull = self.visit.get(&format!("/pulls/{number}")).await?;
        let reviews = self.visit.list(&format!("/pulls/{number}/reviews?per_page=100")).await?;
        let missing = missing(&pull, &reviews, reviewers);
        if missing.is_empty() {
            return Ok(Asked::All);
        }
        let (teams, people): (Vec<&str>, Vec<&str>) = missing.iter().partition(|name| name.contains('/'));
        let teams: Vec<&str> = teams.iter().filter_map(|name| name.rsplit('/').next()).collect();
        let wanted = json!({ "reviewers": people, "team_reviewers": teams });
        match self.visit.post(&format!("/pulls/{number}/requested_reviewers"), &wanted).await {
            Ok(_) => Ok(Asked::All),
            // Not a collaborator, or the author: the change stays offered.
            Err(Failure::Unfit(why) | Failure::Refused(why) | Failure::Missing(why)) => Ok(Asked::Not(why)),
            Err(failure) => Err(failure),
        }
    }
}

fn missing<'r>(pull: &Value, reviews: &[Value], reviewers: &'r [String]) -> Vec<&'r str> {
    let listed = |at: &str| pull.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let people = listed("/requested_reviewers").map(|person| lower(said(person, "/login")));
    let reviewed = reviews.iter().filter_map(|review| shape::text(review, "/user/login")).map(lower);
    let people: BTreeSet<String> = people.chain(reviewed).collect();
    let teams: BTreeSet<String> = listed("/requested_teams").map(|team| lower(said(team, "/slug"))).collect();
    let is_missing = |name: &&str| match name.rsplit_once('/') {
        Some((_, team)) => !teams.contains(&lower(team)),
        None => !people.contains(&lower(name)),
    };
    reviewers.iter().map(String::as_str).filter(is_missing).collect()
}

fn lower(name: &str) -> String {
    name.to_lowercase()
}
