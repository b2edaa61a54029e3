//! What is made of what: the adapters behind the ports, for every role of the program.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agents::{Catalogue, Installed};
use anyhow::Context;
use domain::id::WorkerId;
use engine::World;
use engine::world::{Manifests, Settings};
use forge_hosted::HostedForge;
use gateway::{AgentProxy, Egress, Gateway, Surroundings};
use git::Git;
use objects::DiskObjects;
use ports::clock::Clock;
use ports::secrets::Secrets;
use ports::store::Store;
use sandbox::Jails;
use store_sqlite::SqliteStore;
use vault::Keyring;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::forges::Forges;
use crate::registries::Registries;
use crate::secrets::{EnvironmentSecrets, FileSecrets};
use crate::tools::{self, Tools};

/// The world, and the adapters that the program also talks to directly.
#[derive(Debug)]
pub struct Wired {
    /// What the engine works with.
    pub world: Arc<World>,
    /// Git, for its HTTP backend.
    pub git: Git,
    /// Models, for stopping the local one.
    pub gateway: Arc<Gateway>,
    /// What stands behind the doors of jails, for stopping it.
    pub proxy: Arc<AgentProxy>,
    /// Held while this process lives.
    pub place: JailPlace,
}

/// A directory for the jails of one process, and the name under which it works. Whoever holds its lock
/// may end what an earlier holder left there, jails and leases, and nothing else: two processes on one
/// data directory never end one another's.
#[derive(Debug)]
pub struct JailPlace {
    directory: PathBuf,
    /// Where the workspaces of this process are; empty at the start.
    workspaces: PathBuf,
    /// Who works here, whichever process it is.
    pub worker: WorkerId,
    _lock: File,
}

impl JailPlace {
    /// So many processes may work on one data directory.
    const MOST: usize = 64;

