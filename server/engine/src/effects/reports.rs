//! What is reported on a commit: checks and statuses.

use domain::effect::{Annotation, CheckConclusion, EffectKind, StatusState};
use manifest::expression::RunSoFar;
use serde_json::Value as Json;

use super::{Unwanted, Wish, one_line};

/// The longest context of a status, characters (GitHub: 255).
const LONGEST_CONTEXT: usize = 200;
/// The longest description of a status, characters.
const LONGEST_DESCRIPTION: usize = 140;

impl Wish<'_> {
    pub(super) fn check(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let name = self.line("name")?.unwrap_or_else(|| run.daemon.to_string());
        let conclusion = match self.text("conclusion")?.as_deref() {
            None if self.context.status == RunSoFar::Success => CheckConclusion::Success,
            None => CheckConclusion::Failure,
            Some("success") => CheckConclusion::Success,
            Some("failure") => CheckConclusion::Failure,
            Some("neutral") => CheckConclusion::Neutral,
            Some(other) => return Err(not_one("conclusion", other, "success, failure or neutral")),
        };
        let mut summary = self.prose("summary")?.or(self.prose("body")?).unwrap_or_default();
        if let Some(title) = self.line("title")? {
            summary = format!("**{title}**\n\n{summary}");
        }
        let annotations = match self.value("annotations")? {
            None | Some(Json::Null) => Vec::new(),
            Some(json) => serde_json::from_value::<Vec<Annotation>>(json)
                .map_err(|error| Unwanted::Refused(format!("`annotations`: {error}")))?,
        };
        for annotation in &annotations {
            self.outbound.check("annotations", &annotation.message)?;
        }
        let name = one_line(&name, 100);
        let commit = run.start().clone();
        let key = format!("{}/check/{name}/{commit}", run.daemon);
        Ok((key, EffectKind::CreateCheck { commit, name, conclusion, summary, annotations }))
    }

    pub(super) fn commit_status(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let state = match self.text("state")?.as_deref() {
            Some("success") => StatusState::Success,
            Some("failure") => StatusState::Failure,
            Some("error") => StatusState::Error,
            Some("pending") => StatusState::Pending,
            other => {
                return Err(not_one(
                    "state",
                    other.unwrap_or_default(),
                    "success, failure, error or pending",
                ));
            }
        };
        let context = self.line("context")?.unwrap_or_else(|| format!("spellbook/{}", run.daemon));
        let context = one_line(&context, LONGEST_CONTEXT);
        let commit = run.start().clone();
        let key = format!("{}/status/{context}/{commit}", run.daemon);
        let description = one_line(&self.line("description")?.unwrap_or_default(), LONGEST_DESCRIPTION);
        Ok((key, EffectKind::SetStatus { commit, context, state, description, url: self.line("url")? }))
    }
}

fn not_one(field: &str, found: &str, wanted: &str) -> Unwanted {
    Unwanted::Refused(format!("`{field}` is `{}`; it must be {wanted}", one_line(found, 40)))
}
