//! `stages:`: what a daemon does.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::raw::mcp::Tool;
use crate::raw::scalar::{
    Any, Condition, Identifier, Line, Named, OneOrMany, Templated, TemplatedJson, Text, Time,
};
use crate::read::{Place, Read, Reader, Slot, object, words};
use crate::yaml::{Node, Shape};

object! {
    /// One step. Which keys it has depends on its type.
    #[schemars(transform = schema_of_types)]
    struct Stage requires [name] {
        /// What it is called; unique among its siblings.
        #[schemars(example = json!("Analyze"))]
        name: Line,
        /// What it is. Without it: with only an `agent`, a question for a model or work for a coding agent, by
        /// what the name denotes; with only a `script`, a script.
        #[schemars(rename = "type", example = json!("script"))]
        r#type: StageType,
        /// The siblings that must have ended before, by name. Without it: the stage before this one. An empty
        /// list starts it at once; stages that do not wait for one another run side by side.
        #[schemars(example = json!(["Analyze", "Scan"]))]
        needs: OneOrMany<Line>,
        /// Runs only if this holds. A condition that does not ask for `failure()` or `always()` holds only
        /// while nothing has failed.
        #[schemars(rename = "if", example = json!("len(findings.issues) > 0"))]
        r#if: Condition,
        /// The name under which later stages, and scripts as a variable, know what it made.
        #[schemars(example = json!("findings"))]
        output: Identifier,
        /// Variables of the daemon's `state`, and what each becomes once the stage has succeeded. What the stage
        /// made is known under the name of its `output`.
        #[schemars(example = json!({ "counter": "${next}" }))]
        set: Named<TemplatedJson>,
        /// Its own time limit, within the run's.
        #[schemars(example = json!("5m"))]
        timeout: Time,
        /// How often it is tried again when it fails: a number, or a map. In `foreach` and `parallel` the
        /// stages inside have it, with `daemon` those of the called daemon.
        #[schemars(example = json!({ "limit": 3, "backoff": { "duration": "1s", "factor": 2, "max_duration": "30s" } }))]
        retry: Retry,
        /// Whether the run goes on when it fails.
        #[schemars(example = true)]
        continue_on_error: bool,
        /// The model, one of the daemon's own names for models, or a coding agent.
        #[schemars(example = json!("claude-opus"))]
        agent: Line,
        /// What the model's part in a `hybrid` stage is: `analyze_failures`, `reviewer`, `summarizer`, or free words.
        #[schemars(example = json!("analyze_failures"))]
        agent_role: Line,
        /// What is asked.
        #[schemars(example = json!("Plan an application: ${app_idea}"))]
        prompt_template: Templated,
        /// A file in the daemon's directory that holds what is asked.
        #[schemars(example = json!("prompts/analyze.md"))]
        prompt_file: Line,
        /// What it is asked about; what a script reads on its standard input.
        #[schemars(example = json!("${event.pull_request.diff}"))]
        input: Templated,
        /// What the model is told before.
        #[schemars(example = json!("You are a careful reviewer."))]
        system: Templated,
        /// What the result must look like: a JSON Schema (draft 2020-12). With it the output is JSON.
        #[schemars(example = json!({ "type": "object", "required": ["issues"], "properties": { "issues": { "type": "array" } } }))]
        schema: Any,
        /// The longest answer, tokens.
        #[schemars(example = 4096)]
        max_tokens: u32,
        /// How freely the model answers, 0 to 2.
        #[schemars(example = 0.2)]
        temperature: f64,
        /// Keeps the conversation under this key, across stages and runs.
        #[schemars(example = json!("review-${event.pull_request.number}"))]
        session: Templated,
        /// Files of the workspace that go with the question.
        #[schemars(example = json!(["screenshots/before.png"]))]
        attachments: OneOrMany<Templated>,
        /// What the model may call while it answers: our tools, which work in the sandbox, and `SERVER/TOOL` or
        /// `SERVER/*` of `mcp_servers`. An `agent` stage with a model has all of them where nothing is said; a
        /// coding agent brings its own.
        #[schemars(example = json!(["read", "search", "tickets/*"]))]
        tools: Vec<Slot<Tool>>,
        /// Turns of a model with tools, within the run's limit.
        #[schemars(example = 20)]
        turns: u32,
        /// A script. Variables reach it through the environment, under their names, and are never pasted in.
        #[schemars(example = json!("npm test"))]
        script: Text,
        /// A file in the daemon's directory that holds the script.
        #[schemars(example = json!("scripts/test.sh"))]
        script_file: Line,
        /// The program that runs the script, with its options. Without it: `bash -eu -o pipefail`.
        #[schemars(example = json!("bash -eu"))]
        shell: OneOrMany<Line>,
        /// Which toolchain it sees: `bash`, `node`, `python`, or one that the operator defines.
        #[schemars(example = json!("node"))]
        runtime: Line,
        /// Where it works, relative to the workspace.
        #[schemars(example = json!("${app_name}"))]
        working_directory: Templated,
        /// Variables of its own.
        #[schemars(example = json!({ "CI": "true" }))]
        env: Named<Templated>,
        /// The call that an `http` stage makes.
        #[schemars(example = json!({ "method": "POST", "url": "https://api.snyk.io/test", "json": "${findings}" }))]
        request: Request,
        /// The rows of a decision table, in order: the first whose `when` holds decides.
        #[schemars(example = json!([{ "when": "score > 0.8", "then": "escalate" }, { "then": "answer" }]))]
        rules: Vec<Slot<Rule>>,
        /// How many people must agree. Without it: 1.
        #[schemars(example = 2)]
        required: u32,
        /// Who may agree: teams and accounts.
        #[schemars(example = json!(["maintainers"]))]
        groups: OneOrMany<Line>,
        /// What they are asked.
        #[schemars(example = json!("May this be published?"))]
        message: Text,
        /// The daemon to call: `./id` for one of the same repository, or `owner/repository/id@ref`.
        #[schemars(example = json!("./summarize"))]
        uses: Line,
        /// What the called daemon is given.
        #[schemars(example = json!({ "depth": "quick" }))]
        inputs: Named<TemplatedJson>,
        /// The list whose items the inner stages run for.
        #[schemars(example = json!("${findings.issues}"))]
        items: Templated,
        /// The name of the item inside. Without it: `item`.
        #[schemars(rename = "as", example = json!("issue"))]
        r#as: Identifier,
        /// How many items at once. Without it: 1 with `foreach`, 10 with `parallel`.
        #[schemars(example = 4)]
        limit: u32,
        /// The stages that run for each item.
        #[schemars(example = json!([{ "name": "Fix", "agent": "claude-code", "input": "${item}" }]))]
        stages: Vec<Slot<Stage>>,
    }
}

