//! GitLab's objects in the shape of all things, whether a webhook brought them or an answer to a question. What is
//! missing stays missing.

use domain::name::{Branch, ForgeName};
use domain::repository::Place;
use domain::time::Timestamp;
use ports::forge::Found;
use serde_json::{Map, Value, json};

use crate::shape::{flag, number, text};
use crate::thread::Thread;

/// The numbers and names by which a thing of GitLab has what others call otherwise: ours, then theirs.
type Names = &'static [(&'static str, &'static str)];

const THREAD: Names =
    &[("id", "/id"), ("title", "/title"), ("body", "/description"), ("html_url", "/web_url")];
const MOMENTS: [&str; 4] = ["created_at", "updated_at", "closed_at", "merged_at"];

/// An account. Tokens of projects and groups have accounts of their own, which GitLab names so.
pub(crate) fn account(user: &Value) -> Value {
    let Some(login) = text(user, "/username") else { return Value::Null };
    let is_bot = flag(user, "/bot") == Some(true) || is_bot_name(login);
    let kind = if is_bot { "Bot" } else { "User" };
    json!({ "id": user["id"], "login": login, "type": kind })
}

/// `project_7_bot_f2a…`, `group_7_bot_…`.
fn is_bot_name(login: &str) -> bool {
    let mut parts = login.split('_');
    matches!(parts.next(), Some("project" | "group"))
        && parts.next().is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
        && matches!(parts.next(), Some("bot"))
}

/// A project.
pub(crate) fn repository(project: &Value) -> Value {
    json!({ "id": project["id"], "full_name": project["path_with_namespace"],
        "default_branch": project["default_branch"] })
}

/// Which repository a project is; `None` when its number is missing, or its path could not be one.
pub(crate) fn place(forge: &ForgeName, project: &Value) -> Option<Place> {
    let path = text(project, "/path_with_namespace").filter(|path| is_path(path))?;
    Some(Place { forge: forge.clone(), path: path.to_owned(), id: number(project, "/id")? })
}

/// A project, and where git finds it: below the forge's own address, whatever the object says.
pub(crate) fn found(forge: &ForgeName, web_url: &str, project: &Value) -> Option<Found> {
    let place = place(forge, project)?;
    let url = format!("{}/{}.git", web_url.trim_end_matches('/'), place.path);
    let default_branch = text(project, "/default_branch").and_then(|name| Branch::parse(name).ok());
    Some(Found { place, url, default_branch })
}

