//! The world of one test: real git, store and jails on a directory of its own, with a tape between the engine
//! and everybody outside.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use cassettes::{Tape, TapedAgents, TapedModels, TapedProxy, TapedWeb};
use domain::id::RepositoryId;
use domain::name::SecretName;
use domain::time::Timestamp;
use engine::World;
use engine::world::{Desks, Manifests, Sessions};
use ports::agents::Agents;
use ports::clock::Clock;
use ports::models::Models;
use ports::proxy::Proxy;
use ports::secrets::{Secrets, SecretsError};
use ports::web::Web;
use secrecy::SecretString;
use uuid::Uuid;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::exit::CommandError;
use crate::tools;
use crate::wiring::{self, SecretSource, Wired};

/// What a test runs in. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) world: World,
    pub(super) wired: Wired,
    pub(super) clock: Arc<TestClock>,
    directory: tempfile::TempDir,
}

impl Surroundings {
    /// Makes it, for runs with these secrets.
    pub(super) async fn make(
        config: &Config,
        tape: &Arc<Tape>,
        secrets: BTreeMap<SecretName, SecretString>,
    ) -> Result<Self, CommandError> {
        let home = tools::state_home(tools::variable).join("spellbook");
        let parent = home.join("tests");
        let directory = directory(&parent).map_err(|error| {
            let message = format!("a directory in {} cannot be made", parent.display());
            CommandError::failed("unwritable", message).because(error)
        })?;
        let mut config = config.clone();
        // One after the other, and soon gone: cells that wait would be made for nothing.
        config.sandbox.prepared = Some(0);
        // What was installed for `spellbook run` is there for a recording.
        config.agents_directory.get_or_insert_with(|| home.join("local/agents"));
        let data = directory.path().join("data");
        let wired = wiring::wire(&config, &data, SecretSource::Environment).await?;
        let clock = Arc::new(TestClock::default());
        let real = &wired.world;
        let runtime = tokio::runtime::Handle::current();
        let (models, agents) = (Arc::clone(&real.models), Arc::clone(&real.agents));
        let (proxy, web) = (Arc::clone(&real.proxy), Arc::clone(&real.web));
        let world = World {
            store: Arc::clone(&real.store),
            source: Arc::clone(&real.source),
            sandbox: Arc::clone(&real.sandbox),
            models: Arc::new(TapedModels::new(Arc::clone(tape), models)) as Arc<dyn Models>,
            agents: Arc::new(TapedAgents::new(Arc::clone(tape), agents)) as Arc<dyn Agents>,
            proxy: Arc::new(TapedProxy::new(Arc::clone(tape), proxy, runtime)) as Arc<dyn Proxy>,
            mcp: Arc::clone(&real.mcp),
            web: Arc::new(TapedWeb::new(Arc::clone(tape), web)) as Arc<dyn Web>,
            secrets: Arc::new(TestSecrets(secrets)),
            vault: Arc::clone(&real.vault),
            objects: Arc::clone(&real.objects),
            forge: Arc::clone(&real.forge),
            hosts: BTreeMap::new(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            settings: real.settings.clone(),
            manifests: Manifests::default(),
            desks: Desks::default(),
            sessions: Sessions::default(),
        };
        Ok(Self { world, wired, clock, directory })
    }

    /// Where the repository of the test is written.
    pub(super) fn book(&self) -> std::path::PathBuf {
        self.directory.path().join("book")
    }

    /// Ends what runs for it.
    pub(super) async fn close(self) {
        self.wired.proxy.shutdown().await;
        self.wired.gateway.shutdown().await;
    }
}

/// A new directory through which jails come to their workspaces, though they cannot look into it.
fn directory(parent: &Path) -> std::io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(parent)?;
    let directory = tempfile::Builder::new().prefix("test-").tempdir_in(parent)?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711))?;
    std::fs::create_dir(directory.path().join("book"))?;
    Ok(directory)
}

/// The machine's clock, but that the first unique numbers are the same in every test: a run's id may stand in
/// a question. Jails get numbers that are really unique.
#[derive(Debug, Default)]
pub(super) struct TestClock {
    count: AtomicU64,
    begun: AtomicBool,
}

impl TestClock {
    /// When the first numbers are drawn, milliseconds: 2026-01-01.
    pub(super) const BEGINNING: u64 = 1_767_225_600_000;

    /// From now on numbers are unique.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// The time in the commit that a test begins with.
    pub(super) fn beginning() -> Timestamp {
        Timestamp::from_millis(i64::try_from(Self::BEGINNING).unwrap_or_default())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn unique(&self) -> Uuid {
        if self.begun.load(Ordering::Relaxed) {
            return SystemClock.unique();
        }
        let mut tail = [0; 10];
        tail[2..].copy_from_slice(&self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(Self::BEGINNING, &tail).into_uuid()
    }
}

/// Secrets that a test brings.
#[derive(Debug)]
struct TestSecrets(BTreeMap<SecretName, SecretString>);

#[async_trait]
impl Secrets for TestSecrets {
    async fn secret(
        &self,
        _repository: RepositoryId,
        name: &SecretName,
    ) -> Result<Option<SecretString>, SecretsError> {
        Ok(self.0.get(name).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_the_same_in_every_test_and_grow() {
        let (one, other) = (TestClock::default(), TestClock::default());
        let first: Vec<Uuid> = (0..3).map(|_| one.unique()).collect();
        assert_eq!(first, (0..3).map(|_| other.unique()).collect::<Vec<_>>());
        assert!(first.is_sorted() && first[0] != first[1]);
        other.begin();
        one.begin();
        assert_ne!(one.unique(), other.unique());
        assert!(one.unique() > first[2]);
    }
}
