//! A small GitLab that remembers: one project, `acme/team/app`, and what it is told. It knows as much of GitLab's
//! manners as the adapter meets: issues and merge requests that are counted apart, quick actions, reviewers that it
//! leaves out in silence, statuses that cannot go where they are, and nothing besides.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use domain::name::Commit;
use domain::time::Timestamp;
use ports::source::{Moved, PushSpec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::conformance::effects::without_runs;
use testkit::{Asked, Behind, Contract, build, decoded};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::read(include_str!("api.json")));

pub(crate) const TOKEN: &str = "glpat-plain";
pub(crate) const OWN: u64 = 41;
pub(crate) const ADA: u64 = 3;
pub(crate) const BOB: u64 = 4;
pub(crate) const PROJECT: u64 = 7;
/// Issue 1 and merge request 1 are there from the beginning.
pub(crate) const ISSUE_IID: u64 = 1;
pub(crate) const ISSUE: u64 = 1_000_000_001;
pub(crate) const PULL: u64 = 1;

type Answer = (u16, Value);

/// All that is there.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) now: Timestamp,
    next: u64,
    pub(crate) path: String,
    pub(crate) visibility: &'static str,
    pub(crate) levels: BTreeMap<u64, u64>,
    /// Issues and merge requests, by kind and number.
    pub(crate) threads: BTreeMap<(String, u64), Value>,
    pub(crate) notes: Vec<Value>,
    pub(crate) commit_notes: Vec<Value>,
    pub(crate) label_events: Vec<Value>,
    pub(crate) statuses: Vec<Value>,
    pub(crate) releases: Vec<Value>,
    pub(crate) awards: Vec<Value>,
    pub(crate) branches: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// What quick actions ordered.
    pub(crate) orders: Vec<String>,
}

impl Behind for Hub {
    const API: &str = "/api/v4";
    const PER_PAGE: Option<&str> = Some("per_page");

    fn answer(&mut self, asked: &Asked, now: Timestamp) -> Answer {
        self.now = now;
        if asked.bearer() != TOKEN {
            return (401, json!({ "message": "401 Unauthorized" }));
        }
        let path = asked.path.clone();
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["user"]) => (200, account(OWN)),
            ("GET", ["users"]) => {
                let name = asked.parameter("username").unwrap();
                let found: Vec<Value> = [OWN, ADA, BOB]
                    .map(account)
                    .into_iter()
                    .filter(|user| user["username"] == name)
                    .collect();
                (200, json!(found))
            }
            ("GET", ["projects", "7"]) => (200, self.project()),
            ("GET", ["projects", path]) if *path == self.path => (200, self.project()),
            (_, ["projects", "7", rest @ ..]) => self.below(asked, rest),
            _ => missing(),
        }
    }

    fn push(&mut self, push: &PushSpec<'_>) -> Moved {
        let PushSpec { remote, branch, from, to, .. } = push;
        assert!(remote.url.ends_with(&format!("/{}.git", self.path)), "{}", remote.url);
        assert_eq!(remote.credential.as_ref().map(ExposeSecret::expose_secret), Some(TOKEN));
        let at = self.branches.get(branch.as_str()).cloned();
        if at.as_deref() != from.map(Commit::as_str) {
            return Moved::Stale { actual: at.and_then(|at| Commit::parse(at).ok()) };
        }
        self.branches.insert(branch.to_string(), to.to_string());
        Moved::Moved
    }

    fn violations(&self, asked: &Asked) -> Vec<String> {
        CONTRACT.violations(asked)
    }
}

