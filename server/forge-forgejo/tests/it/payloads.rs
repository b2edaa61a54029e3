//! What is made of Forgejo's webhooks. No package carries recorded ones: these are written by hand, after the
//! structures of its source (`modules/structs/hook.go`) and its documentation of webhooks.

use std::fmt::Write;

use domain::time::Timestamp;
use forge_forgejo::Reader;
use ports::forge::{Moved, Understood};
use serde_json::{Value, json};

use crate::hub::{ADA, OWN, account, sha};

const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);

fn understand(name: &str, body: &[u8]) -> Understood {
    Reader { forge: &"codeberg".parse().unwrap(), own: Some(OWN) }.understand(name, body, NOW)
}

/// What was made of a payload, in a line.
fn told(name: &str, payload: &Value) -> String {
    match understand(name, &serde_json::to_vec(payload).unwrap()) {
        Understood::Ignored(reason) => format!("- {reason}"),
        Understood::Installed { added, removed } => {
            let removed: Vec<_> = removed.iter().map(|place| &*place.path).collect();
            format!("at home in {} more, no longer in {removed:?}", added.len())
        }
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
        "repository": { "id": 7, "full_name": "acme/app", "default_branch": "main", "private": false },
        "sender": account(ADA),
    });
    payload.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    payload
}

fn thread(number: u64) -> Value {
    json!({
        "id": 100 + number, "number": number, "title": "It breaks", "body": "Look.", "state": "open",
        "user": account(ADA), "labels": [{ "id": 1, "name": "bug", "color": "ee0701" }],
        "html_url": format!("https://codeberg.example/acme/app/issues/{number}"), "pull_request": null,
        "created_at": "2026-11-22T10:00:00+02:00", "updated_at": "2026-11-22T11:00:00+02:00", "closed_at": null,
    })
}

fn pull(fork: u64) -> Value {
    let mut pull = thread(4);
    let repository = |id: u64| json!({ "id": id, "full_name": format!("owner{id}/app") });
    let rest = json!({
        "draft": false, "merged": false, "merged_at": null,
        "head": { "label": "mend", "ref": "mend", "sha": sha(2), "repo_id": fork, "repo": repository(fork) },
        "base": { "label": "main", "ref": "main", "sha": sha(1), "repo_id": 7, "repo": repository(7) },
    });
    pull.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    pull
}

fn cases() -> Vec<(&'static str, Value)> {
    let of_pull = |action: &str| with(&json!({ "action": action, "number": 4, "pull_request": pull(7) }));
    let of_issue = |action: &str| with(&json!({ "action": action, "number": 3, "issue": thread(3) }));
    let comment = json!({ "id": 21, "body": "/spellbook help", "user": account(ADA),
        "html_url": "https://codeberg.example/c", "created_at": "2026-11-22T11:00:00+02:00" });
    let of_comment =
        |action: &str| with(&json!({ "action": action, "issue": thread(3), "comment": comment }));
    let run = json!({ "id": 9, "prettyref": "main", "commit_sha": sha(1), "status": "failure",
        "updated": "2026-11-22T11:00:00+02:00", "repository": { "id": 7, "full_name": "acme/app" } });
    let mut cases = vec![
        ("push", with(&json!({ "ref": "refs/heads/main", "commits": [] }))),
        ("create", with(&json!({ "ref": "v1", "ref_type": "tag" }))),
        ("delete", with(&json!({ "ref": "old", "ref_type": "branch" }))),
        ("fork", with(&json!({ "forkee": { "id": 8 } }))),
        ("wiki", with(&json!({ "action": "edited" }))),
        ("repository", with(&json!({ "action": "deleted" }))),
        ("repository", with(&json!({ "action": "created" }))),
        ("release", with(&json!({ "action": "published", "release": { "id": 6, "tag_name": "v1" } }))),
        ("release", with(&json!({ "action": "updated", "release": { "id": 6, "tag_name": "v1" } }))),
        ("issue_comment", of_comment("created")),
        ("issue_comment", of_comment("edited")),
        ("issue_comment", of_comment("deleted")),
        (
            "pull_request_approved",
            with(
                &json!({ "action": "reviewed", "pull_request": pull(7), "review": { "type": "pull_request_review_approved", "content": "Good." } }),
            ),
        ),
        ("pull_request_rejected", with(&json!({ "action": "reviewed", "pull_request": pull(7) }))),
        (
            "action_run_failure",
            json!({ "action": "failure", "run": run, "sender": { "id": -2, "login": "forgejo-actions" } }),
        ),
        (
            "workflow_run",
            with(
                &json!({ "action": "completed", "workflow_run": { "id": 9, "conclusion": "success", "head_sha": sha(1), "head_branch": "main", "completed_at": "2026-11-22T11:00:00+02:00" } }),
            ),
        ),
        ("workflow_run", with(&json!({ "action": "requested", "workflow_run": { "id": 9 } }))),
        ("no_such_event", with(&json!({}))),
        ("issues", json!({ "action": "opened", "issue": thread(3), "sender": account(ADA) })),
        ("issues", with(&json!({ "action": "opened" }))),
        ("pull_request", with(&json!({ "action": "opened", "pull_request": { "number": 4 } }))),
    ];
    let actions = [
        "opened",
        "edited",
        "synchronized",
        "reopened",
        "closed",
        "assigned",
        "unassigned",
        "label_updated",
        "label_cleared",
        "milestoned",
        "demilestoned",
        "reviewed",
        "review_requested",
    ];
    for action in actions {
        cases.push(("pull_request", of_pull(action)));
        cases.push(("issues", of_issue(action)));
    }
    let mut labeled = of_issue("label_updated");
    labeled["changes"] = json!({ "added_labels": [{ "name": "bug" }], "removed_labels": [] });
    cases.push(("issues", labeled));
    cases
}

