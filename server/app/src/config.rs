//! The operator's configuration: one TOML file, every entry optional. Flags outweigh it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::budget::{Budget, Origin, Period, Scope};
use domain::limits::{GIB, Limits, MIB};
use ports::source::RemotePolicy;
use serde::Deserialize;

use crate::forges::ForgeEntry;

/// The file, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept that must survive a restart.
    pub data: Option<PathBuf>,
    /// The address that the server listens on; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// Where people find the server, when that is not where it listens.
    pub public_url: Option<String>,
    /// Whether strangers may look at everything that a viewer may.
    pub public_read: bool,
    /// Whether strangers may read `/metrics`.
    pub public_metrics: bool,
    /// Working on runs.
    pub work: Work,
    /// The most that any daemon may ask for.
    pub ceiling: Ceiling,
    /// What is stored sealed.
    pub vault: Vault,
    /// Watched repositories.
    pub remotes: Remotes,
    /// Forges that this server is known to.
    pub forges: Vec<ForgeEntry>,
    /// Commands in comments.
    pub comments: Comments,
    /// Calls of daemons to other people's servers.
    pub network: Network,
    /// Which GitHub Actions jobs may sign in.
    pub actions: web::Actions,
    /// Toolchains for jails by name: a directory with a root file system, or with an OCI image layout;
    /// `PATH:NAME` when there are several images in that.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Jails.
    pub sandbox: Sandbox,
    /// Language models.
    pub models: gateway::Config,
    /// What may be spent on them, where an administrator set nothing else.
    pub budgets: Vec<OwnBudget>,
    /// Where coding agents are installed; `agents` in the data directory when it is not said.
    pub agents_directory: Option<PathBuf>,
    /// Coding agents by name, laid over the entries that are built in.
    pub agents: toml::Table,
}

/// Working on runs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// How many runs at once; one for each processor when it is not said.
    pub slots: Option<usize>,
}

/// Jails.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// How many are kept ready for programs to come; one for each processor when it is not said, none
    /// with 0 and for a server that is not root.
    pub prepared: Option<usize>,
}

/// The most that any daemon may ask for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ceiling {
    /// Minutes of a run.
    pub timeout_minutes: Option<u64>,
    /// Memory of a jail, MiB.
    pub memory_mib: Option<u64>,
    /// Cores.
    pub cpus: Option<u32>,
    /// Processes of a jail.
    pub processes: Option<u32>,
    /// Workspace, GiB.
    pub disk_gib: Option<u64>,
}

/// What is stored sealed: what daemons keep from run to run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vault {
    /// A file with the key, 32 bytes in base64; several, one a line, while a key is changed: the first seals.
    /// `SPELLBOOK_VAULT_KEY` outweighs it; without both, `vault.key` of the data directory, which is made.
    pub key_file: Option<PathBuf>,
}

/// Watched repositories.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remotes {
    /// How often each is looked at, seconds.
    pub poll_seconds: Option<u64>,
    /// Whether addresses may be `file://` or paths of this machine.
    pub allow_file: bool,
    /// Whether addresses may be `http://`.
    pub allow_http: bool,
    /// Whether hosts may have private or loopback addresses.
    pub allow_private: bool,
}

/// Commands in comments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Comments {
    /// What the server answers to; `/spellbook` when it is not said.
    pub prefix: Option<Prefix>,
    /// What may stand behind an `@` in its place; the name of the server's account on the forge when it is not said.
    pub bot: Option<String>,
}

/// A slash and a word.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(pub String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let word = text.strip_prefix('/').filter(|word| domain::name::DaemonId::parse(*word).is_ok());
        match word {
            Some(_) => Ok(Self(text)),
            None => Err(format!(
                "`{text}` cannot be the `prefix` of commands: write a slash and a word of lower-case letters, digits and hyphens"
            )),
        }
    }
}

/// Calls of daemons to other people's servers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Whether `http://` is allowed.
    pub allow_http: bool,
    /// Hosts with ports (`intranet.example:8443`) that may have private or loopback addresses.
    pub allow_private: Vec<String>,
    /// Sets of hosts by the name that daemons ask for them by: `node`, `python`, …
    pub sets: BTreeMap<String, Vec<String>>,
}

/// What may be spent on models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBudget {
    /// `owner`, `repository`, `daemon`, `branch`, `author` or `pull_request`.
    pub scope: Scope,
    /// Which one; each one for itself when it is not said.
    pub subject: Option<String>,
    /// `run`, `day`, `month` or `total`.
    pub period: Period,
    /// Dollars: `$5`.
    pub limit: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {path} makes no sense: {message}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
}

