//! What an operator may configure, as it stands in the server's TOML file under `[models]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::price::Prices;

/// The models of a server. The default serves every provider of `data/providers.toml` whose key is
/// found, and the model of this machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Providers by name, laid over the entries of the same name that are built in.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Names of the operator's own for models; they win over the catalogue's.
    pub names: BTreeMap<String, ModelConfig>,
    /// Where `spellbook models update` gets a newer catalogue from, when it is not told: a file or an address.
    pub catalogue: Option<String>,
    /// Regions in which providers may run, for daemons that ask for `requires: [region]`.
    pub regions: Vec<String>,
    /// How often and how soon a failed call is made again.
    pub retry: RetryConfig,
    /// The model of this machine.
    pub local: LocalConfig,
}

/// One provider. What is left out stays as built in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// The language it speaks; must be said for a provider that is not built in.
    pub dialect: Option<Dialect>,
    /// Where it is, up to what the dialect adds (`/chat/completions`, `/v1/messages`).
    pub base_url: Option<String>,
    /// Other languages that it speaks, each with its own base URL, for programs in the sandbox that
    /// bring their own client.
    pub also: BTreeMap<Dialect, String>,
    /// Headers of every call, besides the key's.
    pub headers: BTreeMap<String, HeaderText>,
    /// Where its key is.
    pub key: Option<KeySource>,
    /// Whether its calls cost nothing: it runs on the operator's own machines.
    pub free: Option<bool>,
    /// What the limit of an answer is called there.
    pub limit_field: Option<LimitField>,
    /// Whether usage in a stream is asked for.
    pub stream_usage: Option<StreamUsage>,
    /// Whether it is told which questions belong together.
    pub cache_key: Option<CacheKey>,
    /// How long it may take.
    pub timeouts: Option<Timeouts>,
    /// Where it runs, as the operator calls it: `eu`, `on-premises`, …
    pub region: Option<String>,
    /// Calls in a minute at most.
    pub requests_per_minute: Option<u32>,
    /// Tokens of questions and their longest answers in a minute at most.
    pub tokens_per_minute: Option<u64>,
}

/// The language of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `POST …/chat/completions`, as OpenAI and everyone compatible.
    OpenaiChat,
    /// `POST …/responses`, as OpenAI's newer programs.
    OpenaiResponses,
    /// `POST …/images/generations` and `…/images/edits`, as OpenAI.
    OpenaiImages,
    /// `POST …/v1/messages`, as Anthropic.
    AnthropicMessages,
    /// `POST …/models/{model}:generateContent`, as Google.
    Gemini,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiResponses => "openai-responses",
            Self::OpenaiImages => "openai-images",
            Self::AnthropicMessages => "anthropic-messages",
            Self::Gemini => "gemini",
        })
    }
}

/// Where a key is. The caller of [`Gateway::build`](crate::Gateway::build) looks it up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// In this environment variable.
    Env(String),
    /// The whole of this file, without the white space around it.
    File(PathBuf),
    /// There is none: the provider asks for none.
    #[default]
    None,
}

/// A header's value; it may be a secret, so it is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct HeaderText(pub String);

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What the limit of an answer is called in the chat dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitField {
    /// As it always was, and as nearly everyone reads it.
    #[default]
    MaxTokens,
    /// As OpenAI's newer models insist.
    MaxCompletionTokens,
}

/// Whether usage in a stream of the chat dialect is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// By `stream_options.include_usage`.
    #[default]
    Asked,
    /// It comes by itself, and asking is an error.
    Unasked,
}

/// Whether a provider is told which questions belong together, so that it finds again what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKey {
    /// It finds it without, or refuses what it does not know.
    #[default]
    Unsent,
    /// By `prompt_cache_key`, as OpenAI has it.
    Sent,
}

