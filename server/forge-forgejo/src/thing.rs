//! What Forgejo says otherwise than GitHub, brought into the shape of all things.

use forge_remote::Drafts;
use serde_json::{Value, json};

/// What a title begins with while a pull request is a draft, where the operator did not choose otherwise.
pub(crate) const DRAFTS: Drafts = Drafts { mark: "WIP: ", marks: &["wip:", "[wip]"] };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forges_own_accounts_are_programs() {
        let kind = |id: i64| account(&json!({ "id": id, "login": "x" }))["type"].clone();
        assert_eq!((kind(-2), kind(3)), (json!("Bot"), json!("User")));
        assert_eq!(account(&Value::Null), Value::Null);
        assert_eq!(status(json!({ "status": "success" }))["state"], "success");
    }
}
