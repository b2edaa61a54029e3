//! `script`: a program in the sandbox. Variables reach it through its environment and its standard
//! input, never as a part of its text, so that nothing an issue's title says becomes code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use domain::run::Failure;
use domain::value::{Taint, Value};
use manifest::model::ScriptStage;
use ports::models::Choice;
use ports::proxy::{Guest, Visit};
use serde_json::Value as Json;

use super::jail::{self, Audience, Plan, Ran};
use super::{At, Made, Trouble};
use crate::context::is_variable;

/// Runs the script; its standard output is its value.
pub(super) async fn run(stage: &ScriptStage, at: &At<'_>) -> Made {
    let done = match execute(stage, at).await {
        Ok(ran) => taint(stage, at).map(|taint| (ran, taint)),
        Err(trouble) => Err(trouble),
    };
    let (ran, taint) = match done {
        Ok(done) => done,
        Err(trouble) => return trouble.into(),
    };
    let trouble = ran.trouble(at);
    let value = value(stage.schema.as_ref(), &ran.done.stdout, taint);
    let (result, trouble) = match (value, trouble) {
        (Ok(value), trouble) => (Some(value), trouble),
        (Err(_), Some(trouble)) => (None, Some(trouble)),
        (Err(failure), None) => (None, Some(failure.into())),
    };
    Made { result, trouble, usage: ran.done.usage, work: ran.work, ..Made::default() }
}

/// Runs the script and commits what it left, however it ended.
pub(super) async fn execute(stage: &ScriptStage, at: &At<'_>) -> Result<Ran, Trouble> {
    let directory = match at.text(stage.working_directory.as_ref())? {
        None => PathBuf::from("."),
        Some((text, _)) => jail::inside(&text)?,
    };
    let stdin = at.text(stage.input.as_ref())?.map(|(text, _)| text).unwrap_or_default();
    let mut command = stage.shell.clone();
    command.extend(["-c".to_owned(), stage.script.clone()]);
    let plan = Plan {
        command,
        stdin: Bytes::from(stdin).into(),
        env: own_environment(stage, at)?,
        directory,
        runtime: stage.runtime.clone(),
        visit: visit(at),
        audience: Audience::Log,
    };
    jail::execute(plan, &[], at).await
}

/// A program reaches the hosts that its daemon may reach, and no model.
pub(super) fn visit(at: &At<'_>) -> Option<Arc<dyn Visit>> {
    let allowed = at.run.manifest.permissions.hosts();
    if allowed.is_empty() {
        return None;
    }
    let guest = Guest {
        name: format!("{} {}", at.run.run.id, at.path),
        choice: Choice::default(),
        till: at.run.till.of(at.path),
        most_calls: Some(0),
        provider_tools: Vec::new(),
        allowed,
    };
    Some(at.run.world.proxy.admit(guest))
}

/// Who could have written what a script makes: whoever wrote anything that it was given, and anybody
/// when it may read what others serve.
fn taint(stage: &ScriptStage, at: &At<'_>) -> Result<Taint, Trouble> {
    let mut taint = at.context.taint();
    if !at.run.manifest.permissions.hosts().is_empty() {
        taint = taint.with(Taint::External);
    }
    for template in stage.env.values().chain(&stage.input).chain(&stage.working_directory) {
        taint = taint.with(template.evaluate(at.context)?.taint);
    }
    Ok(taint)
}

fn own_environment(stage: &ScriptStage, at: &At<'_>) -> Result<BTreeMap<String, String>, Trouble> {
    let mut env = environment(at);
    for (name, template) in stage.env.iter().filter(|(name, _)| is_variable(name)) {
        env.insert(name.clone(), template.evaluate(at.context)?.text().replace('\0', ""));
    }
    env.extend(run_variables(at));
    Ok(env)
}

/// What the environment of every script has: the values of the run, the way out, and which run it is.
pub(super) fn environment(at: &At<'_>) -> BTreeMap<String, String> {
    let (values, too_long) = at.context.environment();
    for name in too_long {
        at.note(format!(
            "`{name}` is too long for an environment variable and left out; give it to the script by `input:`"
        ));
    }
    let mut env = if at.run.manifest.permissions.hosts().is_empty() {
        BTreeMap::new()
    } else {
        jail::proxy_variables()
    };
    env.extend(values);
    env.extend(run_variables(at));
    env
}

/// Which run it is; nothing else goes by these names.
fn run_variables(at: &At<'_>) -> [(String, String); 4] {
    [
        ("SPELLBOOK_RUN", at.run.run.id.to_string()),
        ("SPELLBOOK_STAGE", at.path.to_string()),
        ("SPELLBOOK_COMMIT", at.run.run.commit.to_string()),
        ("SPELLBOOK_BRANCH", at.run.run.branch.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// Standard output as a value: JSON where the stage says how it must look, else text without the
/// last line's end.
fn value(schema: Option<&Json>, stdout: &[u8], taint: Taint) -> Result<Value, Failure> {
    let text = String::from_utf8_lossy(stdout);
    let Some(schema) = schema else {
        return Ok(Value { json: Json::from(text.trim_end_matches(['\r', '\n'])), taint });
    };
    let invalid = |message: String| Failure::new("output_invalid", message);
    let json: Json = serde_json::from_str(&text).map_err(|error| {
        invalid(format!("the script has a `schema`, but its standard output is not JSON: {error}"))
    })?;
    manifest::schema::validate(schema, &json).map_err(|faults| {
        invalid(format!("the script's output does not fit its `schema`: {}", faults.join("; ")))
    })?;
    Ok(Value { json, taint })
}