#[test]
fn what_forgejo_sends_is_understood_or_ignored_with_a_reason() {
    let lines: Vec<String> = (cases().iter())
        .map(|(name, payload)| {
            let action = payload["action"].as_str().unwrap_or_default();
            format!("{:<36} {}", format!("{name} {action}"), told(name, payload))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_fact_is_neutral_and_trimmed() {
    let payload = with(&json!({ "action": "opened", "pull_request": pull(8) }));
    let body = serde_json::to_vec(&payload).unwrap();
    let Understood::About { facts, .. } = understand("pull_request", &body) else { panic!("a fact") };
    insta::assert_json_snapshot!(facts[0].payload);

    // A comment on a pull request says so, also in the words of servers that leave it out of the issue.
    let comment = json!({ "action": "created", "is_pull": true, "issue": thread(4), "comment": { "id": 5 } });
    let body = serde_json::to_vec(&with(&comment)).unwrap();
    let Understood::About { facts, .. } = understand("issue_comment", &body) else { panic!("a fact") };
    assert_eq!(facts[0].payload.pointer("/issue/pull_request"), Some(&json!(true)));
}

#[test]
fn the_servers_own_deeds_are_no_news_to_it() {
    let comment = |sender: Value| {
        let payload = json!({ "action": "created", "repository": { "id": 7, "full_name": "acme/app" },
            "issue": { "number": 4 }, "comment": { "id": 5 }, "sender": sender });
        told("issue_comment", &payload)
    };
    let other = "acme/app, comment created comment/issue/5 by";
    assert_eq!(comment(json!({ "login": "renamed", "id": OWN })), "- the server itself did it");
    assert_eq!(comment(json!({ "login": "spellbook", "id": 1 })), format!("{other} spellbook"));
    let actions = json!({ "login": "forgejo-actions", "id": -2, "type": "User" });
    assert_eq!(comment(actions), format!("{other} forgejo-actions (a bot)"));
    assert_eq!(comment(json!({ "login": "x", "id": 1, "type": "Bot" })), format!("{other} x"));
    assert_eq!(comment(json!(null)), format!("{other} ghost"));
    let pushed = json!({ "repository": { "id": 7, "full_name": "acme/app" }, "sender": { "id": OWN } });
    assert_eq!(told("push", &pushed), "acme/app, moved perhaps");
}

#[test]
fn what_no_forge_sends_is_ignored() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let odd: [&[u8]; 8] = [
        b"",
        b"not json",
        b"payload=%7B%22action%22%3A%22opened%22%7D",
        deep.as_bytes(),
        b"{\"action\":\"\xff\xfe\",\"repository\":{}}",
        br#"{"action":1e400}"#,
        br#"[{"action":"opened"}]"#,
        br#"{"action":"opened","repository":{"id":7,"full_name":"../x"},"issue":{"number":1}}"#,
    ];
    for body in odd {
        for (name, _) in cases() {
            let understood = understand(name, body);
            assert!(matches!(understood, Understood::Ignored(_)), "{name}: {understood:?}");
        }
    }
    let over = vec![b' '; (25 << 20) + 1];
    assert!(format!("{:?}", understand("issues", &over)).contains("larger than 25 MiB"));
}

/// Each field of each payload in turn is something else: nothing panics.
#[test]
fn whatever_a_field_holds_nothing_panics() {
    let mut tried = 0;
    for (name, mut payload) in cases() {
        for pointer in pointers(&payload, 4) {
            let whole = payload.pointer(&pointer).unwrap().clone();
            for other in [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!([{ "name": {} }])] {
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
