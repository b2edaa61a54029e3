//! What happened lately, for whoever missed a webhook: the same facts, under the same keys.
//!
//! Lists say how things are, not all that happened to them. What can be told from them is told: comments, merge
//! requests that were opened, pushed to or closed, issues that were opened or closed, labels that are still on,
//! releases. A comment that was edited since is left out: what it said at first is not known any more, and
//! an edit never triggers. So is what is confidential.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::effect::CommentKind;
use domain::time::Timestamp;
use forge_remote::Failure;
use forge_remote::wanted::{is_since, said};
use ports::forge::Fact;
use serde_json::Value;

use crate::shape::{Thread as Under, Told, comment_fact, flag, issue_fact, label_fact, number, text};
use crate::thing;
use crate::thread::Thread;
use crate::understand::{pull_fact, release_fact};
use crate::visit::Visit;

/// So many pages of things that changed lately are read; who was away for longer has missed more.
const MOST_PAGES: usize = 20;
const A_DAY: i64 = 24 * 3_600_000;

impl Visit<'_> {
    /// What happened since a moment, oldest first.
    pub(crate) async fn recent(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = self.recent_merge_requests(since).await?;
        facts.extend(self.recent_issues(since).await?);
        facts.extend(self.recent_comments(since).await?);
        facts.extend(self.recent_releases(since).await?);
        // What the server itself did is no news to it, here as in webhooks.
        facts.retain(|fact| fact.actor.name != self.own.login);
        facts.sort_by(|one, other| (one.occurred_at, &one.key).cmp(&(other.occurred_at, &other.key)));
        Ok(facts)
    }

    async fn recent_merge_requests(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        for raw in self.changed("merge_requests", since).await? {
            let Some(pull) = thing::merge_request(&raw) else { continue };
            let by = author(&pull);
            let is_new = is_since(&pull, "/created_at", since);
            let is_open = text(&pull, "/state") == Some("open");
            let arrived = if is_new { "opened" } else { "synchronize" };
            // The head of one that is closed may have been so for long.
            if is_new || is_open {
                facts.extend(pull_fact(&self.told(arrived, by), &pull));
            }
            if is_since(&pull, "/closed_at", since) {
                let closer = ["/merged_by", "/merge_user", "/closed_by"].iter();
                let closer = closer.filter_map(|at| raw.pointer(at)).map(thing::account);
                let closer = closer.into_iter().find(|closer| !closer.is_null()).unwrap_or(by.clone());
                facts.extend(pull_fact(&self.told("closed", &closer), &pull));
            }
            facts.extend(self.recent_labels(Under::Pull(&pull), since).await?);
        }
        Ok(facts)
    }

    async fn recent_issues(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let mut facts = Vec::new();
        for raw in self.changed("issues", since).await? {
            let Some(issue) = thing::issue(&raw).filter(|_| !is_confidential(&raw)) else { continue };
            let by = author(&issue);
            if is_since(&issue, "/created_at", since) {
                facts.extend(issue_fact(&self.told("opened", by), &issue));
            }
            if is_since(&issue, "/closed_at", since) {
                let closer = raw.get("closed_by").map(thing::account);
                let closer = closer.filter(|closer| !closer.is_null()).unwrap_or(by.clone());
                facts.extend(issue_fact(&self.told("closed", &closer), &issue));
            }
            facts.extend(self.recent_labels(Under::Issue(&issue), since).await?);
        }
        Ok(facts)
    }

    async fn changed(&self, kind: &str, since: Timestamp) -> Result<Vec<Value>, Failure> {
        let state = if kind == "issues" { "" } else { "state=all&" };
        let path = format!("/{kind}?{state}updated_after={since}&order_by=updated_at&per_page=100");
        self.list_while(&path, MOST_PAGES, |_| true).await
    }

    /// Labels that were put on and are still there: one that was taken off was taken.
    async fn recent_labels(&self, under: Under<'_>, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let (Under::Issue(thing) | Under::Pull(thing)) = under;
        let labels = thing.get("labels").and_then(Value::as_array).into_iter().flatten();
        let labels: Vec<&str> = labels.filter_map(|label| text(label, "/name")).collect();
        let Some(at) = number(thing, "/number").filter(|_| !labels.is_empty()) else { return Ok(Vec::new()) };
        let path = format!("{}/resource_label_events?per_page=100", Thread::of(at).path());
        let mut facts = Vec::new();
        for event in self.list_while(&path, MOST_PAGES, |_| true).await? {
            let Some(label) = event.get("label").filter(|label| labels.contains(&said(label, "/name")))
            else {
                continue;
            };
            let when = event.get("created_at").and_then(thing::moment);
            let when = when.and_then(|when| Timestamp::said(&when, Timestamp::EPOCH));
            if said(&event, "/action") == "add" && when >= Some(since) {
                let by = event.get("user").map(thing::account).unwrap_or_default();
                facts.extend(label_fact(&self.told("labeled", &by), label, under, when));
            }
        }
        Ok(facts)
    }

    /// Comments are in the list of all that happened; it knows days only, and leaves out the one that is named.
    async fn recent_comments(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let day = Timestamp::from_millis(since.millis().saturating_sub(A_DAY)).to_string();
        let path = format!("/events?action=commented&after={}&per_page=100", &day[..10]);
        let happened = |event: &Value| {
            event
                .get("created_at")
                .and_then(thing::moment)
                .is_some_and(|at| Timestamp::said(&at, Timestamp::EPOCH) >= Some(since))
        };
        let (mut facts, mut threads) = (Vec::new(), BTreeMap::new());
        for event in self.list_while(&path, MOST_PAGES, happened).await? {
            let note = &event["note"];
            let is_as_written = note["updated_at"].is_null() || note["updated_at"] == note["created_at"];
            let is_left_out = flag(note, "/system") == Some(true) || is_confidential(note) || !is_as_written;
            let Some(under) = thread_of(note).filter(|_| !is_left_out) else { continue };
            if let Entry::Vacant(unknown) = threads.entry(under) {
                unknown.insert(self.find(&under.path()).await?.filter(|raw| !is_confidential(raw)));
            }
            let Some(Some(raw)) = threads.get(&under) else { continue };
            let by = note.get("author").map(thing::account).unwrap_or_default();
            let told = self.told("created", &by);
            let at_line = text(note, "/type") == Some("DiffNote");
            let (kind, thread) = match (under, at_line) {
                (Thread::Issue(_), _) => (CommentKind::Issue, thing::issue(raw)),
                (Thread::MergeRequest(_), true) => (CommentKind::Review, thing::merge_request(raw)),
                (Thread::MergeRequest(_), false) => {
                    (CommentKind::Issue, thing::merge_request(raw).map(thing::as_thread))
                }
            };
            let comment = thing::comment(note);
            facts.extend(thread.and_then(|thread| comment_fact(&told, kind, &comment, &thread)));
        }
        Ok(facts)
    }

    async fn recent_releases(&self, since: Timestamp) -> Result<Vec<Fact>, Failure> {
        let path = "/releases?order_by=released_at&sort=desc&per_page=100";
        let published = |raw: &Value| is_since(&thing::release(raw), "/published_at", since);
        let mut facts = Vec::new();
        for raw in self.list_while(path, 1, published).await? {
            let by = raw.get("author").map(thing::account).unwrap_or_default();
            facts.extend(release_fact(&self.told("published", &by), &raw));
        }
        Ok(facts)
    }

    fn told<'a>(&'a self, action: &'a str, sender: &'a Value) -> Told<'a> {
        let at = self.gitlab.account.clock.now();
        Told { action, sender, repository: &self.described, own: Some(self.own.id), at }
    }
}

fn author(thing: &Value) -> &Value {
    thing.get("user").unwrap_or(&Value::Null)
}

fn is_confidential(thing: &Value) -> bool {
    ["/confidential", "/internal"].iter().any(|at| flag(thing, at) == Some(true))
}

fn thread_of(note: &Value) -> Option<Thread> {
    let iid = number(note, "/noteable_iid")?;
    match text(note, "/noteable_type")? {
        "MergeRequest" => Some(Thread::MergeRequest(iid)),
        "Issue" => Some(Thread::Issue(iid)),
        _ => None,
    }
}
