//! Everything that the engine needs from the world, in one place.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use crate::desks::Desks;
pub use crate::session::Sessions;
use domain::budget::Budget;
use domain::limits::Limits;
use domain::name::{Digest, ForgeName};
use manifest::Manifest;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::forge::{Forge, Host};
use ports::mcp::Mcp;
use ports::models::Models;
use ports::objects::Objects;
use ports::proxy::Proxy;
use ports::sandbox::Sandbox;
use ports::secrets::Secrets;
use ports::source::{RemotePolicy, Source};
use ports::store::Store;
use ports::vault::Vault;
use ports::web::Web;

/// The ports, and the operator's settings.
#[derive(Debug)]
pub struct World {
    /// What must survive a crash.
    pub store: Arc<dyn Store>,
    /// Git.
    pub source: Arc<dyn Source>,
    /// Jails.
    pub sandbox: Arc<dyn Sandbox>,
    /// Language models.
    pub models: Arc<dyn Models>,
    /// Coding agents.
    pub agents: Arc<dyn Agents>,
    /// What speaks to servers with tools.
    pub mcp: Arc<dyn Mcp>,
    /// What stands behind the doors of jails.
    pub proxy: Arc<dyn Proxy>,
    /// Other people's servers.
    pub web: Arc<dyn Web>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
    /// What keeps stored things from being read.
    pub vault: Arc<dyn Vault>,
    /// Large things.
    pub objects: Arc<dyn Objects>,
    /// Where effects are performed.
    pub forge: Arc<dyn Forge>,
    /// The forges that this server is known to, by the operator's names for them.
    pub hosts: BTreeMap<ForgeName, Arc<dyn Host>>,
    /// Time and uniqueness.
    pub clock: Arc<dyn Clock>,
    /// What the operator decided.
    pub settings: Settings,
    /// Manifests that were read lately.
    pub manifests: Manifests,
    /// Workspaces that are as they were checked out.
    pub desks: Desks,
    /// Conversations that stages are in.
    pub sessions: Sessions,
}

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most that any daemon may ask for.
    pub ceiling: Limits,
    /// Where workspaces are made; on the same machine as the jails.
    pub work_dir: PathBuf,
    /// How long a worker's claim lasts without being renewed.
    pub lease: Duration,
    /// How often a watched repository is looked at.
    pub poll: Duration,
    /// What a watched repository's address may be.
    pub remotes: RemotePolicy,
    /// Budgets that hold where an administrator set no other.
    pub budgets: Vec<Budget>,
    /// What the server answers to in comments.
    pub prefix: String,
    /// What people may write behind an `@` in place of the prefix; the name of the server's own account where it
    /// is not said.
    pub bot: Option<String>,
}

impl Settings {
    /// The defaults, with workspaces below a directory.
    pub fn new(work_dir: PathBuf) -> Self {
        Self {
            ceiling: Limits::CEILING,
            work_dir,
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(60),
            remotes: RemotePolicy::default(),
            budgets: Vec::new(),
            prefix: "/spellbook".to_owned(),
            bot: None,
        }
    }
}

/// Manifests by digest: the same tree means the same manifest, so that nothing is parsed twice.
#[derive(Debug, Default)]
pub struct Manifests(Mutex<HashMap<Digest, Arc<Manifest>>>);

impl Manifests {
    /// So many are kept; then all are forgotten, which costs one parse each.
    const MOST: usize = 512;

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    pub(crate) fn put(&self, digest: &Digest, manifest: &Arc<Manifest>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= Self::MOST {
            kept.clear();
        }
        kept.insert(digest.clone(), Arc::clone(manifest));
    }
}
