//! Names in expressions: does each mean something where it stands?

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Spot};
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::{Reference, Template};
use crate::raw::scalar::{Condition, Templated, TemplatedJson};
use crate::read::Slot;
use crate::suggest::{did_you_mean, quoted};

/// The names that mean something in every expression.
pub(super) const ROOTS: [&str; 9] =
    ["event", "inputs", "stages", "state", "workspace", "secrets", "run", "repository", "item"];
/// Those that are known before a run begins.
const EARLY_ROOTS: [&str; 3] = ["event", "inputs", "repository"];

/// What an expression can see.
#[derive(Debug, Clone)]
pub(super) struct Visible<'v> {
    inputs: &'v [String],
    /// Outputs by name.
    outputs: BTreeMap<&'v str, Made<'v>>,
    /// Stages by name, and whether they have ended.
    stages: BTreeMap<&'v str, bool>,
    /// The names of items, inside `foreach`.
    items: Vec<&'v str>,
    moment: Moment,
}

/// When an expression is evaluated, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the run exists.
    Before,
    /// In a stage, or after all of them.
    During,
    /// By the server, in the request of an `http` stage: a place for secrets.
    Request,
    /// By the server, in the headers of its calls of an MCP server: the other place for secrets, and before
    /// anything is made.
    Connection,
}

impl Moment {
    /// Whether no stage has made anything yet.
    fn is_early(self) -> bool {
        matches!(self, Self::Before | Self::Connection)
    }
}

/// An output, from where the expression stands.
#[derive(Debug, Clone, Copy)]
struct Made<'v> {
    /// The stage that makes it.
    by: &'v str,
    /// Whether it has surely ended.
    ended: bool,
}

impl<'v> Visible<'v> {
    pub(super) fn new(inputs: &'v [String], moment: Moment) -> Self {
        Self { inputs, outputs: BTreeMap::new(), stages: BTreeMap::new(), items: Vec::new(), moment }
    }

    /// Adds a stage and what it makes. Of two stages with one output, one that has ended is enough.
    pub(super) fn add_stage(&mut self, name: &'v str, output: Option<&'v str>, ended: bool) {
        self.stages.insert(name, ended);
        if let Some(output) = output {
            let made = self.outputs.entry(output).or_insert(Made { by: name, ended });
            if ended {
                *made = Made { by: name, ended };
            }
        }
    }

    pub(super) fn add_item(&mut self, name: &'v str) {
        self.items.push(name);
    }

    pub(super) fn has_output(&self, name: &str) -> bool {
        self.outputs.contains_key(name)
    }

    pub(super) fn is_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|input| input == name)
    }

    /// The same names in the request of an `http` stage.
    pub(super) fn in_request(&self) -> Self {
        Self { moment: Moment::Request, ..self.clone() }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.outputs.keys().chain(&self.items).copied();
        own.chain(self.inputs.iter().map(String::as_str)).chain(ROOTS)
    }
}

