//! A small GitHub that remembers, for tests of what speaks to one: one repository, `acme/app`, an app that is installed in it, and what they
//! are told. It knows as much of GitHub's manners as the adapter meets: who may do what with which token,
//! pages, things that exist already, and nothing besides.

use std::collections::{BTreeMap, BTreeSet};

use domain::time::Timestamp;
use serde_json::{Value, json};

use crate::gate::{Asked, decoded};

/// The app, as GitHub numbers it, and its account.
pub const APP: u64 = 12;
pub const BOT: u64 = 41;
pub const ADA: u64 = 3;
pub const REPOSITORY: u64 = 7;
const INSTALLATION: u64 = 100;
/// Issue 1 and pull request 2 are there from the beginning.
pub const ISSUE: u64 = 1;
pub const PULL: u64 = 2;

/// An answer: its status and what it says.
pub type Answer = (u16, Value);

/// All that is there.
#[derive(Debug)]
pub struct Hub {
    /// The number of the repository.
    pub number: u64,
    pub now: Timestamp,
    next: u64,
    /// Where people find it.
    pub web: String,
    /// What the repository is called.
    pub path: String,
    /// What it was called before.
    pub old_path: Option<String>,
    /// What another one is called.
    pub other_path: Option<String>,
    pub private: bool,
    pub roles: BTreeMap<String, String>,
    pub threads: BTreeMap<u64, Value>,
    pub pulls: BTreeMap<u64, Value>,
    pub comments: Vec<Value>,
    pub commit_comments: Vec<Value>,
    pub commits: Vec<Value>,
    pub review_comments: Vec<Value>,
    pub checks: Vec<Value>,
    pub statuses: Vec<Value>,
    pub releases: Vec<Value>,
    pub reactions: BTreeSet<(u64, String)>,
    pub events: Vec<Value>,
    pub branches: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub deliveries: Vec<Value>,
    pub again: Vec<u64>,
    /// What each token that was given out allows.
    pub tokens: BTreeMap<String, Value>,
}

impl Hub {
    /// With an issue, a pull request, and their branches.
    pub fn new(now: Timestamp) -> Self {
        let mut hub = Self::empty(now);
        hub.branches = BTreeMap::from([("main".to_owned(), sha(1)), ("topic".to_owned(), sha(2))]);
        hub.new_thread(ISSUE, ADA, &json!({ "title": "It breaks", "body": "Look." }));
        let offer = json!({ "title": "Mend it", "body": "Please.", "head": "topic", "base": "main" });
        hub.new_pull(PULL, ADA, &offer);
        hub
    }

    /// With nothing in the repository.
    pub fn empty(now: Timestamp) -> Self {
        Self {
            number: REPOSITORY,
            now,
            next: 1_000,
            web: "https://hub".to_owned(),
            path: "acme/app".to_owned(),
            old_path: None,
            other_path: None,
            private: true,
            roles: BTreeMap::new(),
            threads: BTreeMap::new(),
            pulls: BTreeMap::new(),
            comments: Vec::new(),
            commit_comments: Vec::new(),
            commits: Vec::new(),
            review_comments: Vec::new(),
            checks: Vec::new(),
            statuses: Vec::new(),
            releases: Vec::new(),
            reactions: BTreeSet::new(),
            events: Vec::new(),
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            deliveries: Vec::new(),
            again: Vec::new(),
            tokens: BTreeMap::new(),
        }
    }

    pub fn time(&self) -> String {
        self.now.to_string()
    }

    pub fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn repository(&self) -> Value {
        json!({ "id": self.number, "full_name": self.path, "private": self.private, "default_branch": "main" })
    }

    pub fn new_thread(&mut self, number: u64, author: u64, said: &Value) {
        let labels: Vec<Value> = names(&said["labels"]).iter().map(|name| json!({ "name": name })).collect();
        let thread = json!({
            "id": self.id(), "number": number, "title": said["title"], "body": said["body"], "state": "open",
            "user": account(author), "labels": labels, "assignees": said["assignees"], "closed_at": null,
            "created_at": self.time(), "updated_at": self.time(), "html_url": format!("{}/{}/issues/{number}", self.web, self.path),
        });
        self.threads.insert(number, thread);
    }

