//! Manifests, as people and programs are shown them.

use domain::money::{Price, PriceModel};
use domain::trigger::{Trigger, TriggerKind};
use manifest::model::{Category, Input, InputKind, Manifest, Stage, StageKind};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use crate::runs::MoneyJson;

/// What a daemon's manifest says.
#[derive(Serialize, ToSchema)]
#[schema(as = Manifest)]
pub(crate) struct ManifestJson {
    /// The title.
    name: String,
    /// The publisher's label for the version.
    version: Option<String>,
    /// Who wrote it.
    author: Option<String>,
    /// What it does.
    description: Option<String>,
    /// `development`, `content`, `analysis` or `creative`.
    category: Option<&'static str>,
    /// Words to find it by.
    tags: Vec<String>,
    /// An SPDX expression, or `proprietary`.
    license: Option<String>,
    /// What a user pays.
    price: PriceJson,
    /// What a run may be given.
    inputs: Vec<InputJson>,
    /// When it wants to run.
    #[schema(value_type = Vec<Object>)]
    triggers: Vec<Json>,
    /// What it may touch.
    permissions: PermissionsJson,
    /// What a run may use.
    limits: LimitsJson,
    /// Its own names for models.
    models: Vec<ModelJson>,
    /// What it does, in the order of the file.
    stages: Vec<StageJson>,
    /// What it does when a run failed.
    on_failure: Vec<StageJson>,
    /// What the server may do with the result: `add-comment`, …
    outcomes: Vec<&'static str>,
}

/// What a user pays.
#[derive(Serialize, ToSchema)]
#[schema(as = Price)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum PriceJson {
    /// Nothing.
    Free,
    /// Something.
    Paid {
        /// How much.
        amount: MoneyJson,
        /// `one-time`, `monthly`, `yearly` or `per-run`.
        model: &'static str,
        /// How many runs are free before.
        trial_runs: u32,
    },
}

/// Something that a run may be given.
#[derive(Serialize, ToSchema)]
#[schema(as = Input)]
pub(crate) struct InputJson {
    /// Under which name.
    name: String,
    /// `string`, `text`, `number`, `integer`, `boolean`, `enum`, `file`, `json` or `secret`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The choices of an `enum`.
    options: Option<Vec<String>>,
    /// For the person who gives it.
    description: Option<String>,
    /// What it is when nothing is given.
    #[schema(value_type = Object)]
    default: Option<Json>,
    /// Whether it must be given.
    required: bool,
}

/// What a daemon may touch.
#[derive(Serialize, ToSchema)]
#[schema(as = Permissions)]
pub(crate) struct PermissionsJson {
    /// `read` or `write`.
    contents: &'static str,
    /// Hosts and named sets that the network is open to.
    network_allowed: Vec<String>,
    /// Hosts that stay closed all the same.
    network_blocked: Vec<String>,
    /// The names of secrets that its `http` stages may use.
    secrets: Vec<String>,
}

/// What a run may use.
#[derive(Serialize, ToSchema)]
#[schema(as = Limits)]
pub(crate) struct LimitsJson {
    /// Wall-clock seconds.
    timeout_seconds: u64,
    /// Bytes of memory.
    memory: u64,
    /// Thousandths of a core.
    cpu_millis: u32,
    /// Processes and threads at once.
    processes: u32,
    /// Bytes in the workspace.
    disk: u64,
    /// Bytes of output kept.
    output: u64,
    /// What its models may cost.
    cost: Option<MoneyJson>,
    /// Turns of an agent.
    turns: u32,
}

/// A daemon's own name for one of several models.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelAlias)]
pub(crate) struct ModelJson {
    /// The name.
    name: String,
    /// `order`, `cheapest`, `fastest`, `weighted` or `quality`.
    route: &'static str,
    /// Which, by name.
    targets: Vec<String>,
}

/// One step.
#[derive(Serialize, ToSchema)]
#[schema(as = Stage, no_recursion)]
pub(crate) struct StageJson {
    /// What it is called.
    name: String,
    /// `prompt`, `agent`, `script`, …
    #[serde(rename = "type")]
    kind: &'static str,
    /// The stages that must have ended before.
    needs: Vec<String>,
    /// The model or agent that it asks.
    agent: Option<String>,
    /// The name under which later stages know what it made.
    output: Option<String>,
    /// Whether the run goes on when it fails.
    continue_on_error: bool,
    /// The stages inside a `foreach`.
    stages: Vec<StageJson>,
}

