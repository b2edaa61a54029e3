//! `spellbook verify`: whether something on a forge is what the server wrote there.

use crate::cli::{Global, VerifyArgs};
use crate::client::answers::Proof;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Shows what the server's record has for it. Exits with 1 when it is not proved.
pub(crate) async fn run(args: &VerifyArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let answer = client.get(&["verify"], &[("url", &args.url)]).await?;
    let proof: Proof = understood(answer.clone())?;
    if ui.is_json() {
        ui.document(&answer)?;
    } else {
        shown(&proof, ui)?;
    }
    Ok(if proof.proved { Exit::Ok } else { Exit::Failed })
}

fn shown(proof: &Proof, ui: &Ui) -> Result<(), CommandError> {
    let (tone, word) = if proof.proved { (Tone::Good, "Proved") } else { (Tone::Bad, "Not proved") };
    let word = ui.paint(tone, word);
    ui.line(format_args!("{word}: the {} {}", proof.kind, ui.paint(Tone::Name, &proof.url)))?;
    for doubt in &proof.doubts {
        ui.line(format_args!("  {} ({})", doubt.message, ui.paint(Tone::Dim, &doubt.code)))?;
    }
    let Some(record) = &proof.record else { return Ok(()) };
    let row = |name: &str, value: &str| [(Tone::Dim, format!("  {name}")), (Tone::Plain, value.to_owned())];
    let mut rows = Vec::new();
    match &record.provenance {
        Some(run) => {
            rows.push(row("daemon", &format!("{} of {}", run.daemon, proof.repository)));
            rows.push(row("commit", &run.commit));
            rows.push(row("digest", &run.digest));
            rows.push(row("run", &run.run));
        }
        None => rows.push(row("by", &format!("the server itself, for {}", proof.repository))),
    }
    rows.push(row("effect", &format!("{} {}", record.effect, record.kind)));
    rows.push(row("wanted", &record.wanted_at));
    ui.table(["  THE RECORD", ""], rows)
}