impl Check<'_> {
    pub(super) fn template_names(&mut self, slot: &Slot<Templated>, visible: &Visible<'_>) {
        if let Some((Templated(template), place)) = slot.found() {
            self.references(&template.references(), Spot::Here(place, template.source()), visible);
        }
    }

    pub(super) fn condition_names(&mut self, slot: &Slot<Condition>, visible: &Visible<'_>) {
        if let Some((condition, place)) = slot.found() {
            self.references(&condition.expression.references(), Spot::Here(place, &condition.text), visible);
        }
    }

    pub(super) fn json_names(&mut self, slot: &Slot<TemplatedJson>, visible: &Visible<'_>) {
        for (place, template) in slot.get().map_or(&[][..], |json| &json.texts) {
            self.references(&template.references(), Spot::Here(*place, template.source()), visible);
        }
    }

    pub(super) fn file_names(&mut self, path: &str, template: &Template, visible: &Visible<'_>) {
        self.references(&template.references(), Spot::File(path, template.source()), visible);
    }

    fn references(&mut self, references: &[Reference<'_>], spot: Spot<'_>, visible: &Visible<'_>) {
        let mut seen = BTreeSet::new();
        for reference in references {
            // A name that stands in one text many times is one mistake.
            if !seen.insert((reference.root, &reference.path, reference.guarded)) {
                continue;
            }
            self.reads_diff |=
                reference.root == "event" && reference.path.starts_with(&["pull_request", "diff"]);
            if let Some(problem) = self.fault(reference, visible) {
                self.report_at(problem, spot, reference.offset);
            }
        }
    }

    fn fault(&mut self, reference: &Reference<'_>, visible: &Visible<'_>) -> Option<Problem> {
        let near = Near { wanted: !self.reader.is_full() };
        match reference.root {
            "secrets" => self.secret_fault(reference, visible),
            "inputs" => input_fault(reference, visible, near),
            root if visible.moment.is_early() && !visible.is_input(root) => early_fault(root),
            "stages" => stage_fault(reference, visible, near),
            "state" => self.variable_fault(reference),
            "item" if visible.items.is_empty() && !reference.guarded => {
                Some(Problem::warning(&codes::UNKNOWN_VALUE, "there is no `item` outside `foreach`"))
            }
            root if ROOTS.contains(&root) || visible.items.contains(&root) || visible.is_input(root) => None,
            root => output_fault(root, reference.guarded, visible, near),
        }
    }

    fn secret_fault(&mut self, reference: &Reference<'_>, visible: &Visible<'_>) -> Option<Problem> {
        if !matches!(visible.moment, Moment::Request | Moment::Connection) {
            let problem = Problem::error(&codes::MISPLACED_SECRET, "a secret cannot stand here");
            return Some(problem.help(
                "only the `request` of an `http` stage and the `headers` of an MCP server can use secrets",
            ));
        }
        let Some(name) = reference.path.first() else {
            let problem = Problem::error(&codes::UNDECLARED_SECRET, "which secret is meant cannot be told");
            return Some(problem.help("write `secrets.NAME`"));
        };
        if let Some(secret) = self.secrets.iter().find(|secret| secret.as_str() == *name) {
            self.used_secrets.insert(secret.clone());
            return None;
        }
        let known = self.secrets.iter().map(domain::name::SecretName::as_str);
        let help =
            did_you_mean(name, known).unwrap_or_else(|| format!("add `{name}` to `permissions.secrets`"));
        let message = format!("the secret {} is not declared", quoted(name));
        Some(Problem::error(&codes::UNDECLARED_SECRET, message).help(help))
    }
}

/// "Did you mean", as long as someone will read it: looking for a near name is the dearest part of a check.
#[derive(Clone, Copy)]
struct Near {
    wanted: bool,
}

impl Near {
    fn name<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
        if self.wanted { did_you_mean(name, known) } else { None }
    }
}

fn input_fault(reference: &Reference<'_>, visible: &Visible<'_>, near: Near) -> Option<Problem> {
    let name = reference.path.first().filter(|name| !visible.is_input(name))?;
    let help = near.name(name, visible.inputs.iter().map(String::as_str));
    let message = format!("there is no input {}", quoted(name));
    Some(Problem::error(&codes::UNKNOWN_INPUT, message).maybe_help(help))
}

fn early_fault(root: &str) -> Option<Problem> {
    if EARLY_ROOTS.contains(&root) {
        return None;
    }
    let message = format!("{} does not exist before the run", quoted(root));
    let help =
        format!("here stand only {}, and inputs", EARLY_ROOTS.map(|root| format!("`{root}`")).join(", "));
    Some(Problem::error(&codes::OUTPUT_TOO_EARLY, message).help(help))
}

fn stage_fault(reference: &Reference<'_>, visible: &Visible<'_>, near: Near) -> Option<Problem> {
    let name = reference.path.first()?;
    match visible.stages.get(name) {
        Some(true) => None,
        Some(false) => Some(too_early(&quoted(&format!("stages.{name}")), name)),
        None => {
            let message = format!("there is no stage {}", quoted(name));
            let help = near.name(name, visible.stages.keys().copied());
            Some(Problem::error(&codes::UNKNOWN_STAGE, message).maybe_help(help))
        }
    }
}

fn output_fault(root: &str, guarded: bool, visible: &Visible<'_>, near: Near) -> Option<Problem> {
    match visible.outputs.get(root) {
        Some(made) if made.ended || guarded => None,
        Some(made) => Some(too_early(&quoted(root), made.by)),
        None if guarded => None,
        None => {
            let message = format!("nothing here is called {}", quoted(root));
            let help = near
                .name(root, visible.names())
                .unwrap_or_else(|| "declare it in `inputs`, or make it with a stage's `output`".to_owned());
            Some(Problem::warning(&codes::UNKNOWN_VALUE, message).help(help))
        }
    }
}

fn too_early(what: &str, stage: &str) -> Problem {
    let message = format!("{what} is used here, but the stage {} need not have ended", quoted(stage));
    Problem::error(&codes::OUTPUT_TOO_EARLY, message).help("name that stage in `needs`, and begin after it")
}
