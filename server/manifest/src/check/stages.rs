//! `stages`, `on_failure`: each stage by its type, with the names that it can see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Check;
use super::names::Visible;
use super::schema;
use super::triggers::lines;
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::Template;
use crate::model::{
    AgentStage, ApprovalStage, ForeachStage, HttpBody, HttpStage, HybridStage, ModelAlias, OutcomeSpec,
    PromptStage, Retry, Rule, ScriptStage, Stage, StageKind,
};
use crate::raw::daemon::Daemon;
use crate::raw::scalar::{Any, Identifier, Line, Named, Templated, TemplatedJson, Text};
use crate::raw::stage::{self as raw, StageType};
use crate::read::{Place, Slot, Written};
use crate::suggest::{did_you_mean, quoted};

/// The most stages of a daemon, inner ones counted.
pub(crate) const MAX_STAGES: usize = 200;
/// The programs that are agents rather than models.
pub const CODING_AGENTS: [&str; 7] =
    ["claude-code", "codex", "gemini-cli", "opencode", "aider", "goose", "cursor"];

/// What a daemon does.
pub(super) struct Body {
    pub(super) stages: Vec<Stage>,
    pub(super) on_failure: Vec<Stage>,
    pub(super) outcomes: Vec<OutcomeSpec>,
    pub(super) outcomes_read: BTreeSet<String>,
}

/// What holds for all stages.
#[derive(Clone, Copy)]
struct Around<'a> {
    models: &'a BTreeMap<String, ModelAlias>,
    timeout: Duration,
}

