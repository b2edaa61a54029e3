//! From what forges say to facts: one shape, whether a webhook brought it or an answer to a question.
//!
//! The shape is GitHub's, of which this server's own events have the names too; adapters of forges that say it
//! otherwise bring it into this shape first:
//!
//! | thing | fields that are read |
//! | --- | --- |
//! | repository | `id`, `full_name`, `default_branch` |
//! | account | `id`, `login`, `type`: `Bot` for a program |
//! | thread | `id`, `number`, `title`, `body`, `state`: `open` or `closed`, `html_url`, `user`, `labels[].name`, `created_at`, `updated_at`, `closed_at`; of an issue `pull_request`, absent or null |
//! | pull request | a thread's, `draft`, `merged` or `merged_at`, `head` and `base`, each with `ref`, `sha`, `repo.id`, `repo.full_name` |
//! | comment | `id`, `body`, `html_url`, `user`, `path`, `line`, `created_at`, `updated_at` |
//! | status | `context`, `state`, `description`, `target_url` |
//! | release | `id`, `tag_name`, `target_commitish`, `name`, `body`, `draft`, `prerelease`, `html_url`, `author`, `created_at`, `published_at` |
//! | suite of checks | `id`, `conclusion`, `head_branch`, `head_sha`, `updated_at`, `app.slug` |
//!
//! Objects are read field by field. What is missing, or of another type than it should be, is left out;
//! a fact needs no more than what its key is made of. So a server of another year, or a body that somebody
//! made up, costs a field and never a panic.
//!
//! Keys say what cannot happen twice, in words that a webhook and a later question have in common:
//!
//! | fact | key |
//! | --- | --- |
//! | a comment was written | `comment/<issue or review>/<id>` |
//! | a pull request has this newest commit (`opened`, `synchronize`) | `pull/<number>/head/<commit>` |
//! | a pull request was closed | `pull/<number>/closed/<closed_at>` |
//! | anything else about one | `pull/<number>/<action>/<updated_at>` |
//! | an issue was opened or closed | `issue/<number>/<action>/<created_at or closed_at>` |
//! | anything else about one | `issue/<number>/<action>/<updated_at>` |
//! | a label was put on | `label/<number>/<name>/<moment>` |
//! | a release | `release/<id>/<action>` |
//! | a suite of checks ended | `check_suite/<id>/<conclusion>/<updated_at>` |
//!
//! Opening and pushing share a key, since who asks later sees only where a pull request is now, not
//! which of the two brought it there.

use domain::effect::CommentKind;
use domain::event::{Actor, EventKind};
use domain::name::{Branch, Commit, ForgeName};
use domain::repository::Place;
use domain::time::Timestamp;
use ports::forge::{Fact, Found};
use serde_json::{Map, Value, json};

/// What all facts have in common: beside the thing itself, who did what to it, where.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The finer kind: `created`.
    pub action: &'a str,
    /// The account of who did it.
    pub sender: &'a Value,
    /// The repository.
    pub repository: &'a Value,
    /// The number of the server's own account, where it is known: what it does is a program's doing.
    pub own: Option<u64>,
    /// When it was heard of, for things that do not say when they happened.
    pub at: Timestamp,
}

/// Somebody wrote a comment. `thread` is what it is under: an issue, or the pull request of a review's
/// comment. Of the actions there is only `created`: an edit is no fact.
pub fn comment_fact(told: &Told<'_>, kind: CommentKind, comment: &Value, thread: &Value) -> Option<Fact> {
    let id = number(comment, "/id")?;
    let (word, under, thread) = match kind {
        CommentKind::Issue => ("issue", "issue", issue_payload(thread)),
        CommentKind::Review => ("review", "pull_request", pull_payload(thread)),
    };
    number(&thread, "/number")?;
    let mut payload = told.payload(&thread);
    let mut said = Map::from_iter([("id".to_owned(), json!(id)), ("kind".to_owned(), json!(word))]);
    body(&mut said, comment);
    texts(&mut said, comment, &["html_url"]);
    user(&mut said, comment);
    texts(&mut said, comment, &["path"]);
    numbers(&mut said, comment, &["line"]);
    payload.insert(under.to_owned(), thread);
    payload.insert("comment".to_owned(), Value::Object(said));
    let at = moment(comment, "/created_at").unwrap_or(told.at);
    Some(told.fact(format!("comment/{word}/{id}"), EventKind::Comment, payload, at))
}

