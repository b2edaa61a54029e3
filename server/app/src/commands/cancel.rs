//! `spellbook cancel`: asks a run to end.

use crate::cli::{CancelArgs, Global};
use crate::client::answers::Run;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Asks a run to end.
pub(crate) async fn run(args: &CancelArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let answer = client.post(&["runs", &args.run.to_string(), "cancel"], &serde_json::json!({})).await?;
    if ui.is_json() {
        ui.document(&answer)?;
        return Ok(Exit::Ok);
    }
    let run: Run = understood(answer)?;
    let what =
        if run.status == "cancelled" { "is cancelled" } else { "was asked to end; its worker ends it" };
    ui.line(format_args!("{} {what}", ui.paint(Tone::Plain, &run.id)))?;
    Ok(Exit::Ok)
}
