//! A server that nobody uses: how soon it answers, and how much memory it takes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::figure::{Figure, Goal, median};

/// Starts that are measured.
const STARTS: usize = 7;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let home = tempfile::tempdir()?;
    let mut ready = Vec::new();
    let mut memory = 0;
    for _ in 0..STARTS {
        let (took, server) = start(home.path())?;
        ready.push(took);
        memory = resident(&server)?;
        stop(server)?;
    }
    Ok(vec![
        Figure {
            name: "server.idle_mb",
            value: memory as f64 / 1_024.0,
            unit: "MB",
            goal: Goal::AtMost(60.0),
            against: "resident memory of the process",
        },
        Figure {
            name: "server.ready_ms",
            value: median(ready) * 1_000.0,
            unit: "ms",
            goal: Goal::AtMost(300.0),
            against: "from the start of the process to its first answer",
        },
    ])
}

#[expect(clippy::disallowed_methods, reason = "the whole program is measured")]
fn start(home: &std::path::Path) -> anyhow::Result<(Duration, Child)> {
    let begun = Instant::now();
    let mut server = Command::new(std::env::current_exe()?.with_file_name("spellbook"))
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"])
        .arg(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("no output")?).read_line(&mut line)?;
    let first: serde_json::Value = serde_json::from_str(&line).context("the server did not start")?;
    let url = first["url"].as_str().context("no address")?;
    let answer = reqwest::blocking::get(format!("{url}/readyz"))?;
    ensure!(answer.status().is_success(), "not ready");
    Ok((begun.elapsed(), server))
}

/// Resident memory, KiB (`man 5 proc`, VmRSS).
fn resident(server: &Child) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).context("VmRSS is no number")
}

fn stop(mut server: Child) -> anyhow::Result<()> {
    server.kill()?;
    server.wait()?;
    Ok(())
}
