//! `daemon.yaml`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::codes;
use crate::diagnostic::Problem;
use crate::raw::mcp::McpServer;
use crate::raw::outcome::Outcome;
use crate::raw::scalar::{
    Any, Identifier, Line, Money, Named, Processors, Secret, Size, Templated, Text, Time,
};
use crate::raw::stage::Stage;
use crate::raw::trigger::Triggers;
use crate::read::{Place, Read, Reader, Slot, object, words};
use crate::suggest::{closest, quoted};
use crate::yaml::{Node, Shape};

object! {
    /// A daemon: what it is, when it runs, what it may touch, what it does, and what may come of it.
    struct File requires [daemon] {
        /// The daemon that this file declares. Everything else in the file's directory (prompts, scripts,
        /// tests) belongs to it.
        #[schemars(example = json!({ "name": "Greeter", "stages": [{ "name": "Greet", "type": "script", "script": "echo hello" }] }))]
        daemon: Daemon,
    }
}

object! {
    /// A declared automation.
    struct Daemon requires [name, stages] {
        /// The title that people see.
        #[schemars(example = json!("Code review"))]
        name: Line,
        /// A label for people, best a SemVer version. The version of record is the commit.
        #[schemars(example = json!("1.2.0"))]
        version: Line,
        /// Who wrote it.
        #[schemars(example = json!("ada"))]
        author: Line,
        /// What it does, in a sentence or two.
        #[schemars(example = json!("Reviews a pull request and proposes fixes"))]
        description: Text,
        /// Where it stands in the market.
        #[schemars(example = json!("development"))]
        category: Category,
        /// Words to find it by, at most 20.
        #[schemars(example = json!(["review", "security"]))]
        tags: Vec<Slot<Line>>,
        /// Under which licence it may be used: an SPDX expression, or `proprietary`.
        #[schemars(example = json!("MIT"))]
        license: Line,
        /// What its users pay: `free`, an amount for a purchase once and for all, or a map.
        #[schemars(example = json!("$4.99"))]
        price: Price,
        /// What a run may be given. Stages see an input under its name, scripts as a variable of that name.
        #[schemars(example = json!([{ "name": "depth", "type": "enum", "options": ["quick", "thorough"], "default": "quick" }]))]
        inputs: Vec<Slot<Input>>,
        /// Variables that it keeps from run to run, each with what it is at first: at most 64, 256 KiB each. Every
        /// branch has its own. Stages read them as `${state.NAME}`, and set them with `set`.
        #[schemars(example = json!({ "counter": 0, "seen": [] }))]
        state: Named<Any>,
        /// When it runs. It can always be started by hand as well.
        #[schemars(example = json!({ "pull_request": { "types": ["opened", "synchronize"] } }))]
        on: Triggers,
        /// What it may touch. What is not named here is closed to it.
        #[schemars(example = json!({ "contents": "read", "network": { "allowed": ["api.snyk.io"] }, "secrets": ["SNYK_TOKEN"] }))]
        permissions: Permissions,
        /// What one run may use at most. The operator sets a ceiling.
        #[schemars(example = json!({ "timeout": "15m", "memory": "2GiB", "cost": "$0.50" }))]
        limits: Limits,
        /// How many runs go at once: a group, or a map.
        #[schemars(example = json!({ "group": "${event.pull_request.number}", "limit": 1, "behavior": "queue" }))]
        concurrency: Concurrency,
        /// Names of its own for models, with fallbacks and a way to choose between them.
        #[schemars(example = json!({ "strong": { "route": "cheapest", "targets": ["claude-opus", "gpt-5"] } }))]
        models: Named<ModelAlias>,
        /// Servers of the Model Context Protocol, whose tools models may call: at most 16.
        #[schemars(example = json!({ "tickets": { "url": "https://mcp.example.org/mcp", "allowed": ["search_*"] } }))]
        mcp_servers: Named<McpServer>,
        /// What it does: at least one stage, at most 200.
        #[schemars(example = json!([{ "name": "Greet", "type": "script", "script": "echo hello" }]))]
        stages: Vec<Slot<Stage>>,
        /// Stages that run when the run has failed.
        #[schemars(example = json!([{ "name": "Tell", "type": "script", "script": "echo it failed" }]))]
        on_failure: Vec<Slot<Stage>>,
        /// What the server may do with the result. A run can only ask for what is declared here.
        #[schemars(example = json!([{ "add-comment": { "body": "${verdict}", "sticky": true } }]))]
        outcomes: Vec<Slot<Outcome>>,
    }
}