    pub fn new_pull(&mut self, number: u64, author: u64, said: &Value) {
        self.new_thread(number, author, said);
        let here = json!({ "id": self.number, "full_name": self.path });
        let head = said["head"].as_str().unwrap_or_default();
        let pull = json!({
            "id": self.id(), "draft": said["draft"] == true, "merged_at": null, "requested_reviewers": [],
            "requested_teams": [], "head": { "ref": head, "sha": self.branches.get(head), "repo": here },
            "base": { "ref": said["base"], "sha": self.branches.get("main"), "repo": here },
        });
        let url = format!("{}/{}/pull/{number}", self.web, self.path);
        let thread = self.threads.get_mut(&number).expect("it was just made");
        (thread["pull_request"], thread["html_url"]) = (json!({ "url": "x" }), json!(url));
        self.pulls.insert(number, pull);
    }

    /// A pull request whole: what it is as a thread, and where its branch is now.
    pub fn pull(&self, number: u64) -> Option<Value> {
        let (mut pull, thread) = (self.pulls.get(&number)?.clone(), self.threads.get(&number)?);
        for (key, value) in thread.as_object()? {
            if key != "pull_request" && key != "id" {
                pull[key] = value.clone();
            }
        }
        let head = pull["head"]["ref"].as_str().unwrap_or_default().to_owned();
        if pull["head"]["repo"]["id"] == self.number && pull["state"] == "open" {
            pull["head"]["sha"] = json!(self.branches.get(&head));
        }
        Some(pull)
    }

    pub fn comment(&mut self, thread: u64, author: u64, body: &str) -> u64 {
        let id = self.id();
        self.comments.push(json!({
            "id": id, "user": account(author), "body": body, "created_at": self.time(),
            "updated_at": self.time(), "issue_url": format!("https://hub/issues/{thread}"),
            "html_url": format!("{}/{}/issues/{thread}#issuecomment-{id}", self.web, self.path), "thread": thread,
        }));
        id
    }

    /// What people see, without numbers and times: what two tries must leave as one would.
    pub fn seen(&self) -> Value {
        let bodies = |list: &[Value]| list.iter().map(|item| item["body"].clone()).collect::<Vec<_>>();
        let shown = |list: &[Value], keys: &[&str]| {
            let show = |item: &Value| keys.iter().map(|key| item[*key].clone()).collect::<Value>();
            list.iter().map(show).collect::<Value>()
        };
        let threads: Vec<Value> = self
            .threads
            .keys()
            .map(|number| {
                let thread = &self.threads[number];
                let pull = self.pull(*number).unwrap_or_default();
                json!([
                    thread["title"],
                    thread["body"],
                    thread["state"],
                    thread["labels"],
                    thread["assignees"],
                    pull["draft"],
                    pull["head"]["sha"],
                    pull["requested_reviewers"],
                    pull["requested_teams"]
                ])
            })
            .collect();
        json!({
            "threads": threads, "comments": bodies(&self.comments), "commits": bodies(&self.commit_comments),
            "checks": shown(&self.checks, &["name", "conclusion", "head_sha", "remarks"]),
            "statuses": shown(&self.statuses, &["context", "state", "description"]),
            "releases": shown(&self.releases, &["tag_name", "body", "draft"]),
            "reactions": self.reactions, "branches": self.branches, "tags": self.tags,
        })
    }

    /// Where a request is sent on to: what was below the old path is below the number now.
    pub fn moved(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix("/repos/")?.strip_prefix(self.old_path.as_ref()?.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("/repositories/{}{rest}", self.number))
    }

