//! Putting a status on a commit.

use domain::effect::{EffectKind, Receipt};
use domain::name::Commit;
use serde_json::{Value, json};

use super::{Wanted, said};
use crate::failure::Failure;

/// What GitHub takes, and no other forge takes less.
const LONGEST_DESCRIPTION: usize = 140;
const LONGEST_CONTEXT: usize = 255;

impl Wanted<'_> {
    /// Puts a status on a commit, unless the newest of its name says so already.
    pub(super) async fn status(&self) -> Result<Receipt, Failure> {
        let EffectKind::SetStatus { commit, context, state, description, url } = &self.effect.kind else {
            return Err(Failure::Refused("it is not a status".to_owned()));
        };
        self.put_status(commit, &status(context, self.site.state_word(*state), description, url.as_deref()))
            .await?;
        let summary = format!("{context} is {} on {}", state.as_str(), &commit.as_str()[..12]);
        Ok(Receipt::new(url.clone(), summary))
    }

    /// The same, for effects that do so among other things.
    pub(crate) async fn put_status(&self, commit: &Commit, wanted: &Value) -> Result<(), Failure> {
        if self.status_stands(commit, wanted).await? {
            return Ok(());
        }
        self.site.status_set(commit, wanted).await?;
        if self.status_stands(commit, wanted).await? {
            return Ok(());
        }
        Err(Failure::later("the status is not there"))
    }

    /// Forges show only the newest of each name.
    async fn status_stands(&self, commit: &Commit, wanted: &Value) -> Result<bool, Failure> {
        let list = self.site.statuses(commit).await?;
        let newest = list.iter().find(|status| said(status, "/context") == said(wanted, "/context"));
        Ok(newest.is_some_and(|newest| {
            ["/state", "/description", "/target_url"].iter().all(|at| said(newest, at) == said(wanted, at))
        }))
    }
}

/// A status in the shape of all things.
pub(crate) fn status(context: &str, state: &str, description: &str, url: Option<&str>) -> Value {
    let context: String = context.chars().take(LONGEST_CONTEXT).collect();
    let description: String = description.chars().take(LONGEST_DESCRIPTION).collect();
    let mut status = json!({ "state": state, "context": context, "description": description });
    if let Some(url) = url {
        status["target_url"] = json!(url);
    }
    status
}
