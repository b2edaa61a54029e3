//! `script`: a program in the sandbox. Variables reach it through its environment and its standard
//! input, never as a part of its text, so that nothing an issue's title says becomes code.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use bytes::Bytes;
use domain::run::Failure;
use domain::stage::StageUsage;
use domain::value::{Taint, Value};
use manifest::model::ScriptStage;
use ports::Retry;
use ports::sandbox::{JailEnd, JailReport, JailSpec, Network, OutputChunk, SandboxError, Stream};
use ports::store::logs::LineSource;
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::{At, Made, Trouble};
use crate::context::is_variable;
use crate::logs::Lines;
use crate::report::size;
use crate::workspace::{Desk, Keep, Work};

/// How much of a program's standard output is its value, bytes; more is kept in the log only.
const LONGEST_OUTPUT: usize = 1 << 20;
/// How many pieces of output may wait to be logged before the program has to.
const WAITING: usize = 64;

/// What came of a script, for whoever goes on with it.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) end: JailEnd,
    /// The whole of standard output, up to [`LONGEST_OUTPUT`].
    pub(super) stdout: Vec<u8>,
    /// The same of standard error.
    pub(super) stderr: Vec<u8>,
    pub(super) usage: StageUsage,
    /// What it left; nothing when it left more than may be kept.
    pub(super) work: Option<Work>,
    pub(super) taint: Taint,
}

/// Runs the script; its standard output is its value.
pub(super) async fn run(stage: &ScriptStage, at: &At<'_>) -> Made {
    let ran = match execute(stage, at).await {
        Ok(ran) => ran,
        Err(trouble) => return trouble.into(),
    };
    let trouble = trouble(&ran.end, &ran.stderr, at);
    let value = value(stage.schema.as_ref(), &ran);
    let (result, trouble) = match (value, trouble) {
        (Ok(value), trouble) => (Some(value), trouble),
        (Err(_), Some(trouble)) => (None, Some(trouble)),
        (Err(failure), None) => (None, Some(failure.into())),
    };
    Made { result, trouble, usage: ran.usage, work: ran.work, changed: None }
}

