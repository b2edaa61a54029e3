//! What a daemon does, and which models it asks.

use std::collections::BTreeSet;
use std::fmt::Debug;

use manifest::Manifest;
use manifest::expression::{Expression, Template};
use manifest::model::{Callee, HttpStage, ModelAlias, PromptStage, ScriptStage, Stage, StageKind, Tool};

use super::{Bearing, Differences, Heading, code, codes, missing};
use crate::report;

type Stages<'m> = Vec<(String, &'m Stage)>;

impl Differences<'_> {
    pub(super) fn work(&mut self) {
        let (before, after) = (self.before, self.after);
        self.stages(Heading::Stages, &flat(&before.stages), &flat(&after.stages));
        self.stages(Heading::OnFailure, &flat(&before.on_failure), &flat(&after.on_failure));
    }

    fn stages(&mut self, heading: Heading, before: &Stages<'_>, after: &Stages<'_>) {
        for (path, stage) in after {
            match before.iter().find(|(known, _)| known == path) {
                Some((_, known)) => self.stage(heading, path, known, stage),
                None => {
                    let with = asked(&stage.kind).map_or(String::new(), |agent| format!(", {}", code(agent)));
                    let text = format!("{} is new: {}{with}", code(path), stage.kind.as_str());
                    self.say(heading, Bearing::Neither, text);
                    self.tools(heading, path, &[], &tools(stage));
                }
            }
        }
        for (path, stage) in before.iter().filter(|(path, _)| after.iter().all(|(now, _)| now != path)) {
            let text = format!("{} is gone", code(path));
            match stage.kind {
                StageKind::Approval(_) => {
                    self.say(Heading::Permissions, Bearing::Wider, format!("{text}: nobody is asked there"));
                }
                _ => self.say(heading, Bearing::Neither, text),
            }
        }
        if kept(before, after) != kept(after, before) {
            self.say(heading, Bearing::Neither, "they stand in another order".to_owned());
        }
    }

    fn stage(&mut self, heading: Heading, path: &str, before: &Stage, after: &Stage) {
        self.approval(path, before, after);
        self.tools(heading, path, &tools(before), &tools(after));
        let (was, is) = (Aspects::of(before), Aspects::of(after));
        let mut names: Vec<&'static str> = is.0.iter().chain(&was.0).map(|aspect| aspect.name).collect();
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name) && was.value(name) != is.value(name));
        let mut unshown = Vec::new();
        for name in names {
            if was.is_long(name) || is.is_long(name) {
                unshown.push(name);
                continue;
            }
            let shown = |value: Option<&str>| value.map_or_else(|| "none".to_owned(), code);
            let what = format!("{}, {name}", code(path));
            self.turned(heading, Bearing::Neither, &what, [&shown(was.value(name)), &shown(is.value(name))]);
        }
        if !unshown.is_empty() {
            let text = format!("{} has another {}", code(path), unshown.join(", "));
            self.say(heading, Bearing::Neither, text);
        }
    }

    /// What a model may do in the sandbox, and call of servers.
    fn tools(&mut self, heading: Heading, path: &str, before: &[String], after: &[String]) {
        let path = code(path);
        let (more, less) = (missing(after, before), missing(before, after));
        self.listed(heading, Bearing::Wider, &more, |tools| format!("{path}: its model may use {tools}"));
        let text = |tools| format!("{path}: its model no longer uses {tools}");
        self.listed(heading, Bearing::Narrower, &less, text);
    }

    /// Whom it asks before it goes on.
    fn approval(&mut self, path: &str, before: &Stage, after: &Stage) {
        let path = code(path);
        let (was, is) = match (&before.kind, &after.kind) {
            (StageKind::Approval(was), StageKind::Approval(is)) => (was, is),
            (StageKind::Approval(_), _) => {
                return self.say(
                    Heading::Permissions,
                    Bearing::Wider,
                    format!("{path} asks nobody any more"),
                );
            }
            _ => return,
        };
        let what = format!("{path}, how many must agree");
        let bearing = Bearing::of(&is.required, &was.required);
        self.turned(
            Heading::Permissions,
            bearing,
            &what,
            [&was.required.to_string(), &is.required.to_string()],
        );
        let (more, less) = (missing(&is.groups, &was.groups), missing(&was.groups, &is.groups));
        let text = |groups| format!("{path} may be approved by {groups}");
        self.listed(Heading::Permissions, Bearing::Wider, &more, text);
        let text = |groups| format!("{path} is no longer approved by {groups}");
        self.listed(Heading::Permissions, Bearing::Narrower, &less, text);
    }

    /// Which models and agents may be asked, and how one of several is chosen.
    pub(super) fn models(&mut self) {
        let (before, after) = (models(self.before), models(self.after));
        let (more, less) = (missing(&after, &before), missing(&before, &after));
        self.listed(Heading::Models, Bearing::Neither, &more, |names| format!("it may ask {names}"));
        self.listed(Heading::Models, Bearing::Neither, &less, |names| format!("it no longer asks {names}"));
        for (name, alias) in &self.after.models {
            if let Some(known) = self.before.models.get(name) {
                self.turned(Heading::Models, Bearing::Neither, &code(name), [&choice(known), &choice(alias)]);
            }
        }
    }
}

