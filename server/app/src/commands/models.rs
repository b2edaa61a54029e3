//! `spellbook models`: what is known of models here, without a server.

mod explain;
mod list;
mod update;

use std::path::Path;

use domain::money::NanoUsd;
use gateway::{Capability, Gateway, ModelInfo, Prices};
use serde_json::{Value as Json, json};

use crate::cli::models::{ModelsArgs, ModelsCommand};
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;
use crate::wiring;

/// Lists, explains or updates. Exits with 1 where a check finds something to change.
pub(crate) async fn run(args: &ModelsArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    match &args.command {
        ModelsCommand::List(args) => list::run(args, &open(args.data.data.as_deref(), config)?, ui),
        ModelsCommand::Explain(args) => explain::run(args, &open(args.data.data.as_deref(), config)?, ui),
        ModelsCommand::Update(args) => update::run(args, config, ui).await,
    }
}

fn open(data: Option<&Path>, config: &Config) -> Result<Gateway, CommandError> {
    let data = wiring::data_directory(data, config);
    wiring::models(config, &data)
        .map_err(|error| CommandError::usage("configuration_invalid", format!("{error:#}")).because(error))
}

fn words(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
}

/// Money in the form that the API has.
fn money(amount: NanoUsd) -> Json {
    json!({ "nano_usd": amount.nanos(), "text": amount.to_string() })
}

/// Rates, USD per million tokens; of a picture, USD for one.
fn rates(prices: &Prices) -> Json {
    json!({
        "input": money(prices.input),
        "cache_read": prices.cache_read.map(money),
        "cache_write": prices.cache_write.map(money),
        "output": money(prices.output),
        "image": prices.image.map(money),
        "tiers": prices.tiers.iter().map(|tier| json!({
            "over": tier.over, "input": money(tier.input), "output": money(tier.output),
        })).collect::<Vec<_>>(),
    })
}

fn described(model: &ModelInfo) -> Json {
    json!({
        "name": model.name,
        "aliases": model.aliases,
        "provider": model.provider,
        "id": model.id,
        "dialect": model.dialect.to_string(),
        "context": model.context,
        "output": model.output,
        "prices": model.prices.as_ref().map(rates),
        "capabilities": model.capabilities.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
        "source": model.source,
        "date": model.date,
        "from": model.origin.as_str(),
    })
}
