//! What is made of GitHub's webhooks: those that GitHub sent and somebody recorded, the thinner ones of an
//! emulator, and what no forge sends.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use domain::name::ForgeName;
use domain::time::Timestamp;
use forge_github::Reader;
use ports::forge::{Moved, Understood};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);

/// An event's name, and payloads of it.
type Recorded = Vec<(String, Vec<Value>)>;

/// Recorded payloads: npm's `@octokit/webhooks-examples`, which `./x` installs.
fn recorded() -> Recorded {
    #[expect(clippy::disallowed_methods, reason = "where ./x put its tools")]
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let home = || variable("HOME").unwrap_or_default().join(".local/share");
    let tools = variable("SPELLBOOK_TOOLS")
        .unwrap_or_else(|| variable("XDG_DATA_HOME").unwrap_or_else(home).join("spellbook/tools"));
    let path = tools.join("webhooks/node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    let text = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `./x setup` installs it", path.display()));
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let examples = |event: &Value| event["examples"].as_array().unwrap().clone();
    all.iter().map(|event| (event["name"].as_str().unwrap().to_owned(), examples(event))).collect()
}

fn reader(forge: &ForgeName) -> Reader<'_> {
    Reader { forge, web_url: "https://github.com", own: Some(41_898_282), app: Some("spellbook-test") }
}

fn understand(name: &str, body: &[u8]) -> Understood {
    reader(&"github".parse().unwrap()).understand(name, body, NOW)
}

fn understood(name: &str, payload: &Value) -> Understood {
    understand(name, &serde_json::to_vec(payload).unwrap())
}

/// What was made of a payload, in a line.
fn told(understood: &Understood) -> String {
    match understood {
        Understood::Ignored(reason) => format!("- {reason}"),
        Understood::Installed { added, removed } => {
            let added: Vec<_> = added.iter().map(|found| &*found.place.path).collect();
            let removed: Vec<_> = removed.iter().map(|place| &*place.path).collect();
            format!("at home in {added:?}, no longer in {removed:?}")
        }
        Understood::About { place, moved, facts } => {
            let mut line = place.path.clone();
            if *moved == Moved::Perhaps {
                line.push_str(", moved perhaps");
            }
            for fact in facts {
                let (kind, actor) = (fact.kind.as_str(), &fact.actor);
                let _ = write!(line, ", {kind} {} by {}", fact.key, actor.name);
                line.push_str(if actor.bot { " (a bot)" } else { "" });
            }
            line
        }
    }
}

#[test]
fn what_github_sent_is_understood_or_ignored_with_a_reason() {
    let mut table = String::new();
    let mut count = 0;
    for (name, payloads) in recorded() {
        // Equal lines once, with how many there are.
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for payload in &payloads {
            let action = payload["action"].as_str().unwrap_or_default();
            *lines.entry(format!("{action:<24} {}", told(&understood(&name, payload)))).or_default() += 1;
            count += 1;
        }
        for (line, number) in lines {
            let _ = writeln!(table, "{name:<28} {number} {}", line.trim_end());
        }
    }
    assert_eq!(count, 329);
    insta::assert_snapshot!(table);
}

/// The payload of a comment on a pull request, as `${event…}` shows it.
#[test]
fn a_fact_is_neutral_and_trimmed() {
    let all = recorded();
    let (_, payloads) = all.iter().find(|(name, _)| name == "issue_comment").unwrap();
    let payload = payloads.iter().find(|payload| payload["action"] == "created").unwrap();
    let Understood::About { facts, .. } = understood("issue_comment", payload) else { panic!("a fact") };
    let [fact] = &*facts else { panic!("one fact") };
    insta::assert_json_snapshot!(fact.payload);
}

