//! `outcomes`.

use std::collections::BTreeMap;

use super::Check;
use super::names::Visible;
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::JsonTemplate;
use crate::model::{OutcomeKind, OutcomeSpec};
use crate::raw::outcome::Outcome;
use crate::raw::scalar::TemplatedJson;
use crate::read::Slot;
use crate::suggest::{did_you_mean, quoted};

/// The most outcomes of a daemon.
const MAX_OUTCOMES: usize = 50;

impl Check<'_> {
    pub(super) fn outcomes(
        &mut self,
        slot: &Slot<Vec<Slot<Outcome>>>,
        visible: &Visible<'_>,
        contents_write: Option<bool>,
    ) -> Vec<OutcomeSpec> {
        let Some((list, place)) = slot.found() else { return Vec::new() };
        self.at_most(list.len(), MAX_OUTCOMES, place);
        list.iter()
            .filter_map(Slot::get)
            .filter_map(|outcome| {
                self.outcome_permission(outcome, contents_write);
                self.outcome(outcome, visible)
            })
            .collect()
    }

    fn outcome(&mut self, outcome: &Outcome, visible: &Visible<'_>) -> Option<OutcomeSpec> {
        self.condition_names(&outcome.condition, visible);
        let mut fields = BTreeMap::new();
        for (spec, slot) in &outcome.fields {
            self.json_names(slot, visible);
            match (spec.name, slot.get()) {
                ("url", Some(value)) => self.outcome_url(value),
                ("secret", Some(value)) => self.outcome_secret(value),
                _ => {}
            }
            let value: Option<JsonTemplate> = slot.get().map(|value| value.template.clone());
            fields.extend(value.map(|value| (spec.name.to_owned(), value)));
        }
        let max = self.within(&outcome.max, 1..=100).unwrap_or(1);
        let condition = outcome.condition.get().map(|condition| condition.expression.clone());
        Some(OutcomeSpec { kind: outcome.kind, condition, max, fields })
    }

    fn outcome_url(&mut self, value: &TemplatedJson) {
        if let [(place, template)] = value.texts.as_slice() {
            self.url(template, *place);
        }
    }

    /// The secret that signs a call, by name.
    fn outcome_secret(&mut self, value: &TemplatedJson) {
        let [(place, template)] = value.texts.as_slice() else { return };
        let Some(name) = template.literal().map(str::to_owned) else {
            let problem = Problem::error(&codes::UNDECLARED_SECRET, "which secret is meant cannot be told");
            self.reader.report(problem.help("write the secret's name"), *place);
            return;
        };
        self.use_secret(&name, *place);
    }

    /// Takes note that a secret is used by name.
    pub(super) fn use_secret(&mut self, name: &str, place: crate::read::Place) {
        if let Some(secret) = self.secrets.iter().find(|secret| secret.as_str() == name) {
            self.used_secrets.insert(secret.clone());
            return;
        }
        let known = self.secrets.iter().map(domain::name::SecretName::as_str);
        let help =
            did_you_mean(name, known).unwrap_or_else(|| format!("add `{name}` to `permissions.secrets`"));
        let message = format!("the secret {} is not declared", quoted(name));
        self.reader.report(Problem::error(&codes::UNDECLARED_SECRET, message).help(help), place);
    }

    fn outcome_permission(&mut self, outcome: &Outcome, contents_write: Option<bool>) {
        let pushes =
            matches!(outcome.kind, OutcomeKind::PushToPullRequestBranch | OutcomeKind::CreateRelease);
        if pushes && contents_write != Some(true) {
            let message = format!("`{}` needs `contents: write`", outcome.kind.as_str());
            let problem = Problem::error(&codes::NEEDS_WRITE, message);
            self.reader.report(problem.help("add `permissions: { contents: write }`"), outcome.place);
        }
    }
}