words! {
    /// What a stage is.
    enum StageType {
        Prompt = "prompt",
        Agent = "agent",
        Script = "script",
        Hybrid = "hybrid",
        Http = "http",
        Image = "image",
        Rules = "rules",
        Approval = "approval",
        Daemon = "daemon",
        Foreach = "foreach",
        Parallel = "parallel",
    }
}

/// The keys of every type.
const COMMON: [&str; 9] =
    ["name", "type", "needs", "if", "output", "set", "timeout", "retry", "continue_on_error"];
const QUESTION: [&str; 11] = [
    "agent",
    "prompt_template",
    "prompt_file",
    "input",
    "system",
    "schema",
    "max_tokens",
    "temperature",
    "session",
    "attachments",
    "turns",
];
const SCRIPT: [&str; 7] = ["script", "script_file", "shell", "runtime", "working_directory", "env", "schema"];

impl StageType {
    pub(crate) const ALL: [Self; 11] = [
        Self::Prompt,
        Self::Agent,
        Self::Script,
        Self::Hybrid,
        Self::Http,
        Self::Image,
        Self::Rules,
        Self::Approval,
        Self::Daemon,
        Self::Foreach,
        Self::Parallel,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The keys that a stage of this type has.
    pub(crate) fn keys(self) -> Vec<&'static str> {
        let own: Vec<&str> = match self {
            Self::Prompt => [&QUESTION[..], &["tools"]].concat(),
            Self::Agent => [&QUESTION[..], &["tools", "working_directory"]].concat(),
            Self::Script => [&SCRIPT[..], &["input"]].concat(),
            Self::Hybrid => [&QUESTION[..], &SCRIPT[..], &["agent_role"]].concat(),
            Self::Http => vec!["request", "schema"],
            Self::Image => vec!["agent", "prompt_template", "prompt_file", "input", "attachments"],
            Self::Rules => vec!["rules"],
            Self::Approval => vec!["required", "groups", "message"],
            Self::Daemon => vec!["uses", "inputs"],
            Self::Foreach | Self::Parallel => vec!["items", "as", "limit", "stages"],
        };
        let common = COMMON.into_iter().filter(|key| *key != "retry" || self.is_tried_whole());
        common.chain(own).collect()
    }

