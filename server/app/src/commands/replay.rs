//! `spellbook replay`: an old run taken up again from one of its stages.

use serde_json::json;

use super::run_remote::{announce, watch};
use crate::cli::{Global, ReplayArgs};
use crate::client::Client;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;

/// Starts a replay, and follows it when asked to.
pub(crate) async fn run(args: &ReplayArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let wanted = json!({ "from_stage": args.from, "agent": args.agent });
    let started = client.post(&["runs", &args.run.to_string(), "replays"], &wanted).await?;
    if args.watch { watch(&client, started, ui).await } else { announce(started, ui) }
}
