//! Which models there are: `data/catalog.json`, made by `tools/catalog.py`.

use std::collections::HashMap;
use std::sync::Arc;

use domain::route::Ability;
use serde::Deserialize;

use crate::config::Dialect;
use crate::price::Prices;

const DATA: &str = include_str!("../data/catalog.json");

/// What is known of models, by `provider/id`.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// When the data was read from its source.
    pub(crate) date: String,
    aliases: HashMap<String, String>,
    models: Vec<Arc<Facts>>,
    by_key: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
}

/// What is known of one model. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    /// Whose it is.
    pub(crate) provider: String,
    /// Its name there.
    pub(crate) id: String,
    /// The language it is asked in.
    pub(crate) dialect: Dialect,
    /// Tokens of question and answer together.
    #[serde(default)]
    pub(crate) context: Option<u64>,
    /// Tokens of an answer.
    #[serde(default)]
    pub(crate) output: Option<u64>,
    /// What it costs; `None` is not known.
    #[serde(default)]
    pub(crate) prices: Option<Prices>,
    /// How good it is, as the operator says.
    #[serde(skip)]
    pub(crate) quality: Option<i64>,
    /// What it can and what it refuses.
    #[serde(default)]
    pub(crate) capabilities: Vec<Capability>,
    /// Whether it is in a catalogue at all: of others nothing is known but what the operator says.
    #[serde(skip, default = "listed")]
    pub(crate) is_listed: bool,
    /// Who says so.
    pub(crate) source: String,
    /// When they last changed it.
    #[serde(default)]
    pub(crate) date: Option<String>,
}

fn listed() -> bool {
    true
}

/// What a model can, and what it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    /// It calls tools.
    Tools,
    /// It answers in JSON of a schema.
    Json,
    /// It reads images.
    Vision,
    /// It makes pictures.
    ImageOut,
    /// It thinks before it answers.
    Reasoning,
    /// It refuses a temperature.
    NoTemperature,
    /// It refuses to be made to call a tool.
    NoForcedTool,
}

impl Facts {
    /// A model that the catalogue does not list.
    pub(crate) fn unlisted(provider: &str, id: &str, dialect: Dialect) -> Self {
        Self {
            provider: provider.to_owned(),
            id: id.to_owned(),
            dialect,
            context: None,
            output: None,
            prices: None,
            quality: None,
            capabilities: Vec::new(),
            is_listed: false,
            source: "unlisted".to_owned(),
            date: None,
        }
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// What it can do, as the router puts it; `None` when it is not listed.
    pub(crate) fn abilities(&self) -> Option<Vec<Ability>> {
        let can = |capability: &Capability| match capability {
            Capability::Tools => Some(Ability::Tools),
            Capability::Json => Some(Ability::Json),
            Capability::Vision => Some(Ability::Vision),
            Capability::ImageOut => Some(Ability::ImageOut),
            Capability::Reasoning | Capability::NoTemperature | Capability::NoForcedTool => None,
        };
        self.is_listed.then(|| self.capabilities.iter().filter_map(can).collect())
    }

    /// Whether it may be sent a schema. One that is not listed may: most servers take it.
    pub(crate) fn takes_schema(&self) -> bool {
        self.has(Capability::Json) || !self.is_listed
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    date: String,
    aliases: HashMap<String, String>,
    models: Vec<Arc<Facts>>,
}

impl Catalogue {
    /// The catalogue that ships with the program.
    pub(crate) fn shipped() -> Self {
        let file: File = serde_json::from_str(DATA).expect("because a test reads the same file");
        let mut by_key = HashMap::with_capacity(file.models.len());
        let mut by_id = HashMap::with_capacity(file.models.len());
        for (index, model) in file.models.iter().enumerate() {
            by_key.insert(format!("{}/{}", model.provider, model.id), index);
            // The file names makers before resellers: the first has the bare name.
            by_id.entry(model.id.clone()).or_insert(index);
        }
        Self { date: file.date, aliases: file.aliases, models: file.models, by_key, by_id }
    }

    /// The model of a name: an alias, `provider/id`, or an id alone.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Facts>> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        let index = self.by_key.get(name).or_else(|| self.by_id.get(name))?;
        self.models.get(*index)
    }

    /// Every name that [`Self::find`] knows.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.aliases.keys().chain(self.by_key.keys()).chain(self.by_id.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expect: Option<&str>) {
        let catalogue = Catalogue::shipped();
        let found = catalogue.find(name).map(|facts| format!("{}/{}", facts.provider, facts.id));
        assert_eq!(found.as_deref(), expect, "{name}");
    }

    #[test]
    fn names_are_found() {
        check("local", Some("local/smollm2"));
        check("smollm2", Some("local/smollm2"));
        check("gpt-5", Some("openai/gpt-5"));
        check("gpt-4", Some("openai/gpt-4.1"));
        check("claude-opus", Some("anthropic/claude-opus-5-5"));
        check("gemini-pro", Some("google/gemini-pro-latest"));
        check("llama", Some("openrouter/meta-llama/llama-4-maverick"));
        check("mistral", Some("mistral/mistral-large-latest"));
        check("anthropic/claude-sonnet-4-6", Some("anthropic/claude-sonnet-4-6"));
        // An id with a maker in it, sold by others: the first of the file.
        check("openai/gpt-oss-20b", Some("groq/openai/gpt-oss-20b"));
        check("gpt-9", None);
        check("", None);
    }

    #[test]
    fn every_alias_has_a_model_and_every_model_a_provider() {
        let catalogue = Catalogue::shipped();
        for alias in catalogue.aliases.keys() {
            assert!(catalogue.find(alias).is_some(), "{alias}");
        }
        let builtin = crate::provider::builtin();
        for model in &catalogue.models {
            if model.provider != crate::provider::LOCAL {
                let provider = &builtin[&model.provider];
                let speaks =
                    provider.dialect == Some(model.dialect) || provider.also.contains_key(&model.dialect);
                assert!(speaks, "{}/{}", model.provider, model.id);
            }
        }
    }

    #[test]
    fn prices_are_as_the_makers_publish_them() {
        let catalogue = Catalogue::shipped();
        let prices = catalogue.find("openai/gpt-5").unwrap().prices.clone().unwrap();
        assert_eq!(prices.input.to_string(), "$1.25");
        assert_eq!(prices.cache_read.unwrap().to_string(), "$0.125");
        assert_eq!(prices.output.to_string(), "$10.00");
    }
}
