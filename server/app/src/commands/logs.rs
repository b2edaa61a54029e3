//! `spellbook logs`: what a run printed, whole or live.

use domain::id::RunId;
use serde_json::Value as Json;

use crate::cli::{Global, LogsArgs};
use crate::client::answers::{Effect, End, LogLine, Part};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};
use crate::progress::Progress;

/// Prints the log of a run.
pub(crate) async fn run(args: &LogsArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    if args.follow {
        let status = follow(&client, args.run, ui).await?;
        return Ok(exit_of(&status));
    }
    let mut printer = Printer::default();
    let mut after = None;
    loop {
        // Part by part, because a log may be longer than memory.
        let part = client.part(&["runs", &args.run.to_string(), "logs"], &[], after.as_deref()).await?;
        part.items.iter().try_for_each(|line| printer.print(line, ui))?;
        after = part.next;
        if after.is_none() {
            if !ui.is_json() {
                refused(&client, args.run, ui).await?;
            }
            return Ok(Exit::Ok);
        }
    }
}

/// Says which outcomes of a run were refused, and why: that came after its log.
pub(super) async fn refused(client: &Client, run: RunId, ui: &Ui) -> Result<(), CommandError> {
    let effects = client.get(&["runs", &run.to_string(), "effects"], &[]).await?;
    let effects = understood::<Part<Effect>>(effects)?.items;
    for effect in effects.iter().filter(|effect| effect.status == "refused") {
        let why = effect.message.as_deref().unwrap_or_default();
        ui.line(ui.paint(Tone::Bad, format_args!("-- {} was refused: {why}", effect.kind)))?;
    }
    Ok(())
}

/// Prints lines as they come until the run ends; gives its status.
pub(super) async fn follow(client: &Client, run: RunId, ui: &Ui) -> Result<String, CommandError> {
    let mut printer = Printer::default();
    let mut events = client.follow(&["runs", &run.to_string(), "logs"]);
    let progress = ui.spinner(format!("{run} is under way"));
    while let Some(event) = events.next().await? {
        let data: Json = serde_json::from_str(&event.data).map_err(|error| {
            CommandError::unavailable("answer_not_understood", "an event of the server is not understood")
                .because(error)
        })?;
        match event.name.as_str() {
            "line" => progress.aside(|| printer.print(&data, ui))?,
            "end" => return Ok(understood::<End>(data)?.status),
            // Kinds that a newer server may have.
            _ => {}
        }
    }
    Err(CommandError::unavailable("stream_ended", "the server ended the log without the run's end"))
}

/// The exit code for the status of a run that was watched. What was skipped had nothing to do.
pub(super) fn exit_of(status: &str) -> Exit {
    if matches!(status, "succeeded" | "skipped") { Exit::Ok } else { Exit::Failed }
}

/// Prints lines, with the stage's name before the first line of each.
#[derive(Debug, Default)]
struct Printer {
    stage: Option<String>,
    last: u64,
}

impl Printer {
    fn print(&mut self, line: &Json, ui: &Ui) -> Result<(), CommandError> {
        let LogLine { number, stage, source, text } = understood(line.clone())?;
        // A stream that was taken up again may begin with what was seen.
        if number <= self.last {
            return Ok(());
        }
        self.last = number;
        if ui.is_json() {
            return ui.record(line);
        }
        if self.stage.as_ref() != Some(&stage) {
            ui.line(ui.paint(Tone::Strong, format_args!("== {stage}")))?;
            self.stage = Some(stage);
        }
        match source.as_str() {
            "server" => ui.line(ui.paint(Tone::Dim, format_args!("-- {text}"))),
            _ => ui.line(ui.foreign_line(&text)),
        }
    }
}

/// What is shown while a run is waited for without its log.
pub(super) fn waiting(ui: &Ui, run: RunId) -> Progress {
    ui.spinner(format!("waiting for what {run} wants done"))
}
