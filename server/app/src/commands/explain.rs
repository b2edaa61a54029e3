//! `spellbook explain`: which models a run asked, which it did not, and why.

use crate::cli::{ExplainArgs, Global};
use crate::client::answers::{Call, Candidate, RunDetail, Stage};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Shows every decision between models and every call.
pub(crate) async fn run(args: &ExplainArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let detail = client.get(&["runs", &args.run.to_string()], &[]).await?;
    if ui.is_json() {
        ui.document(&detail["stages"])?;
        return Ok(Exit::Ok);
    }
    let RunDetail { run, stages, .. } = understood(detail)?;
    let asking: Vec<&Stage> =
        stages.iter().filter(|stage| !stage.rankings.is_empty() || !stage.calls.is_empty()).collect();
    if asking.is_empty() {
        let why = if run.ended_at.is_some() { "asked no model" } else { "has asked no model so far" };
        ui.line(format_args!("{} {why}", run.id))?;
    }
    for (at, stage) in asking.into_iter().enumerate() {
        if at > 0 {
            ui.line("")?;
        }
        explained(stage, ui)?;
    }
    Ok(Exit::Ok)
}

fn explained(stage: &Stage, ui: &Ui) -> Result<(), CommandError> {
    let status = ui.paint(Tone::of(&stage.status), &stage.status);
    ui.line(format_args!("{} {status}, {}", ui.paint(Tone::Strong, &stage.path), stage.cost.text))?;
    for ranking in &stage.rankings {
        ui.line("")?;
        ui.table(
            [&format!("  BY {}", ranking.route.to_uppercase()), "MODEL", "EXPECTED", "", "WHY"],
            ranking.candidates.iter().map(candidate),
        )?;
    }
    if !stage.calls.is_empty() {
        ui.line("")?;
        ui.table(["  ASKED", "ANSWERED BY", "READ", "WRITTEN", "COST"], stage.calls.iter().map(call))?;
    }
    Ok(())
}

fn candidate(candidate: &Candidate) -> [(Tone, String); 5] {
    let (place, tone) = match candidate.place {
        Some(place) => (format!("  {place}. {}", candidate.target), Tone::Plain),
        None => (format!("  –  {}", candidate.target), Tone::Dim),
    };
    let cost = candidate.expected_cost.as_ref().map(|cost| cost.text.clone());
    let pace = candidate.expected_ms.map(|ms| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100));
    [
        (tone, place),
        (tone, candidate.model.clone()),
        (tone, cost.unwrap_or_else(|| "?".to_owned())),
        (tone, pace.unwrap_or_default()),
        (tone, candidate.why.clone()),
    ]
}

fn call(call: &Call) -> [(Tone, String); 5] {
    let read = call.input_tokens + call.cache_read_tokens + call.cache_write_tokens;
    let estimated = if call.estimated { " (estimated)" } else { "" };
    [
        (Tone::Plain, format!("  {}", call.requested)),
        (Tone::Plain, format!("{}/{}", call.provider, call.served)),
        (Tone::Plain, read.to_string()),
        (Tone::Plain, call.output_tokens.to_string()),
        (Tone::Plain, format!("{}{estimated}", call.cost.text)),
    ]
}