/// `group/subgroup/name`, of what GitLab allows in each; it goes into addresses.
pub(crate) fn is_path(path: &str) -> bool {
    let fits = |part: &str| {
        (1..=255).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    // `/-/` begins what is no repository; groups are nested twenty deep at most.
    (2..=21).contains(&path.split('/').count()) && path.split('/').all(fits)
}

/// An issue.
pub(crate) fn issue(issue: &Value) -> Option<Value> {
    let mut shown = thread(issue, Thread::Issue(number(issue, "/iid")?));
    shown.insert("pull_request".to_owned(), Value::Null);
    Some(Value::Object(shown))
}

/// A merge request.
pub(crate) fn merge_request(request: &Value) -> Option<Value> {
    let mut shown = thread(request, Thread::MergeRequest(number(request, "/iid")?));
    shown.insert("draft".to_owned(), json!(flag(request, "/draft").unwrap_or(false)));
    shown.insert("merged".to_owned(), json!(text(request, "/state") == Some("merged")));
    // Who merges closes.
    if text(request, "/closed_at").is_none()
        && let Some(merged) = shown.get("merged_at").cloned()
    {
        shown.insert("closed_at".to_owned(), merged);
    }
    let sha = text(request, "/sha").or_else(|| text(request, "/last_commit/id"));
    let side = |branch: &str, id: &str, path: &str, sha: Option<&str>| {
        let repository = json!({ "id": request[id], "full_name": request.pointer(path) });
        let mut side = json!({ "ref": request[branch], "repo": repository });
        if let Some(sha) = sha {
            side["sha"] = json!(sha);
        }
        side
    };
    let head = side("source_branch", "source_project_id", "/source/path_with_namespace", sha);
    let base = text(request, "/diff_refs/base_sha");
    let base = side("target_branch", "target_project_id", "/target/path_with_namespace", base);
    shown.insert("head".to_owned(), head);
    shown.insert("base".to_owned(), base);
    Some(Value::Object(shown))
}

/// A merge request where it stands for a thread.
pub(crate) fn as_thread(mut merge_request: Value) -> Value {
    merge_request["pull_request"] = json!({});
    merge_request
}

fn thread(thing: &Value, thread: Thread) -> Map<String, Value> {
    let mut shown = renamed(thing, THREAD);
    shown.insert("number".to_owned(), json!(thread.number()));
    if let Some(url) = thing.get("url").filter(|_| !shown.contains_key("html_url")) {
        shown.insert("html_url".to_owned(), url.clone());
    }
    // `locked` is closed for a moment, while it is merged.
    if let Some(state) = text(thing, "/state") {
        shown.insert("state".to_owned(), json!(if state == "opened" { "open" } else { "closed" }));
    }
    let labels = thing.get("labels").and_then(Value::as_array).into_iter().flatten();
    let labels = labels.filter_map(|label| label.as_str().or_else(|| text(label, "/title")));
    shown.insert("labels".to_owned(), labels.map(|name| json!({ "name": name })).collect());
    if let Some(author) = thing.get("author").map(account).filter(|author| !author.is_null()) {
        shown.insert("user".to_owned(), author);
    }
    moments(&mut shown, thing);
    shown
}

/// A comment. Those at a line of a change say where that is.
pub(crate) fn comment(note: &Value) -> Value {
    let mut shown = renamed(note, &[("id", "/id"), ("html_url", "/url")]);
    let body = text(note, "/note").or_else(|| text(note, "/body")).unwrap_or_default();
    shown.insert("body".to_owned(), json!(body));
    shown.extend(renamed(note, &[("path", "/position/new_path"), ("line", "/position/new_line")]));
    if let Some(author) = note.get("author").map(account).filter(|author| !author.is_null()) {
        shown.insert("user".to_owned(), author);
    }
    moments(&mut shown, note);
    Value::Object(shown)
}

/// A status.
pub(crate) fn status(status: &Value) -> Value {
    let state = match text(status, "/status").unwrap_or_default() {
        "success" => "success",
        "failed" | "canceled" => "failure",
        _ => "pending",
    };
    let mut shown = renamed(status, &[("description", "/description"), ("target_url", "/target_url")]);
    shown.insert("context".to_owned(), status["name"].clone());
    shown.insert("state".to_owned(), json!(state));
    Value::Object(shown)
}

/// A release, of a webhook or of an answer. It has no number.
pub(crate) fn release(release: &Value) -> Value {
    let names: Names = &[
        ("tag_name", "/tag_name"),
        ("tag_name", "/tag"),
        ("name", "/name"),
        ("body", "/description"),
        ("html_url", "/_links/self"),
        ("html_url", "/url"),
        ("target_commitish", "/commit/id"),
    ];
    let mut shown = renamed(release, names);
    shown.insert("id".to_owned(), json!(0));
    shown.insert("draft".to_owned(), json!(false));
    shown.insert("prerelease".to_owned(), json!(false));
    if let Some(author) = release.get("author") {
        shown.insert("author".to_owned(), account(author));
    }
    if let Some(at) = release.get("released_at").and_then(moment) {
        shown.insert("published_at".to_owned(), json!(at));
    }
    moments(&mut shown, release);
    Value::Object(shown)
}

/// What is there, under our names.
fn renamed(thing: &Value, names: Names) -> Map<String, Value> {
    let there = |(ours, theirs): &(&str, &str)| {
        let value = thing.pointer(theirs).filter(|value| !value.is_null())?;
        Some(((*ours).to_owned(), value.clone()))
    };
    let mut renamed = Map::new();
    for (key, value) in names.iter().filter_map(there) {
        renamed.entry(key).or_insert(value);
    }
    renamed
}

fn moments(shown: &mut Map<String, Value>, thing: &Value) {
    for key in MOMENTS {
        if let Some(at) = thing.get(key).and_then(moment) {
            shown.insert(key.to_owned(), json!(at));
        }
    }
}

/// A moment. GitLab writes them in several ways, in webhooks without their milliseconds: so it is told everywhere.
pub(crate) fn moment(written: &Value) -> Option<String> {
    let written = written.as_str()?;
    let written = match written.strip_suffix(" UTC") {
        Some(rest) => format!("{}Z", rest.replacen(' ', "T", 1)),
        None => written.to_owned(),
    };
    let at = Timestamp::said(&written, Timestamp::EPOCH).filter(|_| written.contains('T'))?;
    Some(Timestamp::from_millis(at.millis() - at.millis().rem_euclid(1_000)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_one_way() {
        let check = |written: &str, expect: Option<&str>| {
            assert_eq!(moment(&json!(written)).as_deref(), expect, "{written}");
        };
        check("2016-01-04 15:31:46 UTC", Some("2016-01-04T15:31:46.000Z"));
        check("2016-01-04T15:31:46.176Z", Some("2016-01-04T15:31:46.000Z"));
        check("2016-01-04T15:31:46+02:00", Some("2016-01-04T13:31:46.000Z"));
        for odd in ["", "yesterday", "2016-01-04", "7d", "2016-01-04 15:31:46"] {
            check(odd, None);
        }
    }

    #[test]
    fn bots_are_known_by_what_gitlab_calls_them() {
        let kind = |user: Value| account(&user)["type"].clone();
        assert_eq!(kind(json!({ "id": 1, "username": "project_7_bot_0af3" })), "Bot");
        assert_eq!(kind(json!({ "id": 1, "username": "group_7_bot" })), "Bot");
        assert_eq!(kind(json!({ "id": 1, "username": "renovate", "bot": true })), "Bot");
        for login in ["project_x_bot", "project__bot", "mybot", "project_7_both", "ada"] {
            assert_eq!(kind(json!({ "id": 1, "username": login })), "User", "{login}");
        }
        assert_eq!(account(&json!({ "id": 1 })), Value::Null);
    }

    #[test]
    fn paths_are_decent() {
        for path in ["acme/app", "acme/team/tools/app", "acme_x/.app"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "acme", "acme/", "/app", "acme/-/app", "acme/../app", "a/b c", "a/b?c", "-o/app"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