impl Check<'_> {
    pub(super) fn body<'v>(
        &mut self,
        daemon: &'v Daemon,
        mut visible: Visible<'v>,
        models: &BTreeMap<String, ModelAlias>,
        timeout: Duration,
    ) -> Body {
        let around = Around { models, timeout };
        let (main, rescue) = (listed(&daemon.stages), listed(&daemon.on_failure));
        self.count_stages(&daemon.stages, main, rescue);
        let stages = self.stages(main, &visible, around);
        // From here on, what a stage would have made is known by name, though it may be missing.
        add_all(&mut visible, main);
        let on_failure = self.stages(rescue, &visible, around);
        add_all(&mut visible, rescue);
        let write = daemon.permissions.get().and_then(|permissions| permissions.contents.get());
        let write = write.map(|contents| *contents == crate::raw::daemon::Contents::Write);
        self.read_state.clear();
        let outcomes = self.outcomes(&daemon.outcomes, &visible, write);
        let outcomes_read = std::mem::take(&mut self.read_state);
        Body { stages, on_failure, outcomes, outcomes_read }
    }

    fn count_stages(
        &mut self,
        slot: &Slot<Vec<Slot<raw::Stage>>>,
        main: &[Slot<raw::Stage>],
        rescue: &[Slot<raw::Stage>],
    ) {
        let Some(place) = slot.place().filter(|_| slot.get().is_some()) else { return };
        let count = count(main) + count(rescue);
        if main.is_empty() {
            let problem = Problem::error(&codes::STAGE_COUNT, "the daemon has no stages");
            self.reader.report(problem.expected("at least one stage"), place);
        } else if count > MAX_STAGES {
            let problem = Problem::error(&codes::STAGE_COUNT, format!("the daemon has {count} stages"));
            self.reader.report(problem.expected(format!("at most {MAX_STAGES}")), place);
        }
    }

    /// The stages of one list.
    fn stages(&mut self, list: &[Slot<raw::Stage>], outer: &Visible<'_>, around: Around<'_>) -> Vec<Stage> {
        if count(list) > MAX_STAGES {
            return Vec::new();
        }
        self.unique_names(list, outer);
        let graph = self.graph(list);
        let mut stages = Vec::new();
        for (index, slot) in list.iter().enumerate() {
            let Some((raw, place)) = slot.found() else { continue };
            let mut visible = outer.clone();
            for (other, sibling) in
                list.iter().enumerate().filter_map(|(other, slot)| Some((other, slot.get()?)))
            {
                if let Some(Line(name)) = sibling.name.get() {
                    visible.add_stage(name, output_of(sibling), graph.is_before(other, index));
                }
            }
            let needs = graph.needs[index].iter().filter_map(|need| list[*need].get()?.name.get());
            let needs = needs.map(|name| name.0.clone()).collect();
            stages.extend(self.stage((raw, place), needs, &visible, around));
        }
        stages
    }

    /// Names and outputs, each once.
    fn unique_names(&mut self, list: &[Slot<raw::Stage>], outer: &Visible<'_>) {
        let mut names: Vec<&str> = Vec::new();
        let mut outputs: Vec<(&str, bool)> = Vec::new();
        for stage in list.iter().filter_map(Slot::get) {
            if let Some((Line(name), place)) = stage.name.found() {
                if names.contains(&name.as_str()) {
                    let message = format!("there is already a stage {}", quoted(name));
                    self.reader.report(Problem::error(&codes::DUPLICATE_NAME, message), place);
                }
                names.push(name);
            }
            if let Some((Identifier(output), place)) = stage.output.found() {
                self.free_name(output, place);
                let conditional = stage.r#if.is_written();
                let clash = outputs
                    .iter()
                    .any(|(other, alternative)| other == output && !(conditional && *alternative));
                if clash || outer.has_output(output) {
                    let message = format!("another stage has the output {}", quoted(output));
                    self.reader.report(Problem::error(&codes::DUPLICATE_NAME, message), place);
                } else if outer.is_input(output) {
                    let message = format!("there is an input {}", quoted(output));
                    self.reader.report(Problem::error(&codes::DUPLICATE_NAME, message), place);
                }
                outputs.push((output, conditional));
            }
        }
    }

    fn stage(
        &mut self,
        (raw, place): (&raw::Stage, Place),
        needs: Vec<String>,
        visible: &Visible<'_>,
        around: Around<'_>,
    ) -> Option<Stage> {
        let around_it = std::mem::take(&mut self.read_state);
        let stage = self.stage_itself((raw, place), needs, visible, around);
        let reads = std::mem::replace(&mut self.read_state, around_it);
        stage.map(|stage| Stage { reads, ..stage })
    }

    fn stage_itself(
        &mut self,
        (raw, place): (&raw::Stage, Place),
        needs: Vec<String>,
        visible: &Visible<'_>,
        around: Around<'_>,
    ) -> Option<Stage> {
        self.condition_names(&raw.r#if, visible);
        let set = self.set(raw, visible);
        let timeout = self.stage_timeout(&raw.timeout, around.timeout);
        let retry = self.retry(raw.retry.get());
        let kind = self.stage_type(raw, place)?;
        self.stage_keys(raw, kind, place);
        self.own_tools(raw, kind);
        self.own_conversation(raw, kind);
        let kind = self.stage_kind(raw, kind, visible, around)?;
        let name = raw.name.get()?.0.clone();
        self.not_yet(raw, &kind, place);
        Some(Stage {
            name,
            needs,
            condition: raw.r#if.get().map(|condition| condition.expression.clone()),
            output: output_of(raw).map(str::to_owned),
            set,
            reads: BTreeSet::new(),
            timeout,
            retry,
            continue_on_error: raw.continue_on_error.cloned().unwrap_or(false),
            kind,
        })
    }

    /// The type that is written, or the one that the keys tell.
    fn stage_type(&mut self, raw: &raw::Stage, place: Place) -> Option<StageType> {
        if raw.r#type.is_written() {
            return raw.r#type.cloned();
        }
        let script = raw.script.is_written() || raw.script_file.is_written();
        match (raw.agent.get(), script) {
            (Some(_), true) => Some(StageType::Hybrid),
            (Some(Line(agent)), false) if self.is_coding_agent(agent) => Some(StageType::Agent),
            (Some(_), false) => Some(StageType::Prompt),
            (None, true) => Some(StageType::Script),
            (None, false) if raw.agent.is_written() => None,
            (None, false) => {
                let problem = Problem::error(&codes::UNTYPED_STAGE, "what this stage does cannot be told");
                let near = raw.name.place().unwrap_or(place);
                self.reader.report(problem.expected("a `type`, an `agent` or a `script`"), near);
                None
            }
        }
    }

    /// Whether a name is that of a program: one that everybody knows, or one of this server's own.
    fn is_coding_agent(&self, name: &str) -> bool {
        CODING_AGENTS.contains(&name) || self.rules.agents.contains(&name)
    }

    fn retry(&mut self, raw: Option<&raw::Retry>) -> Retry {
        let wait = Duration::from_secs(1);
        match raw {
            None => Retry::default(),
            Some(raw::Retry::Times(times)) => {
                let limit = self.within(times, 0..=10).unwrap_or(0);
                Retry { limit, wait, factor: 2.0, max_wait: Duration::from_secs(60) }
            }
            Some(raw::Retry::Map(map)) => {
                let backoff = map.backoff.get();
                let factor = backoff
                    .map_or(2.0, |backoff| self.within_floats(&backoff.factor, 1.0, 10.0).unwrap_or(2.0));
                Retry {
                    limit: self.within(&map.limit, 0..=10).unwrap_or(0),
                    wait: backoff.and_then(|backoff| backoff.duration.get()).map_or(wait, |time| time.0),
                    factor,
                    max_wait: backoff
                        .and_then(|backoff| backoff.max_duration.get())
                        .map_or(Duration::from_secs(60), |time| time.0),
                }
            }
        }
    }

    fn within_floats(&mut self, slot: &Slot<f64>, least: f64, most: f64) -> Option<f64> {
        let (number, place) = slot.found()?;
        if !(least..=most).contains(number) {
            let problem = Problem::error(&codes::OUT_OF_RANGE, format!("{number} is out of range"));
            self.reader.report(problem.expected(format!("{least} to {most}")), place);
        }
        Some(*number)
    }

    fn stage_kind(
        &mut self,
        raw: &raw::Stage,
        kind: StageType,
        visible: &Visible<'_>,
        around: Around<'_>,
    ) -> Option<StageKind> {
        Some(match kind {
            StageType::Prompt => StageKind::Prompt(self.question(raw, kind, visible, around)?),
            StageType::Image => StageKind::Image(self.question(raw, kind, visible, around)?),
            StageType::Agent => StageKind::Agent(AgentStage {
                task: self.question(raw, kind, visible, around)?,
                working_directory: self.directory(raw, visible),
            }),
            StageType::Script => {
                self.template_names(&raw.input, visible);
                StageKind::Script(ScriptStage { input: template(&raw.input), ..self.script(raw, visible)? })
            }
            StageType::Hybrid => StageKind::Hybrid(self.hybrid(raw, visible, around)?),
            StageType::Http => StageKind::Http(self.http(raw, visible)?),
            StageType::Rules => StageKind::Rules(self.rules(raw.rules.get()?, visible)),
            StageType::Approval => StageKind::Approval(ApprovalStage {
                required: self.within(&raw.required, 1..=100).unwrap_or(1),
                groups: lines(&raw.groups),
                message: raw.message.get().map(|text| text.0.clone()),
            }),
            StageType::Daemon => StageKind::Daemon(self.call(raw, visible)?),
            StageType::Foreach | StageType::Parallel => {
                StageKind::Foreach(self.foreach(raw, kind, visible, around)?)
            }
        })
    }

    fn question(
        &mut self,
        raw: &raw::Stage,
        kind: StageType,
        visible: &Visible<'_>,
        around: Around<'_>,
    ) -> Option<PromptStage> {
        let prompt = self.prompt(raw, visible);
        for slot in [&raw.prompt_template, &raw.input, &raw.system, &raw.session] {
            self.template_names(slot, visible);
        }
        let asked =
            raw.prompt_template.is_written() || raw.prompt_file.is_written() || raw.input.is_written();
        if let Some(place) = raw.agent.place().filter(|_| !asked && kind != StageType::Hybrid) {
            let problem = Problem::error(&codes::NO_QUESTION, "nothing is asked");
            self.reader.report(problem.expected("`prompt_template`, `prompt_file` or `input`"), place);
        }
        let attachments = raw.attachments.get().map_or(&[][..], |list| &list.0);
        for attachment in attachments {
            self.template_names(attachment, visible);
            self.workspace_path(attachment);
        }
        let (Line(agent), place) = raw.agent.found()?;
        let aliases: Vec<&str> = around.models.keys().map(String::as_str).collect();
        self.known_model(agent, &aliases, place);
        let (tools, mcp) = self.tools(&raw.tools);
        if kind == StageType::Agent && !raw.tools.is_written() && !self.is_coding_agent(agent) {
            self.all_servers_used();
        }
        Some(PromptStage {
            agent: agent.clone(),
            prompt,
            input: template(&raw.input),
            system: template(&raw.system),
            schema: self.json_schema(&raw.schema),
            max_tokens: self.within(&raw.max_tokens, 1..=10_000_000),
            temperature: self.within_floats(&raw.temperature, 0.0, 2.0),
            session: template(&raw.session),
            attachments: attachments.iter().filter_map(template).collect(),
            tools,
            mcp,
            turns: self.within(&raw.turns, 1..=10_000),
        })
    }

    /// What is asked: written in the manifest, or in a file.
    fn prompt(&mut self, raw: &raw::Stage, visible: &Visible<'_>) -> Option<Template> {
        let both = (raw.prompt_template.is_written(), raw.prompt_file.place());
        if let (true, Some(place)) = both {
            let message = "`prompt_file` and `prompt_template` exclude one another";
            self.reader.report(Problem::error(&codes::KEYS_EXCLUDE, message).help("keep one"), place);
        }
        let Some(file) = self.named_file(&raw.prompt_file) else { return template(&raw.prompt_template) };
        let prompt = self.file_template(&file)?;
        self.file_names(&file.path, &prompt, visible);
        Some(prompt)
    }

    /// A name that is a model, an agent, or one of the daemon's own.
    pub(super) fn known_model(&mut self, name: &str, aliases: &[&str], place: Place) {
        let models = self.rules.models;
        let agents = self.rules.agents;
        let known = || models.iter().chain(aliases).chain(agents).copied().chain(CODING_AGENTS);
        if name.contains("${") {
            let problem = Problem::error(&codes::UNKNOWN_MODEL, "an agent is named, not computed");
            self.reader.report(problem.help("choose between models with `models` and `route`"), place);
        } else if !models.is_empty() && !name.contains('/') && known().all(|known| known != name) {
            let message = format!("this server knows no model {}", quoted(name));
            let help = did_you_mean(name, known());
            self.reader.report(Problem::warning(&codes::UNKNOWN_MODEL, message).maybe_help(help), place);
        }
    }

    fn json_schema(&mut self, slot: &Slot<Any>) -> Option<serde_json::Value> {
        let (Any(schema), place) = slot.found()?;
        if let Some(fault) = schema::fault(schema) {
            self.reader.report(Problem::error(&codes::BAD_SCHEMA, fault), place);
        }
        Some(schema.clone())
    }

    fn directory(&mut self, raw: &raw::Stage, visible: &Visible<'_>) -> Option<Template> {
        self.template_names(&raw.working_directory, visible);
        self.workspace_path(&raw.working_directory);
        template(&raw.working_directory)
    }

    fn script(&mut self, raw: &raw::Stage, visible: &Visible<'_>) -> Option<ScriptStage> {
        let working_directory = self.directory(raw, visible);
        let env = self.env(&raw.env, visible);
        let runtime = raw.runtime.found().map(|(Line(name), place)| self.runtime(name, place));
        let schema = self.json_schema(&raw.schema);
        if let (true, Some(place)) = (raw.script.is_written(), raw.script_file.place()) {
            let message = "`script_file` and `script` exclude one another";
            self.reader.report(Problem::error(&codes::KEYS_EXCLUDE, message).help("keep one"), place);
        }
        let file = self.named_file(&raw.script_file).map(|file| file.text);
        let script = file.or_else(|| raw.script.get().map(|Text(text)| text.clone()))?;
        let shell = shell(&lines(&raw.shell));
        Some(ScriptStage { script, shell, runtime, working_directory, env, input: None, schema })
    }

    pub(super) fn runtime(&mut self, name: &str, place: Place) -> String {
        let runtimes = self.rules.runtimes;
        if !runtimes.is_empty() && !runtimes.contains(&name) {
            let message = format!("this server has no runtime {}", quoted(name));
            let problem = Problem::error(&codes::UNKNOWN_RUNTIME, message);
            let known = crate::suggest::one_of(runtimes.iter().copied());
            let help = did_you_mean(name, runtimes.iter().copied());
            self.reader.report(problem.expected(known).maybe_help(help), place);
        }
        name.to_owned()
    }

    pub(super) fn env(
        &mut self,
        slot: &Slot<Named<Templated>>,
        visible: &Visible<'_>,
    ) -> BTreeMap<String, Template> {
        let mut env = BTreeMap::new();
        for (name, key, value) in slot.get().map_or(&[][..], |named| &named.0) {
            if domain::name::SecretName::parse(name.as_str()).is_err() {
                let problem = Problem::error(
                    &codes::BAD_IDENTIFIER,
                    format!("{} cannot be a variable's name", quoted(name)),
                );
                self.reader
                    .report(problem.expected("letters, digits and `_`, not beginning with a digit"), *key);
            }
            self.template_names(value, visible);
            env.extend(template(value).map(|value| (name.clone(), value)));
        }
        env
    }

    fn hybrid(&mut self, raw: &raw::Stage, visible: &Visible<'_>, around: Around<'_>) -> Option<HybridStage> {
        let script = self.script(raw, visible);
        let question = self.question(raw, StageType::Hybrid, visible, around);
        let role = raw.agent_role.get().map_or_else(|| "analyze_failures".to_owned(), |role| role.0.clone());
        // The input and the schema of a hybrid stage are those of the question.
        Some(HybridStage { script: ScriptStage { schema: None, ..script? }, question: question?, role })
    }

    fn http(&mut self, raw: &raw::Stage, visible: &Visible<'_>) -> Option<HttpStage> {
        let schema = self.json_schema(&raw.schema);
        let request = raw.request.get()?;
        let visible = &visible.in_request();
        if let (true, Some(place)) = (request.json.is_written(), request.text.place()) {
            let message = "`text` and `json` exclude one another";
            self.reader.report(Problem::error(&codes::KEYS_EXCLUDE, message).help("keep one"), place);
        }
        self.template_names(&request.url, visible);
        self.template_names(&request.text, visible);
        self.json_names(&request.json, visible);
        let mut headers = Vec::new();
        for (name, key, value) in request.headers.get().map_or(&[][..], |named| &named.0) {
            self.header(name, *key);
            self.template_names(value, visible);
            headers.extend(template(value).map(|value| (name.clone(), value)));
        }
        let body = match (request.json.get(), template(&request.text)) {
            (Some(TemplatedJson { template, .. }), _) => HttpBody::Json(template.clone()),
            (None, Some(text)) => HttpBody::Text(text),
            (None, None) => HttpBody::None,
        };
        let usual = if matches!(body, HttpBody::None) { "GET" } else { "POST" };
        let method = request.method.get().map_or(usual, |method| method.as_str()).to_owned();
        let (Templated(url), place) = request.url.found()?;
        self.url(url, place);
        Some(HttpStage { method, url: url.clone(), headers, body, schema })
    }

    fn rules(&mut self, rows: &[Slot<raw::Rule>], visible: &Visible<'_>) -> Vec<Rule> {
        let mut decided = false;
        let mut rules = Vec::new();
        for (row, place) in rows.iter().filter_map(Slot::found) {
            if decided {
                let problem = Problem::warning(&codes::DEAD_RULE, "this row is never reached");
                self.reader.report(problem.help("a row before it has no `when`"), place);
            }
            decided |= !row.when.is_written();
            self.condition_names(&row.when, visible);
            self.json_names(&row.then, visible);
            let when = row.when.get().map(|condition| condition.expression.clone());
            rules.extend(row.then.get().map(|then| Rule { when, then: then.template.clone() }));
        }
        rules
    }

    fn foreach(
        &mut self,
        raw: &raw::Stage,
        kind: StageType,
        visible: &Visible<'_>,
        around: Around<'_>,
    ) -> Option<ForeachStage> {
        self.template_names(&raw.items, visible);
        let variable = raw.r#as.get().map_or("item", |name| name.0.as_str());
        if let Some((Identifier(name), place)) = raw.r#as.found()
            && name != "item"
        {
            self.free_name(name, place);
        }
        let mut inside = visible.clone();
        inside.add_item(variable);
        let list = listed(&raw.stages);
        if let Some(place) = raw.stages.place().filter(|_| raw.stages.get().is_some_and(Vec::is_empty)) {
            let problem = Problem::error(&codes::STAGE_COUNT, "there are no stages inside");
            self.reader.report(problem.expected("at least one stage"), place);
        }
        let stages = self.stages(list, &inside, around);
        let usual = if kind == StageType::Parallel { 10 } else { 1 };
        Some(ForeachStage {
            items: template(&raw.items)?,
            variable: variable.to_owned(),
            limit: self.within(&raw.limit, 1..=100).unwrap_or(usual),
            parallel: kind == StageType::Parallel,
            stages,
        })
    }

    /// Keys that belong to stages of another type, and keys that are missing from this one.
    fn stage_keys(&mut self, raw: &raw::Stage, kind: StageType, place: Place) {
        let (keys, word) = (kind.keys(), kind.as_str());
        for (key, written) in raw.written() {
            if let Some(place) = written.filter(|_| !keys.contains(&key)) {
                let problem = Problem::error(
                    &codes::MISPLACED_KEY,
                    format!("`{key}` does not belong to a `{word}` stage"),
                );
                let help = match key {
                    "retry" => retry_elsewhere(kind),
                    _ => format!("its keys are {}", keys.join(", ")),
                };
                self.reader.report(problem.help(help), place);
            }
        }
        let near = raw.name.place().unwrap_or(place);
        let written = raw.written();
        let missing = |wanted: &str| written.iter().all(|(key, place)| *key != wanted || place.is_none());
        let mut lacking: Vec<String> = kind
            .needed()
            .iter()
            .filter(|key| missing(key))
            .map(|key| format!("the key `{key}` is missing"))
            .collect();
        if matches!(kind, StageType::Script | StageType::Hybrid)
            && missing("script")
            && missing("script_file")
        {
            lacking.push("the key `script` is missing".to_owned());
        }
        for message in lacking {
            let problem = Problem::error(&codes::MISSING_KEY, message);
            self.reader.report(problem.help(format!("a `{word}` stage must have it")), near);
        }
    }

    /// A coding agent keeps conversations in its home, which is gone when the stage has ended.
    fn own_conversation(&mut self, raw: &raw::Stage, kind: StageType) {
        let (Some(Line(agent)), Some(place)) = (raw.agent.get(), raw.session.place()) else { return };
        if kind == StageType::Agent && self.is_coding_agent(agent) {
            let message = format!("`session` has no effect: {} is a coding agent", quoted(agent));
            let problem = Problem::warning(&codes::NO_SESSION, message);
            self.reader.report(problem.help("hand on what it said as an `output`, or ask a model"), place);
        }
    }

    /// A coding agent has tools of its own, which nobody else chooses.
    fn own_tools(&mut self, raw: &raw::Stage, kind: StageType) {
        let (Some(Line(agent)), Some(place)) = (raw.agent.get(), raw.tools.place()) else { return };
        if kind == StageType::Agent && self.is_coding_agent(agent) {
            let message = format!("`tools` are for models, and {} is a coding agent", quoted(agent));
            let problem = Problem::error(&codes::MISPLACED_KEY, message);
            self.reader.report(problem.help("it brings its own; leave the key away"), place);
        }
    }
}

