//! What is made of GitLab's webhooks. No package carries recorded ones: these are written by hand, after its
//! documentation ("Webhook events").

use std::fmt::Write;

use domain::time::Timestamp;
use forge_gitlab::Reader;
use ports::forge::{Moved, Understood};
use serde_json::{Value, json};

use crate::hub::{ADA, BOB, OWN, account, sha};

const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);

fn understand(name: &str, body: &[u8]) -> Understood {
    Reader { forge: &"gitlab".parse().unwrap(), own: Some(OWN) }.understand(name, body, NOW)
}

/// What was made of a payload, in a line.
fn told(name: &str, payload: &Value) -> String {
    match understand(name, &serde_json::to_vec(payload).unwrap()) {
        Understood::Ignored(reason) => format!("- {reason}"),
        Understood::Installed { .. } => panic!("GitLab says nothing of the kind"),
        Understood::About { place, moved, facts } => {
            let mut line = place.path;
            if moved == Moved::Perhaps {
                line.push_str(", moved perhaps");
            }
            for fact in facts {
                let (kind, actor) = (fact.kind.as_str(), &fact.actor);
                let action = fact.action.unwrap_or_default();
                let _ = write!(line, ", {kind} {action} {} by {}", fact.key, actor.name);
                line.push_str(if actor.bot { " (a bot)" } else { "" });
            }
            line
        }
    }
}

fn with(rest: &Value) -> Value {
    let mut payload = json!({
        "user": account(ADA),
        "project": { "id": 7, "path_with_namespace": "acme/team/app", "default_branch": "main",
            "git_http_url": "https://elsewhere.example/evil.git" },
    });
    payload.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    payload
}

fn request(action: &str, more: &Value) -> Value {
    let mut attributes = json!({
        "id": 99, "iid": 4, "title": "Mend it", "description": "Please.", "state": "opened", "draft": false,
        "action": action, "author_id": ADA, "source_branch": "mend", "target_branch": "main",
        "source_project_id": 8, "target_project_id": 7, "source": { "path_with_namespace": "eve/app" },
        "target": { "path_with_namespace": "acme/team/app" }, "last_commit": { "id": sha(2) },
        "url": "https://gitlab.example/acme/team/app/-/merge_requests/4",
        "created_at": "2026-11-22 08:00:00 UTC", "updated_at": "2026-11-22 09:00:00 UTC",
    });
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    attributes
}

fn issue(action: &str) -> Value {
    json!({
        "id": 301, "iid": 23, "title": "It breaks", "description": "Look.", "state": "opened", "action": action,
        "author_id": BOB, "url": "https://gitlab.example/acme/team/app/-/issues/23", "confidential": false,
        "created_at": "2026-11-22T08:00:00Z", "updated_at": "2026-11-22T09:00:00Z",
    })
}

fn note(on: &str, more: &Value) -> Value {
    let mut note = json!({
        "id": 1243, "note": "/spellbook help", "noteable_type": on, "author_id": ADA, "system": false,
        "action": "create", "url": "https://gitlab.example/x#note_1243",
        "created_at": "2026-11-22 09:00:00 UTC", "updated_at": "2026-11-22 09:00:00 UTC",
    });
    note.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    note
}

fn cases() -> Vec<(&'static str, Value)> {
    let label = |title: &str| json!({ "id": 1, "title": title, "type": "ProjectLabel" });
    let labels = json!({ "labels": { "previous": [label("old")], "current": [label("old"), label("bug")] } });
    let off = json!({ "labels": { "previous": [label("old")], "current": [] } });
    let of_request =
        |action: &str, more: Value| with(&json!({ "object_attributes": request(action, &more) }));
    let of_issue = |action: &str| with(&json!({ "object_attributes": issue(action) }));
    let of_note = |on: &str, more: Value| {
        with(&json!({ "object_attributes": note(on, &more), "issue": issue(""),
            "merge_request": request("", &json!({})) }))
    };
    let pipeline = |status: &str| {
        with(&json!({ "object_attributes": { "id": 31, "ref": "main", "sha": sha(1), "status": status,
            "finished_at": "2026-11-22 09:00:00 UTC" } }))
    };
    let mut cases = vec![
        (
            "push",
            json!({ "user_id": ADA, "user_username": "ada", "ref": "refs/heads/main", "project": with(&json!({}))["project"] }),
        ),
        ("tag_push", with(&json!({ "ref": "refs/tags/v1" }))),
        ("merge_request", of_request("update", json!({ "oldrev": sha(1) }))),
        ("merge_request", of_request("merge", json!({ "state": "merged" }))),
        (
            "note",
            of_note(
                "MergeRequest",
                json!({ "type": "DiffNote", "position": { "new_path": "a.rs", "new_line": 3 } }),
            ),
        ),
        ("note", of_note("MergeRequest", json!({}))),
        ("note", of_note("MergeRequest", json!({ "action": null }))),
        ("note", of_note("Issue", json!({}))),
        ("note", of_note("Issue", json!({ "action": "update" }))),
        ("note", of_note("Issue", json!({ "system": true }))),
        ("note", of_note("Issue", json!({ "internal": true }))),
        ("note", of_note("Commit", json!({}))),
        ("note", of_note("Snippet", json!({}))),
        ("confidential_note", of_note("Issue", json!({}))),
        ("confidential_issue", of_issue("open")),
        (
            "release",
            with(
                &json!({ "action": "create", "id": 6, "tag": "v1", "name": "1", "released_at": "2026-11-22 09:00:00 UTC" }),
            ),
        ),
        ("release", with(&json!({ "action": "update", "id": 6, "tag": "v1" }))),
        ("release", with(&json!({ "action": "create", "id": 6 }))),
        ("job", with(&json!({}))),
        ("system", with(&json!({}))),
        ("merge_request", json!({ "user": account(ADA), "object_attributes": request("open", &json!({})) })),
        ("merge_request", with(&json!({ "object_attributes": { "iid": 4, "action": "open" } }))),
        ("issue", with(&json!({ "object_attributes": { "action": "open" } }))),
    ];
    for action in ["open", "close", "reopen", "update", "approved", "unapproved", "approval"] {
        cases.push(("merge_request", of_request(action, json!({}))));
        cases.push(("issue", of_issue(action)));
    }
    for status in ["pending", "running", "success", "failed", "canceled", "skipped"] {
        cases.push(("pipeline", pipeline(status)));
    }
    for (changes, more) in [(&labels, json!({})), (&off, json!({})), (&labels, json!({ "oldrev": sha(1) }))] {
        let mut labeled = of_request("update", more);
        labeled["changes"] = changes.clone();
        cases.push(("merge_request", labeled));
    }
    let mut labeled = of_issue("update");
    labeled["changes"] = labels;
    cases.push(("issue", labeled));
    for draft in [true, false] {
        let mut marked = of_request("update", json!({ "draft": draft }));
        marked["changes"] = json!({ "draft": { "previous": !draft, "current": draft } });
        cases.push(("merge_request", marked));
    }
    let mut secret = of_issue("open");
    secret["object_attributes"]["confidential"] = json!(true);
    cases.push(("issue", secret));
    let mut secret = of_note("Issue", json!({}));
    secret["issue"]["confidential"] = json!(true);
    cases.push(("note", secret));
    cases
}

