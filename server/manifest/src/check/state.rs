//! `state` and `set`: the variables that a daemon keeps from run to run.

use std::collections::BTreeMap;

use domain::memo;
use serde_json::Value as Json;

use super::Check;
use super::names::Visible;
use super::stages::output_of;
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::{JsonTemplate, Reference};
use crate::raw::scalar::{Any, Line, Named, TemplatedJson, is_identifier};
use crate::raw::stage as raw;
use crate::read::Slot;
use crate::suggest::{did_you_mean, quoted};

impl Check<'_> {
    /// The declared variables, each with what it is at first.
    pub(super) fn variables(&mut self, slot: &Slot<Named<Any>>) -> BTreeMap<String, Json> {
        let mut variables = BTreeMap::new();
        let Some((Named(entries), place)) = slot.found() else { return variables };
        for (name, key, first) in entries {
            if !is_identifier(name) {
                let message = format!("{} cannot be a variable's name", quoted(name));
                let rule = "letters, digits and `_`, at most 64, not beginning with a digit";
                self.reader.report(Problem::error(&codes::BAD_IDENTIFIER, message).expected(rule), *key);
            }
            let Some((Any(json), place)) = first.found() else { continue };
            let size = json.to_string().len();
            if size > memo::LONGEST_VARIABLE {
                let message = format!("{} begins with {} KiB", quoted(name), size >> 10);
                let problem = Problem::error(&codes::STATE_BOUNDS, message);
                self.reader.report(problem.expected("at most 256 KiB"), place);
            }
            variables.insert(name.clone(), json.clone());
        }
        if variables.len() > memo::MOST_VARIABLES {
            let message = format!("there are {} variables", variables.len());
            let most = format!("at most {}", memo::MOST_VARIABLES);
            self.reader.report(Problem::error(&codes::STATE_BOUNDS, message).expected(most), place);
        }
        self.state = variables.keys().cloned().collect();
        variables
    }

    /// What a stage sets once it has succeeded. There it knows what it made itself.
    pub(super) fn set<'v>(
        &mut self,
        stage: &'v raw::Stage,
        visible: &Visible<'v>,
    ) -> BTreeMap<String, JsonTemplate> {
        let mut set = BTreeMap::new();
        let mut visible = visible.clone();
        if let Some(Line(name)) = stage.name.get() {
            visible.add_stage(name, output_of(stage), true);
        }
        for (name, key, value) in stage.set.get().map_or(&[][..], |Named(entries)| entries) {
            if let Some(problem) = self.undeclared(name) {
                self.reader.report(problem, *key);
            }
            self.json_names(value, &visible);
            let template = value.get().map(|TemplatedJson { template, .. }| template.clone());
            set.extend(template.map(|template| (name.clone(), template)));
        }
        set
    }

    /// What is wrong with a name below `state`. All that is right is noted as read.
    pub(super) fn variable_fault(&mut self, reference: &Reference<'_>) -> Option<Problem> {
        let Some(name) = reference.path.first() else {
            // All of them, or one that is computed.
            self.read_state.extend(self.state.iter().cloned());
            return None;
        };
        let problem = self.undeclared(name);
        if problem.is_none() {
            self.read_state.insert((*name).to_owned());
        }
        problem
    }

    fn undeclared(&self, name: &str) -> Option<Problem> {
        if self.state.contains(name) {
            return None;
        }
        let help = did_you_mean(name, self.state.iter().map(String::as_str))
            .unwrap_or_else(|| format!("add `{name}` to the daemon's `state`, with what it is at first"));
        let message = format!("there is no variable {}", quoted(name));
        Some(Problem::error(&codes::UNKNOWN_VARIABLE, message).help(help))
    }
}