/// Where a `retry` belongs that a stage as a whole cannot have.
fn retry_elsewhere(kind: StageType) -> String {
    let owner = if kind == StageType::Daemon { "of the called daemon" } else { "inside it" };
    format!("give `retry` to the stages {owner}")
}

/// The program and its options: one text is split at spaces, a list is taken as it is.
fn shell(written: &[String]) -> Vec<String> {
    match written {
        [] => ["bash", "-eu", "-o", "pipefail"].map(str::to_owned).to_vec(),
        [one] => one.split_whitespace().map(str::to_owned).collect(),
        many => many.to_vec(),
    }
}

fn template(slot: &Slot<Templated>) -> Option<Template> {
    slot.get().map(|templated| templated.0.clone())
}

fn listed(slot: &Slot<Vec<Slot<raw::Stage>>>) -> &[Slot<raw::Stage>] {
    slot.get().map_or(&[], Vec::as_slice)
}

pub(super) fn output_of(stage: &raw::Stage) -> Option<&str> {
    stage.output.get().map(|output| output.0.as_str())
}

fn add_all<'v>(visible: &mut Visible<'v>, list: &'v [Slot<raw::Stage>]) {
    for stage in list.iter().filter_map(Slot::get) {
        if let Some(Line(name)) = stage.name.get() {
            visible.add_stage(name, output_of(stage), true);
        }
    }
}

/// All stages, inner ones counted.
fn count(list: &[Slot<raw::Stage>]) -> usize {
    list.iter().map(|stage| 1 + stage.get().map_or(0, |stage| count(listed(&stage.stages)))).sum()
}
