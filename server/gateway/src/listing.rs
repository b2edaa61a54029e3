//! What this server knows of models, for people: all of it, one name, and what a newer catalogue would
//! change.

use std::collections::BTreeMap;

use crate::catalogue::update::Update;
use crate::catalogue::{Capability, Catalogue, Facts, Origin};
use crate::config::{Dialect, KeySource};
use crate::gateway::Gateway;
use crate::price::Prices;

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that is asked for: the operator's, else the provider's.
    pub name: String,
    /// Aliases of the catalogue for it.
    pub aliases: Vec<String>,
    /// Whose it is.
    pub provider: String,
    /// Its name there.
    pub id: String,
    /// The language it is asked in.
    pub dialect: Dialect,
    /// Tokens of question and answer together.
    pub context: Option<u64>,
    /// Tokens of an answer.
    pub output: Option<u64>,
    /// What it costs; `None` is not known.
    pub prices: Option<Prices>,
    /// What it can and what it refuses.
    pub capabilities: Vec<Capability>,
    /// Who says so: `models.dev`, `configuration` or `unlisted`.
    pub source: String,
    /// When they last changed it.
    pub date: Option<String>,
    /// Where it is written.
    pub origin: Origin,
}

/// What a name means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// The names that lead to the model, the one that was asked for first.
    pub ways: Vec<(String, Way)>,
    /// The model.
    pub model: ModelInfo,
    /// Whether there is a key for it.
    pub key: Key,
    /// Why it cannot be asked now; nothing when it can.
    pub obstacle: Option<String>,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A name of the operator's.
    Own,
    /// An alias of the catalogue.
    Alias(Origin),
    /// A model of the catalogue.
    Listed(Origin),
    /// A model that no catalogue lists, at a provider that is known.
    Unlisted,
}

/// Whether a provider's key is there. Never the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// It is.
    Found(KeySource),
    /// It is not.
    Missing(KeySource),
    /// None is needed.
    Unneeded,
}

/// What a newer catalogue would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The day that it says it was made.
    pub date: String,
    /// Models, by `provider/id`.
    pub models: Vec<Change<ModelInfo>>,
    /// Aliases, each with what it stands for.
    pub aliases: Vec<Change<String>>,
    /// Rows of it that are not taken: what ships with the program is newer.
    pub older: usize,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// Of what.
    pub name: String,
    /// What it was; `None` when it is new.
    pub before: Option<T>,
    /// What it will be; `None` when it goes.
    pub after: Option<T>,
}

impl Gateway {
    /// Every model that is known here by name: the operator's names, then the catalogue, each in order.
    pub fn models(&self) -> Vec<ModelInfo> {
        let own = self.own_names().filter_map(|name| {
            let target = self.resolve(name)?;
            Some(ModelInfo { name: name.clone(), origin: Origin::Configured, ..ModelInfo::of(&target.facts) })
        });
        let catalogue = self.catalogue();
        let mut listed = listed(&catalogue);
        for model in listed.values_mut() {
            // What runs on the operator's own machines costs nothing, whoever lists it.
            let target = self.resolve(&format!("{}/{}", model.provider, model.id));
            model.prices = target.map_or_else(|| model.prices.clone(), |target| target.prices());
        }
        own.chain(listed.into_values()).collect()
    }

    /// When the catalogue was made that ships, and the one that is laid over it.
    pub fn catalogue_dates(&self) -> (String, Option<String>) {
        let catalogue = self.catalogue();
        (catalogue.date.clone(), catalogue.updated.clone())
    }

    /// What a name means here.
    ///
    /// # Errors
    /// With a sentence that has the nearest name in it, when it means nothing.
    pub fn meaning(&self, name: &str) -> Result<Meaning, String> {
        let catalogue = self.catalogue();
        let mut ways = Vec::new();
        let mut at = name;
        if let Some(target) = self.own_target(at) {
            ways.push((at.to_owned(), Way::Own));
            at = target;
        }
        if let Some(alias) = catalogue.aliases.get(at) {
            ways.push((at.to_owned(), Way::Alias(alias.origin)));
            at = &alias.target;
        }
        let target = self.resolve(name);
        let facts = match (&target, catalogue.find(at)) {
            (Some(target), _) => &target.facts,
            (None, Some(facts)) => facts,
            (None, None) => return Err(self.unknown(name)),
        };
        let way = if facts.is_listed() { Way::Listed(facts.origin) } else { Way::Unlisted };
        ways.push((facts.key(), way));
        let key = target.as_ref().map_or(Key::Unneeded, |target| target.provider.key());
        let obstacle = match &target {
            Some(target) => target.provider.obstacle(),
            None => Some(format!(
                "there is no provider `{}` here: configure it under [models.providers.{}]",
                facts.provider, facts.provider
            )),
        };
        let mut model = ModelInfo::of(facts);
        if let Some(target) = &target {
            model.prices = target.prices();
        }
        model.aliases = aliases_of(&catalogue, facts);
        Ok(Meaning { ways, model, key, obstacle })
    }

