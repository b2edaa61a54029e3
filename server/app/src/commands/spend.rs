//! `spellbook spend`: what models cost, and what they had cost otherwise.

use serde::Deserialize;

use crate::cli::Global;
use crate::cli::money::SpendArgs;
use crate::client::answers::Money;
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Adds up.
pub(crate) async fn run(args: &SpendArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let mut query = vec![("by", args.by.as_str())];
    query.extend(args.since.as_deref().map(|since| ("since", since)));
    let answer = client.get(&["spend"], &query).await?;
    if ui.is_json() {
        ui.document(&answer)?;
        return Ok(Exit::Ok);
    }
    let report: Report = understood(answer)?;
    if report.items.is_empty() {
        ui.note(format_args!("no model was asked since {}", ui.foreign_line(&report.since)));
        return Ok(Exit::Ok);
    }
    let header =
        [args.by.as_str().to_uppercase(), "CALLS".into(), "TOKENS".into(), "COST".into(), "CREDITS".into()];
    let header =
        [&*header[0], &*header[1], &*header[2], &*header[3], &*header[4], "FAILED", "DEAREST", "SAVED"];
    let several = report.items.len() > 1;
    ui.table(header, report.items.iter().chain(several.then_some(&report.total)).map(row))?;
    let total = &report.total;
    ui.note(format_args!("since {}", ui.foreign_line(&report.since)));
    if total.unpriced > 0 {
        ui.note(format_args!(
            "{} of {} calls have no known price and count as nothing; give the model one under [models.names]",
            total.unpriced, total.calls
        ));
    }
    if total.estimated > 0 {
        ui.note(format_args!("{} of {} calls are charged by an estimate", total.estimated, total.calls));
    }
    match &total.savings {
        Some(savings) if savings.calls < total.calls => ui.note(format_args!(
            "DEAREST and SAVED are of the {} calls for which there was another model, and every price is known",
            savings.calls
        )),
        Some(_) => {}
        None => ui.note("nothing can be said of savings: no call had another model whose price is known"),
    }
    Ok(Exit::Ok)
}

fn row(spend: &Spend) -> [(Tone, String); 8] {
    let plain = |text: String| (Tone::Plain, text);
    let saving = |money: fn(&Savings) -> &Money| match &spend.savings {
        Some(savings) => (Tone::Plain, money(savings).text.clone()),
        None => (Tone::Dim, "-".to_owned()),
    };
    let failed = match spend.failed {
        0 => (Tone::Dim, "-".to_owned()),
        count => plain(format!("{count} for {}", spend.failed_cost.text)),
    };
    let tokens = &spend.tokens;
    [
        (Tone::Name, spend.key.clone()),
        plain(spend.calls.to_string()),
        plain((tokens.input + tokens.cache_read + tokens.cache_write + tokens.output).to_string()),
        plain(spend.cost.text.clone()),
        plain(spend.cost.credits.to_string()),
        failed,
        saving(|savings| &savings.dearest),
        saving(|savings| &savings.saved),
    ]
}

#[derive(Debug, Deserialize)]
struct Report {
    since: String,
    items: Vec<Spend>,
    total: Spend,
}

#[derive(Debug, Deserialize)]
struct Spend {
    key: String,
    calls: u64,
    failed: u64,
    unpriced: u64,
    estimated: u64,
    tokens: Tokens,
    cost: Money,
    failed_cost: Money,
    savings: Option<Savings>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
}

#[derive(Debug, Deserialize)]
struct Savings {
    calls: u64,
    dearest: Money,
    saved: Money,
}
