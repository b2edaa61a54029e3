//! Saying something.

use domain::effect::{CommentTarget, Receipt};
use domain::id::CommentId;
use domain::marker::signed;
use domain::proposal::Comment;
use domain::repository::Origin;
use ports::forge::ForgeError;

use crate::failure::store_failed;
use crate::forge::Wanted;

impl Wanted<'_> {
    /// Says something, or says it in place of what was said under the same key.
    pub(crate) async fn comment(
        &self,
        target: &CommentTarget,
        body: &str,
        sticky: bool,
    ) -> Result<Receipt, ForgeError> {
        self.require_target(target).await?;
        let key = self.comment_key(sticky);
        if let Some(there) = self.find_comment(target, &key).await?
            && self.is_outdated_by(&there.author)
        {
            return Ok(self.comment_receipt(&there, "a later run has commented already on"));
        }
        let now = self.forge.clock.now();
        let comment = Comment {
            id: CommentId::new(self.forge.clock.unique()),
            repository: self.repository.id,
            target: target.clone(),
            key: key.clone(),
            author: self.effect.author.clone(),
            body: signed(body, self.effect, &self.repository.path),
            created_at: now,
            updated_at: now,
        };
        self.forge.store.comment_put(&comment).await.map_err(|error| store_failed(&error))?;
        match self.find_comment(target, &key).await? {
            Some(stored) if stored.body == comment.body => {
                Ok(self.comment_receipt(&stored, "commented on").says(&comment.body))
            }
            _ => Err(ForgeError::later("the comment is not there")),
        }
    }

    /// A sticky comment is found again by later runs, any other only by its own.
    fn comment_key(&self, sticky: bool) -> String {
        match self.effect.author.run() {
            _ if sticky => self.effect.key.clone(),
            Some(run) => format!("{run}/{}", self.effect.key),
            None => format!("{}/{}", self.effect.id, self.effect.key),
        }
    }

    async fn require_target(&self, target: &CommentTarget) -> Result<(), ForgeError> {
        match target {
            CommentTarget::Commit { commit } => self.require_commit(commit).await,
            // The threads of a watched repository are counted elsewhere.
            CommentTarget::Thread { .. } if self.repository.origin != Origin::Hosted => Ok(()),
            CommentTarget::Thread { number } => {
                let found = self.forge.store.proposal_get(self.repository.id, *number).await;
                match found.map_err(|error| store_failed(&error))? {
                    Some(_) => Ok(()),
                    None => Err(ForgeError::refused(format!(
                        "{} has no proposal #{number}",
                        self.repository.path
                    ))),
                }
            }
        }
    }

    async fn find_comment(&self, target: &CommentTarget, key: &str) -> Result<Option<Comment>, ForgeError> {
        self.forge.comment_with(self.repository, target, |comment| comment.key == key).await
    }

    fn comment_receipt(&self, comment: &Comment, verb: &str) -> Receipt {
        let page = match &comment.target {
            CommentTarget::Commit { commit } => format!("commits/{commit}"),
            CommentTarget::Thread { number } => format!("proposals/{number}"),
        };
        let url = format!("/{}/{page}#{}", self.repository.path, comment.id);
        Receipt::new(Some(url), format!("{verb} {}", comment.target))
    }
}
