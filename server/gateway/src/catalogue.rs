//! Which models there are: `data/catalog.json`, made by `tools/catalog.py`, and a newer file of the same
//! form that the operator may lay over it.

mod shelf;
pub(crate) mod update;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use domain::route::Ability;
use serde::Deserialize;

use crate::config::Dialect;
use crate::price::Prices;
use crate::provider::LOCAL;

pub(crate) use shelf::Shelf;

const DATA: &str = include_str!("../data/catalog.json");

/// What is known of models, by `provider/id`.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// When the data was read from its source.
    pub(crate) date: String,
    /// The same of the file that is laid over, if there is one.
    pub(crate) updated: Option<String>,
    pub(crate) aliases: BTreeMap<String, Alias>,
    pub(crate) models: Vec<Arc<Facts>>,
    by_key: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
}

/// Another name for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    /// `provider/id`.
    pub(crate) target: String,
    pub(crate) origin: Origin,
}

/// Where something that is known of a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Origin {
    /// The program itself.
    #[default]
    Shipped,
    /// The file that `spellbook models update` wrote.
    Updated,
    /// The operator's configuration.
    Configured,
    /// Nobody: it is in no catalogue.
    Unlisted,
}

impl Origin {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Updated => "updated",
            Self::Configured => "configuration",
            Self::Unlisted => "unlisted",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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
    /// Who says that there is such a model.
    #[serde(skip)]
    pub(crate) origin: Origin,
    /// Who says so.
    pub(crate) source: String,
    /// When they last changed it.
    #[serde(default)]
    pub(crate) date: Option<String>,
}

/// What a model can, and what it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
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

impl Capability {
    /// All of them: first what a model can.
    pub const ALL: [Self; 7] = [
        Self::Tools,
        Self::Json,
        Self::Vision,
        Self::ImageOut,
        Self::Reasoning,
        Self::NoTemperature,
        Self::NoForcedTool,
    ];

    /// The word in the catalogue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Json => "json",
            Self::Vision => "vision",
            Self::ImageOut => "image_out",
            Self::Reasoning => "reasoning",
            Self::NoTemperature => "no_temperature",
            Self::NoForcedTool => "no_forced_tool",
        }
    }
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
            origin: Origin::Unlisted,
            source: "unlisted".to_owned(),
            date: None,
        }
    }

    /// Whether it is in a catalogue at all: of others nothing is known but what the operator says.
    pub(crate) fn is_listed(&self) -> bool {
        self.origin != Origin::Unlisted
    }

    /// `provider/id`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.provider, self.id)
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
        self.is_listed().then(|| self.capabilities.iter().filter_map(can).collect())
    }

    /// Whether it may be sent a schema. One that is not listed may: most servers take it.
    pub(crate) fn takes_schema(&self) -> bool {
        self.has(Capability::Json) || !self.is_listed()
    }
}

/// A catalogue as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    date: String,
    aliases: BTreeMap<String, String>,
    models: Vec<Facts>,
}

impl File {
    fn shipped() -> Self {
        serde_json::from_str(DATA).expect("because a test reads the same file")
    }

    /// When it was made.
    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    /// Its models, as `provider/id`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        self.models.iter().filter(|row| row.provider != LOCAL).map(Facts::key)
    }
}

impl Catalogue {
    /// The catalogue that ships with the program, with another laid over it: of each model the newer row
    /// counts, and of two rows of one day that of the newer file. What only one has is there too.
    pub(crate) fn with(update: Option<&File>) -> Self {
        let File { date, aliases, mut models } = File::shipped();
        let shipped =
            aliases.into_iter().map(|(name, target)| (name, Alias { target, origin: Origin::Shipped }));
        let mut aliases: BTreeMap<String, Alias> = shipped.collect();
        let keys = models.iter().enumerate().map(|(index, model)| (model.key(), index));
        let mut by_key: HashMap<String, usize> = keys.collect();
        if let Some(update) = update {
            let is_newer = update.date >= date;
            // The model of this machine is the program's own; nobody else knows better what it is.
            for row in update.models.iter().filter(|row| row.provider != LOCAL) {
                let row = Facts { origin: Origin::Updated, ..row.clone() };
                match by_key.get(&row.key()).map(|index| &mut models[*index]) {
                    Some(known) if (&row.date, is_newer) >= (&known.date, true) => *known = row,
                    Some(_) => {}
                    None => {
                        by_key.insert(row.key(), models.len());
                        models.push(row);
                    }
                }
            }
            for (name, target) in update.aliases.iter().filter(|(name, _)| *name != LOCAL) {
                let alias = Alias { target: target.clone(), origin: Origin::Updated };
                let is_known = aliases.get(name).is_some_and(|known| !is_newer || known.target == *target);
                if !is_known {
                    aliases.insert(name.clone(), alias);
                }
            }
        }
        let models: Vec<Arc<Facts>> = models.into_iter().map(Arc::new).collect();
        let mut by_id = HashMap::with_capacity(models.len());
        for (index, model) in models.iter().enumerate() {
            // The file names makers before resellers: the first has the bare name.
            by_id.entry(model.id.clone()).or_insert(index);
        }
        let updated = update.map(|update| update.date.clone());
        Self { date, updated, aliases, models, by_key, by_id }
    }

    /// The model of a name: an alias, `provider/id`, or an id alone.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Facts>> {
        let name = self.aliases.get(name).map_or(name, |alias| alias.target.as_str());
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
        let catalogue = Catalogue::with(None);
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
        let catalogue = Catalogue::with(None);
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
        let catalogue = Catalogue::with(None);
        let prices = catalogue.find("openai/gpt-5").unwrap().prices.clone().unwrap();
        assert_eq!(prices.input.to_string(), "$1.25");
        assert_eq!(prices.cache_read.unwrap().to_string(), "$0.125");
        assert_eq!(prices.output.to_string(), "$10.00");
    }
}
