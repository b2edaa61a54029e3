//! The gateway itself: names in, answers out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::stage::{PriceSource, Tokens};
use ports::clock::Clock;
use ports::models::{Answer, Choice, Drawing, Drawn, ModelError, Models, Question};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ask::{Asker, Course, Given, NoAnswer};
use crate::call::Tools;
use crate::catalogue::{Catalogue, Facts, Shelf};
use crate::class::Class;
use crate::client;
use crate::config::{Config, ModelConfig};
use crate::health::Ward;
use crate::ledger::Ledger;
use crate::local::Local;
use crate::pieces::Pieces;
use crate::price::Prices;
use crate::provider::{self, KeyLookup, LOCAL, Provider};
use crate::structured::SchemaCheck;

/// Answers questions with the models of all providers. Cheap to share behind an [`Arc`].
#[derive(Debug)]
pub struct Gateway {
    providers: BTreeMap<String, Arc<Provider>>,
    shelf: Shelf,
    names: BTreeMap<String, ModelConfig>,
    pub(crate) local: Arc<Local>,
    asker: Asker,
}

/// What a gateway needs of the program around it.
pub struct Surroundings<'a> {
    /// The present moment, for a `Retry-After` that is a date.
    pub clock: Arc<dyn Clock>,
    /// Checks structured answers.
    pub check: SchemaCheck,
    /// Finds keys; asked once for each provider, while building.
    pub keys: KeyLookup<'a>,
    /// Where `./x setup` put the model of this machine.
    pub tools: PathBuf,
    /// A catalogue of models that is laid over the one that ships, when it is there.
    pub catalogue: Option<PathBuf>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("tools", &self.tools).finish_non_exhaustive()
    }
}

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Of a provider.
    #[error("the configuration of the model provider `{name}` makes no sense: {why}")]
    Provider {
        /// Which.
        name: String,
        /// What is wrong; never a secret.
        why: String,
    },
    /// Of a name.
    #[error("the configuration of the model name `{name}` makes no sense: {why}")]
    Name {
        /// Which.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client for models cannot be made")]
    Client(#[source] reqwest::Error),
}

/// A model at a provider, found for a name.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) requested: String,
    pub(crate) provider: Arc<Provider>,
    pub(crate) facts: Arc<Facts>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider.name, self.facts.id)
    }
}

impl Target {
    /// What it costs; `None` is not known.
    pub(crate) fn prices(&self) -> Option<Prices> {
        self.facts.prices.clone().or_else(|| self.provider.free.then_some(Prices::FREE))
    }

    /// Who says what it costs.
    pub(crate) fn price_source(&self) -> Option<PriceSource> {
        let Facts { prices, source, date, .. } = &*self.facts;
        match prices {
            Some(_) => Some(PriceSource { source: source.clone(), date: date.clone() }),
            None => self.provider.free.then(|| PriceSource { source: "free".to_owned(), date: None }),
        }
    }

    pub(crate) fn context(&self) -> Option<u64> {
        self.facts.context
    }

    /// Whether it is the same model at the same provider, under whatever name.
    pub(crate) fn is_same_model(&self, other: &Self) -> bool {
        self.provider.name == other.provider.name && self.facts.id == other.facts.id
    }

    /// `provider/model`: what is known of how it does stands under this.
    pub(crate) fn key(&self) -> String {
        self.to_string()
    }

    /// Whether it is known to read no more than a model for which the question was too long.
    pub(crate) fn reads_no_more_than(&self, too_small: Option<u64>) -> bool {
        matches!((self.context(), too_small), (Some(own), Some(other)) if own <= other)
    }
}

impl Gateway {
    /// Builds a gateway. Nothing is called and nothing is started yet.
    ///
    /// # Errors
    /// When the configuration makes no sense, or a key's file cannot be read. A key in a variable that
    /// is not set is an error only for whoever asks that provider.
    pub fn build(config: Config, surroundings: Surroundings<'_>) -> Result<Self, BuildError> {
        client::install_tls();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(crate::client::USER_AGENT)
            .connect_timeout(config.retry.connect)
            .build()
            .map_err(BuildError::Client)?;
        let far = provider::configured(&config.providers, surroundings.keys)?;
        let mut providers: BTreeMap<String, Arc<Provider>> =
            far.into_iter().map(|provider| (provider.name.clone(), Arc::new(provider))).collect();
        let local = Arc::new(Local::new(&config.local, &surroundings.tools));
        let here = Provider::here(Arc::clone(&local), config.local.timeouts);
        providers.insert(LOCAL.to_owned(), Arc::new(here));
        let gateway = Self {
            providers,
            shelf: Shelf::open(surroundings.catalogue, Arc::clone(&surroundings.clock)),
            names: config.names,
            local,
            asker: Asker {
                tools: Tools { http, clock: surroundings.clock },
                retry: config.retry,
                check: surroundings.check,
                regions: config.regions,
                ward: Ward::default(),
            },
        };
        for (name, model) in &gateway.names {
            if name.is_empty() {
                return Err(BuildError::Name { name: name.clone(), why: "it is empty".to_owned() });
            }
            if !gateway.is_known_to(&gateway.catalogue(), &model.target) {
                let why = format!("its target: {}", gateway.unknown(&model.target));
                return Err(BuildError::Name { name: name.clone(), why });
            }
        }
        Ok(gateway)
    }

    /// Whether a name can be asked: it is in [`names`](Models::names), or is `provider/model` with a
    /// known provider.
    pub fn knows(&self, name: &str) -> bool {
        self.resolve(name).is_some()
    }

    /// Whether it is known what a name costs. What is not is metered at nothing and flagged as
    /// estimated.
    pub fn is_priced(&self, name: &str) -> bool {
        self.resolve(name).is_some_and(|target| target.prices().is_some())
    }