/// How long a provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From sending a question to the first byte of the answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub stall: Duration,
    /// All of it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// How often and how soon a failed call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Calls for one question, all targets together; a repair has its own.
    pub attempts: u32,
    /// Repetitions at one target.
    pub same_target: u32,
    /// The longest first wait; it doubles each time, and the real one is drawn below it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub first: Duration,
    /// Where doubling ends.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub longest: Duration,
    /// The longest `Retry-After` that is waited for; a longer one is a reason to go elsewhere.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_wait: Duration,
    /// How long making a connection may take.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 6,
            same_target: 2,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(8),
            max_wait: Duration::from_secs(20),
            connect: Duration::from_secs(10),
        }
    }
}

/// A name of the operator's for a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `provider/model`, or any name of the catalogue.
    pub target: String,
    /// What it costs, when the catalogue does not know or does not know better.
    pub prices: Option<Prices>,
    /// How many tokens it reads at most.
    pub context: Option<u64>,
    /// How good it is, for `route: quality`: higher is better. Without it, what a million tokens of its
    /// answers cost stands for it, in cents.
    pub quality: Option<i64>,
}

/// The model of this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// A Python that can import `xllamacpp`; by default the one that `./x setup` made.
    pub python: Option<PathBuf>,
    /// The weights; by default the ones that `./x setup` brought.
    pub gguf: Option<PathBuf>,
    /// Tokens of question and answer together.
    pub context: u32,
    /// Threads; more than the machine has free make it slower, not faster.
    pub threads: u32,
    /// How long it may take. Reading a long question on one thread takes minutes.
    pub timeouts: Timeouts,
}

impl Default for LocalConfig {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            python: None,
            gguf: None,
            context: 8_192,
            threads: 1,
            timeouts: Timeouts { first_byte: minutes(10), stall: minutes(2), total: minutes(30) },
        }
    }
}

impl LocalConfig {
    /// The Python to start, under the directory of tools unless configured.
    pub(crate) fn python_under(&self, tools: &Path) -> PathBuf {
        self.python.clone().unwrap_or_else(|| tools.join("model/venv/bin/python"))
    }

    /// The weights to load, under the directory of tools unless configured.
    pub(crate) fn gguf_under(&self, tools: &Path) -> PathBuf {
        self.gguf.clone().unwrap_or_else(|| tools.join("model/SmolLM2-135M-Instruct.Q4_1.gguf"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read() {
        let text = r#"
            [providers.mine]
            dialect = "openai-chat"
            base_url = "http://10.0.0.5:8000/v1"
            headers = { x-team = "secret-team" }
            key = { file = "/run/secrets/mine" }
            free = true
            timeouts = { first_byte = "30s", total = "5m" }
            [providers.openai]
            key = { env = "OTHER_KEY" }
            [providers.google]
            key = "none"
            [names.strong]
            target = "mine/big"
            prices = { input = "1.5", output = "6" }
            [retry]
            max_wait = "5s"
            [local]
            context = 2048
        "#;
        let config: Config = toml::from_str(text).unwrap();
        let mine = &config.providers["mine"];
        assert_eq!(mine.dialect, Some(Dialect::OpenaiChat));
        assert_eq!(mine.key, Some(KeySource::File("/run/secrets/mine".into())));
        assert_eq!(config.providers["google"].key, Some(KeySource::None));
        let timeouts = mine.timeouts.unwrap();
        assert_eq!((timeouts.first_byte, timeouts.stall), (Duration::from_secs(30), Duration::from_secs(60)));
        assert_eq!(config.retry.max_wait, Duration::from_secs(5));
        assert!(!format!("{config:?}").contains("secret-team"), "a header's value is shown");
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for text in [
            "[providers.x]\nbase-url = 'a'",
            "[retry]\nmax_wait = 5",
            "[names.x]\nprices = { input = '1' }",
            "[names.x]\ntarget = 'a/b'\nprices = { input = 1.5, output = 2 }",
        ] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text:?} was accepted");
        }
    }
}