    /// What would change if this catalogue were laid over what ships, in place of the one that is.
    ///
    /// # Errors
    /// When a name would lead nowhere then.
    pub fn changes(&self, update: &Update) -> Result<Changes, String> {
        let (before, after) = (self.catalogue(), Catalogue::with(Some(&update.0)));
        for (name, alias) in &after.aliases {
            if after.find(&alias.target).is_none() {
                return Err(format!(
                    "its alias `{name}` stands for `{}`, and there is no such model",
                    alias.target
                ));
            }
        }
        for name in self.own_names() {
            let target = self.own_target(name).unwrap_or_default();
            if !self.is_known_to(&after, target) {
                return Err(format!(
                    "`{name}` of your configuration stands for `{target}`, which would be gone"
                ));
            }
        }
        let words = |catalogue: &Catalogue| -> BTreeMap<String, String> {
            let aliases = catalogue.aliases.iter();
            aliases.map(|(name, alias)| (name.clone(), alias.target.clone())).collect()
        };
        let older = update.0.keys().filter(|key| {
            after.find(key).is_some_and(|facts| facts.key() == *key && facts.origin == Origin::Shipped)
        });
        Ok(Changes {
            date: update.0.date().to_owned(),
            models: changed(listed(&before), listed(&after), ModelInfo::is_as),
            aliases: changed(words(&before), words(&after), |one, other| one == other),
            older: older.count(),
        })
    }
}

impl ModelInfo {
    fn of(facts: &Facts) -> Self {
        Self {
            name: facts.id.clone(),
            aliases: Vec::new(),
            provider: facts.provider.clone(),
            id: facts.id.clone(),
            dialect: facts.dialect,
            context: facts.context,
            output: facts.output,
            prices: facts.prices.clone(),
            capabilities: facts.capabilities.clone(),
            source: facts.source.clone(),
            date: facts.date.clone(),
            origin: facts.origin,
        }
    }

    /// Whether the same is known of both, whoever says so and under whatever aliases.
    fn is_as(&self, other: &Self) -> bool {
        let like = Self {
            aliases: self.aliases.clone(),
            source: self.source.clone(),
            date: self.date.clone(),
            origin: self.origin,
            ..other.clone()
        };
        *self == like
    }
}

/// Every row of a catalogue, by `provider/id`.
fn listed(catalogue: &Catalogue) -> BTreeMap<String, ModelInfo> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, alias) in &catalogue.aliases {
        if let Some(facts) = catalogue.find(&alias.target) {
            aliases.entry(facts.key()).or_default().push(name.clone());
        }
    }
    let mut info = |facts: &Facts| {
        let aliases = aliases.remove(&facts.key()).unwrap_or_default();
        ModelInfo { aliases, ..ModelInfo::of(facts) }
    };
    catalogue.models.iter().map(|facts| (facts.key(), info(facts))).collect()
}

fn aliases_of(catalogue: &Catalogue, facts: &Facts) -> Vec<String> {
    let leads = |target: &str| catalogue.find(target).is_some_and(|found| found.key() == facts.key());
    let aliases = catalogue.aliases.iter().filter(|(_, alias)| leads(&alias.target));
    aliases.map(|(name, _)| name.clone()).collect()
}

fn changed<T>(
    before: BTreeMap<String, T>,
    mut after: BTreeMap<String, T>,
    is_as: impl Fn(&T, &T) -> bool,
) -> Vec<Change<T>> {
    let mut changes = Vec::new();
    for (name, was) in before {
        match after.remove(&name) {
            Some(is) if is_as(&was, &is) => {}
            is => changes.push(Change { name, before: Some(was), after: is }),
        }
    }
    let new = after.into_iter().map(|(name, is)| Change { name, before: None, after: Some(is) });
    changes.extend(new);
    changes.sort_by(|one, other| one.name.cmp(&other.name));
    changes
}
