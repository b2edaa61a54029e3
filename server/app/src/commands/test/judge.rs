//! What came of a run, held against what a test expects.

use std::collections::BTreeMap;

use domain::effect::EffectStatus;
use domain::event::Event;
use domain::files::File;
use domain::memo::MemoKind;
use domain::money::NanoUsd;
use domain::name::{Address, Commit};
use domain::run::{Run, RunState, RunStatus};
use domain::stage::StageRecord;
use domain::value::Value;
use engine::{Refusal, World};
use manifest::expression::{RunSoFar, Scope};
use manifest::test::{Ending, Expect, Matcher, OutcomeExpect};
use ports::source::View;
use ports::store::Page;
use ports::store::runs::RunFilter;
use serde_json::{Map, Value as Json, json};

use super::report::Fault;
use super::trial::refused;
use crate::exit::CommandError;

/// The largest file that is compared, bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// What came of a run.
#[derive(Debug)]
pub(super) struct Course {
    run: Run,
    event: Option<Event>,
    journal: Vec<StageRecord>,
    /// What it wants done.
    outcomes: Vec<Json>,
    /// Where its files ended.
    tip: Commit,
    changed: bool,
    cost: NanoUsd,
    path: String,
    /// What its daemon's variables are now.
    state: Map<String, Json>,
}

impl Course {
    /// Reads it from the store.
    pub(super) async fn of(
        world: &World,
        address: &Address,
        run: Run,
        event: Option<Event>,
    ) -> Result<Self, CommandError> {
        let journal = world.store.run_journal(run.id).await.map_err(anyhow::Error::from)?;
        let effects = world.store.effect_list(run.id).await.map_err(anyhow::Error::from)?;
        let outcomes = effects.iter().map(|effect| {
            let mut json = serde_json::to_value(&effect.kind).unwrap_or_default();
            if let EffectStatus::Refused { reason } = &effect.status {
                json["refused"] = reason.as_str().into();
            }
            json
        });
        let tip = journal.iter().rev().find_map(|record| record.snapshot.clone());
        let diff = engine::replay::run_diff(world, run.id).await.map_err(|refusal| refused(&refusal))?;
        // What called runs cost is part of it.
        let runs = world.store.run_list(&RunFilter::default(), &Page::first(1_000)).await;
        let mut cost = NanoUsd::ZERO;
        for one in runs.map_err(anyhow::Error::from)? {
            let journal = world.store.run_journal(one.id).await.map_err(anyhow::Error::from)?;
            cost = journal.iter().map(|record| record.usage.cost()).fold(cost, NanoUsd::plus);
        }
        let repository = world.store.repository_get(run.repository).await.map_err(anyhow::Error::from)?;
        Ok(Self {
            outcomes: outcomes.collect(),
            tip: tip.unwrap_or_else(|| run.commit.clone()),
            changed: !diff.files.is_empty(),
            path: repository.map(|repository| repository.path.to_string()).unwrap_or_default(),
            state: variables(world, address).await.map_err(|refusal| refused(&refusal))?,
            cost,
            run,
            event,
            journal,
        })
    }

    /// What the models cost, or would have.
    pub(super) fn cost(&self) -> NanoUsd {
        self.cost
    }

    fn status(&self) -> RunStatus {
        self.run.state.status()
    }

    fn message(&self) -> Option<String> {
        match &self.run.state {
            RunState::Ended { outcome, .. } => outcome.message(),
            RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => None,
        }
    }

    /// What a stage made, by the name of its output or its own.
    fn output(&self, name: &str) -> Option<&Json> {
        let of = |wanted: &dyn Fn(&StageRecord) -> bool| {
            let records = self.journal.iter().rev().filter(|record| wanted(record));
            records.into_iter().find_map(|record| record.output.as_ref()).map(|output| &output.value.json)
        };
        let named = |record: &StageRecord| {
            record.output.as_ref().is_some_and(|output| output.name.as_deref() == Some(name))
        };
        of(&named).or_else(|| of(&|record| record.path.as_str() == name))
    }
}

