//! What Forgejo says otherwise than GitHub, brought into the shape of all things.

use serde_json::{Value, json};

use crate::shape::{flag, text};

/// What a title begins with while a pull request is a draft, where the operator did not choose otherwise.
const DRAFT: &str = "WIP: ";
/// All that Forgejo and Gitea take for it by themselves.
const DRAFTS: [&str; 2] = ["wip:", "[wip]"];

/// An account. Those with a number below zero are the forge's own: who is gone, and the runner of its Actions.
/// No other account says that it is a program's.
pub(crate) fn account(user: &Value) -> Value {
    let mut account = user.clone();
    if let Some(map) = account.as_object_mut() {
        let is_program = user.get("id").and_then(Value::as_i64).is_some_and(|id| id < 0);
        map.insert("type".to_owned(), json!(if is_program { "Bot" } else { "User" }));
    }
    account
}

/// A status, whose state is called so elsewhere.
pub(crate) fn status(mut status: Value) -> Value {
    if let Some(state) = status.get("status").cloned() {
        status["state"] = state;
    }
    status
}

/// A thread or pull request without the mark of a draft in its title, which is said by `draft` too.
pub(crate) fn bare(mut thread: Value) -> Value {
    if is_draft(&thread)
        && let Some((_, title)) = text(&thread, "/title").and_then(parted)
    {
        let title = title.to_owned();
        thread["title"] = json!(title);
    }
    thread
}

/// The title that a thread is to have, with the mark of a draft that it has now.
pub(crate) fn marked_as(thread: &Value, title: &str) -> String {
    match text(thread, "/title").and_then(parted).filter(|_| is_draft(thread)) {
        Some((mark, _)) => format!("{mark}{title}"),
        None => title.to_owned(),
    }
}

/// The title of a new draft.
pub(crate) fn draft(title: &str) -> String {
    format!("{DRAFT}{title}")
}

fn is_draft(thread: &Value) -> bool {
    flag(thread, "/draft").or_else(|| flag(thread, "/pull_request/draft")) == Some(true)
}

/// The mark of a draft with the space after it, and the rest.
fn parted(title: &str) -> Option<(&str, &str)> {
    let mark = DRAFTS
        .iter()
        .find(|mark| title.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark)))?;
    let rest = title[mark.len()..].trim_start();
    Some(title.split_at(title.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_stays_one_under_another_title() {
        let check = |title: &str, is_draft: bool, bare_title: &str, renamed: &str| {
            let pull = json!({ "title": title, "draft": is_draft });
            assert_eq!(bare(pull.clone())["title"], bare_title);
            assert_eq!(marked_as(&pull, "New"), renamed);
        };
        check("WIP: Mend", true, "Mend", "WIP: New");
        check("[wip]Mend", true, "Mend", "[wip]New");
        check("WIP: Mend", false, "WIP: Mend", "New");
        check("Mend", true, "Mend", "New");
        check("wí", true, "wí", "New");
        assert_eq!(bare(json!({ "title": "WIP: x", "pull_request": { "draft": true } }))["title"], "x");
        assert_eq!(draft("Mend"), "WIP: Mend");
    }

    #[test]
    fn the_forges_own_accounts_are_programs() {
        let kind = |id: i64| account(&json!({ "id": id, "login": "x" }))["type"].clone();
        assert_eq!((kind(-2), kind(3)), (json!("Bot"), json!("User")));
        assert_eq!(account(&Value::Null), Value::Null);
        assert_eq!(status(json!({ "status": "success" }))["state"], "success");
    }
}
