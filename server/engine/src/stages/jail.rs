//! Programs in jails, for a stage: a desk to work at, the jail, a door where there is one, what is said,
//! and the commit of what was left.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::sync::Arc;

use domain::run::Failure;
use domain::stage::{HostUsage, ModelUsage, StageUsage, Tokens};
use ports::Retry;
use ports::agents::Listener;
use ports::proxy::Visit;
use ports::sandbox::{
    DOOR, Door, JailEnd, JailReport, JailSpec, Network, OutputChunk, SandboxError, Stdin, Stream,
};
use ports::store::logs::LineSource;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{At, Trouble};
use crate::logs::Lines;
use crate::report::size;
use crate::workspace::{Desk, Keep, Work};

/// How much of a program's standard output is kept as a value, bytes; more is in the log only.
const LONGEST_OUTPUT: usize = 1 << 20;
/// How many pieces of output may wait to be logged before the program has to.
const WAITING: usize = 64;
/// The longest line that a listener is given whole, bytes.
const LONGEST_HEARD: usize = 8 << 20;

/// What is to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: Vec<String>,
    pub(super) stdin: Stdin,
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) runtime: Option<String>,
    /// What it is admitted to; without it, it reaches nothing.
    pub(super) visit: Option<Arc<dyn Visit>>,
    /// Who hears it.
    pub(super) audience: Audience,
}

/// Who hears what a program writes.
pub(super) enum Audience {
    /// People, in the log.
    Log,
    /// This one its standard output, and people the rest.
    Listener(Box<dyn Listener>),
    /// Whoever reads at the other end its standard output, and people the rest.
    Pipe {
        /// Where it is written; closed when there is no more.
        into: Box<dyn AsyncWrite + Send + Unpin>,
        /// Said when it wrote as much as is passed on, so that nobody waits for the rest of a sentence.
        full: CancellationToken,
    },
    /// Nobody but who runs it.
    Nobody,
}

impl std::fmt::Debug for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Log => "Log",
            Self::Listener(_) => "Listener",
            Self::Pipe { .. } => "Pipe",
            Self::Nobody => "Nobody",
        })
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) end: JailEnd,
    /// The whole of standard output, up to [`LONGEST_OUTPUT`].
    pub(super) stdout: Vec<u8>,
    /// The same of standard error.
    pub(super) stderr: Vec<u8>,
    pub(super) listener: Option<Box<dyn Listener>>,
    pub(super) usage: StageUsage,
}

/// The same, once what it left is committed.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) done: Done,
    /// What it left; nothing when that cannot be kept.
    pub(super) work: Option<Work>,
    /// Why it cannot.
    unkept: Option<Failure>,
}

