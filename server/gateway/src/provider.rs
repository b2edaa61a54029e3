//! Providers: the built-in ones of `data/providers.toml`, with the operator's laid over them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::class::{Class, Fault};
use crate::config::{CacheKey, Dialect, KeySource, LimitField, ProviderConfig, StreamUsage, Timeouts};
use crate::gateway::BuildError;
use crate::health::PerMinute;
use crate::listing::Key;
use crate::local::{Local, Slot};

const DATA: &str = include_str!("../data/providers.toml");

/// The provider on this machine; its name is taken.
pub(crate) const LOCAL: &str = "local";

/// Someone who serves models.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) dialect: Dialect,
    pub(crate) free: bool,
    pub(crate) limit_field: LimitField,
    pub(crate) stream_usage: StreamUsage,
    pub(crate) cache_key: CacheKey,
    pub(crate) timeouts: Timeouts,
    pub(crate) region: Option<String>,
    pub(crate) allowed: PerMinute,
    place: Place,
}

/// Where a provider is.
enum Place {
    /// At an address for each language that it speaks. Without the headers when its key was not found.
    Far { ways: BTreeMap<Dialect, Way>, key: Option<SecretString>, source: KeySource },
    /// On this machine, in a process of ours.
    Here(Arc<Local>),
}

/// Where and as whom to ask in one language.
struct Way {
    base: Url,
    headers: Result<HeaderMap, KeySource>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Far { ways, .. } => {
                let bases = ways.iter().map(|(dialect, way)| (dialect, way.base.as_str()));
                f.debug_map().entries(bases).finish()
            }
            Self::Here(local) => f.debug_tuple("Here").field(local).finish(),
        }
    }
}

/// Where and as whom to ask now. While it lives, the place at the provider is taken.
pub(crate) struct Connection {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    key: Option<SecretString>,
    pub(crate) slot: Option<Slot>,
}

impl Connection {
    /// The text without the key: some providers quote it in their errors.
    pub(crate) fn redact(&self, text: &str) -> String {
        match &self.key {
            Some(key) if !key.expose_secret().is_empty() => text.replace(key.expose_secret(), "…"),
            _ => text.to_owned(),
        }
    }
}

/// Finds a key. `Ok(None)` is a variable that is not set.
pub type KeyLookup<'a> = &'a dyn Fn(&KeySource) -> Result<Option<SecretString>, String>;

impl Provider {
    /// The provider on this machine.
    pub(crate) fn here(local: Arc<Local>, timeouts: Timeouts) -> Self {
        Self {
            name: LOCAL.to_owned(),
            dialect: Dialect::OpenaiChat,
            free: true,
            limit_field: LimitField::MaxTokens,
            stream_usage: StreamUsage::Asked,
            cache_key: CacheKey::Unsent,
            timeouts,
            region: None,
            allowed: PerMinute::default(),
            place: Place::Here(local),
        }
    }

    /// A provider elsewhere.
    fn far(name: &str, config: &ProviderConfig, keys: KeyLookup<'_>) -> Result<Self, BuildError> {
        let refused = |why: String| BuildError::Provider { name: name.to_owned(), why };
        let dialect = config
            .dialect
            .ok_or_else(|| refused("say its `dialect`: `openai-chat`, `anthropic-messages`, …".to_owned()))?;
        let base = config.base_url.as_deref().ok_or_else(|| refused("say its `base_url`".to_owned()))?;
        let source = config.key.clone().unwrap_or_default();
        let key = match &source {
            KeySource::None => None,
            KeySource::Env(_) | KeySource::File(_) => keys(&source).map_err(refused)?,
        };
        let missing = key.is_none() && source != KeySource::None;
        let mut ways = BTreeMap::new();
        let also = config.also.iter().map(|(dialect, base)| (*dialect, base.as_str()));
        for (dialect, base) in also.chain([(dialect, base)]) {
            let base = base_url(base).map_err(refused)?;
            let headers = headers(dialect, config, key.as_ref()).map_err(refused)?;
            let headers = if missing { Err(source.clone()) } else { Ok(headers) };
            ways.insert(dialect, Way { base, headers });
        }
        Ok(Self {
            name: name.to_owned(),
            dialect,
            free: config.free.unwrap_or(false),
            limit_field: config.limit_field.unwrap_or_default(),
            stream_usage: config.stream_usage.unwrap_or_default(),
            cache_key: config.cache_key.unwrap_or_default(),
            timeouts: config.timeouts.unwrap_or_default(),
            region: config.region.clone(),
            allowed: PerMinute { requests: config.requests_per_minute, tokens: config.tokens_per_minute },
            place: Place::Far { ways, key, source },
        })
    }

    /// Whether it can be asked in this language.
    pub(crate) fn speaks(&self, dialect: Dialect) -> bool {
        match &self.place {
            Place::Far { ways, .. } => ways.contains_key(&dialect),
            Place::Here(_) => dialect == self.dialect,
        }
    }