impl Hub {
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut hub = Self {
            now,
            next: 1_000,
            path: "acme/team/app".to_owned(),
            visibility: "private",
            levels: BTreeMap::new(),
            threads: BTreeMap::new(),
            notes: Vec::new(),
            commit_notes: Vec::new(),
            label_events: Vec::new(),
            statuses: Vec::new(),
            releases: Vec::new(),
            awards: Vec::new(),
            branches: BTreeMap::from([("main".to_owned(), sha(1)), ("topic".to_owned(), sha(2))]),
            tags: BTreeMap::new(),
            orders: Vec::new(),
        };
        hub.new_thread("issues", ISSUE_IID, ADA, &json!({ "title": "It breaks", "description": "Look." }));
        let offer = json!({ "title": "Mend it", "description": "Please.", "source_branch": "topic",
            "target_branch": "main" });
        hub.new_thread("merge_requests", PULL, ADA, &offer);
        hub
    }

    pub(crate) fn time(&self) -> String {
        // With milliseconds, which its webhooks leave out.
        format!("{}.176Z", &self.now.to_string()[..19])
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn project(&self) -> Value {
        json!({ "id": PROJECT, "path_with_namespace": self.path, "visibility": self.visibility,
            "default_branch": "main", "http_url_to_repo": "https://elsewhere.example/evil.git" })
    }

    pub(crate) fn new_thread(&mut self, kind: &str, iid: u64, author: u64, said: &Value) {
        let description = said["description"].as_str().unwrap_or_default();
        self.obey(description);
        let labels = said["labels"].as_str().unwrap_or_default();
        let labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
        let mut thread = json!({
            "id": self.id(), "iid": iid, "project_id": PROJECT, "title": said["title"],
            "description": description, "state": "opened", "author": account(author), "labels": labels,
            "assignee_ids": said["assignee_ids"], "created_at": self.time(), "updated_at": self.time(),
            "closed_at": null, "web_url": format!("https://hub/-/{kind}/{iid}"),
        });
        if kind == "merge_requests" {
            let rest = json!({ "source_branch": said["source_branch"], "target_branch": said["target_branch"],
                "source_project_id": PROJECT, "target_project_id": PROJECT, "reviewers": [], "merged_at": null });
            thread.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        }
        self.threads.insert((kind.to_owned(), iid), thread);
    }

    /// A thread as it is now.
    pub(crate) fn thread(&self, kind: &str, iid: u64) -> Option<Value> {
        let mut thread = self.threads.get(&(kind.to_owned(), iid))?.clone();
        if kind == "merge_requests" {
            let title = thread["title"].as_str().unwrap().to_owned();
            thread["draft"] = json!(title.starts_with("Draft:"));
            let branch = thread["source_branch"].as_str().unwrap().to_owned();
            if thread["sha"].is_null() {
                thread["sha"] = json!(self.branches.get(&branch));
            }
        }
        Some(thread)
    }

    pub(crate) fn note(&mut self, kind: &str, iid: u64, author: u64, body: &str) -> u64 {
        self.obey(body);
        let id = self.id();
        let word = if kind == "issues" { "Issue" } else { "MergeRequest" };
        self.notes.push(json!({
            "id": id, "author": account(author), "body": body, "system": false, "type": null,
            "created_at": self.time(), "updated_at": self.time(), "noteable_type": word, "noteable_iid": iid,
        }));
        id
    }

    /// Carries out the quick actions of a text.
    fn obey(&mut self, text: &str) {
        let orders = text.lines().map(str::trim_start).filter(|line| {
            let mut start = line.chars();
            start.next() == Some('/') && start.next().is_some_and(char::is_alphabetic)
        });
        self.orders.extend(orders.filter(|order| !order.starts_with("/spellbook")).map(str::to_owned));
    }

    /// What people see, without numbers and times: what two tries must leave as one would.
    pub(crate) fn seen(&self) -> String {
        let shown = |list: &[Value], keys: &[&str]| {
            let show = |item: &Value| keys.iter().map(|key| item[*key].clone()).collect::<Value>();
            list.iter().map(show).collect::<Value>()
        };
        let keys = ["title", "description", "state", "labels", "assignee_ids", "reviewers", "source_branch"];
        let threads: Vec<Value> = self.threads.values().cloned().collect();
        let seen = json!({
            "threads": shown(&threads, &keys), "notes": shown(&self.notes, &["body"]),
            "commit notes": shown(&self.commit_notes, &["body"]),
            "statuses": shown(&self.statuses, &["name", "status", "description"]),
            "releases": shown(&self.releases, &["tag_name", "description"]),
            "awards": shown(&self.awards, &["name"]), "branches": self.branches, "tags": self.tags,
            "orders": self.orders,
        });
        without_runs(&serde_json::to_string_pretty(&seen).unwrap())
    }

    fn below(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", ["members", "all", id]) => match self.levels.get(&id.parse().unwrap()) {
                Some(level) => (200, json!({ "id": id, "state": "active", "access_level": level })),
                None => missing(),
            },
            ("GET", ["events"]) => {
                let day =
                    |note: &&Value| note["created_at"].as_str().unwrap() > asked.parameter("after").unwrap();
                let event = |note: &Value| json!({ "created_at": note["created_at"], "note": note });
                (200, json!(self.notes.iter().rev().filter(day).map(event).collect::<Vec<_>>()))
            }
            (_, ["issues" | "merge_requests"]) => self.list_of_threads(asked, rest[0]),
            (_, [kind @ ("issues" | "merge_requests"), iid, rest @ ..]) => {
                let iid: u64 = iid.parse().unwrap();
                match self.thread(kind, iid) {
                    Some(_) => self.one_thread(asked, kind, iid, rest),
                    None => missing(),
                }
            }
            (_, ["releases", ..]) => self.all_releases(asked, rest),
            (_, ["repository", "commits", sha, rest @ ..]) => self.commit(asked, sha, rest),
            ("GET", ["repository", "branches", branch]) => reference(self.branches.get(*branch)),
            ("GET", ["repository", "tags", tag]) => reference(self.tags.get(*tag)),
            ("POST", ["statuses", sha]) => self.set_status(asked, sha),
            _ => missing(),
        }
    }

    fn list_of_threads(&mut self, asked: &Asked, kind: &str) -> Answer {
        if asked.method == "POST" {
            let body = asked.body.clone().unwrap();
            let iids = self.threads.keys().filter(|(there, _)| there == kind).map(|(_, iid)| *iid);
            let iid = iids.max().map_or(1, |last| last + 1);
            let is_there = |thread: &Value| {
                thread["state"] == "opened" && thread["source_branch"] == body["source_branch"]
            };
            if kind == "merge_requests" && self.threads.values().any(is_there) {
                let message = "Another open merge request already exists for this source branch: !6";
                return (409, json!({ "message": [message] }));
            }
            self.new_thread(kind, iid, OWN, &body);
            return (201, self.thread(kind, iid).unwrap());
        }
        let fits = |thread: &Value| {
            let is = |name: &str, at: &str| {
                let there = thread.pointer(at).map(|value| value.to_string().replace('"', ""));
                asked.parameter(name).is_none_or(|wanted| Some(wanted) == there.as_deref())
            };
            (asked.parameter("state") == Some("all") || is("state", "/state"))
                && is("author_id", "/author/id")
                && is("source_branch", "/source_branch")
                && asked
                    .parameter("updated_after")
                    .is_none_or(|at| thread["updated_at"].as_str().unwrap() >= at)
        };
        let of_kind = self.threads.keys().filter(|(there, _)| there == kind);
        let list: Vec<Value> =
            of_kind.filter_map(|(kind, iid)| self.thread(kind, *iid)).filter(fits).collect();
        (200, json!(list))
    }

    fn one_thread(&mut self, asked: &Asked, kind: &str, iid: u64, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => (200, self.thread(kind, iid).unwrap()),
            ("PUT", []) => self.change(asked, kind, iid),
            ("GET", ["notes"]) => {
                let mut list: Vec<Value> =
                    self.notes.iter().filter(|note| is_under(note, kind, iid)).cloned().collect();
                list.reverse();
                (200, json!(list))
            }
            ("POST", ["notes"]) => {
                let id = self.note(kind, iid, OWN, asked.field("body").as_str().unwrap());
                (201, self.notes.iter().find(|note| note["id"] == id).unwrap().clone())
            }
            ("GET", ["resource_label_events"]) => {
                let of = |event: &&Value| event["kind"] == kind && event["iid"] == iid;
                (200, json!(self.label_events.iter().filter(of).collect::<Vec<_>>()))
            }
            (_, ["notes", id, rest @ ..]) => {
                let id: u64 = id.parse().unwrap();
                let is_it = |note: &Value| note["id"] == id && is_under(note, kind, iid);
                match self.notes.iter().position(is_it) {
                    Some(at) => self.one_note(asked, at, rest),
                    None => missing(),
                }
            }
            _ => missing(),
        }
    }

    fn one_note(&mut self, asked: &Asked, at: usize, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => (200, self.notes[at].clone()),
            ("PUT", []) => {
                let body = asked.field("body");
                self.obey(body.as_str().unwrap());
                self.notes[at]["body"] = body;
                (200, self.notes[at].clone())
            }
            ("DELETE", []) => {
                self.notes.remove(at);
                (204, Value::Null)
            }
            ("GET", ["award_emoji"]) => (200, json!(self.awards)),
            ("POST", ["award_emoji"])
                if self.awards.iter().any(|award| award["name"] == asked.field("name")) =>
            {
                (404, json!({ "message": "404 Award Emoji Name has already been taken Not Found" }))
            }
            ("POST", ["award_emoji"]) => {
                let award = json!({ "id": self.id(), "name": asked.field("name"), "user": account(OWN) });
                self.awards.push(award.clone());
                (201, award)
            }
            _ => missing(),
        }
    }

    fn change(&mut self, asked: &Asked, kind: &str, iid: u64) -> Answer {
        let description = asked.field("description");
        self.obey(description.as_str().unwrap_or_default());
        let time = self.time();
        let thread = self.threads.get_mut(&(kind.to_owned(), iid)).unwrap();
        for field in ["title", "description"] {
            if let Some(value) = asked.body.as_ref().unwrap().get(field) {
                thread[field] = value.clone();
            }
        }
        match asked.field("state_event").as_str() {
            Some("close") => (thread["state"], thread["closed_at"]) = (json!("closed"), json!(time)),
            Some(_) => thread["state"] = json!("opened"),
            None => {}
        }
        let names = |field: &str| -> Vec<String> {
            let list = asked.field(field).as_str().unwrap_or_default().to_owned();
            list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let labels = thread["labels"].as_array_mut().unwrap();
        labels.retain(|label| !names("remove_labels").iter().any(|name| label == name));
        for name in names("add_labels") {
            if !labels.contains(&json!(name)) {
                labels.push(json!(name));
            }
        }
        if let Some(ids) = asked.field("reviewer_ids").as_array() {
            // Whoever cannot review is left out, and nothing is said.
            let ids = ids.iter().filter_map(Value::as_u64).filter(|id| *id != ADA);
            thread["reviewers"] = ids.map(account).collect();
        }
        (200, self.thread(kind, iid).unwrap())
    }

    fn commit(&mut self, asked: &Asked, sha: &str, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", ["statuses"]) => {
                // The newest of each name.
                let mut newest: BTreeMap<String, Value> = BTreeMap::new();
                for status in self.statuses.iter().filter(|status| status["sha"] == sha) {
                    newest.insert(status["name"].to_string(), status.clone());
                }
                (200, json!(newest.into_values().collect::<Vec<_>>()))
            }
            ("GET", ["merge_requests"]) => {
                let all = self.threads.keys().filter_map(|(kind, iid)| self.thread(kind, *iid));
                let here = |thread: &Value| thread["sha"] == sha && thread["state"] == "opened";
                (200, json!(all.filter(here).collect::<Vec<_>>()))
            }
            ("GET", ["discussions"]) => {
                let one = |note: &Value| json!({ "id": format!("d{}", note["id"]), "notes": [note] });
                (200, json!(self.commit_notes.iter().map(one).collect::<Vec<_>>()))
            }
            ("POST", ["discussions"]) => {
                let body = asked.field("body");
                self.obey(body.as_str().unwrap());
                let note = json!({ "id": self.id(), "author": account(OWN), "body": body,
                    "created_at": self.time(), "updated_at": self.time() });
                self.commit_notes.push(note.clone());
                (201, json!({ "id": "d", "notes": [note] }))
            }
            (verb, ["discussions", discussion, "notes", id]) => {
                assert_eq!(*discussion, format!("d{id}"));
                let id: u64 = id.parse().unwrap();
                let Some(at) = self.commit_notes.iter().position(|note| note["id"] == id) else {
                    return missing();
                };
                if verb == "DELETE" {
                    self.commit_notes.remove(at);
                    return (204, Value::Null);
                }
                self.commit_notes[at]["body"] = asked.field("body");
                (200, self.commit_notes[at].clone())
            }
            _ => missing(),
        }
    }

    fn set_status(&mut self, asked: &Asked, sha: &str) -> Answer {
        let (name, state) = (asked.field("name"), asked.field("state"));
        let newest = self.statuses.iter().rfind(|status| status["sha"] == sha && status["name"] == name);
        if state == "pending" && newest.is_some_and(|newest| newest["status"] == "pending") {
            return (400, json!({ "message": "Cannot transition status via :enqueue from :pending" }));
        }
        let made = json!({ "sha": sha, "name": name, "status": state, "description": asked.field("description"),
            "target_url": asked.field("target_url") });
        self.statuses.push(made.clone());
        (201, made)
    }

    fn all_releases(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", [_]) => (200, json!(self.releases)),
            ("GET", [_, tag]) => {
                let found = self.releases.iter().find(|release| release["tag_name"] == *tag);
                found.map_or_else(missing, |found| (200, found.clone()))
            }
            ("POST", [_]) => {
                let tag = asked.field("tag_name").as_str().unwrap().to_owned();
                if self.releases.iter().any(|release| release["tag_name"] == tag) {
                    return (409, json!({ "message": "Release already exists" }));
                }
                self.tags.entry(tag.clone()).or_insert(asked.field("ref").as_str().unwrap().to_owned());
                let made = json!({ "tag_name": tag, "name": asked.field("name"), "author": account(OWN),
                    "description": asked.field("description"), "released_at": self.time(),
                    "created_at": self.time(), "_links": { "self": format!("https://hub/-/releases/{tag}") } });
                self.releases.push(made.clone());
                (201, made)
            }
            _ => missing(),
        }
    }
}

pub(crate) fn sha(number: u32) -> String {
    build::commit(number).to_string()
}

pub(crate) fn account(id: u64) -> Value {
    match id {
        OWN => json!({ "id": OWN, "username": "spellbook", "name": "Spellbook" }),
        ADA => json!({ "id": ADA, "username": "ada", "name": "Ada" }),
        BOB => json!({ "id": BOB, "username": "bob", "name": "Bob" }),
        id => json!({ "id": id, "username": format!("user{id}") }),
    }
}

fn is_under(note: &Value, kind: &str, iid: u64) -> bool {
    let word = if kind == "issues" { "Issue" } else { "MergeRequest" };
    note["noteable_type"] == word && note["noteable_iid"] == iid
}

fn missing() -> Answer {
    (404, json!({ "message": "404 Not found" }))
}

fn reference(at: Option<&String>) -> Answer {
    at.map_or_else(missing, |sha| (200, json!({ "commit": { "id": sha } })))
}
