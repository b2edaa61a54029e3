//! `spellbook models explain`: what a name leads to, and whether it could be asked now.

use gateway::{Gateway, Key, KeySource, Meaning, Prices, Way};
use serde_json::{Value as Json, json};

use super::{described, words};
use crate::cli::models::ModelsExplainArgs;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Shows the way from the name to the model, and what is known of that.
pub(super) fn run(args: &ModelsExplainArgs, gateway: &Gateway, ui: &Ui) -> Result<Exit, CommandError> {
    let meaning = gateway.meaning(&args.name).map_err(|why| {
        CommandError::failed("model_unknown", why)
            .help("`spellbook models list` shows the names that are known")
    })?;
    if ui.is_json() {
        ui.document(&document(&meaning))?;
        return Ok(Exit::Ok);
    }
    for (name, way) in &meaning.ways {
        ui.line(format_args!("{} {}", ui.paint(Tone::Name, name), said(*way)))?;
    }
    ui.line("")?;
    for (label, text) in facts(&meaning) {
        ui.line(format_args!(
            "  {} {}",
            ui.paint(Tone::Dim, format_args!("{label:<9}")),
            ui.paint(Tone::Plain, text)
        ))?;
    }
    ui.line("")?;
    match &meaning.obstacle {
        Some(why) => ui.line(format_args!(
            "{} now: {}",
            ui.paint(Tone::Bad, "cannot be asked"),
            ui.paint(Tone::Plain, why)
        ))?,
        None => ui.line(format_args!(
            "{}, as far as is known without asking",
            ui.paint(Tone::Good, "can be asked")
        ))?,
    }
    if meaning.model.prices.is_none() {
        ui.line("where money is limited it is passed over: nobody knows what it costs")?;
    }
    Ok(Exit::Ok)
}

fn said(way: Way) -> String {
    match way {
        Way::Own => "is a name of your configuration, which stands for".to_owned(),
        Way::Alias(origin) => format!("is an alias of the catalogue ({origin}), which stands for"),
        Way::Listed(origin) => format!("is a model of the catalogue ({origin})"),
        Way::Unlisted => "is in no catalogue; its provider may know it".to_owned(),
    }
}

fn facts(meaning: &Meaning) -> Vec<(&'static str, String)> {
    let model = &meaning.model;
    let unknown = || "not known".to_owned();
    let tokens = |count: u64| format!("{count} tokens");
    let mut facts = vec![
        ("provider", format!("{}, asked in {}", model.provider, model.dialect)),
        ("key", key(&meaning.key)),
        ("reads", model.context.map_or_else(unknown, tokens)),
        ("writes", model.output.map_or_else(unknown, tokens)),
        ("costs", model.prices.as_ref().map_or_else(unknown, costs)),
        ("can", if model.capabilities.is_empty() { unknown() } else { words(&model.capabilities) }),
    ];
    if !model.aliases.is_empty() {
        facts.push(("aliases", model.aliases.join(", ")));
    }
    let of = model.date.as_ref().map(|date| format!(", {date}")).unwrap_or_default();
    facts.push(("source", format!("{}{of}", model.source)));
    facts
}

fn costs(prices: &Prices) -> String {
    let mut words = vec![format!("{} in", prices.input), format!("{} out", prices.output)];
    for (what, price) in [("from its cache", prices.cache_read), ("into its cache", prices.cache_write)] {
        words.extend(price.map(|price| format!("{price} {what}")));
    }
    let mut words = format!("{} for a million tokens", words.join(", "));
    if let Some(image) = prices.image {
        words.push_str(&format!(", {image} for a picture"));
    }
    for tier in &prices.tiers {
        words.push_str(&format!("; {} in, {} out beyond {} tokens", tier.input, tier.output, tier.over));
    }
    words
}

fn key(key: &Key) -> String {
    let place = |source: &KeySource| match source {
        KeySource::Env(name) => name.clone(),
        KeySource::File(path) => path.display().to_string(),
        KeySource::None => "none".to_owned(),
    };
    match key {
        Key::Found(source) => format!("found in {}", place(source)),
        Key::Missing(source) => format!("not found in {}", place(source)),
        Key::Unneeded => "none is needed".to_owned(),
    }
}

fn document(meaning: &Meaning) -> Json {
    let ways = meaning.ways.iter().map(|(name, way)| {
        let (is, from) = match way {
            Way::Own => ("name", Some("configuration")),
            Way::Alias(origin) => ("alias", Some(origin.as_str())),
            Way::Listed(origin) => ("model", Some(origin.as_str())),
            Way::Unlisted => ("unlisted", None),
        };
        json!({ "name": name, "is": is, "from": from })
    });
    let key = match &meaning.key {
        Key::Found(_) => "found",
        Key::Missing(_) => "missing",
        Key::Unneeded => "unneeded",
    };
    json!({
        "ways": ways.collect::<Vec<_>>(),
        "model": described(&meaning.model),
        "key": key,
        "usable": meaning.obstacle.is_none(),
        "obstacle": meaning.obstacle,
    })
}