    /// Whether its key is there.
    pub(crate) fn key(&self) -> Key {
        match &self.place {
            Place::Here(_) | Place::Far { source: KeySource::None, .. } => Key::Unneeded,
            Place::Far { key: Some(_), source, .. } => Key::Found(source.clone()),
            Place::Far { key: None, source, .. } => Key::Missing(source.clone()),
        }
    }

    /// Why nobody can be asked there, as far as that is known without asking.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let fault = match (&self.place, self.key()) {
            (Place::Here(local), _) => local.missing(),
            (Place::Far { .. }, Key::Missing(source)) => Some(no_key(&source)),
            (Place::Far { .. }, Key::Found(_) | Key::Unneeded) => None,
        };
        fault.map(|fault| format!("{} {}", self.name, fault.message))
    }

    /// Where (a path of the dialect) and as whom to ask; on this machine the server is started first.
    ///
    /// # Errors
    /// When it does not speak the language, there is no key, or the local server does not start.
    pub(crate) async fn connect(
        &self,
        dialect: Dialect,
        path: &str,
        http: &reqwest::Client,
    ) -> Result<Connection, Fault> {
        match &self.place {
            Place::Far { ways, key, .. } => {
                let way = ways
                    .get(&dialect)
                    .ok_or_else(|| Fault::new(Class::Unavailable, format!("is not asked in {dialect}")))?;
                let headers = way.headers.as_ref().map_err(no_key)?;
                let url = endpoint(&way.base, dialect, path);
                Ok(Connection { url, headers: headers.clone(), key: key.clone(), slot: None })
            }
            Place::Here(local) => {
                let slot = local.connect(http).await?;
                let mut headers = HeaderMap::new();
                headers.insert(
                    reqwest::header::AUTHORIZATION,
                    bearer(&slot.key).map_err(|why| Fault::new(Class::Unavailable, why))?,
                );
                Ok(Connection {
                    url: endpoint(&slot.base, dialect, path),
                    headers,
                    key: Some(slot.key.clone()),
                    slot: Some(slot),
                })
            }
        }
    }
}

fn endpoint(base: &Url, dialect: Dialect, path: &str) -> Url {
    let mut url = base.clone();
    let before = base.path().trim_end_matches('/');
    // People write Anthropic's address with and without the version.
    let version = if dialect == Dialect::AnthropicMessages && !before.ends_with("/v1") { "/v1" } else { "" };
    url.set_path(&format!("{before}{version}/{path}"));
    url
}

fn no_key(source: &KeySource) -> Fault {
    let place = match source {
        KeySource::Env(name) => format!("set {name} for the server"),
        KeySource::File(path) => format!("put it into {}", path.display()),
        KeySource::None => "configure one".to_owned(),
    };
    Fault::new(Class::Account, format!("has no key: {place}, or name another model (`local` needs none)"))
}

/// The built-in providers, before the operator's configuration.
pub(crate) fn builtin() -> BTreeMap<String, ProviderConfig> {
    toml::from_str(DATA).expect("because a test reads the same file")
}

/// Every provider elsewhere: the built-in ones with the operator's laid over them.
///
/// # Errors
/// When the configuration of one makes no sense, or its key's file cannot be read.
pub(crate) fn configured(
    config: &BTreeMap<String, ProviderConfig>,
    keys: KeyLookup<'_>,
) -> Result<Vec<Provider>, BuildError> {
    let mut all = builtin();
    for (name, over) in config {
        if name == LOCAL {
            let why =
                "its name belongs to the model of this machine; configure that under `local`".to_owned();
            return Err(BuildError::Provider { name: name.clone(), why });
        }
        check_name(name).map_err(|why| BuildError::Provider { name: name.clone(), why: why.to_owned() })?;
        let entry = all.entry(name.clone()).or_default();
        lay_over(entry, over);
    }
    all.iter().map(|(name, config)| Provider::far(name, config, keys)).collect()
}

/// Whether it can be the name of a provider.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match !name.is_empty() && name.len() <= 100 && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err("a provider's name has only letters, digits, `-`, `_` and `.`"),
    }
}

fn lay_over(entry: &mut ProviderConfig, over: &ProviderConfig) {
    entry.dialect = over.dialect.or(entry.dialect);
    // Another server is another account: the built-in key does not go there, nor its own elsewhere.
    if over.base_url.is_some() && over.base_url != entry.base_url {
        entry.base_url.clone_from(&over.base_url);
        entry.key = None;
        entry.also.clear();
    }
    for (dialect, base) in &over.also {
        if entry.also.insert(*dialect, base.clone()).is_some_and(|before| before != *base) {
            entry.key = None;
        }
    }
    entry.headers.extend(over.headers.clone());
    entry.key = over.key.clone().or_else(|| entry.key.take());
    entry.free = over.free.or(entry.free);
    entry.limit_field = over.limit_field.or(entry.limit_field);
    entry.cache_key = over.cache_key.or(entry.cache_key);
    entry.stream_usage = over.stream_usage.or(entry.stream_usage);
    entry.timeouts = over.timeouts.or(entry.timeouts);
    entry.region = over.region.clone().or_else(|| entry.region.take());
    entry.requests_per_minute = over.requests_per_minute.or(entry.requests_per_minute);
    entry.tokens_per_minute = over.tokens_per_minute.or(entry.tokens_per_minute);
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("its `base_url` is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("its `base_url` must begin with `https://` or `http://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its `base_url` has a user or password in it; use `key` or `headers`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("its `base_url` has a `?` or `#` in it".to_owned());
    }
    Ok(url)
}