/// Something happened to a pull request.
pub fn pull_fact(told: &Told<'_>, pull: &Value) -> Option<Fact> {
    let pull_number = number(pull, "/number")?;
    let at = happened(told, pull);
    let action = told.action;
    let key = match action {
        "opened" | "synchronize" => format!("pull/{pull_number}/head/{}", text(pull, "/head/sha")?),
        _ => format!("pull/{pull_number}/{action}/{at}"),
    };
    let pull = pull_payload(pull);
    let mut payload = told.payload(&pull);
    payload.insert("pull_request".to_owned(), pull);
    Some(told.fact(key, EventKind::PullRequest, payload, at))
}

/// Something happened to an issue. A pull request is none, although forges list them together.
pub fn issue_fact(told: &Told<'_>, issue: &Value) -> Option<Fact> {
    let issue_number = number(issue, "/number")?;
    let at = happened(told, issue);
    let issue = issue_payload(issue);
    if flag(&issue, "/pull_request") == Some(true) {
        return None;
    }
    let mut payload = told.payload(&issue);
    payload.insert("issue".to_owned(), issue);
    let key = format!("issue/{issue_number}/{}/{at}", told.action);
    Some(told.fact(key, EventKind::Issues, payload, at))
}

/// Somebody put a label on an issue or a pull request, which `thread` says. `at` is when, as the forge's list of
/// events has it; a webhook does not say, but the thing was changed by it.
pub fn label_fact(told: &Told<'_>, label: &Value, thread: Thread<'_>, at: Option<Timestamp>) -> Option<Fact> {
    let name = text(label, "/name")?;
    let (under, raw, thread) = match thread {
        Thread::Issue(issue) => ("issue", issue, issue_payload(issue)),
        Thread::Pull(pull) => ("pull_request", pull, pull_payload(pull)),
    };
    let thread_number = number(&thread, "/number")?;
    let at = at.or_else(|| moment(raw, "/updated_at")).unwrap_or(told.at);
    let mut payload = told.payload(&thread);
    payload.insert(under.to_owned(), thread);
    payload.insert("label".to_owned(), json!({ "name": name }));
    let key = format!("label/{thread_number}/{name}/{at}");
    Some(told.fact(key, EventKind::Label, payload, at))
}

