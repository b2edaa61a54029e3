//! What happened lately, for whoever missed a webhook: the same facts, under the same keys.
//!
//! Lists say how things are, not all that happened to them. What can be told from them is told: comments, pull
//! requests that were opened, pushed to or closed, issues that were opened or closed, labels that are still on,
//! releases. A comment that was edited since is left out: what it said at first is not known any more, and
//! an edit never triggers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::effect::CommentKind;
use domain::time::Timestamp;
use forge_remote::Failure;
use forge_remote::wanted::{is_since, said};
use ports::forge::Fact;
use serde_json::Value;

use crate::shape::{
    Thread, Told, comment_fact, flag, issue_fact, label_fact, moment, number, pull_fact, release_fact, text,
};
use crate::thing::account;
use crate::visit::Visit;

/// So many pages of things that changed lately are read; who was away for longer has missed more.
const MOST_PAGES: usize = 20;

impl Visit<'_> {
    /// What happened since a moment, oldest first.
    pub(crate) async fn recent(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = self.recent_pulls(since).await?;
        facts.extend(self.recent_issues(since).await?);
        facts.extend(self.recent_comments(since).await?);
        facts.extend(self.recent_releases(since).await?);
        // What the server itself did is no news to it, here as in webhooks.
        facts.retain(|fact| fact.actor.name != self.own.login);
        facts.sort_by(|one, other| (one.occurred_at, &one.key).cmp(&(other.occurred_at, &other.key)));
        Ok(facts)
    }

    async fn recent_pulls(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        for thread in self.changed("pulls", since).await? {
            let Some(at) = number(&thread, "/number") else { continue };
            let Some(pull) = self.find(&format!("/pulls/{at}")).await? else { continue };
            let by = account(pull.get("user").unwrap_or(&Value::Null));
            let is_new = is_since(&pull, "/created_at", since);
            let is_open = text(&pull, "/state") == Some("open");
            let arrived = if is_new { "opened" } else { "synchronize" };
            // The head of one that is closed may have been so for long.
            if is_new || is_open {
                facts.extend(pull_fact(&self.told(arrived, &by), &pull));
            }
            if is_since(&pull, "/closed_at", since) {
                facts.extend(pull_fact(&self.told("closed", &by), &pull));
            }
            facts.extend(self.recent_labels(at, Thread::Pull(&pull), since).await?);
        }
        Ok(facts)
    }

    async fn recent_issues(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        for issue in self.changed("issues", since).await? {
            let Some(at) = number(&issue, "/number") else { continue };
            let by = account(issue.get("user").unwrap_or(&Value::Null));
            if is_since(&issue, "/created_at", since) {
                facts.extend(issue_fact(&self.told("opened", &by), &issue));
            }
            if is_since(&issue, "/closed_at", since) {
                facts.extend(issue_fact(&self.told("closed", &by), &issue));
            }
            facts.extend(self.recent_labels(at, Thread::Issue(&issue), since).await?);
        }
        Ok(facts)
    }

    async fn changed(&self, kind: &str, since: Timestamp) -> Result<Vec<Value>, Failure> {
        let path = format!("/issues?type={kind}&state=all&since={since}&limit=50");
        self.list_while(&path, MOST_PAGES, |_| true).await
    }

    /// Labels that were put on and are still there: one that was taken off was taken.
    async fn recent_labels(
        &self,
        at: u64,
        thread: Thread<'_>,
        since: Timestamp,
    ) -> Result<Vec<Fact>, Failure> {
        let (Thread::Issue(thing) | Thread::Pull(thing)) = thread;
        let labels: Vec<&str> = (thing.get("labels").and_then(Value::as_array).into_iter().flatten())
            .filter_map(|label| text(label, "/name"))
            .collect();
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let path = format!("/issues/{at}/timeline?since={since}&limit=50");
        let mut facts = Vec::new();
        for entry in self.list_while(&path, MOST_PAGES, |_| true).await? {
            let is_put_on = said(&entry, "/type") == "label" && said(&entry, "/body") == "1";
            let Some(label) = entry.get("label").filter(|label| labels.contains(&said(label, "/name")))
            else {
                continue;
            };
            if is_put_on && is_since(&entry, "/created_at", since) {
                let by = account(entry.get("user").unwrap_or(&Value::Null));
                let when = moment(&entry, "/created_at");
                facts.extend(label_fact(&self.told("labeled", &by), label, thread, when));
            }
        }
        Ok(facts)
    }

    async fn recent_comments(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let path = format!("/issues/comments?since={since}&limit=50");
        let (mut facts, mut threads) = (Vec::new(), BTreeMap::new());
        for comment in self.list_while(&path, MOST_PAGES, |_| true).await? {
            let is_as_written = moment(&comment, "/updated_at") == moment(&comment, "/created_at");
            if !is_as_written || !is_since(&comment, "/created_at", since) {
                continue;
            }
            let under = ["/issue_url", "/pull_request_url"].iter().find_map(|at| {
                text(&comment, at).and_then(|url| url.rsplit('/').next()?.parse::<u64>().ok())
            });
            let Some(under) = under else { continue };
            if let Entry::Vacant(unknown) = threads.entry(under) {
                unknown.insert(self.find(&format!("/issues/{under}")).await?);
            }
            let Some(Some(thread)) = threads.get(&under) else { continue };
            let by = account(comment.get("user").unwrap_or(&Value::Null));
            facts.extend(comment_fact(&self.told("created", &by), CommentKind::Issue, &comment, thread));
        }
        Ok(facts)
    }

    async fn recent_releases(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        for release in self.list_while("/releases?limit=50", 1, |_| true).await? {
            if is_since(&release, "/published_at", since) && flag(&release, "/draft") != Some(true) {
                let by = account(release.get("author").unwrap_or(&Value::Null));
                facts.extend(release_fact(&self.told("published", &by), &release));
            }
        }
        Ok(facts)
    }

    fn told<'a>(&'a self, action: &'a str, sender: &'a Value) -> Told<'a> {
        let at = self.forgejo.account.clock.now();
        Told { action, sender, repository: &self.described, own: Some(self.own.id), at }
    }
}