words! {
    /// Where a daemon stands in the market.
    enum Category {
        Development = "development",
        Content = "content",
        Analysis = "analysis",
        Creative = "creative",
    }
}

object! {
    /// Something that a run may be given.
    struct Input requires [name] {
        /// Under which name stages see it.
        #[schemars(example = json!("app_idea"))]
        name: Identifier,
        /// What it must be. Without it: `string`.
        #[schemars(rename = "type", example = json!("string"))]
        r#type: InputType,
        /// For the person who gives it.
        #[schemars(example = json!("Description of the application"))]
        description: Text,
        /// What it may be, when its type is `enum`.
        #[schemars(example = json!(["Next.js", "Rails", "Django"]))]
        options: Vec<Slot<Line>>,
        /// What it is when nothing is given.
        #[schemars(example = json!("Rails"))]
        default: Any,
        /// Whether it must be given. Without it: yes, unless there is a default.
        #[schemars(example = false)]
        required: bool,
    }
}

words! {
    /// What an input must be.
    enum InputType {
        String = "string",
        Text = "text",
        Number = "number",
        Integer = "integer",
        Boolean = "boolean",
        Enum = "enum",
        File = "file",
        Json = "json",
        Secret = "secret",
    }
}

object! {
    /// What a daemon may touch.
    struct Permissions {
        /// Whether outcomes may push to the repository: `read` or `write`.
        #[schemars(example = json!("read"))]
        contents: Contents,
        /// Which hosts its sandboxes may reach. Without it: none.
        #[schemars(example = json!({ "allowed": ["defaults", "node", "api.snyk.io"] }))]
        network: Network,
        /// The secrets that its `http` stages and webhooks may use, by name.
        #[schemars(example = json!(["SNYK_TOKEN"]))]
        secrets: Vec<Slot<Secret>>,
    }
}

words! {
    /// What may be done with the repository's files.
    enum Contents {
        Read = "read",
        Write = "write",
    }
}

object! {
    /// Which hosts may be reached.
    struct Network {
        /// Hosts (`api.snyk.io`, `*.example.org`, `example.org:8443`) and named sets (`defaults`, `node`, `python`).
        #[schemars(example = json!(["defaults", "node", "api.snyk.io"]))]
        allowed: Vec<Slot<Line>>,
        /// Hosts that stay closed all the same.
        #[schemars(example = json!(["telemetry.example.org"]))]
        blocked: Vec<Slot<Line>>,
    }
}

object! {
    /// What one run may use.
    struct Limits {
        /// Time from start to end.
        #[schemars(example = json!("15m"))]
        timeout: Time,
        /// Memory of all processes together, `/tmp` included.
        #[schemars(example = json!("2GiB"))]
        memory: Size,
        /// Processors.
        #[schemars(example = 1)]
        cpus: Processors,
        /// Processes and threads at once.
        #[schemars(example = 256)]
        processes: u32,
        /// Bytes in the workspace.
        #[schemars(example = json!("2GiB"))]
        disk: Size,
        /// Bytes of output that are kept; the rest is counted and dropped.
        #[schemars(example = json!("8MiB"))]
        output: Size,
        /// Dollars for models.
        #[schemars(example = json!("$0.50"))]
        cost: Money,
        /// Turns of a model with tools.
        #[schemars(example = 30)]
        turns: u32,
    }
}

/// How many runs go at once.
#[derive(Debug)]
pub(crate) enum Concurrency {
    /// Only the group: one at a time in it.
    Group(Slot<Templated>),
    Map(Box<ConcurrencyMap>),
}

object! {
    /// How many runs go at once, and what becomes of the next.
    struct ConcurrencyMap {
        /// Runs with the same group share the limit. Without it: all runs of the daemon.
        #[schemars(example = json!("${event.pull_request.number}"))]
        group: Templated,
        /// How many at once. Without it: 1.
        #[schemars(example = 1)]
        limit: u32,
        /// What becomes of a run that finds the group full. Without it: `queue`.
        #[schemars(example = json!("queue"))]
        behavior: Behavior,
    }
}

words! {
    /// What becomes of a run that finds its group full: it waits, it takes the place of the older one, or it is skipped.
    enum Behavior {
        Queue = "queue",
        Cancel = "cancel",
        Fail = "fail",
    }
}

