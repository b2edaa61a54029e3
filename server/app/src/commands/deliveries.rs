//! `spellbook deliveries`: what others told a server, and what it made of it.

use serde::Deserialize;

use crate::cli::Global;
use crate::cli::deliveries::DeliveriesArgs;
use crate::client::answers::Part;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// A request from outside that was taken in.
#[derive(Debug, Clone, Deserialize)]
struct Delivery {
    source: String,
    name: Option<String>,
    external_id: Option<String>,
    verdict: Option<String>,
    received_at: String,
}

/// Lists the newest.
pub(crate) async fn run(args: &DeliveriesArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let last = args.last.to_string();
    let source = args.source.as_deref().map(|source| ("source", source));
    let query: Vec<(&str, &str)> = source.into_iter().chain([("limit", last.as_str())]).collect();
    let answer = client.get(&["deliveries"], &query).await?;
    if ui.is_json() {
        ui.document(&answer)?;
        return Ok(Exit::Ok);
    }
    let deliveries: Part<Delivery> = understood(answer)?;
    if deliveries.items.is_empty() {
        let from = args.source.as_deref().unwrap_or("anybody");
        ui.note(format_args!("nothing has come from {from} to {} yet", client.server()));
        return Ok(Exit::Ok);
    }
    let rows = deliveries.items.into_iter().map(|delivery| {
        let verdict = delivery.verdict.map_or_else(
            || (Tone::Dim, "nobody has looked yet".to_owned()),
            |verdict| (Tone::Plain, verdict),
        );
        [
            (Tone::Plain, delivery.received_at),
            (Tone::Name, delivery.source),
            (Tone::Plain, delivery.name.unwrap_or_else(|| "-".to_owned())),
            verdict,
            (Tone::Dim, delivery.external_id.unwrap_or_else(|| "-".to_owned())),
        ]
    });
    ui.table(["CAME", "FROM", "ABOUT", "WHAT BECAME OF IT", "THEIR ID"], rows)?;
    Ok(Exit::Ok)
}
