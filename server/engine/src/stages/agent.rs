//! `agent`: a coding agent works on the workspace, in a jail. It asks models through the door of the jail,
//! where every call is metered and paid from the run's purse; what it changed is the stage's commit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::run::Failure;
use domain::value::{Taint, Value};
use manifest::model::AgentStage;
use ports::Retry;
use ports::agents::{AgentError, Heard, Job, Program};
use ports::models::Choice;
use ports::proxy::Guest;
use ports::sandbox::{DOOR, JailEnd};
use secrecy::ExposeSecret;
use serde_json::Value as Json;

use super::ask::{about, own};
use super::jail::{self, Audience, Done, Plan, Ran};
use super::{At, Made, Trouble};
use crate::workspace::Work;

/// The home of a jail's user.
const HOME: &str = "/home/agent";

/// How long it may take to find a program that is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lets the agent work; its last message is the stage's value.
pub(super) async fn run(stage: &AgentStage, at: &At<'_>) -> Made {
    let name = &stage.task.agent;
    let program = match prepared(name, at).await {
        Ok(program) => program,
        Err(trouble) => return trouble.into(),
    };
    let turns = stage.task.turns.unwrap_or(u32::MAX).min(at.run.manifest.limits.turns);
    let most_calls = turns.saturating_add(program.spare_calls());
    let worked = match plan(stage, &*program, Bounds { turns, most_calls }, at) {
        Ok(plan) => {
            let who = [("Agent", format!("{} {}", program.name(), program.version()))];
            jail::execute(plan, &who, at).await
        }
        Err(trouble) => Err(trouble),
    };
    let mut ran = match worked {
        Ok(ran) => ran,
        Err(trouble) => return trouble.into(),
    };
    let heard = heard(&mut ran.done);
    if let Some(session) = &heard.session {
        at.note(format!("{name} calls this conversation {session}"));
    }
    let judged = match trouble(name, &ran, &heard, most_calls, at) {
        Some(trouble) => Err(trouble),
        None => value(stage, ran.work.as_ref(), heard.message, at).await,
    };
    let (result, trouble) = match judged {
        Ok(value) => (Some(value), None),
        Err(trouble) => (None, Some(trouble)),
    };
    Made { result, trouble, usage: ran.done.usage, work: ran.work, ..Made::default() }
}

/// How much an agent may do.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    turns: u32,
    /// Calls of models, those besides its turns counted.
    most_calls: u32,
}

/// The program, installed when it was not there.
async fn prepared(name: &str, at: &At<'_>) -> Result<Arc<dyn Program>, Trouble> {
    let preparing = at.run.world.agents.prepare(name);
    tokio::pin!(preparing);
    let mut told = false;
    let prepared = loop {
        tokio::select! {
            prepared = &mut preparing => break prepared,
            () = tokio::time::sleep(PATIENCE), if !told => {
                at.note(format!("{name} is being installed"));
                told = true;
            }
            () = at.cancel.cancelled() => return Err(Failure::new("cancelled", "was cancelled").into()),
        }
    };
    prepared.map_err(|error| {
        let retry = match error {
            AgentError::InstallFailed { .. } => Retry::Later,
            AgentError::Unknown { .. } | AgentError::Off { .. } | AgentError::NotInstalled { .. } => {
                Retry::Never
            }
        };
        Trouble { failure: Failure::new(error.code(), error.to_string()), timed_out: false, retry }
    })
}

fn plan(stage: &AgentStage, program: &dyn Program, bounds: Bounds, at: &At<'_>) -> Result<Plan, Trouble> {
    let directory = match at.text(stage.working_directory.as_ref())? {
        None => PathBuf::from("."),
        Some((text, _)) => jail::inside(&text)?,
    };
    let prompt = prompt(stage, at)?;
    let choice = own(&stage.task.agent, at).unwrap_or_else(|| Choice::of(program.model()));
    let model = choice.targets.first().cloned().unwrap_or_else(|| program.model().to_owned());
    let allowed = at.run.manifest.permissions.hosts();
    let mut env = if allowed.is_empty() { BTreeMap::new() } else { jail::proxy_variables() };
    at.note(format!("{} {} works, with {model}", program.name(), program.version()));
    let visit = at.run.world.proxy.admit(Guest {
        name: format!("{} {}", at.run.run.id, at.path),
        choice,
        till: at.run.till.of(at.path),
        most_calls: Some(bounds.most_calls),
        provider_tools: Vec::new(),
        allowed,
    });
    let token = visit.token();
    let job = Job {
        prompt: &prompt,
        model: &model,
        proxy: &format!("http://{DOOR}"),
        token: token.expose_secret(),
        home: HOME,
        turns: bounds.turns,
    };
    let invocation = program.invoke(&job);
    env.extend(invocation.env);
    Ok(Plan {
        command: invocation.command,
        stdin: invocation.stdin.into(),
        env,
        directory,
        runtime: None,
        visit: Some(visit),
        audience: Audience::Listener(program.listen()),
    })
}