impl Read for Concurrency {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.shape {
            Shape::Map(_) => Read::read(node, place, reader).map(|map| Self::Map(Box::new(map))),
            Shape::Scalar(Json::String(_)) => Some(Self::Group(reader.slot(node, place))),
            _ => {
                reader.wrong_kind(node, place, "a group (a text) or a map");
                None
            }
        }
    }
}

impl JsonSchema for Concurrency {
    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<ConcurrencyMap>();
        json_schema!({ "anyOf": [{ "type": "string" }, map] })
    }
}

object! {
    /// A name for one of several models.
    struct ModelAlias requires [targets] {
        /// How one is chosen. Without it: `order`, the first that works.
        #[schemars(example = json!("cheapest"))]
        route: Route,
        /// Which models, by name; with `route: weighted` maps of `model` and `weight`.
        #[schemars(example = json!(["claude-opus", "gpt-5", "gemini-pro"]))]
        targets: Vec<Slot<Target>>,
        /// What the chosen one must be able to do.
        #[schemars(example = json!(["tools", "json"]))]
        requires: Vec<Slot<Capability>>,
    }
}

words! {
    /// How one of several models is chosen.
    enum Route {
        Order = "order",
        Cheapest = "cheapest",
        Fastest = "fastest",
        Weighted = "weighted",
        Quality = "quality",
    }
}

words! {
    /// Something that a model can do.
    enum Capability {
        Tools = "tools",
        Json = "json",
        Vision = "vision",
        ImageOut = "image_out",
        Web = "web",
        Context = "context",
        Region = "region",
    }
}

/// A model among those of an alias.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) model: Slot<Line>,
    pub(crate) weight: Slot<u32>,
}

object! {
    /// A model with its share of the calls.
    struct WeightedTarget requires [model, weight] {
        /// Which model.
        #[schemars(example = json!("gpt-5"))]
        model: Line,
        /// Its share, against the sum of all weights.
        #[schemars(example = 3)]
        weight: u32,
    }
}

impl Read for Target {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.shape, Shape::Map(_)) {
            let WeightedTarget { model, weight } = Read::read(node, place, reader)?;
            return Some(Self { model, weight });
        }
        Some(Self { model: reader.slot(node, place), weight: Slot::default() })
    }
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (name, map) = (generator.subschema_for::<Line>(), generator.subschema_for::<WeightedTarget>());
        json_schema!({ "anyOf": [name, map] })
    }
}

/// What its users pay.
#[derive(Debug)]
pub(crate) enum Price {
    Free,
    /// An amount, paid once.
    Amount(Slot<Money>),
    Map(Box<PriceMap>),
}

object! {
    /// A price in full.
    struct PriceMap requires [amount] {
        /// How much.
        #[schemars(example = 4.99)]
        amount: Money,
        /// In which currency.
        #[schemars(example = json!("USD"))]
        currency: Currency,
        /// How often. Without it: `one-time`.
        #[schemars(example = json!("monthly"))]
        model: PriceModel,
        /// How many runs are free before.
        #[schemars(example = 3)]
        trial_runs: u32,
    }
}

words! {
    /// The currencies that prices can be in.
    enum Currency {
        Usd = "USD",
    }
}

words! {
    /// How often a price is paid.
    enum PriceModel {
        OneTime = "one-time",
        Monthly = "monthly",
        Yearly = "yearly",
        PerRun = "per-run",
    }
}

impl Read for Price {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.shape {
            Shape::Map(_) => Read::read(node, place, reader).map(|map| Self::Map(Box::new(map))),
            Shape::Scalar(Json::String(text)) if text == "free" => Some(Self::Free),
            Shape::Scalar(Json::String(text)) if closest(text, ["free"]).is_some() => {
                let problem = Problem::error(&codes::BAD_PRICE, format!("{} is not a price", quoted(text)));
                reader.report(
                    problem.expected("`free`, an amount, or a map").help("did you mean `free`?"),
                    place,
                );
                None
            }
            Shape::Scalar(Json::String(_) | Json::Number(_)) => Some(Self::Amount(reader.slot(node, place))),
            _ => {
                reader.wrong_kind(node, place, "`free`, an amount like `\"$4.99\"`, or a map");
                None
            }
        }
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (amount, map) = (generator.subschema_for::<Money>(), generator.subschema_for::<PriceMap>());
        json_schema!({ "anyOf": [{ "const": "free" }, amount, map] })
    }
}