/// Runs the script and commits what it left, however it ended.
pub(super) async fn execute(stage: &ScriptStage, at: &At<'_>) -> Result<Ran, Trouble> {
    let execution = at.run;
    let desk = execution.workspace.take(execution.world, execution.run, at.path).await?;
    let outcome = jailed(stage, at, &desk).await;
    let (report, stdout, stderr) = match outcome {
        Ok(done) => done,
        Err(trouble) => {
            execution.workspace.discard(desk).await;
            return Err(trouble);
        }
    };
    let message = execution.commit_message(at.path, &[("Sandbox", &report.policy)]);
    let keep = Keep { message: &message, max_bytes: execution.manifest.limits.disk };
    let work = match execution.workspace.commit(execution.world, execution.run, desk, keep).await {
        Ok(work) => Some(work),
        // How the program ended says more than that its files are too many.
        Err(_) if report.end != JailEnd::Exited(0) => None,
        Err(failure) => return Err(failure.into()),
    };
    let usage = StageUsage {
        calls: Vec::new(),
        cpu_micros: u64::try_from(report.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_peak: report.memory_peak,
        sandbox: Some(report.policy),
        hosts: Vec::new(),
    };
    Ok(Ran { end: report.end, stdout, stderr, usage, work, taint: taint(stage, at)? })
}

async fn jailed(
    stage: &ScriptStage,
    at: &At<'_>,
    desk: &Desk,
) -> Result<(JailReport, Vec<u8>, Vec<u8>), Trouble> {
    let spec = jail(stage, at, desk)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let gathering = gather(at, receiver);
    let running = at.run.world.sandbox.run(spec, sender, at.cancel.clone());
    let (report, (stdout, stderr)) = tokio::join!(running, gathering);
    let report = report.map_err(|error| sandbox_trouble(&error))?;
    if report.output_truncated {
        at.note(format!("… {} bytes were written; not all are kept", report.output_bytes));
    }
    Ok((report, stdout, stderr))
}

fn jail(stage: &ScriptStage, at: &At<'_>, desk: &Desk) -> Result<JailSpec, Trouble> {
    let directory = match at.text(stage.working_directory.as_ref())? {
        None => PathBuf::from("."),
        Some((text, _)) => inside(&text)?,
    };
    let stdin = at.text(stage.input.as_ref())?.map(|(text, _)| text).unwrap_or_default();
    let mut command = stage.shell.clone();
    command.extend(["-c".to_owned(), stage.script.clone()]);
    Ok(JailSpec {
        name: at.run.jail_name(at.path),
        command,
        stdin: Bytes::from(stdin),
        env: environment(stage, at)?,
        workspace: desk.path.clone(),
        directory,
        runtime: stage.runtime.clone(),
        limits: at.run.manifest.limits.clone(),
        network: Network::None,
    })
}

/// Who could have written what a script makes: whoever wrote anything that it was given.
fn taint(stage: &ScriptStage, at: &At<'_>) -> Result<Taint, Trouble> {
    let mut taint = at.context.taint();
    for template in stage.env.values().chain(&stage.input).chain(&stage.working_directory) {
        taint = taint.with(template.evaluate(at.context)?.taint);
    }
    Ok(taint)
}

fn environment(stage: &ScriptStage, at: &At<'_>) -> Result<BTreeMap<String, String>, Trouble> {
    let (mut env, too_long) = at.context.environment();
    for name in too_long {
        at.note(format!(
            "`{name}` is too long for an environment variable and left out; give it to the script by `input:`"
        ));
    }
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

/// A relative path that stays inside, whatever a value made of it.
fn inside(text: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(text);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays && !text.is_empty() && !text.contains('\0') {
        Ok(path)
    } else {
        let message =
            format!("the working directory `{}` is not a path inside the workspace", text.escape_debug());
        Err(Failure::new("working_directory_invalid", message))
    }
}

/// Logs output as it comes, and keeps the head of both streams.
async fn gather(at: &At<'_>, mut chunks: mpsc::Receiver<OutputChunk>) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    while let Some(OutputChunk { stream, bytes }) = chunks.recv().await {
        let (captured, source) = match stream {
            Stream::Stdout => (&mut stdout, LineSource::Stdout),
            Stream::Stderr => (&mut stderr, LineSource::Stderr),
        };
        captured.keep(&bytes);
        for line in captured.lines.push(&bytes) {
            at.run.log.line(at.path, source, line);
        }
    }
    for (captured, source) in [(&mut stdout, LineSource::Stdout), (&mut stderr, LineSource::Stderr)] {
        if let Some(line) = std::mem::take(&mut captured.lines).finish() {
            at.run.log.line(at.path, source, line);
        }
    }
    (stdout.head, stderr.head)
}

#[derive(Debug, Default)]
struct Captured {
    head: Vec<u8>,
    lines: Lines,
}

impl Captured {
    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST_OUTPUT - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Standard output as a value: JSON where the stage says how it must look, else text without the
/// last line's end.
fn value(schema: Option<&Json>, ran: &Ran) -> Result<Value, Failure> {
    let text = String::from_utf8_lossy(&ran.stdout);
    let Some(schema) = schema else {
        return Ok(Value { json: Json::from(text.trim_end_matches(['\r', '\n'])), taint: ran.taint });
    };
    let invalid = |message: String| Failure::new("output_invalid", message);
    let json: Json = serde_json::from_str(&text).map_err(|error| {
        invalid(format!("the script has a `schema`, but its standard output is not JSON: {error}"))
    })?;
    manifest::schema::validate(schema, &json).map_err(|faults| {
        invalid(format!("the script's output does not fit its `schema`: {}", faults.join("; ")))
    })?;
    Ok(Value { json, taint: ran.taint })
}

/// What is wrong with how a jail ended; nothing when the program exited with 0.
pub(super) fn trouble(end: &JailEnd, stderr: &[u8], at: &At<'_>) -> Option<Trouble> {
    let limits = &at.run.manifest.limits;
    let (code, message) = match end {
        JailEnd::Exited(0) => return None,
        JailEnd::TimedOut => return Some(super::trial::timed_out(limits.timeout)),
        JailEnd::Exited(status) => {
            ("exit_status", format!("exited with status {status}{}", last_words(stderr)))
        }
        JailEnd::Signalled(signal) => {
            ("signalled", format!("was ended by signal {signal}{}", last_words(stderr)))
        }
        JailEnd::OutOfMemory => {
            ("out_of_memory", format!("used more than {} of memory", size(limits.memory)))
        }
        JailEnd::DiskFull => {
            ("disk_full", format!("wrote more than {} into the workspace", size(limits.disk)))
        }
        JailEnd::OutputLimit => {
            ("output_limit", format!("wrote far more than {} of output", size(limits.output)))
        }
        JailEnd::ForbiddenSystemCall => {
            ("forbidden_system_call", "made a system call that the sandbox forbids, and was ended".to_owned())
        }
        JailEnd::Cancelled => ("cancelled", "was cancelled".to_owned()),
    };
    Some(Trouble { failure: Failure::new(code, message), timed_out: false, retry: Retry::Later })
}

/// The last line that a program wrote on standard error, as the most telling one.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map_or_else(String::new, |line| {
        let shown: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
        format!(": {shown}")
    })
}

fn sandbox_trouble(error: &SandboxError) -> Trouble {
    let (code, retry) = match error {
        SandboxError::Unavailable(_) => ("sandbox_unavailable", Retry::Later),
        SandboxError::Refused(_) => ("sandbox_refused", Retry::Never),
        SandboxError::SetUp(_) => ("sandbox_failed", Retry::Later),
    };
    Trouble { failure: Failure::new(code, error.to_string()), timed_out: false, retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_directory_stays_inside() {
        for text in [".", "app", "a/b", "./x"] {
            assert!(inside(text).is_ok(), "{text:?} was refused");
        }
        for text in ["", "/etc", "..", "a/../../b", "a\0b"] {
            assert!(inside(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_last_words_are_one_printable_line() {
        assert_eq!(last_words(b"one\ntwo \x1b[31mred\n\n"), ": two [31mred");
        assert_eq!(last_words(b"\n"), "");
    }
}
