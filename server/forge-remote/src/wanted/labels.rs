//! What is put on issues and pull requests: labels, and people who are asked to review.

use std::collections::BTreeSet;

use super::Wanted;
use crate::failure::Failure;
use crate::shape::text;
use crate::site::People;
use domain::effect::Receipt;

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
        let thing = self.site.thread(number).await?;
        self.put_labels(number, labels).await?;
        let summary = format!("labelled {}: {}", self.site.called(number), labels.join(", "));
        Ok(Receipt::new(text(&thing, "/html_url").map(str::to_owned), summary))
    }

    /// Puts on those labels that are not there yet.
    pub(super) async fn put_labels(&self, number: u64, labels: &[String]) -> Result<(), Failure> {
        let is_missing = |there: &BTreeSet<String>| labels.iter().any(|label| !there.contains(&lower(label)));
        if labels.is_empty() || !is_missing(&self.labels_on(number).await?) {
            return Ok(());
        }
        self.site.labels_add(number, labels).await?;
        if is_missing(&self.labels_on(number).await?) {
            return Err(Failure::later(format!("the labels of {} are not there", self.site.called(number))));
        }
        Ok(())
    }

    /// Takes labels off.
    pub(super) async fn labels_off(&self, number: u64, labels: &[String]) -> Result<Receipt, Failure> {
        let there = self.labels_on(number).await?;
        for label in labels.iter().filter(|label| there.contains(&lower(label))) {
            self.site.label_remove(number, label).await?;
        }
        let left = self.labels_on(number).await?;
        if labels.iter().any(|label| left.contains(&lower(label))) {
            return Err(Failure::later(format!(
                "the labels of {} are still there",
                self.site.called(number)
            )));
        }
        Ok(Receipt::new(None, format!("took off {}: {}", self.site.called(number), labels.join(", "))))
    }

    /// No forge tells labels apart by case alone.
    async fn labels_on(&self, number: u64) -> Result<BTreeSet<String>, Failure> {
        let labels = self.site.labels(number).await?;
        Ok(labels.iter().map(|label| lower(label)).collect())
    }

    /// Asks people to review.
    pub(super) async fn reviewers(&self, number: u64, reviewers: &[String]) -> Result<Receipt, Failure> {
        match self.ask_reviewers(number, reviewers).await? {
            Asked::All => {
                let summary =
                    format!("asked for a review of {}: {}", self.site.called(number), reviewers.join(", "));
                Ok(Receipt::new(None, summary))
            }
            Asked::Not(why) => Err(Failure::Refused(why)),
        }
    }

    /// Asks those who are not asked yet and have not reviewed yet: nobody is asked twice.
    pub(super) async fn ask_reviewers(&self, number: u64, reviewers: &[String]) -> Result<Asked, Failure> {
        if reviewers.is_empty() {
            return Ok(Asked::All);
        }
        let missing = missing(&self.site.reviewers(number).await?, reviewers);
        if missing.people.is_empty() && missing.teams.is_empty() {
            return Ok(Asked::All);
        }
        match self.site.reviewers_ask(number, &missing).await {
            Ok(()) => Ok(Asked::All),
            // Not a collaborator, or the author: the change stays offered.
            Err(Failure::Unfit(why) | Failure::Refused(why) | Failure::Missing(why)) => Ok(Asked::Not(why)),
            Err(failure) => Err(failure),
        }
    }
}

/// Those who are not there. `org/team` is a team.
fn missing(there: &People, reviewers: &[String]) -> People {
    let lowered = |names: &[String]| names.iter().map(|name| lower(name)).collect::<BTreeSet<String>>();
    let (people, teams) = (lowered(&there.people), lowered(&there.teams));
    let mut missing = People::default();
    for name in reviewers {
        match name.rsplit_once('/') {
            Some((_, team)) if !teams.contains(&lower(team)) => missing.teams.push(team.to_owned()),
            None if !people.contains(&lower(name)) => missing.people.push(name.clone()),
            Some(_) | None => {}
        }
    }
    missing
}

fn lower(name: &str) -> String {
    name.to_lowercase()
}