/// All stages with their paths; those inside a list stand behind it.
fn flat(stages: &[Stage]) -> Stages<'_> {
    let mut all = Vec::new();
    for stage in stages {
        all.push((stage.name.clone(), stage));
        if let StageKind::Foreach(list) = &stage.kind {
            let inside = flat(&list.stages).into_iter();
            all.extend(inside.map(|(path, inner)| (format!("{}/{path}", stage.name), inner)));
        }
    }
    all
}

/// The paths that another list has too, in the order of this one.
fn kept<'s>(list: &'s Stages<'_>, other: &Stages<'_>) -> Vec<&'s str> {
    let paths = list.iter().map(|(path, _)| path.as_str());
    paths.filter(|path| other.iter().any(|(known, _)| known == path)).collect()
}

const fn question(kind: &StageKind) -> Option<&PromptStage> {
    match kind {
        StageKind::Prompt(question) | StageKind::Image(question) => Some(question),
        StageKind::Agent(agent) => Some(&agent.task),
        StageKind::Hybrid(hybrid) => Some(&hybrid.question),
        StageKind::Script(_)
        | StageKind::Http(_)
        | StageKind::Rules(_)
        | StageKind::Approval(_)
        | StageKind::Daemon(_)
        | StageKind::Foreach(_) => None,
    }
}

/// The model or agent that a stage asks.
fn asked(kind: &StageKind) -> Option<&str> {
    question(kind).map(|question| question.agent.as_str())
}