/// An emulator leaves out what it has no use for; so may an Enterprise server of another year.
#[test]
fn thinner_payloads_will_do() {
    let repository = json!({ "id": 7, "full_name": "acme/app", "default_branch": "main" });
    let sender = json!({ "login": "ada", "id": 3, "type": "User" });
    let pull = json!({ "number": 4, "title": "Mend", "state": "open", "updated_at": "2026-11-22T10:00:00Z",
        "head": { "ref": "mend", "sha": "0123456789abcdef0123456789abcdef01234567" }, "base": { "ref": "main" } });
    let with = |rest: Value| {
        let mut payload = json!({ "repository": repository, "sender": sender, "installation": { "id": 1 } });
        payload.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        payload
    };
    let cases = [
        ("push", with(json!({ "ref": "refs/heads/main", "commits": [] }))),
        ("push", with(json!({ "commits": null }))),
        ("pull_request", with(json!({ "action": "opened", "pull_request": pull }))),
        (
            "pull_request",
            with(json!({ "action": "labeled", "pull_request": pull, "label": { "name": "go" } })),
        ),
        ("pull_request", with(json!({ "action": "labeled", "pull_request": pull }))),
        ("pull_request", with(json!({ "action": "opened", "pull_request": { "number": 4 } }))),
        (
            "pull_request_review",
            with(json!({ "action": "submitted", "pull_request": pull, "review": { "id": 9 } })),
        ),
        (
            "issue_comment",
            with(json!({ "action": "created", "issue": { "number": 4 }, "comment": { "id": 5 } })),
        ),
        (
            "issue_comment",
            with(json!({ "action": "edited", "issue": { "number": 4 }, "comment": { "id": 5 } })),
        ),
        (
            "issue_comment",
            with(json!({ "action": "deleted", "issue": { "number": 4 }, "comment": { "id": 5 } })),
        ),
        ("issues", with(json!({ "action": "opened", "issue": { "number": 4 } }))),
        ("issues", with(json!({ "action": "opened" }))),
        ("repository", with(json!({ "action": "renamed" }))),
        ("repository", with(json!({ "action": "deleted" }))),
        ("repository", with(json!({ "action": "created" }))),
        ("repository", json!({ "action": "created", "repository": repository })),
        ("issues", json!({ "action": "opened", "issue": { "number": 4 } })),
        ("installation", json!({ "action": "suspend" })),
        ("installation", json!({ "action": "created", "repositories": [repository, 7, { "id": "x" }] })),
        ("ping", json!({})),
        ("no_such_event", json!({})),
    ];
    let lines: Vec<_> = cases
        .iter()
        .map(|(name, payload)| {
            let action = payload["action"].as_str().unwrap_or_default();
            format!("{name} {action}: {}", told(&understood(name, payload)))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Who did it is told by number and kind, never by how a name ends.
#[test]
fn the_servers_own_deeds_are_no_news_to_it() {
    let comment = |sender: Value| {
        let payload = json!({ "action": "created", "repository": { "id": 7, "full_name": "acme/app" },
            "issue": { "number": 4 }, "comment": { "id": 5 }, "sender": sender });
        told(&understood("issue_comment", &payload))
    };
    let own = "- the server itself did it";
    assert_eq!(comment(json!({ "login": "renamed", "id": 41_898_282, "type": "User" })), own);
    assert_eq!(comment(json!({ "login": "spellbook-test[bot]", "id": 1, "type": "Bot" })), own);
    let other = "acme/app, comment comment/issue/5 by";
    assert_eq!(
        comment(json!({ "login": "spellbook-test", "id": 1, "type": "User" })),
        format!("{other} spellbook-test")
    );
    assert_eq!(
        comment(json!({ "login": "spellbook-test[bot]", "id": 1, "type": "User" })),
        format!("{other} spellbook-test[bot]")
    );
    assert_eq!(
        comment(json!({ "login": "evil[bot]", "id": 1, "type": "Bot" })),
        format!("{other} evil[bot] (a bot)")
    );
    assert_eq!(
        comment(json!({ "login": "robot", "id": 1, "type": "Bot" })),
        format!("{other} robot (a bot)")
    );
    assert_eq!(comment(json!(null)), format!("{other} ghost"));
    // What it pushed is looked at like everybody's.
    let pushed =
        json!({ "repository": { "id": 7, "full_name": "acme/app" }, "sender": { "id": 41_898_282 } });
    assert_eq!(told(&understood("push", &pushed)), "acme/app, moved perhaps");
}

#[test]
fn what_no_forge_sends_is_ignored() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let nested =
        format!(r#"{{"action":"opened","repository":{}1{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let invalid = b"{\"action\":\"\xff\xfe\",\"repository\":{}}";
    let odd: [&[u8]; 10] = [
        b"",
        b"not json",
        b"payload=%7B%22action%22%3A%22opened%22%7D",
        deep.as_bytes(),
        nested.as_bytes(),
        invalid,
        br#"{"action":1e400}"#,
        br#"{"action":"\ud800"}"#,
        b"\xef\xbb\xbf{}",
        br#"[{"action":"opened"}]"#,
    ];
    for body in odd {
        for name in ["issues", "push", "installation", "", "../x", "\u{202e}"] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            match understand(name, body) {
                Understood::Ignored(reason) => assert!(!reason.is_empty(), "{name} {shown}"),
                Understood::Installed { added, removed } => assert!(added.is_empty() && removed.is_empty()),
                about @ Understood::About { .. } => panic!("{name} {shown}: {about:?}"),
            }
        }
    }
    // The last of two keys counts, as everywhere in the server.
    let twice = br#"{"repository":{"id":1,"full_name":"a/b"},"repository":{"id":2,"full_name":"c/d"}}"#;
    assert_eq!(told(&understand("push", twice)), "c/d, moved perhaps");
}

#[test]
fn a_body_of_the_largest_size_is_read_in_time() {
    let long = "x".repeat((25 << 20) - 200);
    let body = format!(
        r#"{{"action":"opened","repository":{{"id":7,"full_name":"acme/app"}},"issue":{{"number":1,"body":"{long}"}}}}"#
    );
    assert!(body.len() <= 25 << 20);
    assert!(matches!(understand("issues", body.as_bytes()), Understood::About { .. }));
    let over = vec![b' '; (25 << 20) + 1];
    assert_eq!(told(&understand("issues", &over)), "- it is larger than 25 MiB");
}

/// Each field of each recorded payload in turn is something else: nothing panics, and what comes of it names
/// a repository only when the payload does.
#[test]
fn whatever_a_field_holds_nothing_panics() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({ "a": [deep] });
    }
    let others = [json!(null), json!(-1), json!("x"), json!([]), json!({}), deep];
    let (mut tried, forge) = (0, "github".parse().unwrap());
    for (name, payloads) in recorded() {
        // One of each action: the others differ in values, which are replaced anyway.
        let by_action: BTreeMap<String, Value> =
            payloads.into_iter().map(|payload| (payload["action"].to_string(), payload)).collect();
        for mut payload in by_action.into_values() {
            for pointer in pointers(&payload, 3) {
                let whole = payload.pointer(&pointer).unwrap().clone();
                for other in &others {
                    *payload.pointer_mut(&pointer).unwrap() = other.clone();
                    let understood = reader(&forge).read(&name, &payload, NOW);
                    assert!(!told(&understood).is_empty());
                    tried += 1;
                }
                *payload.pointer_mut(&pointer).unwrap() = whole;
            }
        }
    }
    assert!(tried > 50_000, "{tried}");
}

/// Every field of a value, so many levels down; addresses of the API are all alike.
fn pointers(value: &Value, levels: usize) -> Vec<String> {
    let mut all = Vec::new();
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect(),
        Value::Array(list) => {
            list.iter().take(2).enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in fields.into_iter().filter(|(key, _)| !key.ends_with("url") || key == "html_url") {
        all.push(format!("/{key}"));
        if levels > 1 {
            all.extend(pointers(value, levels - 1).into_iter().map(|rest| format!("/{key}{rest}")));
        }
    }
    all
}
