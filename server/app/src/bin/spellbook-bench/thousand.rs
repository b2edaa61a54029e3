//! A thousand questions of stages at once to a provider that takes its time: how much memory that takes. The
//! provider is a process of its own, and so is what is measured.

use std::sync::Arc;

use anyhow::{Context, ensure};
use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::models::{Choice, Message, Models, Question};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::figure::{Figure, Goal};
use crate::gateway::gateway;
use crate::process::{Server, say};

/// About how long the provider thinks, milliseconds: longer than it takes to ask all of them.
pub(crate) const THINKS: u64 = 10_000;

/// Questions at once.
const QUESTIONS: usize = 1_000;

/// The size of each, bytes: a change of some hundred lines.
const QUESTION: usize = 16 << 10;

pub(crate) fn measure(base: &str) -> anyhow::Result<Figure> {
    let mut asking = Server::start(&["--thousand", base])?;
    let line = asking.line()?;
    let peak = line["peak_kib"].as_u64().context("no peak of memory")?;
    Ok(Figure {
        name: "gateway.thousand_mb",
        value: peak as f64 / 1_024.0,
        unit: "MB",
        goal: Goal::AtMost(300.0),
        against: "the most resident memory of the process, 1,000 questions at once",
    })
}

/// The process that asks: says the most memory that it had, once all are answered.
pub(crate) async fn ask(base: &str) -> anyhow::Result<()> {
    let gateway = Arc::new(gateway(base)?);
    let mut asked = JoinSet::new();
    for number in 0..QUESTIONS {
        let gateway = Arc::clone(&gateway);
        asked.spawn(async move {
            // Somebody watches each answer come, as a stage does.
            let (sender, mut pieces) = mpsc::channel(64);
            let answer = gateway.ask(question(number), sender, CancellationToken::new());
            let (answer, ()) = tokio::join!(answer, async { while pieces.recv().await.is_some() {} });
            answer
        });
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer?.context("a question was not answered")?;
        ensure!(answer.calls.len() == 1, "a question was asked {} times", answer.calls.len());
    }
    say(&json!({ "peak_kib": peak()? }))
}

fn question(number: usize) -> Question {
    let line =
        format!("+    let value_{number} = read(&path).with_context(|| format!(\"{{path}} is gone\"))?;\n");
    Question {
        choice: Choice::of("gpt-5"),
        conversation: None,
        system: Some("You review changes. Answer in one short paragraph.".to_owned()),
        messages: vec![Message::user(line.repeat(QUESTION / line.len()))],
        tools: Vec::new(),
        schema: None,
        max_tokens: Some(1_000),
        temperature: None,
        till: Arc::new(Purse::new(Some(NanoUsd::USD.times(1_000_000)), NanoUsd::ZERO)),
    }
}

/// The most resident memory so far, KiB (`man 5 proc`, VmHWM).
fn peak() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).context("VmHWM is no number")
}
