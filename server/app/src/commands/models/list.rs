//! `spellbook models list`: the catalogue in force, with who says what.

use gateway::{Gateway, ModelInfo};
use serde_json::json;

use super::{described, words};
use crate::cli::models::ModelsListArgs;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Shows the models that are wanted.
pub(super) fn run(args: &ModelsListArgs, gateway: &Gateway, ui: &Ui) -> Result<Exit, CommandError> {
    let mut models = gateway.models();
    models.retain(|model| is_wanted(model, args));
    models.sort_by(|one, other| (&one.provider, &one.name).cmp(&(&other.provider, &other.name)));
    if ui.is_json() {
        let (shipped, updated) = gateway.catalogue_dates();
        let rows: Vec<_> = models.iter().map(described).collect();
        ui.document(&json!({ "shipped": shipped, "updated": updated, "models": rows }))?;
        return Ok(Exit::Ok);
    }
    if models.is_empty() {
        ui.note("no model is like that");
        return Ok(Exit::Ok);
    }
    let header = ["NAME", "PROVIDER", "CONTEXT", "IN", "OUT", "CAN", "SOURCE", "OF", "FROM"];
    ui.table(header, models.iter().map(row))?;
    ui.note("IN and OUT are dollars for a million tokens; ? is not known");
    Ok(Exit::Ok)
}

fn is_wanted(model: &ModelInfo, args: &ModelsListArgs) -> bool {
    let can = |wanted: &String| model.capabilities.iter().any(|one| one.as_str() == wanted);
    let named = |wanted: &str| {
        let names = [format!("{}/{}", model.provider, model.id), model.name.clone()];
        let mut names = names.iter().chain(&model.aliases);
        names.any(|name| name.to_lowercase().contains(&wanted.to_lowercase()))
    };
    args.provider.as_ref().is_none_or(|provider| model.provider == *provider)
        && args.capability.iter().all(can)
        && args.filter.as_deref().is_none_or(named)
}

fn row(model: &ModelInfo) -> [(Tone, String); 9] {
    let name = match (model.aliases.as_slice(), model.name == model.id) {
        (_, false) => format!("{} → {}", model.name, model.id),
        ([], true) => model.name.clone(),
        (aliases, true) => format!("{} ({})", model.name, aliases.join(", ")),
    };
    let prices = model.prices.as_ref();
    let price =
        |price: Option<domain::money::NanoUsd>| price.map_or_else(|| "?".to_owned(), |it| it.to_string());
    [
        (Tone::Name, name),
        (Tone::Plain, model.provider.clone()),
        (Tone::Plain, model.context.map_or_else(|| "?".to_owned(), tokens)),
        (Tone::Plain, price(prices.map(|prices| prices.input))),
        (Tone::Plain, price(prices.map(|prices| prices.output))),
        (Tone::Plain, words(&model.capabilities)),
        (Tone::Dim, model.source.clone()),
        (Tone::Dim, model.date.clone().unwrap_or_default()),
        (Tone::Dim, model.origin.to_string()),
    ]
}

/// `200k`, `1M`.
fn tokens(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ if count.is_multiple_of(1_000_000) => format!("{}M", count / 1_000_000),
        _ => format!("{}k", count / 1_000),
    }
}
