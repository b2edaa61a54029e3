//! An account with a token on a forge: what it takes to ask there, at the forge's pace.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domain::name::ForgeName;
use ports::clock::Clock;
use ports::source::{Remote, RemotePolicy, Source};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::address::check_address;
use crate::answer::{Answer, MOST_REDIRECTS, Verb, is_token};
use crate::failure::Failure;
use crate::pace::Pace;

/// The longest list of a forge is a few megabytes.
const LARGEST_ANSWER: usize = 16 << 20;
const OURSELVES: &str = concat!("spellbook/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pages that are looked through at most before a list is called endless.
const MOST_PAGES: usize = 200;
/// One account, one pace.
const WE: u64 = 0;

/// Where a forge is, and what opens it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The operator's name for it.
    pub name: ForgeName,
    /// Where its API is.
    pub api_url: String,
    /// Where people and git find its repositories.
    pub web_url: String,
    /// The account's token: best of one of its own, since whatever it does is a program's doing.
    pub token: SecretString,
    /// What signs its webhooks: one secret, or two while the new one takes the other's place. Without any,
    /// no webhook is let in.
    pub webhook_secrets: Vec<SecretString>,
    /// What the operator allows beyond https to it: plain http, for the API too, and private addresses.
    pub allow: RemotePolicy,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a push may take.
    pub push_timeout: Duration,
}

impl Config {
    /// A forge at an address, its API below it at `api`, with nothing allowed beyond https.
    pub fn new(name: ForgeName, web_url: &str, api: &str, token: SecretString) -> Self {
        let web_url = web_url.trim_end_matches('/').to_owned();
        Self {
            name,
            api_url: format!("{web_url}{api}"),
            web_url,
            token,
            webhook_secrets: Vec::new(),
            allow: RemotePolicy::default(),
            timeout: Duration::from_secs(20),
            push_timeout: Duration::from_secs(45),
        }
    }
}

/// What a forge needs beside its configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// What pushes.
    pub source: Arc<dyn Source>,
}

/// The configuration makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An address is none, or is not allowed.
    #[error("`{url}` {rule}")]
    Address {
        /// The address.
        url: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// The token could not be sent.
    #[error("the token holds characters that no token has; is there a line break at its end?")]
    Token,
    /// The client could not be made.
    #[error("its client could not be made: {0}")]
    Client(String),
}

/// The account by which this server does what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its number, by which it is known again.
    pub id: u64,
    /// Its name.
    pub login: String,
}

/// An account on a forge.
#[derive(Debug)]
pub struct Account {
    service: &'static str,
    /// Where the forge is.
    pub config: Config,
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// What pushes.
    pub source: Arc<dyn Source>,
    http: reqwest::Client,
    pace: Mutex<Pace>,
    own: OnceLock<Own>,
}