/// Every model and agent that a daemon may ask, by name, sorted.
fn models(manifest: &Manifest) -> Vec<String> {
    let stages = flat(&manifest.stages).into_iter().chain(flat(&manifest.on_failure));
    let names = stages.filter_map(|(_, stage)| asked(&stage.kind));
    let targets = names.flat_map(|name| match manifest.models.get(name) {
        Some(alias) => alias.targets.clone(),
        None => vec![name.to_owned()],
    });
    targets.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What the model of a stage may use.
fn tools(stage: &Stage) -> Vec<String> {
    let Some(question) = question(&stage.kind) else { return Vec::new() };
    let own = question.tools.iter().copied().map(Tool::as_str).map(str::to_owned);
    own.chain(question.mcp.iter().map(|tools| format!("{}/{}", tools.server, tools.glob))).collect()
}

fn choice(alias: &ModelAlias) -> String {
    let mut text = format!("{} of {}", alias.route.as_str(), codes(&alias.targets));
    if !alias.weights.is_empty() {
        let weights: Vec<String> = alias.weights.iter().map(ToString::to_string).collect();
        text = format!("{text} by {}", weights.join(":"));
    }
    if !alias.requires.is_empty() {
        let requires: Vec<&str> = alias.requires.iter().map(|ability| ability.as_str()).collect();
        text = format!("{text}, with {}", requires.join(", "));
    }
    text
}

/// Something else that is said of a stage.
struct Aspect {
    name: &'static str,
    value: String,
    /// Too long to be shown: it is only told that it differs.
    long: bool,
}

struct Aspects(Vec<Aspect>);

impl Aspects {
    fn of(stage: &Stage) -> Self {
        let mut aspects = Self(Vec::new());
        aspects.short("type", Some(stage.kind.as_str()));
        aspects.short("model", asked(&stage.kind));
        aspects.short("if", stage.condition.as_ref().map(Expression::source));
        aspects.short("needs", (!stage.needs.is_empty()).then(|| stage.needs.join(", ")));
        aspects.short("timeout", stage.timeout.map(report::span));
        aspects.short("output", stage.output.as_deref());
        aspects.short("continue_on_error", stage.continue_on_error.then_some("true"));
        aspects.long("retry", (stage.retry.limit > 0).then_some(&stage.retry));
        aspects.long("set", (!stage.set.is_empty()).then_some(&stage.set));
        aspects.kind(&stage.kind);
        aspects
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|aspect| aspect.name == name).map(|aspect| aspect.value.as_str())
    }

    fn is_long(&self, name: &str) -> bool {
        self.0.iter().any(|aspect| aspect.name == name && aspect.long)
    }

    fn short(&mut self, name: &'static str, value: Option<impl Into<String>>) {
        self.0.extend(value.map(|value| Aspect { name, value: value.into(), long: false }));
    }

    fn long(&mut self, name: &'static str, value: Option<impl Debug>) {
        self.0.extend(value.map(|value| Aspect { name, value: format!("{value:?}"), long: true }));
    }

    fn kind(&mut self, kind: &StageKind) {
        if let Some(question) = question(kind) {
            self.question(question);
        }
        match kind {
            StageKind::Prompt(_) | StageKind::Image(_) => {}
            StageKind::Agent(agent) => self.directory(agent.working_directory.as_ref()),
            StageKind::Script(script) => self.script(script),
            StageKind::Hybrid(hybrid) => {
                self.short("role", Some(&hybrid.role));
                self.script(&hybrid.script);
            }
            StageKind::Http(call) => self.call(call),
            StageKind::Rules(rules) => self.long("table", Some(rules)),
            StageKind::Approval(approval) => self.short("message", approval.message.as_deref()),
            StageKind::Daemon(called) => {
                let uses = match &called.uses {
                    Callee::Sibling(id) => format!("./{id}"),
                    Callee::Address(address) => address.to_string(),
                };
                self.short("uses", Some(uses));
                self.long("inputs", Some(&called.inputs));
            }
            StageKind::Foreach(list) => {
                self.short("items", Some(list.items.source()));
                self.short("as", Some(&list.variable));
                self.short("limit", Some(list.limit.to_string()));
                self.short("parallel", list.parallel.then_some("true"));
            }
        }
    }

    fn question(&mut self, question: &PromptStage) {
        self.short("turns", question.turns.map(|turns| turns.to_string()));
        self.short("max_tokens", question.max_tokens.map(|most| most.to_string()));
        self.short("temperature", question.temperature.map(|degree| degree.to_string()));
        self.short("session", question.session.as_ref().map(Template::source));
        self.long("prompt", question.prompt.as_ref());
        self.long("system prompt", question.system.as_ref());
        self.long("prompt input", question.input.as_ref());
        self.long("schema of answers", question.schema.as_ref());
        self.long("attachments", (!question.attachments.is_empty()).then_some(&question.attachments));
    }

    fn script(&mut self, script: &ScriptStage) {
        self.short("runtime", script.runtime.as_deref());
        self.short("shell", Some(script.shell.join(" ")));
        self.directory(script.working_directory.as_ref());
        self.long("script", Some(&script.script));
        self.long("env", (!script.env.is_empty()).then_some(&script.env));
        self.long("input", script.input.as_ref());
        self.long("schema", script.schema.as_ref());
    }

    fn call(&mut self, call: &HttpStage) {
        self.short("method", Some(&call.method));
        self.short("url", Some(call.url.source()));
        self.long("headers", (!call.headers.is_empty()).then_some(&call.headers));
        self.long("body", Some(&call.body));
        self.long("schema", call.schema.as_ref());
    }

    fn directory(&mut self, directory: Option<&Template>) {
        self.short("working_directory", directory.map(Template::source));
    }
}
