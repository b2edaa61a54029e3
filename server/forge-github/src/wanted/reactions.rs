//! Putting a sign on a comment.

use domain::effect::{CommentKind, CommentRef, Reaction, Receipt};
use serde_json::json;

use super::{Wanted, said};
use crate::failure::Failure;

impl Wanted<'_> {
    /// Reacts to a comment. GitHub itself keeps an account from doing so twice.
    pub(super) async fn reaction(
        &self,
        comment: &CommentRef,
        reaction: Reaction,
    ) -> Result<Receipt, Failure> {
        let content = match reaction {
            Reaction::Eyes => "eyes",
            Reaction::Rocket => "rocket",
            Reaction::Confused => "confused",
        };
        let list = match comment.kind {
            CommentKind::Issue => "issues",
            CommentKind::Review => "pulls",
        };
        let path = format!("/{list}/comments/{}/reactions", comment.id);
        let made = self.visit.post(&path, &json!({ "content": content })).await?;
        if said(&made, "/content") != content {
            return Err(Failure::later("the reaction is not there"));
        }
        Ok(Receipt { url: None, summary: format!("reacted to a comment on #{}", comment.thread) })
    }
}