/// What a label was put on.
#[derive(Debug, Clone, Copy)]
pub enum Thread<'a> {
    /// An issue, which a pull request is too in some lists.
    Issue(&'a Value),
    /// A pull request.
    Pull(&'a Value),
}

/// Something happened to a release.
pub fn release_fact(told: &Told<'_>, release: &Value) -> Option<Fact> {
    let id = number(release, "/id")?;
    let mut shown = Map::new();
    texts(&mut shown, release, &["tag_name", "name"]);
    body(&mut shown, release);
    flags(&mut shown, release, &["draft", "prerelease"]);
    texts(&mut shown, release, &["html_url", "target_commitish"]);
    let mut payload = told.payload(&Value::Null);
    payload.insert("release".to_owned(), Value::Object(shown));
    let at = moment(release, "/published_at").or_else(|| moment(release, "/created_at")).unwrap_or(told.at);
    let mut fact = told.fact(format!("release/{id}/{}", told.action), EventKind::Release, payload, at);
    fact.branch = text(release, "/target_commitish").and_then(|name| Branch::parse(name).ok());
    Some(fact)
}

/// A suite of checks ended.
pub fn check_suite_fact(told: &Told<'_>, suite: &Value) -> Option<Fact> {
    let id = number(suite, "/id")?;
    let at = moment(suite, "/updated_at").unwrap_or(told.at);
    let conclusion = text(suite, "/conclusion").unwrap_or("none");
    let mut shown = Map::new();
    texts(&mut shown, suite, &["conclusion", "head_branch", "head_sha"]);
    if let Some(slug) = text(suite, "/app/slug") {
        shown.insert("app".to_owned(), json!({ "slug": slug }));
    }
    let mut payload = told.payload(&Value::Null);
    payload.insert("check_suite".to_owned(), Value::Object(shown));
    let key = format!("check_suite/{id}/{conclusion}/{at}");
    let mut fact = told.fact(key, EventKind::CheckSuite, payload, at);
    fact.branch = text(suite, "/head_branch").and_then(|name| Branch::parse(name).ok());
    fact.commit = text(suite, "/head_sha").and_then(|id| Commit::parse(id).ok());
    Some(fact)
}

/// A pull request as `${event.pull_request}` shows it.
pub fn pull_payload(pull: &Value) -> Value {
    let mut shown = Map::new();
    numbers(&mut shown, pull, &["number"]);
    texts(&mut shown, pull, &["title"]);
    body(&mut shown, pull);
    texts(&mut shown, pull, &["state"]);
    flags(&mut shown, pull, &["draft"]);
    shown.insert("merged".to_owned(), json!(is_merged(pull)));
    texts(&mut shown, pull, &["html_url"]);
    user(&mut shown, pull);
    shown.insert("labels".to_owned(), labels(pull));
    let mut head = side(pull, "/head");
    if let Some(name) = text(pull, "/head/repo/full_name") {
        head.insert("repo".to_owned(), json!({ "full_name": name }));
    }
    shown.insert("head".to_owned(), Value::Object(head));
    shown.insert("base".to_owned(), Value::Object(side(pull, "/base")));
    shown.insert("fork".to_owned(), json!(is_from_fork(pull)));
    Value::Object(shown)
}

/// An issue as `${event.issue}` shows it; whether it is a pull request in truth is said too.
pub fn issue_payload(issue: &Value) -> Value {
    let mut shown = Map::new();
    numbers(&mut shown, issue, &["number"]);
    texts(&mut shown, issue, &["title"]);
    body(&mut shown, issue);
    texts(&mut shown, issue, &["state", "html_url"]);
    user(&mut shown, issue);
    shown.insert("labels".to_owned(), labels(issue));
    let is_pull = issue.get("pull_request").is_some_and(|pull| !pull.is_null());
    shown.insert("pull_request".to_owned(), json!(is_pull));
    Value::Object(shown)
}

/// Whether the branch of a pull request is in another repository. One that is gone was another.
pub fn is_from_fork(pull: &Value) -> bool {
    match (number(pull, "/head/repo/id"), number(pull, "/base/repo/id")) {
        (Some(head), Some(base)) => head != base,
        _ => true,
    }
}

/// Which repository this is; `None` when its number is missing, or its path could not be one.
pub fn place(forge: &ForgeName, repository: &Value) -> Option<Place> {
    let path = text(repository, "/full_name").filter(|path| is_path(path))?;
    Some(Place { forge: forge.clone(), path: path.to_owned(), id: number(repository, "/id")? })
}

/// A repository, and where git finds it: below the forge's own address, whatever the object says.
pub fn found(forge: &ForgeName, web_url: &str, repository: &Value) -> Option<Found> {
    let place = place(forge, repository)?;
    let url = format!("{}/{}.git", web_url.trim_end_matches('/'), place.path);
    let default_branch = text(repository, "/default_branch").and_then(|name| Branch::parse(name).ok());
    Some(Found { place, url, default_branch })
}

/// The text at a pointer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The number at a pointer.
pub fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer)?.as_u64()
}

/// The yes or no at a pointer.
pub fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer)?.as_bool()
}

/// The moment at a pointer.
pub fn moment(value: &Value, pointer: &str) -> Option<Timestamp> {
    let written = text(value, pointer).filter(|written| written.contains('T'))?;
    Timestamp::said(written, Timestamp::EPOCH)
}

