//! `spellbook list`: the daemons of a server.

use serde_json::json;

use crate::cli::{Global, ListArgs};
use crate::client::answers::Daemon;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Lists daemons with sync and health.
pub(crate) async fn run(args: &ListArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let repository = args.repository.as_ref().map(ToString::to_string);
    let filters =
        [("repository", repository.as_deref()), ("branch", args.branch.as_ref().map(AsRef::as_ref))];
    let query: Vec<(&str, &str)> =
        filters.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
    let items = client.list(&["daemons"], &query).await?;
    if ui.is_json() {
        ui.document(&json!({ "items": items }))?;
        return Ok(Exit::Ok);
    }
    let daemons: Vec<Daemon> = items.into_iter().map(understood).collect::<Result<_, _>>()?;
    if daemons.is_empty() {
        ui.note(format_args!("no daemons on {}; `git push` a spellbook to it", client.server()));
        return Ok(Exit::Ok);
    }
    ui.table(["DAEMON", "VERSION", "SYNC", "HEALTH", "LAST RUN", "COMMIT"], daemons.iter().map(row))?;
    Ok(Exit::Ok)
}

fn row(daemon: &Daemon) -> [(Tone, String); 6] {
    let toned = |text: &str| (Tone::of(text), text.to_owned());
    [
        (Tone::Name, daemon.address.clone()),
        (Tone::Plain, daemon.revision.version.clone().unwrap_or_else(|| "-".to_owned())),
        toned(&daemon.sync),
        toned(&daemon.health),
        daemon.last_run.as_deref().map_or_else(|| (Tone::Dim, "-".to_owned()), toned),
        (Tone::Dim, short(&daemon.revision.commit).to_owned()),
    ]
}

/// The beginning of a commit id, enough for people.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