/// The variables of a daemon, by name.
async fn variables(world: &World, address: &Address) -> Result<Map<String, Json>, Refusal> {
    let owner = engine::state::owner(world, address).await?;
    let mut variables = Map::new();
    for shown in engine::state::list(world, &owner).await? {
        if shown.kind == MemoKind::Variable {
            let (_, value) = engine::state::get(world, &owner, &shown.name).await?;
            variables.insert(shown.name, value.json);
        }
    }
    Ok(variables)
}

/// The names of conditions.
impl Scope for Course {
    fn lookup(&self, name: &str) -> Option<Value> {
        let json = match name {
            "event" => self.event.as_ref().map_or(Json::Null, |event| event.payload.clone()),
            "inputs" => Json::Object(self.run.inputs.clone()),
            "outcomes" => Json::Array(self.outcomes.clone()),
            "state" => Json::Object(self.state.clone()),
            "workspace" => json!({ "changed": self.changed }),
            "repository" => json!({ "path": self.path }),
            "run" => json!({
                "id": self.run.id.to_string(),
                "daemon": self.run.daemon.as_str(),
                "branch": self.run.branch.as_str(),
                "commit": self.run.commit.as_str(),
                "actor": self.run.cause.actor.name,
            }),
            "stages" => {
                let stages = self.journal.iter().map(|record| {
                    let stage = json!({
                        "status": record.end.as_str(),
                        "error": record.end.failure().map(|failure| failure.message.clone()),
                        "output": record.output.as_ref().map(|output| output.value.json.clone()),
                    });
                    (record.path.to_string(), stage)
                });
                Json::Object(stages.collect::<Map<_, _>>())
            }
            name => self.output(name).or_else(|| self.run.inputs.get(name)).cloned()?,
        };
        Some(Value::trusted(json))
    }

    fn status(&self) -> RunSoFar {
        match self.run.state.status() {
            RunStatus::Failed | RunStatus::TimedOut => RunSoFar::Failure,
            RunStatus::Cancelled => RunSoFar::Cancelled,
            _ => RunSoFar::Success,
        }
    }
}

/// What is wrong when the event started no run.
pub(super) fn not_started(expect: &Expect, reason: &str) -> Vec<Fault> {
    match expect.ending {
        Ending::NotStarted => Vec::new(),
        Ending::Ended(_) => vec![Fault::new("not_started", format!("the event starts no run: {reason}"))],
    }
}

/// Everything that is not as expected.
pub(super) async fn faults(
    expect: &Expect,
    course: &Course,
    world: &World,
) -> Result<Vec<Fault>, CommandError> {
    let mut faults = Vec::new();
    if expect.ending != Ending::Ended(course.status()) {
        faults.push(wrong_ending(expect, course));
    }
    if let Some(matcher) = &expect.message {
        let message = course.message().map(Json::from);
        faults.extend(mismatches("message", "the message of the run", matcher, message.as_ref()));
    }
    for (name, matcher) in &expect.outputs {
        faults.extend(mismatches("output", &format!("the output `{name}`"), matcher, course.output(name)));
    }
    for condition in &expect.when {
        match condition.holds(course) {
            Ok(true) => {}
            Ok(false) => {
                let seen = seen(condition, course);
                faults.push(Fault::new("condition", format!("`{}` does not hold{seen}", condition.source())));
            }
            Err(error) => {
                let message = format!("`{}` cannot be told: {error}", condition.source());
                faults.push(Fault::new("condition", message));
            }
        }
    }
    for (name, matcher) in &expect.state {
        let what = format!("the variable `{name}`");
        faults.extend(mismatches("state", &what, matcher, course.state.get(name)));
    }
    for (path, matcher) in &expect.files {
        let view = View::of(course.run.repository);
        let file =
            world.source.file(&view, &course.tip, path, LARGEST_FILE).await.map_err(anyhow::Error::from)?;
        let text = file.map(|file| match file {
            File::Regular(bytes) => Json::from(String::from_utf8_lossy(&bytes).into_owned()),
            File::Large(_) => Json::from("(larger than 1 MiB)"),
            File::Symlink => Json::from("(a symbolic link)"),
            File::Submodule => Json::from("(a submodule)"),
        });
        faults.extend(mismatches("file", &format!("the file {path}"), matcher, text.as_ref()));
    }
    faults.extend(wrong_outcomes(expect.outcomes.as_deref(), &course.outcomes));
    if let Some((bound, amount)) = expect.cost.filter(|(bound, amount)| !bound.admits(course.cost, *amount)) {
        let message = format!("the run cost {}, and not {} {amount}", course.cost, bound.sign());
        faults.push(Fault::new("cost", message));
    }
    Ok(faults)
}