    /// Whether the stage can be tried again as a whole. What runs inside `foreach` is recorded stage by
    /// stage, and a daemon that was called has ended: there each stage has a `retry` of its own.
    pub(crate) fn is_tried_whole(self) -> bool {
        !matches!(self, Self::Daemon | Self::Foreach | Self::Parallel)
    }

    /// The keys that it must have.
    pub(crate) fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Prompt | Self::Agent | Self::Hybrid | Self::Image => &["agent"],
            Self::Script | Self::Approval => &[],
            Self::Http => &["request"],
            Self::Rules => &["rules"],
            Self::Daemon => &["uses"],
            Self::Foreach | Self::Parallel => &["items", "stages"],
        }
    }
}

/// For each type, the keys that it has and those that it must have.
fn schema_of_types(schema: &mut Schema) {
    let mut cases = vec![json!({ "anyOf": [
        { "required": ["type"] }, { "required": ["agent"] }, { "required": ["script"] }, { "required": ["script_file"] },
    ] })];
    for kind in StageType::ALL {
        let mut then = json!({ "propertyNames": { "enum": kind.keys() }, "required": kind.needed() });
        if matches!(kind, StageType::Script | StageType::Hybrid) {
            then["anyOf"] = json!([{ "required": ["script"] }, { "required": ["script_file"] }]);
        }
        cases.push(json!({
            "if": { "required": ["type"], "properties": { "type": { "const": kind.as_str() } } },
            "then": then,
        }));
    }
    schema.insert("allOf".to_owned(), cases.into());
}

/// How often a stage is tried again.
#[derive(Debug)]
pub(crate) enum Retry {
    Times(Slot<u32>),
    Map(Box<RetryMap>),
}

object! {
    /// How often, and how soon, a failed stage is tried again.
    struct RetryMap requires [limit] {
        /// Tries after the first, at most 10.
        #[schemars(example = 3)]
        limit: u32,
        /// How long to wait before each.
        #[schemars(example = json!({ "duration": "1s", "factor": 2, "max_duration": "30s" }))]
        backoff: Backoff,
    }
}

object! {
    /// How long to wait before the next try.
    struct Backoff {
        /// The wait before the first. Without it: 1s.
        #[schemars(example = json!("1s"))]
        duration: Time,
        /// What the wait is multiplied with each time, 1 to 10. Without it: 2.
        #[schemars(example = 2)]
        factor: f64,
        /// The longest wait. Without it: 1m.
        #[schemars(example = json!("30s"))]
        max_duration: Time,
    }
}

impl Read for Retry {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.shape, Shape::Map(_)) {
            return Read::read(node, place, reader).map(|map| Self::Map(Box::new(map)));
        }
        Some(Self::Times(reader.slot(node, place)))
    }
}

impl JsonSchema for Retry {
    fn schema_name() -> Cow<'static, str> {
        "Retry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<RetryMap>();
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 10 }, map] })
    }
}

object! {
    /// A call of an address, by the server. The only place where `${secrets.NAME}` can stand.
    struct Request requires [url] {
        /// The method. Without it: `GET`, or `POST` when something is sent.
        #[schemars(example = json!("POST"))]
        method: Method,
        /// Where to: an https address.
        #[schemars(example = json!("https://api.snyk.io/test"))]
        url: Templated,
        /// Headers.
        #[schemars(example = json!({ "Authorization": "token ${secrets.SNYK_TOKEN}" }))]
        headers: Named<Templated>,
        /// JSON to send.
        #[schemars(example = json!({ "findings": "${findings}" }))]
        json: TemplatedJson,
        /// Text to send.
        #[schemars(example = json!("${report}"))]
        text: Templated,
    }
}

words! {
    /// A method of HTTP.
    enum Method {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
        Head = "HEAD",
    }
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

object! {
    /// A row of a decision table.
    struct Rule requires [then] {
        /// The condition; without one the row always decides.
        #[schemars(example = json!("sentiment == 'angry'"))]
        when: Condition,
        /// The decision: the stage's output.
        #[schemars(example = json!("escalate"))]
        then: TemplatedJson,
    }
}
