//! A small Forgejo that remembers: one repository, `acme/app`, and what it is told. It knows as much of Forgejo's
//! manners as the adapter meets: pages, labels that have numbers, drafts that are told by their title, things
//! that exist already, and nothing besides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::name::Commit;
use domain::time::Timestamp;
use ports::source::{Moved, PushSpec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::conformance::effects::without_runs;
use testkit::{Asked, Behind, Contract, build, decoded};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::read(include_str!("openapi.json")));

pub(crate) const TOKEN: &str = "fjo_plain";
pub(crate) const OWN: u64 = 41;
pub(crate) const ADA: u64 = 3;
pub(crate) const REPOSITORY: u64 = 7;
/// Issue 1 and pull request 2 are there from the beginning.
pub(crate) const ISSUE: u64 = 1;
pub(crate) const PULL: u64 = 2;

type Answer = (u16, Value);

/// All that is there.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) now: Timestamp,
    next: u64,
    /// Where people find it.
    pub(crate) web: String,
    pub(crate) path: String,
    /// What another repository is called.
    pub(crate) other_path: Option<String>,
    pub(crate) private: bool,
    pub(crate) is_admin: bool,
    pub(crate) roles: BTreeMap<String, String>,
    pub(crate) threads: BTreeMap<u64, Value>,
    pub(crate) pulls: BTreeMap<u64, Value>,
    pub(crate) comments: Vec<Value>,
    pub(crate) labels: Vec<Value>,
    pub(crate) org_labels: Vec<Value>,
    pub(crate) timeline: Vec<Value>,
    pub(crate) statuses: Vec<Value>,
    pub(crate) releases: Vec<Value>,
    pub(crate) reactions: BTreeSet<(u64, String)>,
    pub(crate) branches: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Behind for Hub {
    const API: &str = "/api/v1";
    const PER_PAGE: Option<&str> = Some("limit");

    fn answer(&mut self, asked: &Asked, now: Timestamp) -> Answer {
        self.now = now;
        if asked.bearer() != TOKEN {
            return (401, json!({ "message": "user does not exist [uid: 0, name: ]" }));
        }
        let path = asked.path.clone();
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["user"]) => (200, account(OWN)),
            ("GET", ["repositories", "7"]) => (200, self.repository()),
            ("GET", ["orgs", "acme", "labels"]) => (200, json!(self.org_labels)),
            ("GET", ["repos", owner, name]) if Some(format!("{owner}/{name}")) == self.other_path => {
                (200, json!({ "id": 8, "full_name": self.other_path }))
            }
            (_, ["repos", owner, name, rest @ ..]) if format!("{owner}/{name}") == self.path => {
                self.below(asked, rest)
            }
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
            web: String::new(),
            path: "acme/app".to_owned(),
            other_path: None,
            private: true,
            is_admin: true,
            roles: BTreeMap::new(),
            threads: BTreeMap::new(),
            pulls: BTreeMap::new(),
            comments: Vec::new(),
            labels: Vec::new(),
            org_labels: vec![json!({ "id": 77, "name": "Spellbook" })],
            timeline: Vec::new(),
            statuses: Vec::new(),
            releases: Vec::new(),
            reactions: BTreeSet::new(),
            branches: BTreeMap::from([("main".to_owned(), sha(1)), ("topic".to_owned(), sha(2))]),
            tags: BTreeMap::new(),
        };
        hub.new_thread(ISSUE, ADA, &json!({ "title": "It breaks", "body": "Look." }));
        let offer = json!({ "title": "Mend it", "body": "Please.", "head": "topic", "base": "main" });
        hub.new_pull(PULL, ADA, &offer);
        hub
    }

    pub(crate) fn time(&self) -> String {
        // Forgejo tells whole seconds, in the zone of its machine.
        let utc = self.now.to_string();
        let hour: u32 = utc[11..13].parse().unwrap();
        assert!(hour < 22, "the tests are over before");
        format!("{}{:02}{}+02:00", &utc[..11], hour + 2, &utc[13..19])
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn repository(&self) -> Value {
        json!({ "id": REPOSITORY, "full_name": self.path, "private": self.private, "default_branch": "main",
            "clone_url": "https://elsewhere.example/evil.git" })
    }

    pub(crate) fn new_thread(&mut self, number: u64, author: u64, said: &Value) {
        let labels: Vec<Value> = self.labels_of(&said["labels"]);
        let thread = json!({
            "id": self.id(), "number": number, "title": said["title"], "body": said["body"], "state": "open",
            "user": account(author), "labels": labels, "assignees": said["assignees"], "closed_at": null,
            "created_at": self.time(), "updated_at": self.time(), "html_url": format!("https://hub/{number}"),
            "pull_request": null,
        });
        self.threads.insert(number, thread);
    }

    pub(crate) fn new_pull(&mut self, number: u64, author: u64, said: &Value) {
        self.new_thread(number, author, said);
        let here = json!({ "id": REPOSITORY, "full_name": self.path });
        let head = said["head"].as_str().unwrap_or_default();
        let pull = json!({
            "id": self.id(), "merged": false, "requested_reviewers": null, "requested_reviewers_teams": null,
            "head": { "ref": head, "sha": self.branches.get(head), "repo": here, "repo_id": REPOSITORY },
            "base": { "ref": said["base"], "sha": self.branches.get("main"), "repo": here },
        });
        self.threads.get_mut(&number).unwrap()["pull_request"] = json!({ "merged": false });
        self.pulls.insert(number, pull);
    }

    /// A pull request whole: what it is as a thread, and where its branch is now.
    pub(crate) fn pull(&self, number: u64) -> Option<Value> {
        let (mut pull, thread) = (self.pulls.get(&number)?.clone(), self.threads.get(&number)?);
        for (key, value) in thread.as_object()? {
            if key != "pull_request" && key != "id" {
                pull[key] = value.clone();
            }
        }
        pull["draft"] = json!(is_draft(thread));
        let head = pull["head"]["ref"].as_str().unwrap_or_default().to_owned();
        if pull["head"]["repo"]["id"] == REPOSITORY && pull["state"] == "open" {
            pull["head"]["sha"] = json!(self.branches.get(&head));
        }
        Some(pull)
    }

    fn thread(&self, number: u64) -> Option<Value> {
        let mut thread = self.threads.get(&number)?.clone();
        if !thread["pull_request"].is_null() {
            thread["pull_request"]["draft"] = json!(is_draft(&thread));
        }
        Some(thread)
    }

    pub(crate) fn comment(&mut self, thread: u64, author: u64, body: &str) -> u64 {
        let id = self.id();
        let is_pull = self.pulls.contains_key(&thread);
        let url =
            |of: bool, word| if of { format!("https://hub/acme/app/{word}/{thread}") } else { String::new() };
        self.comments.push(json!({
            "id": id, "user": account(author), "body": body, "created_at": self.time(),
            "updated_at": self.time(), "issue_url": url(!is_pull, "issues"),
            "pull_request_url": url(is_pull, "pulls"), "html_url": format!("{}/{}/issues/{thread}#issuecomment-{id}", self.web, self.path),
            "thread": thread,
        }));
        id
    }

    /// What people see, without numbers and times: what two tries must leave as one would.
    pub(crate) fn seen(&self) -> String {
        let shown = |list: &[Value], keys: &[&str]| {
            let show = |item: &Value| keys.iter().map(|key| item[*key].clone()).collect::<Value>();
            list.iter().map(show).collect::<Value>()
        };
        let keys = ["title", "body", "state", "labels", "assignees", "draft", "requested_reviewers"];
        let threads: Vec<Value> = (self.threads.keys())
            .map(|number| self.pull(*number).unwrap_or_else(|| self.threads[number].clone()))
            .map(|mut thread| {
                for label in thread["labels"].as_array_mut().unwrap() {
                    *label = label["name"].clone();
                }
                thread
            })
            .collect();
        let seen = json!({
            "threads": shown(&threads, &keys), "comments": shown(&self.comments, &["body"]),
            "labels": shown(&self.labels, &["name"]),
            "statuses": shown(&self.statuses, &["context", "status", "description"]),
            "releases": shown(&self.releases, &["tag_name", "body", "draft"]),
            "reactions": self.reactions, "branches": self.branches, "tags": self.tags,
        });
        without_runs(&serde_json::to_string_pretty(&seen).unwrap())
    }

    fn below(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match rest.first() {
            None => (200, self.repository()),
            Some(&"issues") => self.issues(asked, &rest[1..]),
            Some(&"pulls") => self.pull_requests(asked, &rest[1..]),
            Some(_) => self.others(asked, rest),
        }
    }

    fn issues(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => {
                let kind = asked.parameter("type");
                let fits = |thread: &Value| {
                    let is_pull = !thread["pull_request"].is_null();
                    let author = asked.parameter("created_by");
                    asked.parameter("state").is_none_or(|state| state == "all" || thread["state"] == state)
                        && kind.is_none_or(|kind| (kind == "pulls") == is_pull)
                        && author.is_none_or(|login| thread["user"]["login"] == login)
                        && is_since(asked, thread)
                };
                let mut list: Vec<Value> =
                    self.threads.keys().filter_map(|number| self.thread(*number)).filter(fits).collect();
                list.reverse();
                (200, json!(list))
            }
            ("POST", []) => {
                let number = self.threads.keys().max().map_or(1, |last| last + 1);
                self.new_thread(number, OWN, &asked.body.clone().unwrap_or_default());
                (201, self.threads[&number].clone())
            }
            ("GET", ["comments"]) => {
                let list: Vec<&Value> =
                    self.comments.iter().filter(|comment| is_since(asked, comment)).collect();
                (200, json!(list))
            }
            (_, ["comments", id, rest @ ..]) => self.one_comment(asked, id, rest),
            (verb, [number, rest @ ..]) => {
                let number: u64 = number.parse().unwrap();
                if !self.threads.contains_key(&number) {
                    return missing();
                }
                match (verb, rest) {
                    ("GET", []) => (200, self.thread(number).unwrap()),
                    ("PATCH", []) => self.change(number, asked, &["title", "body", "state"]),
                    (_, ["labels", rest @ ..]) => self.labels_on(number, asked, rest),
                    (_, ["comments"]) => self.comments_of(number, asked),
                    ("GET", ["timeline"]) => {
                        let list: Vec<&Value> =
                            self.timeline.iter().filter(|entry| entry["thread"] == number).collect();
                        (200, json!(list))
                    }
                    _ => missing(),
                }
            }
            _ => missing(),
        }
    }

    fn comments_of(&mut self, thread: u64, asked: &Asked) -> Answer {
        if asked.method == "POST" {
            let id = self.comment(thread, OWN, asked.field("body").as_str().unwrap());
            return (201, self.comments.iter().find(|comment| comment["id"] == id).unwrap().clone());
        }
        let of = |comment: &&Value| comment["thread"] == thread && is_since(asked, comment);
        (200, json!(self.comments.iter().filter(of).collect::<Vec<_>>()))
    }

    fn one_comment(&mut self, asked: &Asked, id: &str, rest: &[&str]) -> Answer {
        let id: u64 = id.parse().unwrap();
        let Some(at) = self.comments.iter().position(|comment| comment["id"] == id) else { return missing() };
        match (asked.method.as_str(), rest) {
            ("GET", []) => (200, self.comments[at].clone()),
            ("PATCH", []) => {
                self.comments[at]["body"] = asked.field("body");
                self.comments[at]["updated_at"] = json!(self.time());
                (200, self.comments[at].clone())
            }
            ("DELETE", []) => {
                self.comments.remove(at);
                (204, Value::Null)
            }
            ("POST", ["reactions"]) => {
                let content = asked.field("content");
                let is_new = self.reactions.insert((0, content.as_str().unwrap().to_owned()));
                (if is_new { 201 } else { 200 }, json!({ "content": content }))
            }
            _ => missing(),
        }
    }

    fn change(&mut self, number: u64, asked: &Asked, fields: &[&str]) -> Answer {
        let time = self.time();
        let thread = self.threads.get_mut(&number).unwrap();
        for field in fields {
            if let Some(value) = asked.body.as_ref().and_then(|body| body.get(*field)) {
                thread[*field] = value.clone();
            }
        }
        if thread["state"] == "closed" {
            thread["closed_at"] = json!(time);
        }
        (201, self.thread(number).unwrap())
    }

    fn labels_of(&self, numbers: &Value) -> Vec<Value> {
        let numbers = numbers.as_array().into_iter().flatten();
        let all = || self.labels.iter().chain(&self.org_labels);
        numbers.map(|number| all().find(|label| label["id"] == *number).unwrap().clone()).collect()
    }

    fn labels_on(&mut self, number: u64, asked: &Asked, rest: &[&str]) -> Answer {
        let added = self.labels_of(&asked.field("labels"));
        let labels = self.threads.get_mut(&number).unwrap()["labels"].as_array_mut().unwrap();
        match (asked.method.as_str(), rest) {
            ("GET", []) => {}
            ("POST", []) => {
                for label in added {
                    if !labels.contains(&label) {
                        labels.push(label);
                    }
                }
            }
            ("DELETE", [id]) => {
                labels.retain(|label| label["id"].as_u64() != id.parse().ok());
                return (204, Value::Null);
            }
            _ => return missing(),
        }
        (200, json!(labels))
    }

    fn pull_requests(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => {
                let fits = |pull: &Value| {
                    asked.parameter("state").is_none_or(|state| state == "all" || pull["state"] == state)
                        && asked.parameter("poster").is_none_or(|login| pull["user"]["login"] == login)
                };
                let list: Vec<Value> =
                    self.pulls.keys().filter_map(|number| self.pull(*number)).filter(fits).collect();
                (200, json!(list))
            }
            ("POST", []) => {
                let body = asked.body.clone().unwrap_or_default();
                let is_there = |pull: &Value| pull["state"] == "open" && pull["head"]["ref"] == body["head"];
                if self.pulls.keys().filter_map(|number| self.pull(*number)).any(|pull| is_there(&pull)) {
                    let message = "pull request already exists for these targets";
                    return (409, json!({ "message": message }));
                }
                let number = self.threads.keys().max().map_or(1, |last| last + 1);
                self.new_pull(number, OWN, &body);
                (201, self.pull(number).unwrap())
            }
            (verb, [number, rest @ ..]) => {
                let number: u64 = number.parse().unwrap();
                let Some(pull) = self.pull(number) else { return missing() };
                match (verb, rest) {
                    ("GET", []) => (200, pull),
                    ("PATCH", []) => self.change(number, asked, &["title", "body", "state"]),
                    ("GET", ["reviews"]) => (200, json!([{ "id": 5, "user": account(ADA) }])),
                    ("POST", ["requested_reviewers"]) => self.ask(number, asked),
                    _ => missing(),
                }
            }
            _ => missing(),
        }
    }

    fn ask(&mut self, number: u64, asked: &Asked) -> Answer {
        let names = asked.field("reviewers");
        if names.as_array().is_some_and(|names| names.iter().any(|name| name == "ghost")) {
            return (422, json!({ "message": "Reviewer can't read" }));
        }
        let people = names.as_array().into_iter().flatten().map(|name| json!({ "login": name }));
        let teams = asked.field("team_reviewers");
        let teams = teams.as_array().into_iter().flatten().map(|name| json!({ "name": name }));
        let pull = self.pulls.get_mut(&number).unwrap();
        pull["requested_reviewers"] = people.collect();
        pull["requested_reviewers_teams"] = teams.collect();
        (201, json!([]))
    }

    fn others(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", ["branches", branch @ ..]) => match self.branches.get(&branch.join("/")) {
                Some(sha) => (200, json!({ "name": branch.join("/"), "commit": { "id": sha } })),
                None => missing(),
            },
            ("GET", ["tags", tag @ ..]) => match self.tags.get(&tag.join("/")) {
                Some(sha) => (200, json!({ "name": tag.join("/"), "commit": { "sha": sha } })),
                None => missing(),
            },
            ("GET", ["labels"]) => (200, json!(self.labels)),
            ("POST", ["labels"]) => {
                let label = json!({ "id": self.id(), "name": asked.field("name") });
                self.labels.push(label.clone());
                (201, label)
            }
            ("GET", ["collaborators", name, "permission"]) => match self.roles.get(*name) {
                _ if !self.is_admin => (403, json!({ "message": "Only admins can query all permissions" })),
                Some(role) => (200, json!({ "permission": role, "role_name": role })),
                None if *name == "nobody" => missing(),
                None => (200, json!({ "permission": if self.private { "none" } else { "read" } })),
            },
            ("GET", ["commits", sha, "statuses"]) => {
                assert_eq!(asked.parameter("sort"), Some("highestindex"));
                let of = |status: &&Value| status["sha"] == **sha;
                (200, json!(self.statuses.iter().rev().filter(of).collect::<Vec<_>>()))
            }
            ("POST", ["statuses", sha]) => {
                let mut made = asked.body.clone().unwrap_or_default();
                let state = made.as_object_mut().unwrap().remove("state").unwrap();
                (made["sha"], made["status"]) = (json!(sha), state);
                self.statuses.push(made.clone());
                (201, made)
            }
            ("GET", ["releases"]) => (200, json!(self.releases)),
            ("POST", ["releases"]) => {
                let mut made = asked.body.clone().unwrap_or_default();
                (made["id"], made["author"]) = (json!(self.id()), account(OWN));
                let tag = made["tag_name"].as_str().unwrap().to_owned();
                if made["draft"] != true {
                    let commit = made["target_commitish"].as_str().unwrap().to_owned();
                    self.tags.entry(tag).or_insert(commit);
                    made["published_at"] = json!(self.time());
                }
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
        OWN => json!({ "id": OWN, "login": "spellbook", "username": "spellbook" }),
        ADA => json!({ "id": ADA, "login": "ada", "username": "ada" }),
        id => json!({ "id": id, "login": format!("user{id}") }),
    }
}

fn is_draft(thread: &Value) -> bool {
    thread["title"].as_str().is_some_and(|title| title.starts_with("WIP:"))
}

fn missing() -> Answer {
    (404, json!({ "message": "The target couldn't be found.", "errors": null }))
}

fn is_since(asked: &Asked, thing: &Value) -> bool {
    let at = |text: &str| Timestamp::said(text, Timestamp::EPOCH).unwrap();
    asked.parameter("since").is_none_or(|since| {
        thing["updated_at"]
            .as_str()
            .is_some_and(|updated| at(updated).millis() / 1000 >= at(since).millis() / 1000)
    })
}
