//! `script`: a program in the sandbox. Variables reach it through its environment and its standard
//! input, never as a part of its text, so that nothing an issue's title says becomes code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use domain::run::Failure;
use domain::value::{Taint, Value};
use manifest::model::ScriptStage;
use ports::proxy::{Guest, Visit};
use serde_json::Value as Json;

use super::jail::{self, Plan, Ran};
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
    let value = value(stage.schema.as_ref(), &ran.stdout, taint);
    let (result, trouble) = match (value, trouble) {
        (Ok(value), trouble) => (Some(value), trouble),
        (Err(_), Some(trouble)) => (None, Some(trouble)),
        (Err(failure), None) => (None, Some(failure.into())),
    };
    Made { result, trouble, usage: ran.usage, work: ran.work, changed: None }
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
        stdin: Bytes::from(stdin),
        env: environment(stage, at)?,
        directory,
        runtime: stage.runtime.clone(),
        visit: visit(at),
        listener: None,
        trailers: Vec::new(),
    };
    jail::execute(plan, at).await
}

/// A script reaches the hosts that its daemon may reach, and no model.
fn visit(at: &At<'_>) -> Option<Arc<dyn Visit>> {
    let allowed = at.run.manifest.permissions.hosts();
    if allowed.is_empty() {
        return None;
    }
    let guest = Guest {
        name: format!("{} {}", at.run.run.id, at.path),
        models: Vec::new(),
        purse: at.run.purse.clone(),
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

fn environment(stage: &ScriptStage, at: &At<'_>) -> Result<BTreeMap<String, String>, Trouble> {
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
    for (name, template) in &stage.env {
        if is_variable(name) {
            env.insert(name.clone(), template.evaluate(at.context)?.text().replace('\0', ""));
        }
    }
    env.insert("SPELLBOOK_RUN".to_owned(), at.run.run.id.to_string());
    env.insert("SPELLBOOK_STAGE".to_owned(), at.path.to_string());
    env.insert("SPELLBOOK_COMMIT".to_owned(), at.run.run.commit.to_string());
    env.insert("SPELLBOOK_BRANCH".to_owned(), at.run.run.branch.to_string());
    Ok(env)
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