fn wrong_ending(expect: &Expect, course: &Course) -> Fault {
    let mut message = format!("the run is {}, not {}", course.status(), expect.ending);
    if let Some(why) = course.message() {
        message.push_str(&format!(": {why}"));
    }
    let failed = course.journal.iter().filter_map(|record| Some((record, record.end.failure()?)));
    let stages: Vec<String> = failed
        .map(|(record, failure)| format!("{}: {} ({})\n", record.path, failure.message, failure.code))
        .collect();
    Fault { detail: (!stages.is_empty()).then(|| stages.concat()), ..Fault::new("status", message) }
}

/// The values that a condition looked at.
fn seen(condition: &manifest::expression::Expression, course: &Course) -> String {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for reference in condition.references() {
        let path: Vec<&str> = std::iter::once(reference.root).chain(reference.path.iter().copied()).collect();
        let Some(root) = course.lookup(reference.root) else { continue };
        let value = reference.path.iter().try_fold(root.json, |value, key| value.get(*key).cloned());
        let shown: String = value.unwrap_or_default().to_string().chars().take(120).collect();
        values.insert(path.join("."), shown);
    }
    let values: Vec<String> = values.into_iter().map(|(name, value)| format!("{name} is {value}")).collect();
    if values.is_empty() { String::new() } else { format!("; {}", values.join(", ")) }
}

fn mismatches(code: &'static str, what: &str, matcher: &Matcher, value: Option<&Json>) -> Vec<Fault> {
    let wrong = matcher.mismatches(value).into_iter();
    let fault = |mismatch: manifest::test::Mismatch| Fault {
        detail: mismatch.texts.map(|(wanted, found)| {
            cassettes::difference(("expected", wanted.as_str()), ("found", found.as_str()))
        }),
        ..Fault::new(code, format!("{what} {}", mismatch.message))
    };
    wrong.map(fault).collect()
}

fn wrong_outcomes(expected: Option<&[OutcomeExpect]>, wanted: &[Json]) -> Vec<Fault> {
    let refused = |outcome: &Json| {
        let reason = outcome["refused"].as_str()?;
        Some(Fault::new("outcome", format!("{} would be refused: {reason}", kind(outcome))))
    };
    let Some(expected) = expected else { return wanted.iter().filter_map(refused).collect() };
    let kinds: Vec<&str> = expected.iter().map(|one| one.kind.as_str()).collect();
    let found: Vec<&str> = wanted.iter().map(kind).collect();
    if kinds != found {
        let list = |kinds: &[&str]| if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
        let message = format!("the run wants {}, not {}", list(&found), list(&kinds));
        return vec![Fault::new("outcome", message)];
    }
    let mut faults = Vec::new();
    for (one, outcome) in expected.iter().zip(wanted) {
        for (field, matcher) in &one.fields {
            let what = format!("`{field}` of {}", kind(outcome));
            faults.extend(mismatches("outcome", &what, matcher, outcome.get(field)));
        }
        if one.fields.iter().all(|(field, _)| field != "refused") {
            faults.extend(refused(outcome));
        }
    }
    faults
}

fn kind(outcome: &Json) -> &str {
    outcome["kind"].as_str().unwrap_or_default()
}
