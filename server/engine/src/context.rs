//! What a stage knows: inputs, the event, what earlier stages made, and who could have written it.

use std::collections::BTreeMap;

use domain::event::Event;
use domain::run::Run;
use domain::stage::StageRecord;
use domain::value::{Taint, Value};
use manifest::expression::{RunSoFar, Scope};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json, json};

/// The longest value that fits into an environment variable (Linux: `MAX_ARG_STRLEN`, 128 KiB).
const LONGEST_VARIABLE: usize = 120 << 10;

/// Names that decide how a program is run; values never take their place.
const RESERVED: [&str; 14] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "USER",
    "LANG",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PWD",
    "OLDPWD",
    "PS4",
    "SHELLOPTS",
    "NODE_OPTIONS",
];

/// What stages of one run know. Cheap to clone for stages that run side by side.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Inputs and outputs by name, and the item inside a `foreach`.
    values: BTreeMap<String, Value>,
    /// `event`, `inputs`, `run`, `repository`.
    roots: BTreeMap<&'static str, Value>,
    /// How each stage ended, and what it made: `stages`.
    stages: Map<String, Json>,
    stages_taint: Taint,
    /// Whether the workspace is another than at the start: `workspace.changed`.
    pub(crate) changed: bool,
    /// How the run goes so far.
    pub(crate) status: RunSoFar,
    /// Names of inputs that are secret: seen by `http` stages only.
    secret_inputs: Vec<String>,
    /// The daemon's variables, as far as they are read: `state`.
    state: BTreeMap<String, Value>,
    /// Secrets, where they may be seen.
    secrets: Option<BTreeMap<String, SecretString>>,
}

impl Context {
    /// What the first stage knows.
    pub(crate) fn new(
        run: &Run,
        inputs: &Map<String, Json>,
        secret_inputs: Vec<String>,
        event: Option<&Event>,
        path: &str,
    ) -> Self {
        let values =
            inputs.iter().map(|(name, value)| (name.clone(), Value::trusted(value.clone()))).collect();
        let (payload, taint) = event.map_or((Json::Null, Taint::Trusted), |e| (e.payload.clone(), e.taint));
        let about_run = json!({
            "id": run.id.to_string(),
            "attempt": run.attempt,
            "daemon": run.daemon.as_str(),
            "branch": run.branch.as_str(),
            "commit": run.commit.as_str(),
            "actor": run.cause.actor.name,
        });
        let shown: Map<String, Json> = inputs
            .iter()
            .filter(|(name, _)| !secret_inputs.contains(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let roots = BTreeMap::from([
            ("event", Value { json: payload, taint }),
            ("inputs", Value::trusted(Json::Object(shown))),
            ("run", Value::trusted(about_run)),
            ("repository", Value::trusted(json!({ "path": path }))),
        ]);
        Self {
            values,
            roots,
            stages: Map::new(),
            stages_taint: Taint::Trusted,
            changed: false,
            status: RunSoFar::Success,
            secret_inputs,
            state: BTreeMap::new(),
            secrets: None,
        }
    }

    /// What is known once a stage has ended.
    pub(crate) fn learn(&mut self, name: &str, record: &StageRecord) {
        let output = record.output.as_ref();
        self.stages.insert(
            name.to_owned(),
            json!({
                "status": record.end.as_str(),
                "error": record.end.failure().map(|failure| failure.message.clone()),
                "output": output.map(|output| output.value.json.clone()),
            }),
        );
        if let Some(output) = output {
            self.stages_taint = self.stages_taint.with(output.value.taint);
            if let Some(name) = &output.name {
                self.values.insert(name.clone(), output.value.clone());
            }
        }
    }

    /// The same, with one more name: the item of a `foreach`.
    pub(crate) fn with(&self, name: &str, value: Value) -> Self {
        let mut inner = self.clone();
        inner.values.insert(name.to_owned(), value);
        inner
    }

    /// The same, with these variables of the daemon.
    pub(crate) fn with_state<'v>(&self, state: impl Iterator<Item = (&'v String, &'v Value)>) -> Self {
        let mut inner = self.clone();
        inner.state.extend(state.map(|(name, value)| (name.clone(), value.clone())));
        inner
    }

    /// The same, with secrets in sight.
    pub(crate) fn with_secrets(&self, secrets: BTreeMap<String, SecretString>) -> Self {
        let mut inner = self.clone();
        inner.secrets = Some(secrets);
        inner
    }

    /// The worst taint of everything that a script sees.
    pub(crate) fn taint(&self) -> Taint {
        self.values.values().map(|value| value.taint).fold(Taint::Trusted, Taint::with)
    }

    /// The values as environment variables, and the names of those that are too long for one.
    pub(crate) fn environment(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut too_long = Vec::new();
        let mut environment = BTreeMap::new();
        for (name, value) in &self.values {
            if self.secret_inputs.contains(name) || !is_variable(name) {
                continue;
            }
            let text = value.text();
            if text.len() > LONGEST_VARIABLE {
                too_long.push(name.clone());
            } else {
                // The kernel ends a variable at the first NUL.
                environment.insert(name.clone(), text.replace('\0', ""));
            }
        }
        (environment, too_long)
    }
}

/// Whether a name can be, and may be, an environment variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !RESERVED.contains(&name)
        && !name.starts_with("LD_")
        && !name.starts_with("GIT_")
}

impl Scope for Context {
    fn lookup(&self, name: &str) -> Option<Value> {
        match name {
            "stages" => Some(Value { json: Json::Object(self.stages.clone()), taint: self.stages_taint }),
            "state" => Some(Value {
                json: self.state.iter().map(|(name, value)| (name.clone(), value.json.clone())).collect(),
                taint: self.state.values().map(|value| value.taint).fold(Taint::Trusted, Taint::with),
            }),
            "workspace" => Some(Value::trusted(json!({ "changed": self.changed }))),
            "secrets" => self.secrets.as_ref().map(|secrets| {
                let shown = secrets.iter().map(|(n, secret)| (n.clone(), Json::from(secret.expose_secret())));
                Value::trusted(Json::Object(shown.collect()))
            }),
            _ if self.secrets.is_none() && self.secret_inputs.iter().any(|secret| secret == name) => None,
            _ => self.values.get(name).or_else(|| self.roots.get(name)).cloned(),
        }
    }

    /// Each variable is as tainted as what it was set from.
    fn member(&self, name: &str, key: &str) -> Option<Value> {
        if name == "state" { self.state.get(key).cloned() } else { None }
    }

    fn status(&self) -> RunSoFar {
        self.status
    }
}
