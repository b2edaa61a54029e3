//! The forges of a server: the built-in host, and those of `[[forges]]`, put together into the one that the
//! engine performs effects with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use domain::effect::{Effect, Receipt};
use domain::name::ForgeName;
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_forgejo::Forgejo;
use forge_github::{Access, GitHub};
use forge_gitlab::GitLab;
use forge_hosted::HostedForge;
use ports::forge::{Account, Fact, Forge, ForgeError, Host, Offer, PullRequest, Thing};
use ports::source::RemotePolicy;
use secrecy::SecretString;
use serde::Deserialize;

use crate::tools;

/// A forge that the server is known to: an entry of `[[forges]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgeEntry {
    /// The operator's name for it; its webhooks go to `/hooks/forges/<name>`.
    pub name: ForgeName,
    /// What it is.
    pub kind: ForgeKind,
    /// Where people find its repositories; `https://github.com` when it is not said of a GitHub.
    pub url: Option<String>,
    /// Where its API is, when that does not follow from `url`.
    pub api_url: Option<String>,
    /// The number or client id of the app that this server is there, on GitHub.
    pub app_id: Option<String>,
    /// The app's private key, PEM.
    pub private_key: Option<Held>,
    /// A token, for a server that is no app.
    pub token: Option<Held>,
    /// The account of the token, when the token may not ask whose it is.
    pub account: Option<String>,
    /// What signs its webhooks; two while the new one takes the other's place.
    #[serde(default)]
    pub webhook_secrets: Vec<Held>,
    /// Whether it may be reached at a private or loopback address.
    #[serde(default)]
    pub allow_private: bool,
    /// Whether it may be reached by plain http.
    #[serde(default)]
    pub allow_http: bool,
}

/// The kinds of forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// Codeberg, another Forgejo, or a Gitea.
    #[serde(alias = "gitea")]
    Forgejo,
    /// gitlab.com or another GitLab.
    GitLab,
}

/// Where something secret is held: `{ env = "NAME" }` or `{ file = "PATH" }`. Never in the configuration itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// In the environment.
    Env(String),
    /// In a file.
    File(PathBuf),
}