impl Config {
    /// Reads a file; no file is an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let invalid = |message: String| ConfigError::Invalid { path: path.to_owned(), message };
        let config: Self = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        config.budgets().map_err(|error| invalid(format!("in `[[budgets]]`: {error}")))?;
        config.actions.check().map_err(|error| invalid(format!("in `[actions]`: {error}")))?;
        Ok(config)
    }

    /// The most that any daemon may ask for.
    pub fn ceiling(&self) -> Limits {
        let set = &self.ceiling;
        let most = Limits::CEILING;
        Limits {
            timeout: set.timeout_minutes.map_or(most.timeout, |minutes| Duration::from_secs(minutes * 60)),
            memory: set.memory_mib.map_or(most.memory, |mib| mib * MIB),
            cpu_millis: set.cpus.map_or(most.cpu_millis, |cpus| cpus * 1_000),
            processes: set.processes.unwrap_or(most.processes),
            disk: set.disk_gib.map_or(most.disk, |gib| gib * GIB),
            ..most
        }
    }

    /// Toolchains for jails, by name.
    pub fn runtimes(&self) -> BTreeMap<String, sandbox::Runtime> {
        self.runtimes.iter().map(|(name, path)| (name.clone(), runtime(path))).collect()
    }

    /// What may be spent on models.
    ///
    /// # Errors
    /// When an entry makes no sense.
    pub fn budgets(&self) -> Result<Vec<Budget>, String> {
        let budget = |own: &OwnBudget| {
            let limit = own.limit.parse().map_err(|error: domain::money::MoneyError| error.to_string())?;
            let OwnBudget { scope, period, subject, .. } = own.clone();
            let budget = Budget { scope, subject, period, limit, origin: Origin::Configured };
            budget.check().map_err(|error| error.to_string())?;
            Ok(budget)
        };
        self.budgets.iter().map(budget).collect()
    }

    /// What a watched repository's address may be.
    pub fn remote_policy(&self) -> RemotePolicy {
        RemotePolicy {
            file: self.remotes.allow_file,
            plain_http: self.remotes.allow_http,
            private_addresses: self.remotes.allow_private,
        }
    }
}

/// An image layout says that it is one.
fn runtime(path: &Path) -> sandbox::Runtime {
    let is_layout = |path: &Path| path.join("oci-layout").is_file();
    let image = |layout: &Path, reference: Option<&str>| sandbox::Runtime::Image {
        layout: layout.to_owned(),
        reference: reference.map(str::to_owned),
    };
    if is_layout(path) {
        return image(path, None);
    }
    match path.to_str().and_then(|text| text.rsplit_once(':')) {
        Some((layout, name)) if is_layout(Path::new(layout)) => image(Path::new(layout), Some(name)),
        _ => sandbox::Runtime::Directory(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_configuration() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.ceiling(), Limits::CEILING);
    }

    #[test]
    fn a_misspelt_entry_is_refused() {
        let error = toml::from_str::<Config>("[remotes]\nallow_htp = true\n").unwrap_err().to_string();
        assert!(error.contains("allow_htp") && error.contains("allow_http"), "{error}");
    }

    #[test]
    fn a_prefix_is_a_slash_and_a_word() {
        let read = |prefix: &str| toml::from_str::<Config>(&format!("[comments]\nprefix = '{prefix}'\n"));
        assert_eq!(read("/magic").unwrap().comments.prefix, Some(Prefix("/magic".to_owned())));
        for prefix in ["magic", "/", "", "/two words", "//x", "/Magic", "/\u{200b}"] {
            let error = read(prefix).unwrap_err().to_string();
            assert!(error.contains("cannot be the `prefix` of commands"), "{error}");
        }
    }

    #[test]
    fn budgets_are_checked_when_the_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            Config::read(Some(file.path())).map_err(|error| error.to_string())
        };
        let good = "[[budgets]]\nscope = 'author'\nperiod = 'day'\nlimit = '$5'\n";
        let budgets = read(good).unwrap().budgets().unwrap();
        assert_eq!(budgets[0].words(), "$5.00 a day for each author");
        for (was, is) in [("author", "owners"), ("day", "week"), ("$5", "-5"), ("$5", "$2000000000")] {
            assert!(read(&good.replace(was, is)).is_err(), "{is} was accepted");
        }
        let error = read(&format!("{good}subject = 'a b'\n")).unwrap_err();
        assert!(error.contains("in `[[budgets]]`: `a b` is no author; write NAME"), "{error}");
    }

    #[test]
    fn a_runtime_is_a_directory_or_an_image() {
        use sandbox::Runtime::{Directory, Image};
        let home = tempfile::tempdir().unwrap();
        let layout = home.path().join("layout");
        std::fs::create_dir(&layout).unwrap();
        let named = PathBuf::from(format!("{}:debian:12", layout.display()));
        assert_eq!(runtime(&layout), Directory(layout.clone()));
        std::fs::write(layout.join("oci-layout"), "{}").unwrap();
        assert_eq!(runtime(&layout), Image { layout: layout.clone(), reference: None });
        let one = PathBuf::from(format!("{}:12", layout.display()));
        assert_eq!(runtime(&one), Image { layout, reference: Some("12".into()) });
        // A name with a colon in it belongs to another directory.
        assert_eq!(runtime(&named), Directory(named.clone()));
    }
}
