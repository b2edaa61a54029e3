//! What is said: comments, issues, labels, reviewers, releases, calls of webhooks.

use domain::effect::{CommentTarget, EffectKind, IssueState};
use domain::name::{SecretName, Tag};
use serde_json::{Map, Value as Json};

use super::{Unwanted, Wish, numbered, one_line};
use crate::work::stranger;

impl Wish<'_> {
    pub(super) fn comment(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let Some(body) = self.prose("body")?.filter(|body| !body.trim().is_empty()) else {
            return Err(Unwanted::Nothing("there is nothing to say".to_owned()));
        };
        let target = self.target()?;
        let sticky = self.flag("sticky")?;
        let key = match (sticky, self.key()?) {
            (true, Some(key)) => format!("{}/comment/{key}", run.daemon),
            (true, None) => format!("{}/comment-{}/{target}", run.daemon, self.index),
            (false, _) => self.run_key(),
        };
        Ok((key, EffectKind::AddComment { target, body, sticky }))
    }

    pub(super) fn issue(&self) -> Result<(String, EffectKind), Unwanted> {
        let prefix = self.line("title_prefix")?.unwrap_or_default();
        let title = self.line("title")?.unwrap_or_default();
        let key = self.key()?;
        let kind = EffectKind::CreateIssue {
            title: one_line(&format!("{prefix} {title}"), super::LONGEST_TITLE),
            body: self.prose("body")?.unwrap_or_default(),
            labels: self.list("labels")?,
            assignees: self.list("assignees")?,
            sticky: key.is_some(),
        };
        let key = key.map(|key| format!("{}/issue/{key}", self.execution.run.daemon));
        Ok((key.unwrap_or_else(|| self.run_key()), kind))
    }

    pub(super) fn issue_update(&self) -> Result<(String, EffectKind), Unwanted> {
        let state = match self.text("status")?.as_deref() {
            None => None,
            Some("open") => Some(IssueState::Open),
            Some("closed") => Some(IssueState::Closed),
            Some(other) => {
                let message = format!("`status` is `{}`; it must be open or closed", one_line(other, 40));
                return Err(Unwanted::Refused(message));
            }
        };
        let kind = EffectKind::UpdateIssue {
            number: self.number()?,
            title: self.line("title")?,
            body: self.prose("body")?,
            state,
        };
        Ok((self.run_key(), kind))
    }

    pub(super) fn labels(&self) -> Result<(String, EffectKind), Unwanted> {
        let labels = self.list("labels")?;
        if labels.is_empty() {
            return Err(Unwanted::Nothing("there is no label to put on".to_owned()));
        }
        Ok((self.run_key(), EffectKind::AddLabels { number: self.number()?, labels }))
    }

    pub(super) fn reviewers(&self) -> Result<(String, EffectKind), Unwanted> {
        let reviewers = self.list("reviewers")?;
        if reviewers.is_empty() {
            return Err(Unwanted::Nothing("there is nobody to ask".to_owned()));
        }
        Ok((self.run_key(), EffectKind::AddReviewers { number: self.number()?, reviewers }))
    }

    pub(super) fn release(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let tag: Tag = self.text("tag")?.unwrap_or_default().parse()?;
        let kind = EffectKind::CreateRelease {
            name: self.line("name")?.unwrap_or_else(|| tag.to_string()),
            body: self.prose("body")?.unwrap_or_default(),
            commit: run.start().clone(),
            draft: self.flag("draft")?,
            prerelease: self.flag("prerelease")?,
            tag: tag.clone(),
        };
        Ok((format!("{}/release/{tag}", run.daemon), kind))
    }

    pub(super) fn webhook(&self) -> Result<(String, EffectKind), Unwanted> {
        let body = self.value("json")?.unwrap_or_else(|| Json::Object(Map::new())).to_string();
        self.outbound.check("json", &body)?;
        let mut headers = Vec::new();
        if let Some(Json::Object(given)) = self.value("headers")? {
            for (name, value) in given {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.outbound.check("headers", &value)?;
                headers.push((name, one_line(&value, 1_000)));
            }
        }
        let secret = self.text("secret")?.map(SecretName::parse).transpose()?;
        let kind = EffectKind::CallWebhook {
            url: self.text("url")?.unwrap_or_default(),
            allowed: self.execution.manifest.permissions.hosts(),
            secret,
            headers,
            body,
        };
        Ok((self.run_key(), kind))
    }

    /// Where a comment goes: `target: 12`, else the thread that the run is about, else the commit.
    fn target(&self) -> Result<CommentTarget, Unwanted> {
        let commit = CommentTarget::Commit { commit: self.execution.run.start().clone() };
        match self.text("target")?.as_deref() {
            None | Some("triggering") => {
                Ok(self.thread().map_or(commit, |number| CommentTarget::Thread { number }))
            }
            Some("commit") => Ok(commit),
            Some(_) if self.execution.run.is_for_stranger() => Err(Unwanted::Refused(stranger::elsewhere())),
            Some(text) => Ok(CommentTarget::Thread { number: numbered(text)? }),
        }
    }
}
