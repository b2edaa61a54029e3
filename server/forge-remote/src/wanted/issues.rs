//! Opening issues, and changing them.

use domain::effect::{EffectKind, IssueState, Receipt};
use domain::marker::Marker;
use serde_json::{Map, Value, json};

use super::{Ours, Wanted, is_same_text, said};
use crate::failure::Failure;
use crate::shape::{number, text};
use crate::site::Which;

const LONGEST_TITLE: usize = 250;

/// An issue as it is to be.
struct Report<'a> {
    title: String,
    body: String,
    labels: &'a [String],
    assignees: &'a [String],
    sticky: bool,
}

impl Wanted<'_> {
    /// Opens an issue, or brings the open one of the same key up to date.
    pub(super) async fn issue(&self) -> Result<Receipt, Failure> {
        let EffectKind::CreateIssue { title, body, labels, assignees, sticky } = &self.effect.kind else {
            return Err(Failure::Refused("it is not an issue".to_owned()));
        };
        let title = title.chars().take(LONGEST_TITLE).collect();
        let report = Report { title, body: self.signed(body), labels, assignees, sticky: *sticky };
        let there = self.issues_of_key(report.sticky).await?;
        let verb = match there.first() {
            Some(later) if later.marker.outdates(self.effect) => {
                return Ok(self.issue_receipt(later, "a later run has brought up to date already"));
            }
            Some(oldest) => {
                if report.sticky {
                    self.update_issue(oldest, &report).await?;
                }
                if self.is_made_by(oldest) { "opened" } else { "updated" }
            }
            None => {
                self.open_issue(&report).await?;
                "opened"
            }
        };
        let there = self.issues_of_key(report.sticky).await?;
        self.close_doubles(&there).await?;
        let oldest = there.first().filter(|oldest| is_same_text(said(&oldest.thing, "/body"), &report.body));
        let oldest = oldest.ok_or_else(|| Failure::later("the issue is not there"))?;
        self.put_labels(oldest.number(), report.labels).await?;
        Ok(self.issue_receipt(oldest, verb).says(&report.body))
    }

    /// The issues of this effect's key, oldest first: open ones where one is edited in place, else those
    /// that this effect itself may have made.
    async fn issues_of_key(&self, sticky: bool) -> Result<Vec<Ours>, Failure> {
        let which = if sticky { Which::Open } else { Which::Since(self.since()) };
        let ours = self.ours(self.site.issues(which).await?);
        let of_key = |ours: &Ours| self.is_same(&ours.marker, &self.effect.key, sticky);
        Ok(ours.into_iter().filter(of_key).collect())
    }

    async fn open_issue(&self, report: &Report<'_>) -> Result<(), Failure> {
        let mut wanted = json!({ "title": report.title, "body": report.body });
        if !report.labels.is_empty() {
            wanted["labels"] = json!(report.labels);
        }
        if !report.assignees.is_empty() {
            wanted["assignees"] = json!(report.assignees);
        }
        self.site.issue_open(&wanted).await
    }

    async fn update_issue(&self, oldest: &Ours, report: &Report<'_>) -> Result<(), Failure> {
        let same = is_same_text(said(&oldest.thing, "/body"), &report.body)
            && said(&oldest.thing, "/title") == report.title;
        if same {
            return Ok(());
        }
        let change = json!({ "title": report.title, "body": report.body });
        self.site.thread_change(oldest.number(), &change).await
    }

    /// Issues cannot be removed: of two that were made at once the later one is closed.
    async fn close_doubles(&self, there: &[Ours]) -> Result<(), Failure> {
        for double in there.iter().skip(1).filter(|double| said(&double.thing, "/state") == "open") {
            self.site.issue_drop(double.number()).await?;
        }
        Ok(())
    }

    /// Closes the open issue of this key; there is none any more when an earlier try came so far.
    pub(super) async fn issue_close(&self, body: &str) -> Result<Receipt, Failure> {
        let body = self.signed(body);
        let change = json!({ "body": body, "state": IssueState::Closed.as_str() });
        let mut receipt = Receipt::new(None, "no issue of it is open");
        for open in self.issues_of_key(true).await? {
            self.site.thread_change(open.number(), &change).await?;
            let there = self.site.thread(open.number()).await?;
            if said(&there, "/state") != IssueState::Closed.as_str() {
                return Err(Failure::later(format!("{} is not closed", self.site.called(open.number()))));
            }
            receipt = self.issue_receipt(&open, "closed").says(&body);
        }
        Ok(receipt)
    }

    /// Changes an issue or a pull request; what is not said stays as it is.
    pub(super) async fn issue_change(&self) -> Result<Receipt, Failure> {
        let EffectKind::UpdateIssue { number: thread, title, body, state } = &self.effect.kind else {
            return Err(Failure::Refused("it is not a change of an issue".to_owned()));
        };
        let there = self.site.thread(*thread).await?;
        let url = text(&there, "/html_url").map(str::to_owned);
        let receipt = |verb: &str| Receipt::new(url.clone(), format!("{verb} {}", self.site.called(*thread)));
        let is_ours = number(&there, "/user/id").is_some_and(|id| Some(id) == self.site.own());
        let marker = Marker::find(said(&there, "/body")).filter(|_| is_ours);
        if marker.is_some_and(|marker| marker.key == self.effect.key && marker.outdates(self.effect)) {
            return Ok(receipt("a later run has changed already"));
        }
        let mut change = Map::new();
        if let Some(title) = title.as_deref().filter(|title| *title != said(&there, "/title")) {
            change.insert("title".to_owned(), json!(title));
        }
        let body = body.as_deref().map(|body| self.signed(body));
        let changed = || match &body {
            Some(body) => receipt("changed").says(body),
            None => receipt("changed"),
        };
        if let Some(body) = body.as_ref().filter(|body| !is_same_text(said(&there, "/body"), body)) {
            change.insert("body".to_owned(), json!(body));
        }
        if let Some(state) = state.filter(|state| state.as_str() != said(&there, "/state")) {
            change.insert("state".to_owned(), json!(state.as_str()));
        }
        if change.is_empty() {
            return Ok(changed());
        }
        let change = Value::Object(change);
        self.site.thread_change(*thread, &change).await?;
        let there = self.site.thread(*thread).await?;
        let stands = |(field, value): (&String, &Value)| {
            let wanted = value.as_str().unwrap_or_default();
            is_same_text(said(&there, &format!("/{field}")), wanted)
        };
        if change.as_object().into_iter().flatten().all(stands) {
            Ok(changed())
        } else {
            Err(Failure::later(format!("{} is not as it was changed", self.site.called(*thread))))
        }
    }

    fn issue_receipt(&self, issue: &Ours, verb: &str) -> Receipt {
        let summary = format!("{verb} issue {}", self.site.called(issue.number()));
        Receipt::new(issue.url(), summary)
    }
}
