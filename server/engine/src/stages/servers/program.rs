//! A server that is a program: its jail, and the pipes to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::run::Failure;
use domain::stage::StageUsage;
use futures::FutureExt;
use manifest::model::McpProgram;
use ports::mcp::Line;
use ports::sandbox::{JailEnd, Stdin};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Running;
use crate::report::size;
use crate::stages::jail::{self, Audience, Done, Plan};
use crate::stages::{At, Trouble, script};
use crate::workspace::Desk;

/// What waits on the way to whoever reads what a program writes, bytes.
const WAITING: usize = 64 << 10;
/// How long a program that says nothing more may take until it is known how it ended.
const ENDING: Duration = Duration::from_secs(10);

/// A program that is to run.
pub(super) struct Program<'s> {
    pub(super) line: Line,
    pub(super) end: End,
    /// Runs it until it ends or is ended, and gives what it used.
    pub(super) running: Running<'s>,
}

/// How a program ended, once it has.
#[derive(Debug, Clone)]
pub(super) struct End(watch::Receiver<Option<String>>);

impl End {
    /// In words that follow "it".
    pub(super) async fn why(&self) -> Option<String> {
        let mut end = self.0.clone();
        let known = tokio::time::timeout(ENDING, end.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }
}

/// Lays the pipes; the program begins when it is polled.
pub(super) fn prepare<'s>(
    program: &McpProgram,
    (desk, directory): (&'s Desk, &Path),
    at: &'s At<'_>,
    over: CancellationToken,
) -> Result<Program<'s>, Trouble> {
    let mut env = script::environment(at);
    for (name, template) in &program.env {
        env.insert(name.clone(), template.evaluate(at.context)?.text());
    }
    let (writer, reader) = pipe::pipe().map_err(|error| no_pipe(&error))?;
    let stdin = reader.into_blocking_fd().map_err(|error| no_pipe(&error))?;
    let (said, heard) = tokio::io::duplex(WAITING);
    let full = over.child_token();
    let plan = Plan {
        command: program.command.clone(),
        stdin: Stdin::Pipe(Arc::new(stdin)),
        env,
        directory: directory.to_owned(),
        runtime: program.runtime.clone(),
        visit: script::visit(at),
        audience: Audience::Pipe { into: Box::new(said), full: full.clone() },
    };
    let (tell, end) = watch::channel(None);
    let running = async move {
        let (usage, why) = match jail::run_at(desk, plan, at, full.clone()).await {
            Ok(Done { end: JailEnd::Exited(0), usage, .. }) => (usage, "has ended by itself".to_owned()),
            Ok(Done { end: JailEnd::Cancelled, usage, .. }) if !over.is_cancelled() => {
                let most = size(at.run.manifest.limits.output);
                (usage, format!("said more than {most}, which is all that it may"))
            }
            Ok(mut done) => {
                let usage = std::mem::take(&mut done.usage);
                (usage, done.trouble(at).map_or_else(String::new, |trouble| trouble.failure.message))
            }
            Err(trouble) => (StageUsage::default(), format!("was not started: {}", trouble.failure.message)),
        };
        tell.send_replace(Some(why));
        usage
    };
    Ok(Program {
        line: Line::Pipes(Box::new(heard), Box::new(writer)),
        end: End(end),
        running: running.boxed(),
    })
}

fn no_pipe(error: &std::io::Error) -> Failure {
    Failure::new("mcp_unavailable", format!("there is no pipe to be had: {error}"))
}