impl From<&Manifest> for ManifestJson {
    fn from(manifest: &Manifest) -> Self {
        let Manifest { permissions, limits, .. } = manifest;
        let models = manifest.models.iter().map(|(name, alias)| ModelJson {
            name: name.clone(),
            route: alias.route.as_str(),
            targets: alias.targets.clone(),
        });
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            author: manifest.author.clone(),
            description: manifest.description.clone(),
            category: manifest.category.map(category),
            tags: manifest.tags.clone(),
            license: manifest.license.clone(),
            price: price(&manifest.price),
            inputs: manifest.inputs.iter().map(InputJson::from).collect(),
            triggers: manifest
                .triggers
                .iter()
                .filter_map(|trigger| serde_json::to_value(trigger).ok())
                .collect(),
            permissions: PermissionsJson {
                contents: if permissions.contents_write { "write" } else { "read" },
                network_allowed: permissions.network_allowed.clone(),
                network_blocked: permissions.network_blocked.clone(),
                secrets: permissions.secrets.iter().map(ToString::to_string).collect(),
            },
            limits: LimitsJson {
                timeout_seconds: limits.timeout.as_secs(),
                memory: limits.memory,
                cpu_millis: limits.cpu_millis,
                processes: limits.processes,
                disk: limits.disk,
                output: limits.output,
                cost: limits.cost.map(MoneyJson::from),
                turns: limits.turns,
            },
            models: models.collect(),
            stages: manifest.stages.iter().map(StageJson::from).collect(),
            on_failure: manifest.on_failure.iter().map(StageJson::from).collect(),
            outcomes: manifest.outcomes.iter().map(|outcome| outcome.kind.as_str()).collect(),
        }
    }
}

impl From<&Input> for InputJson {
    fn from(input: &Input) -> Self {
        let options = match &input.kind {
            InputKind::Enum(options) => Some(options.clone()),
            _ => None,
        };
        Self {
            name: input.name.clone(),
            kind: kind(&input.kind),
            options,
            description: input.description.clone(),
            // A default of a secret input would be a secret in the open; it is not shown again here.
            default: input.default.clone().filter(|_| input.kind != InputKind::Secret),
            required: input.required,
        }
    }
}

impl From<&Stage> for StageJson {
    fn from(stage: &Stage) -> Self {
        let (agent, inner): (Option<&str>, &[Stage]) = match &stage.kind {
            StageKind::Prompt(prompt) | StageKind::Image(prompt) => (Some(&prompt.agent), &[]),
            StageKind::Agent(agent) => (Some(&agent.task.agent), &[]),
            StageKind::Hybrid(hybrid) => (Some(&hybrid.question.agent), &[]),
            StageKind::Foreach(foreach) => (None, &foreach.stages),
            StageKind::Script(_)
            | StageKind::Http(_)
            | StageKind::Rules(_)
            | StageKind::Approval(_)
            | StageKind::Daemon(_) => (None, &[]),
        };
        Self {
            name: stage.name.clone(),
            kind: stage.kind.as_str(),
            needs: stage.needs.clone(),
            agent: agent.map(ToOwned::to_owned),
            output: stage.output.clone(),
            continue_on_error: stage.continue_on_error,
            stages: inner.iter().map(Self::from).collect(),
        }
    }
}

/// Whether a daemon has an endpoint of its own.
pub(crate) fn has_webhook(triggers: &[Trigger]) -> bool {
    triggers.iter().any(|trigger| matches!(trigger.on, TriggerKind::Webhook { .. }))
}

/// The names of the inputs that are never shown.
pub(crate) fn secret_inputs(manifest: &Manifest) -> Vec<&str> {
    let secret = manifest.inputs.iter().filter(|input| input.kind == InputKind::Secret);
    secret.map(|input| input.name.as_str()).collect()
}

/// The JSON Schema (draft 2020-12) of what a run may be given.
pub(crate) fn inputs_schema(manifest: &Manifest) -> Json {
    let mut properties = Map::new();
    for input in &manifest.inputs {
        let mut schema = match &input.kind {
            InputKind::String => json!({ "type": "string", "pattern": "^[^\\n]*$" }),
            InputKind::Text | InputKind::File => json!({ "type": "string" }),
            InputKind::Secret => json!({ "type": "string", "format": "password", "writeOnly": true }),
            InputKind::Number => json!({ "type": "number" }),
            InputKind::Integer => json!({ "type": "integer" }),
            InputKind::Boolean => json!({ "type": "boolean" }),
            InputKind::Enum(options) => json!({ "type": "string", "enum": options }),
            InputKind::Json => json!({}),
        };
        if let Some(description) = &input.description {
            schema["description"] = json!(description);
        }
        if let Some(default) = input.default.as_ref().filter(|_| input.kind != InputKind::Secret) {
            schema["default"] = default.clone();
        }
        properties.insert(input.name.clone(), schema);
    }
    let required: Vec<&str> =
        manifest.inputs.iter().filter(|input| input.required).map(|input| input.name.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": manifest.name,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

const fn kind(kind: &InputKind) -> &'static str {
    match kind {
        InputKind::String => "string",
        InputKind::Text => "text",
        InputKind::Number => "number",
        InputKind::Integer => "integer",
        InputKind::Boolean => "boolean",
        InputKind::Enum(_) => "enum",
        InputKind::File => "file",
        InputKind::Json => "json",
        InputKind::Secret => "secret",
    }
}

const fn category(category: Category) -> &'static str {
    match category {
        Category::Development => "development",
        Category::Content => "content",
        Category::Analysis => "analysis",
        Category::Creative => "creative",
    }
}

fn price(price: &Price) -> PriceJson {
    match price {
        Price::Free => PriceJson::Free,
        Price::Paid { amount, model, trial_runs } => PriceJson::Paid {
            amount: MoneyJson::from(*amount),
            model: match model {
                PriceModel::OneTime => "one-time",
                PriceModel::Monthly => "monthly",
                PriceModel::Yearly => "yearly",
                PriceModel::PerRun => "per-run",
            },
            trial_runs: *trial_runs,
        },
    }
}