    /// Looks whether the catalogue that is laid over the one that ships changed. Cheap when it did not.
    pub fn look_for_update(&self) {
        self.shelf.look();
    }

    /// The catalogue in force.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.shelf.now()
    }

    /// The operator's names.
    pub(crate) fn own_names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    /// What an operator's name stands for.
    pub(crate) fn own_target(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(|own| own.target.as_str())
    }

    /// Whether a name would mean something with this catalogue.
    pub(crate) fn is_known_to(&self, catalogue: &Catalogue, name: &str) -> bool {
        self.listed(catalogue, name).is_some()
    }

    /// Who asks, and how those do who were asked.
    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What providers are called with.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.asker.tools.http
    }

    /// Stops the model of this machine, if it was started, and waits until it is gone.
    pub async fn shutdown(&self) {
        self.local.shutdown().await;
    }

    /// The model of a name: the operator's names first.
    pub(crate) fn resolve(&self, name: &str) -> Option<Target> {
        let catalogue = self.catalogue();
        let Some(own) = self.names.get(name) else { return self.listed(&catalogue, name) };
        let target = self.listed(&catalogue, &own.target)?;
        let mut facts = (*target.facts).clone();
        if own.prices.is_some() {
            facts.prices.clone_from(&own.prices);
            (facts.source, facts.date) = ("configuration".to_owned(), None);
        }
        facts.context = own.context.or(facts.context);
        facts.quality = own.quality;
        Some(Target { requested: name.to_owned(), facts: Arc::new(facts), ..target })
    }

    fn listed(&self, catalogue: &Catalogue, name: &str) -> Option<Target> {
        let target = |facts: Arc<Facts>| {
            let provider = Arc::clone(self.providers.get(&facts.provider)?);
            Some(Target { requested: name.to_owned(), provider, facts })
        };
        if let Some(facts) = catalogue.find(name) {
            return target(Arc::clone(facts));
        }
        let (provider, id) = name.split_once('/')?;
        // The local server has one model; another name would be a promise that it does not keep.
        if id.is_empty() || id.chars().any(char::is_control) || provider == LOCAL {
            return None;
        }
        target(Arc::new(Facts::unlisted(provider, id, self.providers.get(provider)?.dialect)))
    }

    pub(crate) fn unknown(&self, name: &str) -> String {
        let near = self.names().into_iter().map(|known| (strsim::jaro_winkler(name, &known), known));
        let best = near.filter(|(score, _)| *score > 0.85).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = best.map(|(_, known)| format!(" Did you mean `{known}`?")).unwrap_or_default();
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        format!(
            "there is no model `{shown}`.{hint} Write a name of the catalogue, `provider/model`, or `local`."
        )
    }

    /// The targets of a question, each with its share and its name. One that is not known is passed over as
    /// long as another is.
    fn targets(&self, choice: &Choice) -> Result<Vec<Option<Target>>, NoAnswer> {
        let targets: Vec<_> = choice.targets.iter().map(|name| self.resolve(name)).collect();
        match (targets.iter().any(Option::is_some), choice.targets.first()) {
            (true, _) => Ok(targets),
            (false, Some(name)) => Err(NoAnswer::never("model_unknown", self.unknown(name))),
            (false, None) => Err(NoAnswer::never("model_unknown", "no model is named")),
        }
    }
}

#[async_trait]
impl Models for Gateway {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        let mut course = Course { ledger: Ledger::default(), pieces: Pieces::new(pieces), ranking: None };
        let result = match self.targets(&question.choice) {
            Err(none) => Err(none),
            Ok(targets) => {
                let work = Box::pin(self.asker.answer(&question, &targets, &mut course));
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(NoAnswer::never(Class::Local.policy().code, "the question was cancelled")),
                    result = work => result,
                }
            }
        };
        let Course { ledger, ranking, .. } = course;
        let calls = ledger.into_calls();
        match result {
            Ok(Given { text, json, wants, target }) => {
                let ranking = ranking.unwrap_or_default();
                Ok(Answer { text, wants, target, ranking, json, calls })
            }
            Err(none) => {
                let ranking = ranking.map(Box::new);
                Err(ModelError { failure: none.failure, calls, ranking, retry: none.retry })
            }
        }
    }

    async fn draw(&self, drawing: Drawing, cancel: CancellationToken) -> Result<Drawn, ModelError> {
        // Nobody watches it come.
        let (nowhere, _) = mpsc::channel(1);
        let mut course = Course { ledger: Ledger::default(), pieces: Pieces::new(nowhere), ranking: None };
        let result = match self.targets(&drawing.choice) {
            Err(none) => Err(none),
            Ok(targets) => {
                let work = Box::pin(self.asker.draw(&drawing, &targets, &mut course));
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(NoAnswer::never(Class::Local.policy().code, "the drawing was cancelled")),
                    result = work => result,
                }
            }
        };
        let Course { ledger, ranking, .. } = course;
        let calls = ledger.into_calls();
        match result {
            Ok((pictures, target)) => {
                Ok(Drawn { pictures, target, ranking: ranking.unwrap_or_default(), calls })
            }
            Err(none) => {
                let ranking = ranking.map(Box::new);
                Err(ModelError { failure: none.failure, calls, ranking, retry: none.retry })
            }
        }
    }

    fn price(&self, name: &str, read: u64, written: u64) -> Option<NanoUsd> {
        let tokens = Tokens { input: read, output: written, ..Tokens::default() };
        self.resolve(name)?.prices().map(|prices| prices.cost(&tokens.into()))
    }

    fn names(&self) -> Vec<String> {
        let catalogue = self.catalogue();
        let all: BTreeSet<&String> = self.names.keys().chain(catalogue.names()).collect();
        all.into_iter().cloned().collect()
    }
}
