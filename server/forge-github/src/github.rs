//! GitHub as a forge.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use domain::effect::{Effect, EffectKind, Receipt};
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::{Answer, Failure, Pace, Verb, escaped, is_token};
use ports::clock::Clock;
use ports::forge::{Account, Fact, Forge, ForgeError, Offer, PullRequest, Thing};
use ports::source::Source;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::client::Client;
use crate::config::{Access, BuildError, Config, Surroundings};
use crate::key::AppKey;
use crate::look::Page;
use crate::shape::{number, text};
use crate::tokens::{Token, Tokens, odd};
use crate::wanted;

/// The pages that are looked through at most, of a hundred each, before a list is called endless.
pub(crate) const MOST_PAGES: usize = 100;

/// One GitHub.
#[derive(Debug)]
pub struct GitHub {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) client: Client,
    pub(crate) tokens: Tokens,
    key: Option<AppKey>,
    pace: Mutex<Pace>,
    own: OnceLock<Own>,
}

/// The account by which this server does what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its number, by which it is known again.
    pub id: u64,
    /// Its name, as `spellbook[bot]`.
    pub login: String,
    /// The app's number, when it is one.
    pub app: Option<u64>,
}

impl GitHub {
    /// Makes a forge of it. Nobody is asked yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn build(config: Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        for url in [&config.api_url, &config.web_url] {
            check_address(url, &config)?;
        }
        let key = match &config.access {
            Access::App { id, key } => Some(AppKey::read(id, key)?),
            Access::Token { token, .. } if is_token(token.expose_secret()) => None,
            Access::Token { .. } => return Err(BuildError::Token),
        };
        let client = Client::build(&config)?;
        let Surroundings { clock, source } = surroundings;
        let (tokens, pace, own) = (Tokens::default(), Mutex::default(), OnceLock::new());
        Ok(Self { config, clock, source, client, tokens, key, pace, own })
    }

    /// The account by which this server does what it does, when it is known already: it is asked for with
    /// the first effect.
    pub fn known_own(&self) -> Option<&Own> {
        self.own.get()
    }

    /// Asks for it, once it is there: an app may have none before it first wrote something.
    pub(crate) async fn ask_own(&self, token: &Token) -> Result<(), Failure> {
        if self.own.get().is_some() {
            return Ok(());
        }
        let (account, app) = match &self.config.access {
            Access::App { .. } => {
                let app = self.ask_as_app(Verb::Get, "/app", None).await?;
                let login = format!("{}[bot]", text(&app, "/slug").ok_or_else(|| odd("the app's name"))?);
                (self.account(token, &format!("/users/{}", escaped(&login))).await?, number(&app, "/id"))
            }
            Access::Token { account: Some(account), .. } => {
                (self.account(token, &format!("/users/{}", escaped(account))).await?, None)
            }
            Access::Token { account: None, .. } => (self.account(token, "/user").await?, None),
        };
        if let Some(own) = account.and_then(|account| own(&account, app)) {
            let _ = self.own.set(own);
        }
        Ok(())
    }

    /// Who wrote what we just wrote is us.
    pub(crate) fn learn_own(&self, made: &Value) {
        if let Some(own) = made.get("user").and_then(|user| own(user, None)) {
            let _ = self.own.set(own);
        }
    }

    async fn account(&self, token: &Token, path: &str) -> Result<Option<Value>, Failure> {
        match self.ask(token, Verb::Get, path, None).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The token of the account, when this server is no app.
    pub(crate) fn plain(&self) -> Option<Token> {
        match &self.config.access {
            Access::App { .. } => None,
            Access::Token { token, .. } => Some(Token { secret: token.clone(), account: 0 }),
        }
    }

    /// Asks as the app, not as one of its installations.
    pub(crate) async fn ask_as_app(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        Ok(self.ask(&self.as_app()?, verb, path, body).await?.body)
    }

    /// What the app says of itself; its own limits are counted apart.
    pub(crate) fn as_app(&self) -> Result<Token, Failure> {
        let key = self.key.as_ref().ok_or_else(|| {
            Failure::Refused("that needs a GitHub App; this server has the token of an account".to_owned())
        })?;
        Ok(Token { secret: key.token(self.clock.now()), account: u64::MAX })
    }

    /// Asks, at GitHub's pace; whatever is no success is a failure. Writes are let in by
    /// [`Self::may_write`] before.
    pub(crate) async fn ask(
        &self,
        token: &Token,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        if verb == Verb::Get {
            self.pace().read(token.account, self.clock.now()).map_err(in_time)?;
        }
        let answer = self.client.send(Some(&token.secret), verb, path, body).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let now = self.clock.now();
        let failure = Failure::of("GitHub", &answer, now);
        if let Failure::Later(_, Some(until)) = &failure {
            self.pace().pause(token.account, *until, now);
        }
        Err(failure)
    }

    /// Whether a repository may be written to at this moment.
    pub(crate) fn may_write(&self, token: &Token, repository: u64) -> Result<(), Failure> {
        self.pace().write(token.account, repository, self.clock.now()).map_err(in_time)
    }

    /// A list whole, from all its pages. `at` is where an answer has it; empty when the answer is the list.
    pub(crate) async fn list(&self, token: &Token, path: &str, at: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut next = Some(path.to_owned());
        for _ in 0..MOST_PAGES {
            let Some(path) = next else { return Ok(items) };
            let mut answer = self.ask(token, Verb::Get, &path, None).await?;
            next = answer.next_page(self.client.api_url());
            match answer.body.pointer_mut(at).map(Value::take) {
                Some(Value::Array(page)) => items.extend(page),
                _ => return Err(odd("a list")),
            }
        }
        match next {
            None => Ok(items),
            Some(_) => Err(Failure::Refused(format!(
                "there are more than {} things to look through at GitHub",
                MOST_PAGES * 100
            ))),
        }
    }

    /// Whether it is worth to begin: what will not be let in need not ask GitHub for a token first, nor look at
    /// how things are.
    pub(crate) fn foresee_write(&self, repository: u64) -> Result<(), Failure> {
        self.pace().foresee_write(repository, self.clock.now()).map_err(in_time)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Forge for GitHub {
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError> {
        match &effect.kind {
            EffectKind::Noop { reason } => Ok(Receipt::new(None, reason.clone())),
            EffectKind::CallWebhook { .. } | EffectKind::UploadArtifact { .. } => {
                Err(ForgeError::refused("the server does that itself, GitHub does not"))
            }
            _ => Ok(wanted::perform(self, repository, effect).await?),
        }
    }

    async fn role(&self, repository: &Repository, account: &str) -> Result<Option<String>, ForgeError> {
        Ok(self.visit(repository).await?.role(account).await?)
    }

    async fn own_account(&self, repository: &Repository) -> Result<Option<Account>, ForgeError> {
        if self.own.get().is_none() {
            self.visit(repository).await?;
        }
        Ok(self.own.get().map(|own| Account { id: own.id, name: own.login.clone() }))
    }

    async fn look(&self, repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError> {
        match Page::parse(&self.config.web_url, url) {
            Some(page) => Ok(page.look(self, repository).await?),
            None => Ok(None),
        }
    }

    async fn offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        Ok(self.visit(repository).await?.offers().await?)
    }

    async fn pull_request(
        &self,
        repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, ForgeError> {
        Ok(self.visit(repository).await?.pull_request(number).await?)
    }

    async fn credential(&self, repository: &Repository) -> Result<Option<SecretString>, ForgeError> {
        let Some(place) = repository.origin.place() else { return Ok(None) };
        Ok(Some(self.reading(place).await?.secret))
    }

    async fn recent(&self, repository: &Repository, since: Timestamp) -> Result<Vec<Fact>, ForgeError> {
        Ok(self.visit(repository).await?.recent(since).await?)
    }
}

fn own(account: &Value, app: Option<u64>) -> Option<Own> {
    Some(Own { id: number(account, "/id")?, login: text(account, "/login")?.to_owned(), app })
}

fn in_time(from: Timestamp) -> Failure {
    Failure::in_time("GitHub", from)
}

fn check_address(url: &str, config: &Config) -> Result<(), BuildError> {
    if url.starts_with("file:") && config.allow.file && url == config.web_url {
        return Ok(());
    }
    forge_remote::check_address(url, config.allow)
        .map_err(|rule| BuildError::Address { url: url.to_owned(), rule })
}
