//! `spellbook why`: which daemons answered to an event, which did not, and by which rule.

use domain::id::EventId;
use serde_json::{Value as Json, json};

use super::logs;
use crate::cli::{Global, WhyArgs};
use crate::client::answers::{Event, Match, Part};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// What to look at when an event never came.
const MISSING: &str = "is the repository watched, and the server at home in it? `spellbook list` says so, and \
    `spellbook deliveries` what forges told; comments that were edited, and those of programs, start nothing";

/// Shows every decision about an event, or about the last events of an issue or a pull request. Exits with 1 when
/// the server never heard of it.
pub(crate) async fn run(args: &WhyArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let events = match args.what.parse::<EventId>() {
        Ok(id) => vec![client.get(&["events", &id.to_string()], &[]).await?],
        Err(_) => {
            let last = args.last.to_string();
            let found = client.get(&["events"], &[("about", &args.what), ("limit", &last)]).await?;
            understood::<Part<Json>>(found)?.items
        }
    };
    if events.is_empty() {
        let message = format!("the server never heard of {}", args.what);
        return Err(CommandError::failed("event_never_came", message).help(MISSING));
    }
    let mut told = Vec::new();
    for event in events {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        let matches = client.get(&["events", &id, "matches"], &[]).await?;
        told.push((event, understood::<Part<Json>>(matches)?.items));
    }
    if ui.is_json() {
        let events = told.into_iter().map(|(event, matches)| json!({ "event": event, "matches": matches }));
        ui.document(&json!({ "events": events.collect::<Vec<Json>>() }))?;
        return Ok(Exit::Ok);
    }
    for (at, (event, matches)) in told.into_iter().enumerate() {
        if at > 0 {
            ui.line("")?;
        }
        let matches = matches.into_iter().map(understood).collect::<Result<Vec<Match>, _>>()?;
        shown(&understood(event)?, &matches, ui)?;
        for run in matches.iter().filter_map(|decision| decision.run.as_ref()?.parse().ok()) {
            logs::refused(&client, run, ui).await?;
        }
    }
    Ok(Exit::Ok)
}

fn shown(event: &Event, matches: &[Match], ui: &Ui) -> Result<(), CommandError> {
    let action = event.action.as_ref().map_or(String::new(), |action| format!(" {action}"));
    let role = event.actor_role.as_ref().map_or(String::new(), |role| format!(" ({role})"));
    let branch = event.branch.as_ref().map_or(String::new(), |branch| format!(" on {branch}"));
    ui.line(format_args!(
        "{} by {}, {} {}",
        ui.paint(Tone::Strong, format_args!("{}{action}{branch}", event.kind)),
        ui.paint(Tone::Name, format_args!("{}{role}", event.actor)),
        ui.paint(Tone::Plain, &event.occurred_at),
        ui.paint(Tone::Dim, &event.id),
    ))?;
    if matches.is_empty() {
        // What its author may do is asked where there is a command, or a daemon that waits.
        let commands = event.kind == "comment" && event.actor_role.is_some();
        return ui.line(if commands {
            "  it asked for no daemon; the answer is where it was asked"
        } else {
            "  no daemon on a deploy branch waits for this, or it is not decided yet"
        });
    }
    let rows = matches.iter().map(|decision| {
        let (tone, word) = match decision.run {
            Some(_) => (Tone::Good, "ran"),
            None => (Tone::Dim, "did not"),
        };
        [
            (Tone::Name, format!("  {}@{}", decision.daemon, decision.branch)),
            (tone, word.to_owned()),
            (Tone::Plain, decision.reason.clone()),
            (Tone::Dim, decision.run.clone().unwrap_or_default()),
        ]
    });
    ui.table(["  DAEMON", "", "WHY", "RUN"], rows)
}
