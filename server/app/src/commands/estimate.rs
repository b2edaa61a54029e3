//! `spellbook estimate`: what a run will probably cost, before it runs.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use engine::report::span;

use crate::cli::money::EstimateArgs;
use crate::cli::{Global, inputs};
use crate::client::answers::Money;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::Ui;

/// Asks for an estimate.
pub(crate) async fn run(args: &EstimateArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let inputs = inputs::read(&args.inputs)?;
    let client = Client::connect(global)?;
    let answer = client.post(&["estimates"], &json!({ "daemon": args.daemon, "inputs": inputs })).await?;
    if ui.is_json() {
        ui.document(&answer)?;
        return Ok(Exit::Ok);
    }
    let estimate: Estimate = understood(answer)?;
    match &estimate.cost {
        Some(Cost { usual, high }) => ui.line(format_args!(
            "cost   usually {} ({} credits), seldom more than {} ({} credits)",
            usual.text, usual.credits, high.text, high.credits
        ))?,
        None => ui.line("cost   cannot be told")?,
    }
    match &estimate.time {
        Some(Time { usual_ms, high_ms }) => ui.line(format_args!(
            "time   usually {}, seldom more than {}",
            span(Duration::from_millis(*usual_ms)),
            span(Duration::from_millis(*high_ms))
        ))?,
        None => ui.line("time   cannot be told")?,
    }
    if let Some(limit) = &estimate.limit {
        ui.line(format_args!("limit  {}", limit.text))?;
    }
    let runs = if estimate.runs == 1 { "1 run".to_owned() } else { format!("{} runs", estimate.runs) };
    let basis = match estimate.basis.as_str() {
        "runs" => format!("{runs} of this version"),
        "older_runs" => format!("{runs} of older versions"),
        _ => "the sizes of what its stages ask".to_owned(),
    };
    ui.line(format_args!("basis  {basis}; confidence {}", ui.foreign_line(&estimate.confidence)))?;
    for note in &estimate.notes {
        ui.note(ui.foreign_line(note));
    }
    Ok(Exit::Ok)
}

#[derive(Debug, Deserialize)]
struct Estimate {
    cost: Option<Cost>,
    time: Option<Time>,
    basis: String,
    runs: u64,
    confidence: String,
    limit: Option<Money>,
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Cost {
    usual: Money,
    high: Money,
}

#[derive(Debug, Deserialize)]
struct Time {
    usual_ms: u64,
    high_ms: u64,
}
