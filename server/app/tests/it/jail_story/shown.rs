//! What is at GitHub in the end, as text, without what differs each time: ids of runs, numbers of comments,
//! the commits of the server.

use serde_json::{Value as Json, json};

use super::front::Front;

pub(super) fn of(front: &Front) -> String {
    let hub = front.hub();
    let mut seen = hub.seen();
    let body = |id: u64| {
        let comment = hub.comments.iter().find(|comment| comment["id"] == id);
        comment.map_or(Json::Null, |comment| comment["body"].clone())
    };
    seen["reactions"] =
        hub.reactions.iter().map(|(comment, content)| json!([body(*comment), content])).collect();
    let mut branches = serde_json::Map::new();
    for name in hub.branches.keys() {
        let log = front.bare.says(&["log", "--format=tree_%T %an <%ae>%n%B", name]);
        branches.insert(name.clone(), json!(log));
    }
    seen["branches"] = Json::Object(branches);
    // A line break is a letter in JSON, and would stick to the word behind it.
    let text = anonymous(&serde_json::to_string_pretty(&seen).unwrap().replace("\\n", " \\n "))
        .replace(" \\n ", "\\n");
    let mut seen: Json = serde_json::from_str(&text).unwrap();
    for list in ["comments", "checks", "reactions"] {
        let list = seen[list].as_array_mut().unwrap();
        list.sort_by_key(Json::to_string);
    }
    let text = serde_json::to_string_pretty(&seen).unwrap();
    // For whoever reads it.
    text.replace("\\n", "\n        ").replace("\\\"", "\"")
}

/// Runs and commits are nobody in particular.
pub(super) fn anonymous(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if word == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            shown.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let (token, after) = rest.split_at(word);
        let hex = token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let is_commit = hex && (token.len() == 40 || token.len() == 12);
        shown.push_str(match () {
            () if token.starts_with("run_") => "run_*",
            () if token.starts_with("evt_") => "evt_*",
            () if is_commit => "commit_*",
            () if token.len() > 3 && token.bytes().all(|b| b.is_ascii_digit()) => "*",
            () => token,
        });
        rest = after;
    }
    shown
}

/// Without moments.
pub(super) fn timeless(text: &str) -> String {
    let is_moment = |word: &str| word.ends_with('Z') && word.contains('T') && word.contains(':');
    let line = |line: &str| {
        let words: Vec<&str> =
            line.split(' ').map(|word| if is_moment(word) { "MOMENT" } else { word }).collect();
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
