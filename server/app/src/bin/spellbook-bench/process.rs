//! Programs that are measured, each in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// A process that says where it is in its first line. Dropped, it is ended.
pub(crate) struct Server {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "each is measured as a process of its own")]
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::of(Command::new(std::env::current_exe()?).args(arguments).stderr(Stdio::inherit()))
    }

    pub(crate) fn of(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, lines })
    }

    pub(crate) fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).context("a server of the benchmark did not start")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process, seconds (`man 5 proc`, `/proc/PID/stat`).
pub(crate) fn processor_time(process: &Child) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let (_, fields) = stat.rsplit_once(") ").context("no fields in stat")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in stat");
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

/// Says where this process is, in its first line.
pub(crate) fn say(line: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