impl Told<'_> {
    /// Who did it. Programs and the server itself are told apart by what the forge says of the account, not by
    /// its name.
    fn actor(&self) -> Actor {
        let own = self.own.is_some() && number(self.sender, "/id") == self.own;
        Actor {
            name: text(self.sender, "/login").unwrap_or("ghost").to_owned(),
            role: None,
            bot: own || matches!(text(self.sender, "/type"), Some("Bot")),
        }
    }

    /// What all payloads begin with.
    fn payload(&self, thread: &Value) -> Map<String, Value> {
        let mut payload = Map::new();
        numbers(&mut payload, thread, &["number"]);
        payload.insert("action".to_owned(), json!(self.action));
        let mut sender = Map::new();
        texts(&mut sender, self.sender, &["login", "type"]);
        numbers(&mut sender, self.sender, &["id"]);
        payload.insert("sender".to_owned(), Value::Object(sender));
        let mut repository = Map::new();
        texts(&mut repository, self.repository, &["full_name"]);
        payload.insert("repository".to_owned(), Value::Object(repository));
        payload
    }

    fn fact(&self, key: String, kind: EventKind, payload: Map<String, Value>, at: Timestamp) -> Fact {
        let thread = payload.get("pull_request").or_else(|| payload.get("issue")).unwrap_or(&Value::Null);
        let labels = thread.get("labels").and_then(Value::as_array).into_iter().flatten();
        Fact {
            key,
            kind,
            action: Some(self.action.to_owned()),
            branch: text(thread, "/base/ref").and_then(|name| Branch::parse(name).ok()),
            commit: text(thread, "/head/sha").and_then(|id| Commit::parse(id).ok()),
            actor: self.actor(),
            labels: labels.filter_map(|label| text(label, "/name")).map(str::to_owned).collect(),
            draft: flag(thread, "/draft").unwrap_or(false),
            payload: Value::Object(payload),
            occurred_at: at,
        }
    }
}

/// When a thing was opened, closed or otherwise changed.
fn happened(told: &Told<'_>, thing: &Value) -> Timestamp {
    let first = match told.action {
        "opened" => "/created_at",
        "closed" => "/closed_at",
        _ => "/updated_at",
    };
    moment(thing, first).or_else(|| moment(thing, "/updated_at")).unwrap_or(told.at)
}

/// A list has no `merged`, but says when it was.
fn is_merged(pull: &Value) -> bool {
    flag(pull, "/merged").unwrap_or_else(|| text(pull, "/merged_at").is_some())
}

/// One side of a pull request.
fn side(pull: &Value, pointer: &str) -> Map<String, Value> {
    let mut shown = Map::new();
    if let Some(side) = pull.pointer(pointer) {
        texts(&mut shown, side, &["ref", "sha"]);
    }
    shown
}

fn labels(thing: &Value) -> Value {
    let labels = thing.get("labels").and_then(Value::as_array).into_iter().flatten();
    labels.filter_map(|label| Some(json!({ "name": text(label, "/name")? }))).collect()
}

fn user(shown: &mut Map<String, Value>, thing: &Value) {
    if let Some(login) = text(thing, "/user/login") {
        shown.insert("user".to_owned(), json!({ "login": login }));
    }
}

/// What people wrote; who wrote nothing wrote an empty text.
fn body(shown: &mut Map<String, Value>, thing: &Value) {
    shown.insert("body".to_owned(), json!(text(thing, "/body").unwrap_or_default()));
}

fn texts(shown: &mut Map<String, Value>, thing: &Value, keys: &[&str]) {
    copy(shown, thing, keys, Value::is_string);
}

fn numbers(shown: &mut Map<String, Value>, thing: &Value, keys: &[&str]) {
    copy(shown, thing, keys, Value::is_u64);
}

fn flags(shown: &mut Map<String, Value>, thing: &Value, keys: &[&str]) {
    copy(shown, thing, keys, Value::is_boolean);
}

fn copy(shown: &mut Map<String, Value>, thing: &Value, keys: &[&str], fits: fn(&Value) -> bool) {
    for key in keys {
        if let Some(value) = thing.get(*key).filter(|value| fits(value)) {
            shown.insert((*key).to_owned(), value.clone());
        }
    }
}