/// Runs it and commits what it left, however it ended. The commit says so much of it, besides what it used.
pub(super) async fn execute(
    plan: Plan,
    trailers: &[(&'static str, String)],
    at: &At<'_>,
) -> Result<Ran, Trouble> {
    let desk = take(at).await?;
    match run_at(&desk, plan, at, at.cancel.clone()).await {
        Ok(done) => {
            let (work, unkept) = keep(desk, &done.usage, trailers, at).await;
            Ok(Ran { done, work, unkept })
        }
        Err(trouble) => {
            at.run.workspace.discard(desk).await;
            Err(trouble)
        }
    }
}

/// A desk for the stage.
pub(super) async fn take(at: &At<'_>) -> Result<Desk, Failure> {
    at.run.workspace.take(at.run.world, at.run.run, at.path).await
}

/// Runs a program at a desk, and commits nothing.
pub(super) async fn run_at(
    desk: &Desk,
    mut plan: Plan,
    at: &At<'_>,
    cancel: CancellationToken,
) -> Result<Done, Trouble> {
    let visit = plan.visit.clone();
    if visit.is_some() {
        // What the stage itself says outweighs what the machine is used to.
        let hosts = at.run.manifest.permissions.hosts();
        let mut env = at.run.world.proxy.variables(&hosts).await;
        env.append(&mut plan.env);
        plan.env = env;
    }
    let outcome = jailed(desk, plan, at, cancel).await;
    let visited = visit.map(|visit| visit.end()).unwrap_or_default();
    let (report, heard) = outcome?;
    tell_hosts(&visited.hosts, at);
    let usage = StageUsage {
        calls: visited.calls,
        rankings: visited.rankings,
        cpu_micros: u64::try_from(report.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_peak: report.memory_peak,
        sandbox: Some(report.policy),
        hosts: visited.hosts,
    };
    let Heard { stdout, stderr, listener } = heard;
    Ok(Done { end: report.end, stdout, stderr, listener, usage })
}

/// Commits what is at a desk: the work, or why it cannot be kept. What was spent on it is paid for,
/// whatever becomes of the files.
pub(super) async fn keep(
    desk: Desk,
    used: &StageUsage,
    trailers: &[(&'static str, String)],
    at: &At<'_>,
) -> (Option<Work>, Option<Failure>) {
    let execution = at.run;
    let message = message(used, trailers, at);
    let keep = Keep { message: &message, max_bytes: execution.manifest.limits.disk };
    match execution.workspace.commit(execution.world, execution.run, desk, keep).await {
        Ok(work) => (Some(work), None),
        Err(failure) => (None, Some(failure)),
    }
}

impl Done {
    /// What is wrong; nothing when the program exited with 0.
    pub(super) fn trouble(&self, at: &At<'_>) -> Option<Trouble> {
        trouble(&self.end, &self.stderr, at)
    }
}

impl Ran {
    /// What is wrong; nothing when the program exited with 0 and what it left is kept. How a program
    /// ended says more than that its files are too many.
    pub(super) fn trouble(&self, at: &At<'_>) -> Option<Trouble> {
        self.done.trouble(at).or_else(|| self.unkept.clone().map(Trouble::from))
    }
}

async fn jailed(
    desk: &Desk,
    plan: Plan,
    at: &At<'_>,
    cancel: CancellationToken,
) -> Result<(JailReport, Heard), Trouble> {
    let network = match plan.visit {
        Some(visit) => Network::Door(visit as Arc<dyn Door>),
        None => Network::None,
    };
    let spec = JailSpec {
        name: at.run.jail_name(at.path),
        command: plan.command,
        stdin: plan.stdin,
        env: plan.env,
        workspace: desk.path.clone(),
        directory: plan.directory,
        runtime: plan.runtime,
        limits: at.run.manifest.limits.clone(),
        network,
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let hearing = hear(at, plan.audience, receiver);
    let running = at.run.world.sandbox.run(spec, sender, cancel);
    let (report, heard) = tokio::join!(running, hearing);
    let report = report.map_err(|error| sandbox_trouble(&error))?;
    if report.output_truncated {
        at.note(format!("… {} bytes were written; not all are kept", report.output_bytes));
    }
    Ok((report, heard))
}

/// What tells programs that the door is their proxy, in the variables that each of them knows: curl,
/// git and pip the first ones, then node, cargo and java.
pub(super) fn proxy_variables() -> BTreeMap<String, String> {
    let proxy = format!("http://{DOOR}");
    let (host, port) = (DOOR.ip(), DOOR.port());
    let java =
        ["http", "https"].map(|scheme| format!("-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}"));
    let java = format!("{} -Dhttp.nonProxyHosts=localhost|127.0.0.1", java.join(" "));
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "CARGO_HTTP_PROXY",
    ];
    let own = [
        ("NO_PROXY", "localhost,127.0.0.1"),
        ("no_proxy", "localhost,127.0.0.1"),
        ("NODE_USE_ENV_PROXY", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("JAVA_TOOL_OPTIONS", java.as_str()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    names.into_iter().map(|name| (name.to_owned(), proxy.clone())).chain(own).collect()
}

/// A relative path that stays inside, whatever a value made of it.
pub(super) fn inside(text: &str) -> Result<PathBuf, Failure> {
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

fn tell_hosts(hosts: &[HostUsage], at: &At<'_>) {
    for HostUsage { host, port, requests, sent, received, refused } in hosts {
        let times = if *requests == 1 { "once".to_owned() } else { format!("{requests} times") };
        at.note(match refused {
            None => format!("asked {host}:{port} {times}: {} out, {} in", size(*sent), size(*received)),
            Some(why) => format!("asked {host}:{port} {times} and was refused: {why}"),
        });
    }
}

fn message(used: &StageUsage, more: &[(&'static str, String)], at: &At<'_>) -> String {
    let mut trailers: Vec<(&str, String)> =
        used.sandbox.iter().map(|policy| ("Sandbox", policy.clone())).collect();
    trailers.extend(more.iter().cloned());
    if !used.calls.is_empty() {
        trailers.extend(model_trailers(&used.calls));
    }
    let trailers: Vec<(&str, &str)> = trailers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    at.run.commit_message(at.path, &trailers)
}

/// Who answered, what was read and written, and what it cost.
fn model_trailers(calls: &[ModelUsage]) -> [(&'static str, String); 3] {
    let mut served: Vec<&str> = Vec::new();
    for call in calls {
        if !served.contains(&call.served.as_str()) {
            served.push(&call.served);
        }
    }
    let tokens = calls.iter().fold(Tokens::default(), |sum, call| sum.plus(&call.tokens));
    let cost: domain::money::NanoUsd = calls.iter().map(|call| call.cost).sum();
    let served = served.join(", ").replace(char::is_control, " ");
    [("Model", served), ("Tokens", tokens.total().to_string()), ("Cost", cost.to_string())]
}

/// What was heard of a program.
#[derive(Debug)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    listener: Option<Box<dyn Listener>>,
}

/// Has output heard as it comes, and keeps the head of both streams.
async fn hear(at: &At<'_>, mut audience: Audience, mut chunks: mpsc::Receiver<OutputChunk>) -> Heard {
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    if matches!(audience, Audience::Listener(_)) {
        stdout.lines = Lines::up_to(LONGEST_HEARD);
    }
    let most = at.run.manifest.limits.output;
    let mut count = 0;
    while let Some(OutputChunk { stream, bytes }) = chunks.recv().await {
        count += bytes.len() as u64;
        if let Audience::Pipe { into, full } = &mut audience {
            if stream == Stream::Stdout {
                // A reader that is gone wants no more of it.
                let _ = into.write_all(&bytes).await;
            }
            if count >= most {
                full.cancel();
            }
            if stream == Stream::Stdout {
                continue;
            }
        }
        let captured = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        captured.keep(&bytes);
        for line in captured.lines.push(&bytes) {
            audience.hears(stream, line, at);
        }
    }
    for (captured, stream) in [(&mut stdout, Stream::Stdout), (&mut stderr, Stream::Stderr)] {
        if let Some(line) = std::mem::take(&mut captured.lines).finish() {
            audience.hears(stream, line, at);
        }
    }
    let listener = match audience {
        Audience::Listener(listener) => Some(listener),
        Audience::Log | Audience::Nobody | Audience::Pipe { .. } => None,
    };
    Heard { stdout: stdout.head, stderr: stderr.head, listener }
}

impl Audience {
    fn hears(&mut self, stream: Stream, line: String, at: &At<'_>) {
        match (stream, self) {
            (_, Self::Nobody) => {}
            (Stream::Stderr, _) => at.run.log.line(at.path, LineSource::Stderr, line),
            (Stream::Stdout, Self::Log | Self::Pipe { .. }) => {
                at.run.log.line(at.path, LineSource::Stdout, line);
            }
            (Stream::Stdout, Self::Listener(listener)) => {
                for told in listener.line(&line) {
                    at.run.log.line(at.path, LineSource::Model, told);
                }
            }
        }
    }
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

/// What is wrong with how a jail ended; nothing when the program exited with 0.
fn trouble(end: &JailEnd, stderr: &[u8], at: &At<'_>) -> Option<Trouble> {
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