impl Account {
    /// Makes one. Nobody is asked yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn build(
        service: &'static str,
        config: Config,
        surroundings: Surroundings,
    ) -> Result<Self, BuildError> {
        for url in [&config.api_url, &config.web_url] {
            check_address(url, config.allow)
                .map_err(|rule| BuildError::Address { url: url.clone(), rule })?;
        }
        if !is_token(config.token.expose_secret()) {
            return Err(BuildError::Token);
        }
        // Another part of the program may have done so already; one is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(OURSELVES)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(config.timeout)
            .build()
            .map_err(|error| BuildError::Client(error.to_string()))?;
        let Surroundings { clock, source } = surroundings;
        Ok(Self { service, config, clock, source, http, pace: Mutex::default(), own: OnceLock::new() })
    }

    /// What people call the forge.
    pub const fn service(&self) -> &'static str {
        self.service
    }

    /// Whose token it is, when it was asked for already.
    pub fn known_own(&self) -> Option<&Own> {
        self.own.get()
    }

    /// Whose token it is: `path` is where the forge says so, and `read` what it says.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn own(&self, path: &str, read: fn(&Value) -> Option<Own>) -> Result<&Own, Failure> {
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        let answer = self.get(path).await?;
        let own = read(&answer).ok_or_else(|| self.odd("the account of the token"))?;
        Ok(self.own.get_or_init(|| own))
    }

    /// Where git finds a repository, and what opens it for writing.
    pub fn remote(&self, path: &str) -> Remote {
        Remote {
            url: format!("{}/{path}.git", self.config.web_url.trim_end_matches('/')),
            credential: Some(self.config.token.clone()),
            policy: self.config.allow,
            timeout: self.config.push_timeout,
        }
    }

    /// What is at a path below the API.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.ask(Verb::Get, path, None).await?.body)
    }

    /// The same; `None` when there is nothing.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A list whole, from all its pages.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let (items, rest) = self.pages(path, MOST_PAGES, |_| true).await?;
        match rest {
            Rest::Nothing => Ok(items),
            Rest::More => Err(Failure::Refused(format!(
                "there are more than {MOST_PAGES} pages to look through at {}",
                self.service
            ))),
        }
    }

    /// The first things of a list, newest first, while `wanted` says so. A repository may have issues or
    /// releases switched off: then it has no such list.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn list_while(
        &self,
        path: &str,
        most_pages: usize,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Result<Vec<Value>, Failure> {
        match self.pages(path, most_pages, wanted).await {
            Ok((items, _)) => Ok(items),
            Err(Failure::Missing(_)) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Pages are counted here and not followed by their links: those have the address that the forge believes
    /// to be its own.
    async fn pages(
        &self,
        path: &str,
        most: usize,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Result<(Vec<Value>, Rest), Failure> {
        let mut items = Vec::new();
        for page in 1..=most {
            let numbered = match (page, path.contains('?')) {
                (1, _) => path.to_owned(),
                (page, true) => format!("{path}&page={page}"),
                (page, false) => format!("{path}?page={page}"),
            };
            let answer = self.ask(Verb::Get, &numbered, None).await?;
            let is_last = !answer.has_next();
            let Value::Array(list) = answer.body else { return Err(self.odd("a list")) };
            for item in list {
                if !wanted(&item) {
                    return Ok((items, Rest::Nothing));
                }
                items.push(item);
            }
            if is_last {
                return Ok((items, Rest::Nothing));
            }
        }
        Ok((items, Rest::More))
    }

    /// Whether it is worth to begin: what will not be let in need not look at how things are.
    ///
    /// # Errors
    /// Says from when on.
    pub fn foresee_write(&self, repository: u64) -> Result<(), Failure> {
        let foreseen = self.pace().foresee_write(repository, self.clock.now());
        foreseen.map_err(|from| Failure::in_time(self.service, from))
    }

    /// Whether a repository may be written to at this moment.
    ///
    /// # Errors
    /// Says from when on.
    pub fn may_write(&self, repository: u64) -> Result<(), Failure> {
        let written = self.pace().write(WE, repository, self.clock.now());
        written.map_err(|from| Failure::in_time(self.service, from))
    }

    /// Writes in a repository; what is gone already is as good as removed.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn write(
        &self,
        repository: u64,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.may_write(repository)?;
        match self.ask(verb, path, body).await {
            Ok(answer) => Ok(answer.body),
            Err(Failure::Missing(_)) if verb == Verb::Delete => Ok(Value::Null),
            Err(failure) => Err(failure),
        }
    }

    /// The forge says yes, and something else than what it documents.
    pub fn odd(&self, what: &str) -> Failure {
        Failure::odd(self.service, what)
    }

    /// Asks, at the forge's pace; whatever is no success is a failure. Writes are let in by
    /// [`Self::may_write`] before.
    async fn ask(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        if verb == Verb::Get {
            let read = self.pace().read(WE, self.clock.now());
            read.map_err(|from| Failure::in_time(self.service, from))?;
        }
        let answer = self.send(verb, path, body).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let now = self.clock.now();
        let failure = Failure::of(self.service, &answer, now);
        if let Failure::Later(_, Some(until)) = &failure {
            self.pace().pause(WE, *until, now);
        }
        Err(failure)
    }

    async fn send(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.once(verb, &path, body).await?;
            match answer.redirect(verb, &self.config.api_url) {
                Some(target) => path = target,
                None => return Ok(answer),
            }
        }
        Err(Failure::later(format!("{} redirects for ever", self.service)))
    }

    async fn once(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let method = match verb {
            Verb::Get => reqwest::Method::GET,
            Verb::Post => reqwest::Method::POST,
            Verb::Patch => reqwest::Method::PATCH,
            Verb::Put => reqwest::Method::PUT,
            Verb::Delete => reqwest::Method::DELETE,
        };
        let url = format!("{}{path}", self.config.api_url);
        let mut asked = self.http.request(method, url).bearer_auth(self.config.token.expose_secret());
        if let Some(body) = body {
            asked = asked.json(body);
        }
        // Without the address, which is the forge's own and may hold what a person wrote.
        let unreachable = |error: reqwest::Error| Failure::unreachable(self.service, &error.without_url());
        let mut response = asked.send().await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Failure::later(format!("{} answers without end", self.service)));
            }
            bytes.extend_from_slice(&chunk);
        }
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().iter().filter_map(header).collect::<BTreeMap<_, _>>(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a list.
enum Rest {
    Nothing,
    More,
}
