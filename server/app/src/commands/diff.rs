//! `spellbook diff`: what a run changed in its workspace, or what changed between two versions of a daemon.

use std::borrow::Cow;

use domain::id::RunId;
use domain::name::{Address, At};
use serde_json::{Value as Json, json};

use super::status::get_daemon;
use crate::cli::{DiffArgs, Global, Target};
use crate::client::answers::{DaemonDetail, Diff, Plan, RunDetail};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Shows a difference.
pub(crate) async fn run(args: &DiffArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    match (&args.from, &args.to) {
        (Target::Run(run), None) => of_run(*run, args.stage.as_deref(), global, ui).await,
        (Target::Daemon(from), Some(to)) => of_versions(from, to, global, ui).await,
        (Target::Run(_), Some(_)) => Err(usage("a run is compared with nothing else")),
        (Target::Daemon(address), None) if address.at == At::Deployed => {
            Err(usage("what is deployed needs another version to be compared with"))
        }
        (Target::Daemon(to), None) => {
            let deployed = Address { at: At::Deployed, ..to.clone() };
            of_versions(&deployed, to, global, ui).await
        }
    }?;
    Ok(Exit::Ok)
}

fn usage(message: &str) -> CommandError {
    CommandError::usage("diff_of_what", message)
        .help("spellbook diff RUN [--stage STAGE], or spellbook diff [ADDRESS] ADDRESS@REF")
}

async fn of_run(run: RunId, stage: Option<&str>, global: &Global, ui: &Ui) -> Result<(), CommandError> {
    let client = Client::connect(global)?;
    let run = run.to_string();
    let stages = match stage {
        Some(stage) => vec![stage.to_owned()],
        None => {
            let detail: RunDetail = understood(client.get(&["runs", &run], &[]).await?)?;
            detail
                .stages
                .into_iter()
                .filter(|stage| stage.snapshot.is_some())
                .map(|stage| stage.path)
                .collect()
        }
    };
    let mut diffs = Vec::new();
    for path in stages {
        let diff = client.get(&["runs", &run, "stages", &path, "diff"], &[]).await?;
        diffs.push((path, diff));
    }
    if ui.is_json() {
        let stages = diffs.into_iter().map(|(stage, diff)| json!({ "stage": stage, "diff": diff }));
        return ui.document(&json!({ "stages": stages.collect::<Vec<Json>>() }));
    }
    let named = diffs.len() > 1;
    let mut empty = true;
    for (path, diff) in diffs {
        let diff: Diff = understood(diff)?;
        if diff.patch.is_empty() {
            continue;
        }
        empty = false;
        if named {
            // `git apply` and `patch` skip lines that are no part of a patch.
            ui.line(ui.paint(Tone::Strong, format_args!("== {path}")))?;
        }
        show(&diff, ui)?;
    }
    if empty {
        ui.note("no file was changed");
    }
    Ok(())
}

async fn of_versions(from: &Address, to: &Address, global: &Global, ui: &Ui) -> Result<(), CommandError> {
    if (&from.repository, &from.daemon) != (&to.repository, &to.daemon) {
        return Err(usage("the two addresses are of different daemons"));
    }
    let client = Client::connect(global)?;
    let from: DaemonDetail = understood(get_daemon(&client, from).await?)?;
    let to: DaemonDetail = understood(get_daemon(&client, to).await?)?;
    let (from, to) = (&from.daemon.revision, &to.daemon.revision);
    let plan = client.get(&["revisions", &to.id, "plan"], &[("from", &from.id)]).await?;
    let mut diff = client.get(&["revisions", &to.id, "diff"], &[("from", &from.id)]).await?;
    if ui.is_json() {
        diff["plan"] = plan;
        return ui.document(&diff);
    }
    let diff: Diff = understood(diff)?;
    if diff.patch.is_empty() {
        ui.note("the two versions are the same");
    }
    let plan: Plan = understood(plan)?;
    if !plan.text.is_empty() {
        ui.foreign(plan.text.trim_end())?;
        ui.line("\n")?;
    }
    show(&diff, ui)
}

/// Prints a patch: in colours on a terminal, byte for byte in a file.
fn show(diff: &Diff, ui: &Ui) -> Result<(), CommandError> {
    if !ui.has_color() {
        ui.foreign(&diff.patch)?;
    } else {
        for line in diff.patch.lines() {
            ui.line(painted(line, ui))?;
        }
    }
    if !diff.patch.is_empty() && !diff.patch.ends_with('\n') {
        ui.line("")?;
    }
    if diff.truncated {
        ui.warn("the patch is longer than the server shows; it was cut");
    }
    Ok(())
}

fn painted<'l>(line: &'l str, ui: &Ui) -> Cow<'l, str> {
    let tone = match line.as_bytes() {
        [b'+', b'+', b'+', ..]
        | [b'-', b'-', b'-', ..]
        | [b'd', b'i', b'f', b'f', ..]
        | [b'i', b'n', b'd', ..] => Tone::Strong,
        [b'@', b'@', ..] => Tone::Name,
        [b'+', ..] => Tone::Good,
        [b'-', ..] => Tone::Bad,
        _ => Tone::Plain,
    };
    ui.paint(tone, line).into()
}