impl Held {
    fn read(&self) -> anyhow::Result<SecretString> {
        let text = match self {
            Self::Env(name) => tools::variable(name).with_context(|| format!("{name} is not set"))?,
            Self::File(path) => read(path)?,
        };
        anyhow::ensure!(!text.trim().is_empty(), "it is empty");
        Ok(text.trim().to_owned().into())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

impl ForgeEntry {
    /// What the adapter is to be built with.
    ///
    /// # Errors
    /// When something is missing, or too much is said.
    pub fn github(&self) -> anyhow::Result<forge_github::Config> {
        let mut config = forge_github::Config::new(self.access()?);
        config.name = self.name.clone();
        if let Some(url) = &self.url {
            let url = url.trim_end_matches('/');
            config.web_url = url.to_owned();
            // GitHub Enterprise Server has its API below the same host.
            config.api_url =
                if url == "https://github.com" { config.api_url } else { format!("{url}/api/v3") };
        }
        if let Some(url) = &self.api_url {
            config.api_url = url.trim_end_matches('/').to_owned();
        }
        config.webhook_secrets = self.secrets()?;
        config.allow = self.allowed();
        Ok(config)
    }

    /// What an adapter is to be built with that needs an address and a token. `new` knows where the API is.
    fn remote(
        &self,
        new: fn(ForgeName, &str, SecretString) -> forge_remote::Config,
    ) -> anyhow::Result<forge_remote::Config> {
        let url = self.url.as_deref().context("say `url`, where people find its repositories")?;
        let has_app = self.app_id.is_some() || self.private_key.is_some() || self.account.is_some();
        anyhow::ensure!(!has_app, "`app_id`, `private_key` and `account` are for GitHub; say `token`");
        let token = self.token.as_ref().context("say `token`")?.read().context("`token`")?;
        let mut config = new(self.name.clone(), url, token);
        if let Some(url) = &self.api_url {
            config.api_url = url.trim_end_matches('/').to_owned();
        }
        config.webhook_secrets = self.secrets()?;
        config.allow = self.allowed();
        Ok(config)
    }

    fn secrets(&self) -> anyhow::Result<Vec<SecretString>> {
        let read = |(number, secret): (usize, &Held)| {
            secret.read().with_context(|| format!("`webhook_secrets`, number {}", number + 1))
        };
        self.webhook_secrets.iter().enumerate().map(read).collect()
    }

    const fn allowed(&self) -> RemotePolicy {
        RemotePolicy { file: false, plain_http: self.allow_http, private_addresses: self.allow_private }
    }

    fn access(&self) -> anyhow::Result<Access> {
        match (&self.app_id, &self.private_key, &self.token) {
            (Some(id), Some(key), None) => {
                Ok(Access::App { id: id.clone(), key: key.read().context("`private_key`")? })
            }
            (None, None, Some(token)) => {
                let token = token.read().context("`token`")?;
                Ok(Access::Token { token, account: self.account.clone() })
            }
            (None, None, None) => {
                anyhow::bail!(
                    "say `app_id` and `private_key`, or `token`; `spellbook github setup` makes an app"
                )
            }
            _ => anyhow::bail!("say `app_id` and `private_key`, or `token`, and nothing else of these"),
        }
    }
}

/// All forges of a server. Each repository belongs to one: that of its place, else the built-in host.
#[derive(Debug)]
pub struct Forges {
    hosted: HostedForge,
    known: BTreeMap<ForgeName, Known>,
}

/// Both sides of one forge.
#[derive(Debug)]
struct Known {
    forge: Arc<dyn Forge>,
    host: Arc<dyn Host>,
}

impl Known {
    fn of<F: Forge + Host + 'static>(forge: F) -> Self {
        let forge = Arc::new(forge);
        Self { forge: Arc::<F>::clone(&forge), host: forge }
    }
}

impl Forges {
    /// Makes them.
    ///
    /// # Errors
    /// When an entry makes no sense.
    pub fn build(entries: &[ForgeEntry], hosted: HostedForge) -> anyhow::Result<Self> {
        let mut known = BTreeMap::new();
        for entry in entries {
            let forge = build(entry, &hosted);
            let forge = forge.with_context(|| format!("in `[[forges]]`, `{}`", entry.name))?;
            let twice = known.insert(entry.name.clone(), forge).is_some();
            anyhow::ensure!(!twice, "in `[[forges]]`, two are called `{}`", entry.name);
        }
        Ok(Self { hosted, known })
    }

    /// The sides of the forges that send webhooks and know where the server is at home.
    pub fn hosts(&self) -> BTreeMap<ForgeName, Arc<dyn Host>> {
        self.known.iter().map(|(name, known)| (name.clone(), Arc::clone(&known.host))).collect()
    }

    fn of(&self, repository: &Repository) -> Result<&dyn Forge, ForgeError> {
        let Some(place) = repository.origin.place() else { return Ok(&self.hosted) };
        let forge = self.known.get(&place.forge).map(|known| &*known.forge);
        forge.ok_or_else(|| {
            let message = format!("the forge `{}` is not in the configuration any more", place.forge);
            ForgeError::refused(message)
        })
    }
}

fn build(entry: &ForgeEntry, hosted: &HostedForge) -> anyhow::Result<Known> {
    let (clock, source) = (Arc::clone(&hosted.clock), Arc::clone(&hosted.source));
    Ok(match entry.kind {
        ForgeKind::GitHub => {
            Known::of(GitHub::build(entry.github()?, forge_github::Surroundings { clock, source })?)
        }
        ForgeKind::Forgejo => {
            let config = entry.remote(Forgejo::config)?;
            Known::of(Forgejo::build(config, forge_remote::Surroundings { clock, source })?)
        }
        ForgeKind::GitLab => {
            let config = entry.remote(GitLab::config)?;
            Known::of(GitLab::build(config, forge_remote::Surroundings { clock, source })?)
        }
    })
}

#[async_trait]
impl Forge for Forges {
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError> {
        self.of(repository)?.perform(repository, effect).await
    }

    async fn role(&self, repository: &Repository, account: &str) -> Result<Option<String>, ForgeError> {
        self.of(repository)?.role(repository, account).await
    }

    async fn own_account(&self, repository: &Repository) -> Result<Option<Account>, ForgeError> {
        self.of(repository)?.own_account(repository).await
    }

    async fn look(&self, repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError> {
        self.of(repository)?.look(repository, url).await
    }

    async fn offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        self.of(repository)?.offers(repository).await
    }