    fn claim(data: &Path, clock: &dyn Clock) -> anyhow::Result<Self> {
        let root = data.join("jails");
        std::fs::create_dir_all(&root)?;
        for number in 0..Self::MOST {
            let path = root.join(format!("{number}.lock"));
            let mut lock =
                OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
            match lock.try_lock() {
                Ok(()) => {
                    let workspaces = data.join("work").join(number.to_string());
                    // What is there was left by a holder that was killed; its runs begin anew from git.
                    if let Err(error) = std::fs::remove_dir_all(&workspaces)
                        && error.kind() != std::io::ErrorKind::NotFound
                    {
                        tracing::warn!(%error, "workspaces of an earlier life could not be removed");
                    }
                    let worker = worker_of(&mut lock, clock)?;
                    let directory = root.join(number.to_string());
                    return Ok(Self { directory, workspaces, worker, _lock: lock });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        anyhow::bail!("{} processes work on {} already", Self::MOST, root.display())
    }
}

/// The name of the worker that a place belongs to, written into its lock. Where there is none that can be
/// read it gets a new one, and the leases under the old one, if there are any, lapse.
fn worker_of(lock: &mut File, clock: &dyn Clock) -> std::io::Result<WorkerId> {
    let mut text = String::new();
    if lock.read_to_string(&mut text).is_ok()
        && let Ok(worker) = text.trim().parse()
    {
        return Ok(worker);
    }
    let worker = WorkerId::new(clock.unique());
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{worker}")?;
    Ok(worker)
}

/// Whose secrets daemons may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretSource {
    /// Files that the operator wrote, by repository.
    Files,
    /// The environment of the person who runs a daemon on their own machine.
    Environment,
}

/// Where data is kept: as the command line says, else the configuration, else the person's own place.
pub fn data_directory(argument: Option<&Path>, config: &Config) -> PathBuf {
    let default = || tools::state_home(tools::variable).join("spellbook/data");
    argument.map(Path::to_owned).or_else(|| config.data.clone()).unwrap_or_else(default)
}

/// The file of the data directory with a catalogue of models that is laid over the one that ships.
pub const CATALOGUE: &str = "catalogue.json";

/// The models of a server, to be looked at and not asked: a key that cannot be read is one that is missing.
///
/// # Errors
/// When the configuration makes no sense.
pub fn models(config: &Config, data: &Path) -> anyhow::Result<Gateway> {
    let tools = Tools::from_environment(tools::variable);
    let keys = |source: &gateway::KeySource| Ok(key(source).unwrap_or_default());
    gateway(config, Place { data, tools: &tools }, Arc::new(SystemClock), &keys)
}

/// Makes everything, on a data directory that is made when it is not there.
///
/// # Errors
/// When the directory, the store or git cannot be opened. Missing nsjail or models are no error here:
/// the runs that need them say so.
pub async fn wire(config: &Config, data: &Path, secrets: SecretSource) -> anyhow::Result<Wired> {
    let cannot = || format!("the data directory {} cannot be made", data.display());
    // Jails pass through it to their workspaces; what lies beside these is closed by its own modes.
    DirBuilder::new().recursive(true).mode(0o711).create(data).with_context(cannot)?;
    let data = data.canonicalize()?;
    let tools = Tools::from_environment(tools::variable);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.join("spellbook.db")).await?);
    let place = JailPlace::claim(&data, &*clock)?;
    let git = Git::open(git_config(&data, &tools)?)?;
    let source = Arc::new(git.clone());
    let gateway = Arc::new(gateway(config, Place { data: &data, tools: &tools }, Arc::clone(&clock), &key)?);
    let secrets: Arc<dyn Secrets> = match secrets {
        SecretSource::Files => {
            Arc::new(FileSecrets { directory: data.join("secrets"), store: Arc::clone(&store) })
        }
        SecretSource::Environment => Arc::new(EnvironmentSecrets),
    };
    let hosted = HostedForge { store: Arc::clone(&store), source: source.clone(), clock: Arc::clone(&clock) };
    let forges = Forges::build(&config.forges, hosted)?;
    let mut settings = Settings::new(place.workspaces.clone());
    settings.ceiling = config.ceiling();
    settings.remotes = config.remote_policy();
    if let Some(seconds) = config.remotes.poll_seconds {
        settings.poll = std::time::Duration::from_secs(seconds.max(1));
    }
    if let Some(prefix) = &config.comments.prefix {
        settings.prefix.clone_from(&prefix.0);
    }
    settings.bot.clone_from(&config.comments.bot);
    settings.budgets = config.budgets().map_err(anyhow::Error::msg)?;
    let agents = agents(config, &data, &tools)?;
    let registries = Registries::of_this_machine(&tools);
    let egress = Arc::new(egress(config)?.finding(registries.finder()));
    let runtime = tokio::runtime::Handle::current();
    let proxy = Arc::new(AgentProxy::new(Arc::clone(&gateway), Arc::clone(&egress), runtime));
    let world = World {
        store,
        source,
        sandbox: Arc::new(jails(config, &place, agents.directory(), &tools)?),
        models: Arc::clone(&gateway) as Arc<dyn ports::models::Models>,
        agents: Arc::new(agents),
        proxy: Arc::clone(&proxy) as Arc<dyn ports::proxy::Proxy>,
        mcp: Arc::new(mcp::Client),
        web: egress,
        secrets,
        vault: Arc::new(vault(config, &data)?),
        objects: Arc::new(DiskObjects::open(&data.join("objects"))?),
        hosts: forges.hosts(),
        forge: Arc::new(forges),
        clock,
        settings,
        manifests: Manifests::default(),
        desks: engine::world::Desks::default(),
        sessions: engine::world::Sessions::default(),
    };
    Ok(Wired { world: Arc::new(world), git, gateway, proxy, place })
}

/// The keys under which stored things are sealed: of the environment, else of a file that the configuration names,
/// else of the data directory, where one is made at the first start.
fn vault(config: &Config, data: &Path) -> anyhow::Result<Keyring> {
    if let Some(keys) = tools::variable("SPELLBOOK_VAULT_KEY").filter(|keys| !keys.trim().is_empty()) {
        return Keyring::parse(&keys.into()).context("SPELLBOOK_VAULT_KEY makes no sense");
    }
    Ok(match &config.vault.key_file {
        Some(file) => Keyring::read(file)?,
        None => Keyring::read_or_make(&data.join("vault.key"))?,
    })
}

fn git_config(data: &Path, tools: &Tools) -> anyhow::Result<git::Config> {
    let mut config = git::Config::new(data.join("git"));
    config.git = tools.find("git").context("git is not on the PATH; install it")?;
    Ok(config)
}

