//! The group of a run: which runs of a daemon go one after the other. However a run comes about, by an
//! event, by a person, by another run or as a replay, its daemon's group is the same.

use domain::event::Event;
use domain::run::{Concurrency, ConcurrencyBehavior, Run};
use domain::value::{Taint, Value};
use manifest::Manifest;
use manifest::expression::{EvaluationError, RunSoFar, Scope};
use serde_json::{Value as Json, json};

/// The group of a run: the manifest's, with what the run makes of its name. Where the manifest has none, the runs of
/// a daemon for one issue or pull request go one after the other; those that other runs call wait for nobody.
pub(crate) fn of(
    manifest: &Manifest,
    run: &Run,
    event: Option<&Event>,
) -> Result<Option<Concurrency>, EvaluationError> {
    let Some(spec) = &manifest.concurrency else {
        let called = run.cause.parent.is_some();
        let thread = run.subject.as_ref().map(|subject| subject.number).or(event.and_then(Event::thread));
        return Ok(thread.filter(|_| !called).map(|number| Concurrency {
            key: format!("{}@{}/#{number}", run.daemon, run.branch),
            limit: 1,
            behavior: ConcurrencyBehavior::Queue,
        }));
    };
    let group = match &spec.group {
        Some(template) => template.evaluate(&Name { run, event })?.text(),
        None => String::new(),
    };
    Ok(Some(Concurrency {
        key: format!("{}@{}/{group}", run.daemon, run.branch),
        limit: spec.limit.max(1),
        behavior: spec.behavior,
    }))
}

/// What the name of a group may be made of: the event and the inputs.
struct Name<'a> {
    run: &'a Run,
    event: Option<&'a Event>,
}

impl Scope for Name<'_> {
    fn lookup(&self, name: &str) -> Option<Value> {
        let inputs = &self.run.inputs;
        match (name, self.event) {
            ("event", Some(event)) => Some(Value { json: event.payload.clone(), taint: event.taint }),
            // Who asks by hand is all that there is to know of a run without an event.
            ("event", None) => Some(Value {
                json: json!({ "actor": { "name": self.run.cause.actor.name } }),
                taint: Taint::Trusted,
            }),
            ("inputs", _) => Some(Value::trusted(Json::Object(inputs.clone()))),
            _ => inputs.get(name).map(|value| Value::trusted(value.clone())),
        }
    }

    fn status(&self) -> RunSoFar {
        RunSoFar::Success
    }
}
