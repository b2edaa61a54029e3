//! `spellbook run ADDRESS`: a run on a server, and what is said about any run there.

use std::time::Duration;

use domain::id::RunId;
use domain::name::Address;
use jiff::Timestamp;
use ports::clock::Clock;
use serde_json::{Value as Json, json};

use super::logs;
use crate::cli::{Global, RunArgs, inputs};
use crate::client::answers::{Effect, Run, RunDetail};
use crate::client::{Client, understood};
use crate::clock::SystemClock;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// How long a watched run's effects are waited for after it has ended.
const EFFECTS: Duration = Duration::from_secs(30);

/// Starts a run, and follows it when asked to.
pub(crate) async fn run(
    address: &Address,
    args: &RunArgs,
    global: &Global,
    ui: &Ui,
) -> Result<Exit, CommandError> {
    if args.from_stage.is_some() {
        return Err(CommandError::usage(
            "from_stage_remote",
            "--from-stage is for a daemon's directory on this machine",
        )
        .help("spellbook replay RUN --from STAGE takes up a run on a server"));
    }
    if args.report.is_some() {
        return Err(CommandError::usage(
            "report_remote",
            "--report is for a daemon's directory on this machine",
        )
        .help("--watch --json prints what came of a run on a server"));
    }
    let inputs = inputs::read(&args.inputs)?;
    let client = Client::connect(global)?;
    // When the answer is lost on the way, the same key finds the run that was started.
    let key = SystemClock.unique().simple().to_string();
    let started = client.post_keyed(&["runs"], &json!({ "daemon": address, "inputs": inputs }), &key).await?;
    if args.watch { watch(&client, started, ui).await } else { announce(started, ui) }
}

/// Says which run was started, and how to see more of it.
pub(super) fn announce(started: Json, ui: &Ui) -> Result<Exit, CommandError> {
    if ui.is_json() {
        ui.document(&started)?;
        return Ok(Exit::Ok);
    }
    let run: Run = understood(started)?;
    ui.line(ui.paint(Tone::Plain, &run.id))?;
    let address = format!("{}/{}@{}", run.repository, run.daemon, run.branch);
    ui.note(format_args!(
        "{} of {} is {}; follow it: spellbook logs -f {}",
        "the run",
        plain(&address),
        plain(&run.status),
        plain(&run.id)
    ));
    Ok(Exit::Ok)
}

fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    crate::output::visible(text)
}

/// Follows a run to its end, and a little further to what it wants done.
pub(super) async fn watch(client: &Client, started: Json, ui: &Ui) -> Result<Exit, CommandError> {
    if ui.is_json() {
        ui.record(&started)?;
    }
    let started: Run = understood(started)?;
    let run: RunId = started.id.parse().map_err(|error: domain::id::IdError| {
        CommandError::unavailable("answer_not_understood", "the server's answer is not understood")
            .because(error)
    })?;
    ui.note(format_args!(
        "{run} of {}/{}@{}",
        plain(&started.repository),
        plain(&started.daemon),
        plain(&started.branch)
    ));
    let status = logs::follow(client, run, ui).await?;
    settle(client, run, ui).await?;
    let detail = client.get(&["runs", &run.to_string()], &[]).await?;
    if ui.is_json() {
        ui.record(&detail)?;
    } else {
        conclude(understood(detail)?, ui)?;
    }
    Ok(logs::exit_of(&status))
}

/// Waits until what the run wants is done, but not for ever: the outbox goes on without us.
async fn settle(client: &Client, run: RunId, ui: &Ui) -> Result<(), CommandError> {
    let _progress = logs::waiting(ui, run);
    let mut events = client.follow(&["runs", &run.to_string(), "events"]);
    let end = async {
        while events.next().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(EFFECTS, end).await.unwrap_or(Ok(()))
}

fn conclude(detail: RunDetail, ui: &Ui) -> Result<(), CommandError> {
    let RunDetail { run, effects: wanted, .. } = detail;
    effects(&wanted, ui)?;
    let since = run.started_at.as_deref().unwrap_or(&run.created_at);
    let time = run.ended_at.as_deref().map(|ended| format!(" in {}", took(since, ended))).unwrap_or_default();
    let message = run.message.map(|message| format!(": {message}")).unwrap_or_default();
    let status = ui.paint(Tone::of(&run.status), run.status.replace('_', " "));
    ui.line(format_args!(
        "{} {status}{time}, cost {}{}",
        plain(&run.id),
        plain(&run.cost.text),
        plain(&message)
    ))
}

/// Shows what a run wants done, and what became of it.
pub(super) fn effects(effects: &[Effect], ui: &Ui) -> Result<(), CommandError> {
    if effects.is_empty() {
        return Ok(());
    }
    ui.line("")?;
    let rows = effects.iter().map(|effect| {
        let words = [effect.message.as_deref(), effect.url.as_deref()];
        [
            (Tone::Plain, effect.kind.clone()),
            (Tone::of(&effect.status), effect.status.clone()),
            (Tone::Dim, words.into_iter().flatten().collect::<Vec<_>>().join("  ")),
        ]
    });
    ui.table(["OUTCOME", "STATUS", ""], rows)
}

/// The time between two moments as the API writes them, for people.
pub(super) fn took(from: &str, to: &str) -> String {
    let (Ok(from), Ok(to)) = (from.parse::<Timestamp>(), to.parse::<Timestamp>()) else {
        return "?".to_owned();
    };
    let millis = to.as_millisecond().saturating_sub(from.as_millisecond()).max(0);
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
        _ => format!("{} h {} min", millis / 3_600_000, millis % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::took;

    #[test]
    fn times_are_as_long_as_they_are_useful() {
        for (to, expect) in [
            ("2026-01-01T00:00:00.020Z", "20 ms"),
            ("2026-01-01T00:00:03.27Z", "3.2 s"),
            ("2026-01-01T00:12:03Z", "12 min 3 s"),
            ("2026-01-01T05:12:03Z", "5 h 12 min"),
            ("2025-01-01T00:00:00Z", "0 ms"),
            ("later", "?"),
        ] {
            assert_eq!(took("2026-01-01T00:00:00Z", to), expect);
        }
    }
}