#[test]
fn what_gitlab_sends_is_understood_or_ignored_with_a_reason() {
    let lines: Vec<String> = (cases().iter())
        .map(|(name, payload)| {
            let action =
                payload.pointer("/object_attributes/action").and_then(Value::as_str).unwrap_or_default();
            format!("{:<28} {}", format!("{name} {action}"), told(name, payload))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_fact_is_neutral_and_trimmed() {
    let payload = |name: &str, payload: &Value| {
        let Understood::About { facts, .. } = understand(name, &serde_json::to_vec(payload).unwrap()) else {
            panic!("a fact")
        };
        facts[0].payload.clone()
    };
    let opened =
        with(&json!({ "object_attributes": request("open", &json!({})), "labels": [{ "title": "bug" }] }));
    insta::assert_json_snapshot!(payload("merge_request", &opened));
    let comment = with(&json!({ "object_attributes": note("Issue", &json!({})), "issue": issue("") }));
    insta::assert_json_snapshot!(payload("note", &comment));
    let under = note("MergeRequest", &json!({}));
    let comment = with(&json!({ "object_attributes": under, "merge_request": request("", &json!({})) }));
    assert_eq!(payload("note", &comment).pointer("/issue/pull_request"), Some(&json!(true)));
}

#[test]
fn the_servers_own_deeds_are_no_news_to_it() {
    let comment = |user: Value| {
        let attributes = note("Issue", &json!({}));
        told("note", &with(&json!({ "user": user, "object_attributes": attributes, "issue": issue("") })))
    };
    let other = "acme/team/app, comment created comment/issue/1243 by";
    assert_eq!(comment(json!({ "username": "renamed", "id": OWN })), "- the server itself did it");
    assert_eq!(comment(json!({ "username": "spellbook", "id": 1 })), format!("{other} spellbook"));
    let bot = json!({ "username": "project_7_bot_0af3", "id": 1 });
    assert_eq!(comment(bot), format!("{other} project_7_bot_0af3 (a bot)"));
    assert_eq!(comment(json!(null)), format!("{other} ghost"));
    let pushed =
        json!({ "user_id": OWN, "user_username": "spellbook", "project": with(&json!({}))["project"] });
    assert_eq!(told("push", &pushed), "acme/team/app, moved perhaps");
}

#[test]
fn what_no_forge_sends_is_ignored() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let odd: [&[u8]; 7] = [
        b"",
        b"not json",
        deep.as_bytes(),
        b"{\"object_kind\":\"\xff\xfe\",\"project\":{}}",
        br#"{"object_kind":1e400}"#,
        br#"[{"object_kind":"note"}]"#,
        br#"{"project":{"id":7,"path_with_namespace":"../x"},"object_attributes":{"iid":1,"action":"open"}}"#,
    ];
    for body in odd {
        for (name, _) in cases() {
            let understood = understand(name, body);
            assert!(matches!(understood, Understood::Ignored(_)), "{name}: {understood:?}");
        }
    }
    let over = vec![b' '; (25 << 20) + 1];
    assert!(format!("{:?}", understand("issue", &over)).contains("larger than 25 MiB"));
}

/// Each field of each payload in turn is something else: nothing panics.
#[test]
fn whatever_a_field_holds_nothing_panics() {
    let mut tried = 0;
    for (name, mut payload) in cases() {
        for pointer in pointers(&payload, 4) {
            let whole = payload.pointer(&pointer).unwrap().clone();
            for other in [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!([{ "title": {} }])]
            {
                *payload.pointer_mut(&pointer).unwrap() = other;
                assert!(!told(name, &payload).is_empty());
                tried += 1;
            }
            *payload.pointer_mut(&pointer).unwrap() = whole;
        }
    }
    assert!(tried > 5_000, "{tried}");
}

/// Every field of a value, so many levels down.
fn pointers(value: &Value, levels: usize) -> Vec<String> {
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (key, value) in fields {
        all.push(format!("/{key}"));
        if levels > 1 {
            all.extend(pointers(value, levels - 1).into_iter().map(|rest| format!("/{key}{rest}")));
        }
    }
    all
}