/// `owner/name`, of what forges allow in either; it goes into addresses.
fn is_path(path: &str) -> bool {
    let fits = |part: &str| {
        (1..=100).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    path.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);

    fn pull(head_repository: &Value) -> Value {
        json!({
            "number": 7, "title": "Mend", "body": null, "state": "open", "draft": true, "merged_at": null,
            "html_url": "https://github.com/acme/app/pull/7", "user": { "login": "eve", "id": 3 },
            "labels": [{ "name": "bug", "color": "f00" }, { "name": 7 }],
            "head": { "ref": "mend", "sha": SHA, "repo": head_repository },
            "base": { "ref": "main", "sha": SHA, "repo": { "id": 1, "full_name": "acme/app" } },
            "created_at": "2026-11-22T09:00:00Z", "updated_at": "2026-11-22T10:00:00Z", "closed_at": null,
        })
    }

    fn told<'a>(action: &'a str, sender: &'a Value, repository: &'a Value) -> Told<'a> {
        Told { action, sender, repository, own: Some(99), at: NOW }
    }

    #[test]
    fn a_pull_request_is_shown_in_few_words() {
        let sender = json!({ "login": "eve", "id": 3, "type": "User", "avatar_url": "x" });
        let repository = json!({ "id": 1, "full_name": "acme/app" });
        let fact = pull_fact(
            &told("opened", &sender, &repository),
            &pull(&json!({ "id": 2, "full_name": "eve/app" })),
        )
        .expect("a fact");
        insta::assert_json_snapshot!(fact.payload);
        assert_eq!(fact.key, format!("pull/7/head/{SHA}"));
        assert_eq!(fact.branch.as_ref().map(Branch::as_str), Some("main"));
        assert_eq!(fact.commit.as_ref().map(Commit::as_str), Some(SHA));
        assert_eq!((fact.draft, fact.labels.as_slice()), (true, ["bug".to_owned()].as_slice()));
        assert_eq!(fact.occurred_at.to_string(), "2026-11-22T09:00:00.000Z");
        assert_eq!(fact.actor, Actor { name: "eve".to_owned(), role: None, bot: false });
    }

    #[test]
    fn keys_are_what_cannot_happen_twice() {
        let nobody = Value::Null;
        let key =
            |action, pull: &Value| pull_fact(&told(action, &nobody, &nobody), pull).map(|fact| fact.key);
        let open = pull(&json!({ "id": 1 }));
        assert_eq!(key("synchronize", &open), key("opened", &open));
        assert_eq!(key("edited", &open).as_deref(), Some("pull/7/edited/2026-11-22T10:00:00.000Z"));
        assert_eq!(key("edited", &json!({ "id": 7 })), None, "without a number");
        assert_eq!(key("opened", &json!({ "number": 7 })), None, "without a commit");

        let issue = json!({ "number": 8, "created_at": "2026-11-22T08:00:00Z", "closed_at": "2026-11-22T09:30:00Z",
            "updated_at": "2026-11-22T09:45:00Z" });
        let key = |action| issue_fact(&told(action, &nobody, &nobody), &issue).map(|fact| fact.key);
        assert_eq!(key("opened").as_deref(), Some("issue/8/opened/2026-11-22T08:00:00.000Z"));
        assert_eq!(key("closed").as_deref(), Some("issue/8/closed/2026-11-22T09:30:00.000Z"));
        assert_eq!(key("edited").as_deref(), Some("issue/8/edited/2026-11-22T09:45:00.000Z"));
        let pull = json!({ "number": 8, "pull_request": { "url": "x" } });
        assert_eq!(issue_fact(&told("opened", &nobody, &nobody), &pull), None);
    }

    #[test]
    fn a_comment_knows_where_it_stands() {
        let sender = json!({ "login": "renovate[bot]", "id": 5, "type": "Bot" });
        let repository = json!({ "full_name": "acme/app" });
        let comment = json!({ "id": 21, "body": "/spellbook help", "html_url": "https://github.com/c",
            "user": { "login": "ada" }, "path": "src/a.rs", "line": 3, "created_at": "2026-11-22T10:00:00Z" });
        let issue = json!({ "number": 8, "pull_request": { "url": "x" }, "labels": [{ "name": "bug" }] });
        let told = told("created", &sender, &repository);
        let fact = comment_fact(&told, CommentKind::Issue, &comment, &issue).expect("a fact");
        insta::assert_json_snapshot!(fact.payload);
        assert_eq!((fact.key.as_str(), fact.actor.bot), ("comment/issue/21", true));

        let fact = comment_fact(&told, CommentKind::Review, &comment, &pull(&Value::Null)).expect("a fact");
        assert_eq!(fact.key, "comment/review/21");
        assert_eq!(fact.payload.pointer("/pull_request/fork"), Some(&json!(true)));
        assert_eq!(fact.payload.pointer("/comment/line"), Some(&json!(3)));
        assert_eq!(comment_fact(&told, CommentKind::Issue, &comment, &json!({})), None, "under nothing");
    }

    #[test]
    fn labels_releases_and_suites_are_facts() {
        let sender = json!({ "login": "spellbook", "id": 99, "type": "User" });
        let repository = json!({ "full_name": "acme/app" });
        let told = told("labeled", &sender, &repository);
        let label = json!({ "name": "review" });
        let own = pull(&json!({ "id": 1 }));
        let fact = label_fact(&told, &label, Thread::Pull(&own), None).expect("a fact");
        assert_eq!(fact.key, "label/7/review/2026-11-22T10:00:00.000Z");
        assert!(fact.actor.bot, "the server's own account, which is no bot to GitHub");
        assert_eq!(fact.payload.pointer("/pull_request/fork"), Some(&json!(false)));
        let fact = label_fact(&told, &label, Thread::Issue(&own), Some(NOW)).expect("a fact");
        assert_eq!(fact.key, format!("label/7/review/{NOW}"));

        let release = json!({ "id": 4, "tag_name": "v1", "draft": false, "target_commitish": "main",
            "published_at": "2026-11-22T10:00:00Z", "author": {} });
        let fact = release_fact(&Told { action: "published", ..told }, &release).expect("a fact");
        assert_eq!(fact.key, "release/4/published");
        insta::assert_json_snapshot!(fact.payload);

        let suite = json!({ "id": 6, "conclusion": "failure", "head_branch": null, "head_sha": SHA,
            "updated_at": "2026-11-22T10:00:00Z", "app": { "slug": "github-actions" } });
        let fact = check_suite_fact(&Told { action: "completed", ..told }, &suite).expect("a fact");
        assert_eq!(fact.key, "check_suite/6/failure/2026-11-22T10:00:00.000Z");
        insta::assert_json_snapshot!(fact.payload);
    }

    #[test]
    fn repositories_have_a_number_and_a_decent_path() {
        let forge: ForgeName = "github".parse().expect("a name");
        let check = |path: &str, expect: bool| {
            let found = found(&forge, "https://github.com/", &json!({ "id": 1, "full_name": path }));
            assert_eq!(
                found.map(|found| found.url),
                expect.then(|| format!("https://github.com/{path}.git"))
            );
        };
        check("acme/app", true);
        check("acme_corp/.github", true);
        for path in
            ["", "acme", "acme/", "/app", "acme/app/x", "acme/..", "acme/a b", "-o/app", "acme/a?b", "a@b/c"]
        {
            check(path, false);
        }
        assert_eq!(place(&forge, &json!({ "id": "1", "full_name": "acme/app" })), None);
    }

    #[test]
    fn whatever_is_there_nothing_panics() {
        let odd = [
            json!(null),
            json!([]),
            json!("x"),
            json!(7),
            json!({ "id": "x" }),
            json!({ "number": -1 }),
            json!({ "id": 1, "number": 1, "head": [], "base": "x", "labels": {}, "user": 7, "updated_at": "T" }),
        ];
        for thing in &odd {
            for other in &odd {
                let told = told("opened", thing, other);
                let _ = comment_fact(&told, CommentKind::Issue, thing, other);
                let _ = comment_fact(&told, CommentKind::Review, other, thing);
                let _ = (pull_fact(&told, thing), issue_fact(&told, other), release_fact(&told, thing));
                let _ = (check_suite_fact(&told, thing), label_fact(&told, other, Thread::Pull(thing), None));
            }
        }
    }
}