/// Coding agents, installed where jails find them.
///
/// # Errors
/// When an entry of the configuration makes no sense, or the directory cannot be made.
pub fn agents(config: &Config, data: &Path, tools: &Tools) -> anyhow::Result<Installed> {
    let own = config.agents_directory.as_deref().or_else(|| tools.agents());
    let directory = own.map_or_else(|| data.join("agents"), Path::to_owned);
    let found = |program: &str| tools.find(program).unwrap_or_else(|| program.into());
    // What jails have is below /usr; a Python of this person's own may be another version.
    let jail_python = ["/usr/local/bin/python3", "/usr/bin/python3"].map(PathBuf::from);
    let jail_python = jail_python.into_iter().find(|python| python.is_file());
    let python = found("python3");
    let agents = agents::Config {
        directory: directory.clone(),
        npm: found("npm"),
        jail_python: jail_python.unwrap_or_else(|| python.clone()),
        python,
    };
    let catalogue = Catalogue::read(&config.agents)?;
    Installed::open(agents, catalogue)
        .with_context(|| format!("the directory {} for coding agents cannot be made", directory.display()))
}

fn jails(config: &Config, place: &JailPlace, agents: &Path, tools: &Tools) -> anyhow::Result<Jails> {
    let mut jails = sandbox::Config::new(tools.nsjail(), place.directory.clone());
    jails.agents = Some(agents.to_owned());
    jails.ceiling = config.ceiling();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    jails.prepared = config.sandbox.prepared.unwrap_or(processors);
    jails.runtimes = config.runtimes();
    Ok(Jails::open(jails)?)
}

/// Where things of a gateway are.
#[derive(Clone, Copy)]
struct Place<'a> {
    data: &'a Path,
    tools: &'a Tools,
}

fn gateway(
    config: &Config,
    Place { data, tools }: Place<'_>,
    clock: Arc<dyn Clock>,
    keys: gateway::KeyLookup<'_>,
) -> anyhow::Result<Gateway> {
    let mut models = config.models.clone();
    models.local.python = models.local.python.or_else(|| tools.model_python().map(Path::to_owned));
    models.local.gguf = models.local.gguf.or_else(|| tools.model_weights().map(Path::to_owned));
    let surroundings = Surroundings {
        clock,
        check: gateway::SchemaCheck::new(manifest::schema::validate),
        keys,
        tools: tools.directory.clone(),
        catalogue: Some(data.join(CATALOGUE)),
    };
    Ok(Gateway::build(models, surroundings)?)
}

/// The key of a provider, from where the configuration says.
fn key(source: &gateway::KeySource) -> Result<Option<secrecy::SecretString>, String> {
    match source {
        gateway::KeySource::Env(name) => {
            Ok(tools::variable(name).filter(|key| !key.is_empty()).map(Into::into))
        }
        gateway::KeySource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned().into())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
        gateway::KeySource::None => Ok(None),
    }
}

fn egress(config: &Config) -> anyhow::Result<Egress> {
    let network = gateway::web::Config {
        allow_http: config.network.allow_http,
        allow_private: config.network.allow_private.clone(),
        sets: config.network.sets.clone(),
    };
    Ok(Egress::build(&network)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_operators_or_made_once() {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let made = vault(&config, data.path()).unwrap().newest().to_owned();
        assert_eq!(vault(&config, data.path()).unwrap().newest(), made);
        let own = data.path().join("own.key");
        config.vault.key_file = Some(own.clone());
        assert!(vault(&config, data.path()).is_err(), "a file that is named is not made");
        std::fs::rename(data.path().join("vault.key"), &own).unwrap();
        assert_eq!(vault(&config, data.path()).unwrap().newest(), made);
        assert!(!data.path().join("vault.key").exists());
    }

    #[test]
    fn a_place_has_one_worker_whoever_holds_it() {
        let data = tempfile::tempdir().unwrap();
        let claim = || JailPlace::claim(data.path(), &SystemClock).unwrap();
        let (first, second) = (claim(), claim());
        assert_ne!(first.worker, second.worker, "two processes side by side");
        let worker = first.worker;
        drop(first);
        let again = claim();
        assert_eq!(again.worker, worker, "the next life of the same place");
        drop(again);
        std::fs::write(data.path().join("jails/0.lock"), "half a na").unwrap();
        let renamed = claim().worker;
        assert!(![worker, second.worker].contains(&renamed));
        assert_eq!(claim().worker, renamed, "it is written down");
    }
}