    /// Carries a request out.
    pub fn answer(&mut self, asked: &Asked) -> Answer {
        let path = asked.path.clone();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["app"]) => self.as_app(asked, |_| json!({ "id": APP, "slug": "spellbook" })),
            ("GET", ["app", "installations"]) => self.as_app(
                asked,
                |_| json!([{ "id": INSTALLATION }, { "id": 101, "suspended_at": "2026-01-01T00:00:00Z" }]),
            ),
            ("GET", ["app", "hook", "deliveries"]) => self.as_app(asked, |hub| json!(hub.deliveries)),
            ("POST", ["app-manifests", "c0de", "conversions"]) => {
                (201, json!({ "id": APP, "slug": "spellbook", "pem": "a key", "webhook_secret": "a secret" }))
            }
            ("POST", ["app", "hook", "deliveries", id, "attempts"]) => {
                self.again.extend(id.parse::<u64>());
                (202, json!({}))
            }
            ("POST", ["app", "installations", "100", "access_tokens"]) => self.token(asked),
            ("GET", ["installation", "repositories"]) => {
                (200, json!({ "total_count": 1, "repositories": [self.repository()] }))
            }
            ("GET", ["user"]) => (200, account(BOT)),
            ("GET", ["users", "spellbook%5Bbot%5D"]) => (200, account(BOT)),
            ("GET", ["repositories", id]) if *id == self.number.to_string() => {
                self.permitted(asked, &[], |hub, _| (200, hub.repository()))
            }
            ("GET", ["repositories", id, "installation"]) if *id == self.number.to_string() => {
                self.as_app(asked, |_| json!({ "id": INSTALLATION }))
            }
            ("GET", ["repos", owner, name]) if Some(format!("{owner}/{name}")) == self.other_path => {
                (200, json!({ "id": 8, "full_name": self.other_path, "private": false }))
            }
            (_, ["repos", owner, name, rest @ ..]) if format!("{owner}/{name}") == self.path => {
                self.below(asked, rest)
            }
            _ => missing(),
        }
    }

    fn as_app(&mut self, asked: &Asked, answer: impl Fn(&Self) -> Value) -> Answer {
        if asked.bearer().matches('.').count() == 2 {
            return (200, answer(self));
        }
        (401, json!({ "message": "A JSON web token could not be decoded" }))
    }

    fn token(&mut self, asked: &Asked) -> Answer {
        let number = self.number;
        let odd = |id: &Value| *id != number;
        if asked.field("repository_ids").as_array().is_some_and(|ids| ids.iter().any(odd)) {
            return unfit("The repositories requested are not accessible to this installation.");
        }
        let token = format!("ghs_{}", self.id());
        self.tokens.insert(token.clone(), asked.field("permissions"));
        let expires = self.now.after(std::time::Duration::from_secs(3600)).to_string();
        (201, json!({ "token": token, "expires_at": expires }))
    }

    /// Goes on when the token allows one of these; none asked is enough to read.
    fn permitted(
        &mut self,
        asked: &Asked,
        one_of: &[&str],
        go_on: impl FnOnce(&mut Self, &Asked) -> Answer,
    ) -> Answer {
        if asked.bearer() == "ghp_plain" {
            return go_on(self, asked);
        }
        let Some(allowed) = self.tokens.get(asked.bearer()) else {
            return (401, json!({ "message": "Bad credentials" }));
        };
        if one_of.is_empty() || one_of.iter().any(|name| allowed[*name] == "write") {
            return go_on(self, asked);
        }
        (403, json!({ "message": "Resource not accessible by integration" }))
    }

    fn below(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        if let ("GET", ["installation"]) = (asked.method.as_str(), rest) {
            return self.as_app(asked, |_| json!({ "id": INSTALLATION }));
        }
        let writes: &[&str] = match (asked.method.as_str(), rest) {
            ("GET", _) => &[],
            (_, ["check-runs", ..]) => &["checks"],
            (_, ["statuses", ..]) => &["statuses"],
            (_, ["releases", ..] | ["commits", ..] | ["comments", ..]) => &["contents"],
            (_, ["pulls", ..]) => &["pull_requests"],
            _ => &["issues", "pull_requests"],
        };
        let rest: Vec<String> = rest.iter().map(|part| decoded(part)).collect();
        self.permitted(asked, writes, |hub, asked| {
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            match rest.first() {
                None => (200, hub.repository()),
                Some(&"issues") => hub.issues(asked, &rest[1..]),
                Some(&"pulls") => hub.pull_requests(asked, &rest[1..]),
                Some(&"comments" | &"commits" | &"statuses" | &"check-runs" | &"git") => {
                    hub.commits(asked, &rest)
                }
                Some(_) => hub.others(asked, &rest),
            }
        })
    }

    fn issues(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => {
                let creator = asked.parameter("creator");
                let fits = |thread: &&Value| {
                    asked.parameter("state").is_none_or(|state| state == "all" || thread["state"] == state)
                        && creator.is_none_or(|login| thread["user"]["login"] == login)
                        && is_since(asked, thread)
                };
                let mut list: Vec<Value> = self.threads.values().filter(fits).cloned().collect();
                list.sort_by_key(|thread| std::cmp::Reverse(thread["updated_at"].to_string()));
                (200, json!(list))
            }
            ("POST", []) => {
                let number = self.threads.keys().max().map_or(1, |last| last + 1);
                self.new_thread(number, BOT, &asked.body.clone().unwrap_or_default());
                (201, self.threads[&number].clone())
            }
            ("GET", ["events"]) => (200, json!(self.events)),
            ("GET", ["comments"]) => {
                let mut list = self.comments.clone();
                list.reverse();
                (200, json!(list))
            }
            ("POST", ["comments", id, "reactions"]) => {
                let (id, content) = (id.parse().unwrap_or(0), asked.field("content"));
                if !self.comments.iter().any(|comment| comment["id"] == id) {
                    return missing();
                }
                self.reactions.insert((id, content.as_str().unwrap_or_default().to_owned()));
                (201, json!({ "content": content }))
            }
            ("GET", ["comments", id]) => one(&self.comments, "id", id),
            (_, ["comments", id]) => self.change_comment(asked, id),
            ("GET", [number]) => self.thread(number).map_or_else(missing, |thread| (200, thread.clone())),
            ("PATCH", [number]) => {
                let now = self.time();
                let Some(thread) = self.thread(number) else { return missing() };
                change(thread, asked.body.as_ref(), &["title", "body", "state"]);
                thread["updated_at"] = json!(now);
                (200, thread.clone())
            }
            ("GET", [number, "comments"]) => {
                let under = |comment: &&Value| is_numbered(comment, "thread", number);
                let list: Vec<&Value> =
                    self.comments.iter().filter(under).filter(|comment| is_since(asked, comment)).collect();
                (200, json!(list))
            }
            ("POST", [number, "comments"]) => {
                if self.thread(number).is_none() {
                    return missing();
                }
                let body = asked.field("body").as_str().unwrap_or_default().to_owned();
                if body.encode_utf16().count() > 65_536 {
                    return unfit("body is too long (maximum is 65536 characters)");
                }
                let id = self.comment(number.parse().unwrap_or(0), BOT, &body);
                (201, self.comments.iter().find(|comment| comment["id"] == id).cloned().unwrap_or_default())
            }
            (verb, [number, "labels", label @ ..]) => {
                self.labels(asked, verb, number, label.first().copied())
            }
            _ => missing(),
        }
    }

    fn thread(&mut self, number: &str) -> Option<&mut Value> {
        self.threads.get_mut(&number.parse().ok()?)
    }

    fn change_comment(&mut self, asked: &Asked, id: &str) -> Answer {
        let now = self.time();
        let is_it = |comment: &Value| is_numbered(comment, "id", id);
        let lists = [&mut self.comments, &mut self.commit_comments];
        let Some(list) = lists.into_iter().find(|list| list.iter().any(is_it)) else { return missing() };
        if asked.method == "DELETE" {
            list.retain(|comment| !is_it(comment));
            return (204, Value::Null);
        }
        let comment = list.iter_mut().find(|comment| is_it(comment)).expect("it is in the list");
        change(comment, asked.body.as_ref(), &["body"]);
        comment["updated_at"] = json!(now);
        (200, comment.clone())
    }

    fn labels(&mut self, asked: &Asked, verb: &str, number: &str, label: Option<&str>) -> Answer {
        let Some(thread) = self.thread(number) else { return missing() };
        let mut labels = thread["labels"].as_array().cloned().unwrap_or_default();
        match (verb, label) {
            ("POST", None) => {
                for name in names(&asked.field("labels")) {
                    if !labels.iter().any(|label| label["name"] == name) {
                        labels.push(json!({ "name": name }));
                    }
                }
            }
            ("DELETE", Some(name)) => labels.retain(|label| label["name"] != name),
            _ => {}
        }
        thread["labels"] = json!(labels);
        (200, json!(labels))
    }

    fn pull_requests(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", []) => {
                let head = asked.parameter("head").map(str::to_owned);
                let list = self.pulls.keys().rev().filter_map(|number| self.pull(*number));
                let state = asked.parameter("state").unwrap_or("open").to_owned();
                let fits = |pull: &Value| {
                    let name = format!("acme:{}", pull["head"]["ref"].as_str().unwrap_or_default());
                    head.as_ref().is_none_or(|head| *head == name)
                        && (state == "all" || pull["state"] == state)
                };
                (200, list.filter(fits).collect())
            }
            ("POST", []) => {
                let said = asked.body.clone().unwrap_or_default();
                let head = said["head"].as_str().unwrap_or_default();
                let open = self.pulls.keys().filter_map(|number| self.pull(*number));
                let mut same = open.filter(|pull| pull["state"] == "open" && pull["head"]["ref"] == head);
                if same.next().is_some() {
                    return unfit(&format!("A pull request already exists for acme:{head}."));
                }
                if !self.branches.contains_key(head) {
                    return unfit("head: invalid");
                }
                let number = self.threads.keys().max().map_or(1, |last| last + 1);
                self.new_pull(number, BOT, &said);
                (201, self.pull(number).unwrap_or_default())
            }
            ("GET", ["comments"]) => {
                let mut list = self.review_comments.clone();
                list.reverse();
                (200, json!(list))
            }
            ("GET", ["comments", id]) => one(&self.review_comments, "id", id),
            ("POST", ["comments", _, "reactions"]) => (201, json!({ "content": asked.field("content") })),
            ("GET", [_, "reviews"]) => (200, json!([])),
            ("GET", [number]) => number
                .parse()
                .ok()
                .and_then(|number| self.pull(number))
                .map_or_else(missing, |pull| (200, pull)),
            ("PATCH", [number]) => {
                let Some(thread) = self.thread(number) else { return missing() };
                change(thread, asked.body.as_ref(), &["title", "body"]);
                (200, thread.clone())
            }
            ("POST", [number, "requested_reviewers"]) => {
                let people = names(&asked.field("reviewers"));
                if people.iter().any(|name| name == "ghost") {
                    return unfit("Reviews may only be requested from collaborators.");
                }
                let Some(pull) = number.parse().ok().and_then(|number: u64| self.pulls.get_mut(&number))
                else {
                    return missing();
                };
                pull["requested_reviewers"] = people.iter().map(|name| json!({ "login": name })).collect();
                let teams = names(&asked.field("team_reviewers"));
                pull["requested_teams"] = teams.iter().map(|name| json!({ "slug": name })).collect();
                (201, pull.clone())
            }
            _ => missing(),
        }
    }

    fn commits(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", ["git", "ref", "heads", name @ ..]) => reference(self.branches.get(&name.join("/"))),
            ("GET", ["git", "ref", "tags", name @ ..]) => reference(self.tags.get(&name.join("/"))),
            ("GET", ["commits", _, "comments"]) => (200, json!(self.commit_comments)),
            ("POST", ["commits", sha, "comments"]) => {
                let id = self.id();
                let url = format!("{}/{}/commit/{sha}#commitcomment-{id}", self.web, self.path);
                let made = json!({
                    "id": id, "user": account(BOT), "body": asked.field("body"), "commit": sha, "html_url": url,
                });
                self.commit_comments.push(made.clone());
                (201, made)
            }
            ("GET", ["comments", id]) => one(&self.commit_comments, "id", id),
            (_, ["comments", id]) => self.change_comment(asked, id),
            ("GET", ["commits", sha]) => one(&self.commits, "sha", sha),
            ("GET", ["commits", sha, "check-runs"]) => {
                let of = |check: &&Value| check["head_sha"] == **sha;
                let list: Vec<&Value> = self.checks.iter().filter(of).collect();
                (200, json!({ "check_runs": list }))
            }
            ("POST", ["check-runs"]) => {
                let mut made = asked.body.clone().unwrap_or_default();
                made["id"] = json!(self.id());
                made["app"] = json!({ "id": APP });
                made["html_url"] = json!(format!("{}/{}/runs/{}", self.web, self.path, made["id"]));
                made["remarks"] = json!([]);
                add_remarks(&mut made, asked);
                self.checks.push(made.clone());
                (201, made)
            }
            (verb, ["check-runs", id]) => {
                let Some(check) = self.checks.iter_mut().find(|check| is_numbered(check, "id", id)) else {
                    return missing();
                };
                if verb == "PATCH" {
                    add_remarks(check, asked);
                }
                (200, check.clone())
            }
            ("GET", ["commits", sha, "statuses"]) => {
                let of = |status: &&Value| status["sha"] == **sha;
                let list: Vec<&Value> = self.statuses.iter().rev().filter(of).collect();
                (200, json!(list))
            }
            ("POST", ["statuses", sha]) => {
                let mut made = asked.body.clone().unwrap_or_default();
                made["sha"] = json!(sha);
                self.statuses.push(made.clone());
                (201, made)
            }
            _ => missing(),
        }
    }

    fn others(&mut self, asked: &Asked, rest: &[&str]) -> Answer {
        match (asked.method.as_str(), rest) {
            ("GET", ["collaborators", name, "permission"]) => match self.roles.get(*name) {
                Some(role) => (200, json!({ "permission": "read", "role_name": role })),
                None if self.private => missing(),
                None => (200, json!({ "permission": "read", "role_name": "read" })),
            },
            ("GET", ["releases"]) => (200, json!(self.releases)),
            ("POST", ["releases"]) => {
                let mut made = asked.body.clone().unwrap_or_default();
                made["id"] = json!(self.id());
                made["author"] = account(BOT);
                let tag = made["tag_name"].as_str().unwrap_or_default().to_owned();
                made["html_url"] = json!(format!("{}/{}/releases/tag/{tag}", self.web, self.path));
                if made["draft"] != true {
                    let commit = made["target_commitish"].as_str().unwrap_or_default().to_owned();
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

/// The item of a list that has this in a field.
fn one(list: &[Value], field: &str, value: &str) -> Answer {
    let number = value.parse::<u64>().ok();
    let fits = |item: &&Value| item[field] == value || number.is_some_and(|number| item[field] == number);
    list.iter().find(fits).map_or_else(missing, |item| (200, item.clone()))
}

pub fn sha(number: u32) -> String {
    format!("{number:040x}")
}

pub fn account(id: u64) -> Value {
    match id {
        BOT => json!({ "id": BOT, "login": "spellbook[bot]", "type": "Bot" }),
        ADA => json!({ "id": ADA, "login": "ada", "type": "User" }),
        id => json!({ "id": id, "login": format!("user{id}"), "type": "User" }),
    }
}

fn is_numbered(thing: &Value, key: &str, number: &str) -> bool {
    thing[key].as_u64() == number.parse().ok()
}

fn missing() -> Answer {
    (404, json!({ "message": "Not Found" }))
}

fn unfit(message: &str) -> Answer {
    (422, json!({ "message": "Validation Failed", "errors": [{ "message": message, "code": "custom" }] }))
}

fn reference(at: Option<&String>) -> Answer {
    at.map_or_else(missing, |sha| (200, json!({ "object": { "type": "commit", "sha": sha } })))
}

fn change(thing: &mut Value, body: Option<&Value>, fields: &[&str]) {
    for field in fields {
        if let Some(value) = body.and_then(|body| body.get(*field)) {
            thing[*field] = value.clone();
        }
    }
}

fn add_remarks(check: &mut Value, asked: &Asked) {
    let mut remarks = check["remarks"].as_array().cloned().unwrap_or_default();
    let output = asked.field("output");
    remarks.extend(output["annotations"].as_array().cloned().unwrap_or_default());
    check["output"] = json!({ "summary": output["summary"], "annotations_count": remarks.len() });
    check["remarks"] = json!(remarks);
}

fn is_since(asked: &Asked, thing: &Value) -> bool {
    asked.parameter("since").is_none_or(|since| thing["updated_at"].as_str().is_some_and(|at| at >= since))
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