    async fn pull_request(
        &self,
        repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, ForgeError> {
        self.of(repository)?.pull_request(repository, number).await
    }

    async fn credential(&self, repository: &Repository) -> Result<Option<SecretString>, ForgeError> {
        self.of(repository)?.credential(repository).await
    }

    async fn recent(&self, repository: &Repository, since: Timestamp) -> Result<Vec<Fact>, ForgeError> {
        self.of(repository)?.recent(repository, since).await
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn check(entry: &str, expect: Result<(&str, &str), &str>) {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "made-up\n").unwrap();
        let entry = entry.replace("FILE", &token.path().display().to_string());
        let entry: ForgeEntry = toml::from_str(&entry).unwrap();
        let config = entry.github().map_err(|error| format!("{error:#}"));
        match (config, expect) {
            (Ok(config), Ok(expect)) => {
                assert_eq!((config.web_url.as_str(), config.api_url.as_str()), expect);
                let Access::Token { token, .. } = config.access else { panic!("it is a token") };
                assert_eq!(token.expose_secret(), "made-up");
            }
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
            (config, expect) => panic!("{config:?}, not {expect:?}"),
        }
    }

    #[test]
    fn an_entry_says_where_and_as_whom() {
        let token = "name = 'github'\nkind = 'github'\ntoken = { file = 'FILE' }\n";
        check(token, Ok(("https://github.com", "https://api.github.com")));
        let enterprise = format!("{token}url = 'https://git.acme.example/'\n");
        check(&enterprise, Ok(("https://git.acme.example", "https://git.acme.example/api/v3")));
        let elsewhere = format!("{enterprise}api_url = 'https://api.acme.example'\n");
        check(&elsewhere, Ok(("https://git.acme.example", "https://api.acme.example")));
        check("name = 'github'\nkind = 'github'\n", Err("spellbook github setup"));
        check(&format!("{token}app_id = '7'\n"), Err("nothing else of these"));
        check(
            "name = 'github'\nkind = 'github'\ntoken = { file = '/none' }\n",
            Err("`token`: /none cannot be read"),
        );
    }

    #[test]
    fn a_forge_with_a_token_needs_its_address() {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "made-up\n").unwrap();
        let check = |kind: &str, rest: &str, expect: Result<(&str, &str), &str>| {
            let file = token.path().display();
            let entry = format!("name = 'forge'\nkind = '{kind}'\ntoken = {{ file = '{file}' }}\n{rest}");
            let entry: ForgeEntry = toml::from_str(&entry).unwrap();
            let new = if kind == "gitlab" { GitLab::config } else { Forgejo::config };
            let config = entry.remote(new).map_err(|error| format!("{error:#}"));
            match (&config, expect) {
                (Ok(config), Ok(expect)) => {
                    assert_eq!((config.web_url.as_str(), config.api_url.as_str()), expect);
                    assert_eq!((config.allow.plain_http, config.allow.private_addresses), (false, false));
                }
                (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
                _ => panic!("{config:?}, not {expect:?}"),
            }
        };
        let codeberg = Ok(("https://codeberg.org", "https://codeberg.org/api/v1"));
        check("forgejo", "url = 'https://codeberg.org/'\n", codeberg);
        check("gitea", "url = 'https://codeberg.org'\n", codeberg);
        let gitlab = Ok(("https://gitlab.com", "https://gitlab.com/api/v4"));
        check("gitlab", "url = 'https://gitlab.com'\n", gitlab);
        let elsewhere = "url = 'https://git.acme.example/forge'\napi_url = 'https://api.acme.example/'\n";
        check("forgejo", elsewhere, Ok(("https://git.acme.example/forge", "https://api.acme.example")));
        check("forgejo", "", Err("say `url`"));
        check("forgejo", "url = 'https://codeberg.org'\napp_id = '7'\n", Err("are for GitHub"));
        check(
            "forgejo",
            "url = 'https://codeberg.org'\nwebhook_secrets = [{ file = '/none' }]\n",
            Err("number 1"),
        );
    }

    #[test]
    fn a_secret_is_never_in_the_configuration() {
        let error = toml::from_str::<ForgeEntry>("name = 'github'\nkind = 'github'\ntoken = 'ghp_x'\n");
        assert!(error.is_err());
    }
}