/// What the agent is asked to do.
fn prompt(stage: &AgentStage, at: &At<'_>) -> Result<String, Trouble> {
    let own = |template| at.text(template).map(|text| text.map(|(text, _)| text));
    let (system, asked) = (own(stage.task.system.as_ref())?, own(stage.task.prompt.as_ref())?);
    let input = own(stage.task.input.as_ref())?;
    let mut prompt = match (&asked, &input) {
        (None, Some(input)) => input.clone(),
        (asked, input) => about(asked.as_deref().unwrap_or_default(), input.as_deref()),
    };
    for attachment in &stage.task.attachments {
        let path = attachment.evaluate(at.context)?.text();
        prompt.push_str(&format!("\n\nLook at the file {path}."));
    }
    if let Some(schema) = &stage.task.schema {
        let wanted = "Let your last message be JSON that fits this JSON Schema, and nothing besides";
        prompt.push_str(&format!("\n\n{wanted}:\n{schema}"));
    }
    Ok(match system {
        Some(system) => format!("{system}\n\n{prompt}"),
        None => prompt,
    })
}

/// What was heard; of a program that did not end by itself, nothing.
fn heard(ran: &mut Done) -> Heard {
    match (ran.listener.take(), &ran.end) {
        (Some(listener), JailEnd::Exited(status)) => {
            listener.end(*status, &String::from_utf8_lossy(&ran.stderr))
        }
        _ => Heard::default(),
    }
}

/// Why the agent failed, in the words of whoever knows best: the jail, the proxy's count, the program.
fn trouble(name: &str, ran: &Ran, heard: &Heard, most_calls: u32, at: &At<'_>) -> Option<Trouble> {
    if !matches!(ran.done.end, JailEnd::Exited(_)) {
        return ran.trouble(at);
    }
    let Some(Failure { code, message, .. }) = heard.failure.clone() else {
        return ran.trouble(at).filter(|_| ran.work.is_none());
    };
    let calls = ran.done.usage.calls.len();
    let spent = u32::try_from(calls).is_ok_and(|calls| calls >= most_calls);
    let failure = match code.as_str() {
        _ if spent => Failure::new(
            "turns_limit",
            format!("`{name}` asked models {calls} times, which is all that it may"),
        ),
        "turns_limit" => Failure::new(&code, format!("`{name}` has used all its turns ({message})")),
        // What a program makes of a refusal is seldom more than its status.
        "cost_limit" => match at.run.till.declined(at.path) {
            Some((code, why)) => Failure::new(code, format!("a call of `{name}` was not made: {why}")),
            None => Failure::new(
                &code,
                format!("`{name}` may not spend more than is left of the run's money ({message})"),
            ),
        },
        _ => Failure::new(&code, format!("`{name}` {message}")),
    };
    let retry = if matches!(failure.code.as_str(), "turns_limit" | "cost_limit" | "budget_exhausted") {
        Retry::Never
    } else {
        Retry::Later
    };
    Some(Trouble { failure, timed_out: false, retry })
}

/// The last message as a value. Whatever an agent says could have been put into its mouth, so that it is
/// never trusted.
async fn value(
    stage: &AgentStage,
    work: Option<&Work>,
    message: Option<String>,
    at: &At<'_>,
) -> Result<Value, Trouble> {
    let name = &stage.task.agent;
    let external = |json| Value { json, taint: Taint::External };
    let Some(message) = message else {
        let changed = match work {
            Some(work) => at.run.workspace.is_changed(at.run.world, at.run.run, work).await?,
            None => false,
        };
        let failure = match (changed, &stage.task.schema) {
            (_, Some(_)) => {
                Failure::new("output_invalid", format!("the stage has a `schema`, but `{name}` said nothing"))
            }
            (true, None) => return Ok(external(Json::from(""))),
            (false, None) => Failure::new("agent_idle", format!("`{name}` changed nothing and said nothing")),
        };
        return Err(failure.into());
    };
    let Some(schema) = &stage.task.schema else { return Ok(external(Json::from(message))) };
    let invalid = |why: String| {
        let message = format!("the last message of `{name}` {why}; an agent is not asked again");
        Trouble::from(Failure::new("output_invalid", message))
    };
    let json: Json = serde_json::from_str(unfenced(&message))
        .map_err(|error| invalid(format!("is not JSON, which the stage's `schema` asks for: {error}")))?;
    manifest::schema::validate(schema, &json)
        .map_err(|faults| invalid(format!("does not fit the stage's `schema`: {}", faults.join("; "))))?;
    Ok(external(json))
}

/// A message without the fence that models like to put around JSON.
fn unfenced(message: &str) -> &str {
    let message = message.trim();
    let inner = message.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner.and_then(|rest| rest.split_once('\n')).map(|(_, inner)| inner.trim());
    inner.unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_around_json_is_no_part_of_it() {
        for message in ["{\"a\":1}", " {\"a\":1}\n", "```json\n{\"a\":1}\n```", "```\n{\"a\":1}```"] {
            assert_eq!(unfenced(message), "{\"a\":1}", "{message:?}");
        }
        assert_eq!(unfenced("```"), "```");
    }
}
