use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ports::sandbox::{
    JailEnd, JailReport, JailSpec, Network, OutputChunk, Protection, Sandbox, SandboxError, Stream, Swept,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Asked;

type Script = dyn Fn(&JailSpec) -> Result<(Vec<OutputChunk>, JailReport), SandboxError> + Send + Sync;

/// A sandbox that runs nothing: a script says what each jail writes and how it ends. The script may
/// change the files of `JailSpec::workspace`, as a program would.
///
/// A jail whose report says [`JailEnd::Cancelled`] stays until it is cancelled. A jail with a door has it
/// opened before the script and closed after the end, at an address of this machine that nobody knows.
pub struct ScriptedSandbox {
    script: Box<Script>,
    asked: Asked<JailSpec>,
    runtimes: Vec<String>,
}

impl ScriptedSandbox {
    /// A sandbox whose jails go as `script` says.
    pub fn new(
        script: impl Fn(&JailSpec) -> Result<(Vec<OutputChunk>, JailReport), SandboxError> + Send + Sync + 'static,
    ) -> Self {
        let runtimes = ["bash", "node", "python"].map(str::to_owned).to_vec();
        Self { script: Box::new(script), asked: Asked::nothing(), runtimes }
    }

    /// A sandbox whose programs all write `text` and end well.
    pub fn writing(text: &'static str) -> Self {
        Self::new(move |_| Ok((vec![Self::stdout(text)], Self::exited(0))))
    }

    /// The same sandbox, with other runtimes than `bash`, `node` and `python`.
    #[must_use]
    pub fn with_runtimes(mut self, runtimes: &[&str]) -> Self {
        self.runtimes = runtimes.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// A piece of standard output.
    pub fn stdout(text: &str) -> OutputChunk {
        OutputChunk { stream: Stream::Stdout, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// A piece of standard error.
    pub fn stderr(text: &str) -> OutputChunk {
        OutputChunk { stream: Stream::Stderr, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// The report of a program that ended by itself.
    pub fn exited(code: i32) -> JailReport {
        Self::ended(JailEnd::Exited(code))
    }

    /// The report of a jail that ended in any way.
    pub fn ended(end: JailEnd) -> JailReport {
        JailReport {
            end,
            wall: Duration::from_millis(20),
            cpu: Duration::from_millis(10),
            memory_peak: 1 << 20,
            output_bytes: 0,
            output_truncated: false,
            policy: "5".repeat(64),
        }
    }

    /// The jails that were asked for, in order.
    pub fn jails(&self) -> Vec<JailSpec> {
        self.asked.all()
    }
}

impl fmt::Debug for ScriptedSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedSandbox").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    async fn run(
        &self,
        jail: JailSpec,
        output: mpsc::Sender<OutputChunk>,
        cancel: CancellationToken,
    ) -> Result<JailReport, SandboxError> {
        self.asked.note(&jail);
        let _door = open(&jail.network)?;
        let (chunks, mut report) = (self.script)(&jail)?;
        report.output_bytes = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        for chunk in within(chunks, jail.limits.output, &mut report.output_truncated) {
            // A receiver that is gone does not matter.
            let _ = output.send(chunk).await;
        }
        if report.end == JailEnd::Cancelled {
            cancel.cancelled().await;
        } else if cancel.is_cancelled() {
            report.end = JailEnd::Cancelled;
        }
        Ok(report)
    }

    async fn sweep(&self) -> Result<Swept, SandboxError> {
        Ok(Swept::default())
    }

    async fn protections(&self) -> Vec<Protection> {
        Vec::new()
    }

    fn runtimes(&self) -> Vec<String> {
        self.runtimes.clone()
    }
}

/// Whoever serves the door, if there is to be one.
fn open(network: &Network) -> Result<Option<Box<dyn Send>>, SandboxError> {
    let Network::Door(door) = network else { return Ok(None) };
    let opened = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| door.open(listener));
    opened.map(Some).map_err(|error| SandboxError::Unavailable(format!("nobody serves its door: {error}")))
}

/// The first `most` bytes of the chunks.
fn within(chunks: Vec<OutputChunk>, most: u64, truncated: &mut bool) -> Vec<OutputChunk> {
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    for mut chunk in chunks {
        *truncated |= chunk.bytes.len() > left;
        chunk.bytes.truncate(left);
        left -= chunk.bytes.len();
        if !chunk.bytes.is_empty() {
            kept.push(chunk);
        }
    }
    kept
}