fn bearer(key: &SecretString) -> Result<HeaderValue, String> {
    header_value(&format!("Bearer {}", key.expose_secret()))
        .ok_or_else(|| "its key has a line break or control character in it".to_owned())
}

fn header_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn headers(
    dialect: Dialect,
    config: &ProviderConfig,
    key: Option<&SecretString>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if dialect == Dialect::AnthropicMessages {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    match (dialect, key) {
        (_, None) => {}
        (Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::OpenaiImages, Some(key)) => {
            headers.insert(reqwest::header::AUTHORIZATION, bearer(key)?);
        }
        (Dialect::AnthropicMessages | Dialect::Gemini, Some(key)) => {
            let value = header_value(key.expose_secret())
                .ok_or("its key has a line break or control character in it")?;
            let name = if dialect == Dialect::Gemini { "x-goog-api-key" } else { "x-api-key" };
            headers.insert(name, value);
        }
    }
    for (name, text) in &config.headers {
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header's name"))?;
        let value = header_value(&text.0)
            .ok_or_else(|| format!("its header `{name}` has a line break or control character in it"))?;
        headers.insert(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(toml: &str) -> Result<Vec<Provider>, BuildError> {
        let config: BTreeMap<String, ProviderConfig> = toml::from_str(toml).unwrap();
        configured(&config, &|source| match source {
            KeySource::Env(name) if name == "OPENAI_API_KEY" => Ok(Some("sk-secret".to_owned().into())),
            KeySource::File(path) => Err(format!("{} cannot be read", path.display())),
            KeySource::Env(_) | KeySource::None => Ok(None),
        })
    }

    async fn connect(toml: &str, name: &str) -> Result<Connection, Fault> {
        crate::client::install_tls();
        let provider = build(toml).unwrap().into_iter().find(|provider| provider.name == name).unwrap();
        let path =
            if provider.dialect == Dialect::AnthropicMessages { "messages" } else { "chat/completions" };
        provider.connect(provider.dialect, path, &reqwest::Client::new()).await
    }

    #[tokio::test]
    async fn a_key_is_found_or_named() {
        let connection = connect("", "openai").await.unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!(connection.headers["authorization"], "Bearer sk-secret");
        assert_eq!(connection.redact("bad key sk-secret!"), "bad key …!");
        let fault = connect("", "anthropic").await.err().unwrap();
        assert_eq!(fault.class, Class::Account);
        assert!(fault.message.contains("ANTHROPIC_API_KEY"), "{}", fault.message);
    }

    #[tokio::test]
    async fn a_built_in_key_does_not_follow_to_another_server() {
        let connection = connect("openai.base_url = 'http://127.0.0.1:9/v1/'", "openai").await;
        let connection = connection.unwrap_or_else(|fault| panic!("{fault:?}"));
        assert!(!connection.headers.contains_key("authorization"));
        assert_eq!(connection.url.as_str(), "http://127.0.0.1:9/v1/chat/completions");
    }

    #[tokio::test]
    async fn the_address_may_have_the_version_or_not() {
        for base in ["http://h", "http://h/", "http://h/v1", "http://h/v1/"] {
            let toml = format!(
                "x = {{ dialect = 'anthropic-messages', base_url = '{base}', headers = {{ a = 'b' }} }}"
            );
            let connection = connect(&toml, "x").await.unwrap_or_else(|fault| panic!("{fault:?}"));
            assert_eq!(connection.url.as_str(), "http://h/v1/messages");
            assert_eq!(connection.headers["anthropic-version"], "2023-06-01");
            assert_eq!(connection.headers["a"], "b");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for (toml, expect) in [
            ("x = {}", "dialect"),
            ("x.dialect = 'openai-chat'", "base_url"),
            ("x = { dialect = 'openai-chat', base_url = 'ftp://h' }", "https://"),
            ("x = { dialect = 'openai-chat', base_url = 'http://u:p@h' }", "user or password"),
            ("x = { dialect = 'openai-chat', base_url = 'http://h?a=b' }", "`?`"),
            (
                "x = { dialect = 'openai-chat', base_url = 'http://h', headers = { 'a b' = 'c' } }",
                "header's name",
            ),
            (
                "x = { dialect = 'openai-chat', base_url = 'http://h', headers = { a = \"s\\u0000ecret\" } }",
                "`a`",
            ),
            ("openai.key = { file = '/nowhere' }", "/nowhere"),
            ("local = {}", "this machine"),
            ("'a/b' = {}", "letters"),
        ] {
            let message = build(toml).unwrap_err().to_string();
            assert!(message.contains(expect), "{toml}: {message}");
            assert!(!message.contains("ecret"), "{toml}: {message}");
        }
    }
}
