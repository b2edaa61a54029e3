//! What happened lately, for whoever missed a webhook: the same facts, under the same keys.
//!
//! GitHub's lists say how things are, not all that happened to them. What can be told from them is told:
//! comments, pull requests that were opened, pushed to or closed, issues that were opened or closed, labels,
//! releases. A comment that was edited since is left out: what it said at first is not known any more, and
//! an edit never triggers.

use std::collections::BTreeMap;

use domain::effect::CommentKind;
use domain::time::Timestamp;
use forge_remote::Failure;
use forge_remote::wanted::is_since;
use ports::forge::Fact;
use serde_json::Value;

use crate::shape::{
    Thread, Told, comment_fact, issue_fact, label_fact, moment, pull_fact, release_fact, text,
};
use crate::visit::Visit;

/// So many pages of things that changed lately are read; who was away for longer has missed more.
const MOST_PAGES: usize = 10;

/// The threads that comments are under, each asked for once.
type Threads = BTreeMap<String, Option<Value>>;

impl Visit<'_> {
    /// What happened since a moment, oldest first.
    pub(crate) async fn recent(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = self.recent_pulls(since).await?;
        facts.extend(self.recent_issues(since).await?);
        facts.extend(self.recent_comments(CommentKind::Issue, since).await?);
        facts.extend(self.recent_comments(CommentKind::Review, since).await?);
        facts.extend(self.recent_labels(since).await?);
        facts.extend(self.recent_releases(since).await?);
        // What the server itself did is no news to it, here as in webhooks.
        if let Some(own) = self.own() {
            facts.retain(|fact| !fact.actor.bot || fact.actor.name != own.login);
        }
        facts.sort_by(|one, other| (one.occurred_at, &one.key).cmp(&(other.occurred_at, &other.key)));
        Ok(facts)
    }

    async fn recent_pulls(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let path = "/pulls?state=all&sort=updated&direction=desc&per_page=100";
        let changed = |pull: &Value| is_since(pull, "/updated_at", since);
        let mut facts = Vec::new();
        for pull in self.list_while(path, MOST_PAGES, changed).await? {
            let by = pull.get("user").unwrap_or(&Value::Null);
            let is_new = is_since(&pull, "/created_at", since);
            let is_open = text(&pull, "/state") == Some("open");
            let arrived = if is_new { "opened" } else { "synchronize" };
            // The head of one that is closed may have been so for long.
            if is_new || is_open {
                facts.extend(pull_fact(&self.told(arrived, by), &pull));
            }
            if is_since(&pull, "/closed_at", since) {
                facts.extend(pull_fact(&self.told("closed", by), &pull));
            }
        }
        Ok(facts)
    }

    async fn recent_issues(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let path = "/issues?state=all&sort=updated&direction=desc&per_page=100";
        let changed = |issue: &Value| is_since(issue, "/updated_at", since);
        let mut facts = Vec::new();
        for issue in self.list_while(path, MOST_PAGES, changed).await? {
            let by = issue.get("user").unwrap_or(&Value::Null);
            if is_since(&issue, "/created_at", since) {
                facts.extend(issue_fact(&self.told("opened", by), &issue));
            }
            if is_since(&issue, "/closed_at", since) {
                let by = issue.get("closed_by").filter(|by| !by.is_null()).unwrap_or(by);
                facts.extend(issue_fact(&self.told("closed", by), &issue));
            }
        }
        Ok(facts)
    }

    async fn recent_comments(&self, kind: CommentKind, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let (list, at) = match kind {
            CommentKind::Issue => ("issues", "/issue_url"),
            CommentKind::Review => ("pulls", "/pull_request_url"),
        };
        let path = format!("/{list}/comments?sort=created&direction=desc&per_page=100");
        let written = |comment: &Value| is_since(comment, "/created_at", since);
        let (mut facts, mut threads) = (Vec::new(), Threads::new());
        for comment in self.list_while(&path, MOST_PAGES, written).await? {
            if moment(&comment, "/updated_at") != moment(&comment, "/created_at") {
                continue;
            }
            let Some(number) = text(&comment, at).and_then(|url| url.rsplit('/').next()) else { continue };
            let Some(thread) = self.thread(&mut threads, list, number).await? else { continue };
            let by = comment.get("user").unwrap_or(&Value::Null);
            facts.extend(comment_fact(&self.told("created", by), kind, &comment, &thread));
        }
        Ok(facts)
    }

    async fn thread(
        &self,
        threads: &mut Threads,
        list: &str,
        number: &str,
    ) -> Result<Option<Value>, Failure> {
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        if !threads.contains_key(number) {
            let thread = self.find(&format!("/{list}/{number}")).await?;
            threads.insert(number.to_owned(), thread);
        }
        Ok(threads.get(number).cloned().flatten())
    }

    /// Labels that were put on and are still there: one that was taken off was taken.
    async fn recent_labels(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let happened = |event: &Value| is_since(event, "/created_at", since);
        let mut facts = Vec::new();
        for event in self.list_while("/issues/events?per_page=100", MOST_PAGES, happened).await? {
            let (Some(label), Some(thread)) = (event.get("label"), event.get("issue")) else { continue };
            let labels = thread.get("labels").and_then(Value::as_array).into_iter().flatten();
            let is_on = labels.into_iter().any(|there| text(there, "/name") == text(label, "/name"));
            if text(&event, "/event") != Some("labeled") || !is_on {
                continue;
            }
            let by = event.get("actor").unwrap_or(&Value::Null);
            let at = moment(&event, "/created_at");
            let told = self.told("labeled", by);
            if thread.get("pull_request").is_none_or(Value::is_null) {
                facts.extend(label_fact(&told, label, Thread::Issue(thread), at));
                continue;
            }
            let number = thread.get("number").and_then(Value::as_u64).unwrap_or_default();
            if let Some(pull) = self.find(&format!("/pulls/{number}")).await? {
                facts.extend(label_fact(&told, label, Thread::Pull(&pull), at));
            }
        }
        Ok(facts)
    }

    async fn recent_releases(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        // GitHub sorts them by when they were drafted, which may be long before.
        for release in self.list_while("/releases?per_page=100", 1, |_| true).await? {
            if is_since(&release, "/published_at", since) {
                let by = release.get("author").unwrap_or(&Value::Null);
                facts.extend(release_fact(&self.told("published", by), &release));
            }
        }
        Ok(facts)
    }

    fn told<'a>(&'a self, action: &'a str, sender: &'a Value) -> Told<'a> {
        let own = self.own().map(|own| own.id);
        Told { action, sender, repository: &self.described, own, at: self.github.clock.now() }
    }
}
