//! The server: what runs, in which order it starts, and how it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use domain::access::{Account, Role, Token};
use domain::id::{AccountId, TokenId, WorkerId};
use engine::World;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use ports::store::Recorded;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::Doors;

use crate::config::Config;
use crate::hook::HookSocket;
use crate::listener::{self, Bounds};
use crate::loops::{self, Running};
use crate::smart_http::GitBackend;
use crate::upkeep;
use crate::wiring::{self, JailPlace, SecretSource, Wired};

/// Where the server listens when nobody says.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7717";
/// The name of the first account.
const ADMINISTRATOR: &str = "admin";
/// How long work that is under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(20);

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Answers, and works on runs.
    ServeAndWork,
    /// Answers only.
    Serve,
}

/// A server that is to be started.
#[derive(Debug)]
pub struct Plan {
    /// The operator's configuration.
    pub config: Config,
    /// Where everything is kept.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it does.
    pub roles: Roles,
}

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    /// Where it really listens.
    pub address: SocketAddr,
    /// The rest of the product.
    pub world: Arc<World>,
    /// The first administrator's sign-in token, on a first start.
    pub sign_in: Option<SecretString>,
    gateway: Arc<gateway::Gateway>,
    proxy: Arc<gateway::AgentProxy>,
    _place: JailPlace,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Starts a server; when this returns it answers.
    ///
    /// # Errors
    /// When the data directory, the store, git or the address cannot be used.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let wired = wiring::wire(&plan.config, &plan.data, SecretSource::Files).await?;
        Self::start_with(plan, wired).await
    }

    /// Starts a server of what is put together already.
    ///
    /// # Errors
    /// When the store, git or the address cannot be used.
    pub async fn start_with(plan: Plan, wired: Wired) -> anyhow::Result<Self> {
        let Wired { world, git, gateway, proxy, place } = wired;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let listener = TcpListener::bind(plan.listen)
            .await
            .with_context(|| format!("cannot listen on {}", plan.listen))?;
        let address = listener.local_addr()?;
        let sign_in = first_administrator(&world).await?;
        let running = Running { world: &world, tasks: &tasks, stop: &stop };
        let socket = HookSocket::bind()?;
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let backend = GitBackend { backend: git.http(), hooks: socket.environment(&program) };
        tasks.spawn(upkeep::maintain(Arc::clone(&world), git.clone(), stop.clone()));
        tasks.spawn(upkeep::look_for_catalogue(Arc::clone(&gateway), stop.clone()));
        tasks.spawn(upkeep::forget(Arc::clone(&world), stop.clone()));
        tasks.spawn(socket.serve(Arc::clone(&world), git, tasks.clone(), stop.clone()));
        tasks.spawn(upkeep::close_calls(Arc::clone(&world), stop.clone()));
        tasks.spawn(upkeep::dashboards(Arc::clone(&world), stop.clone()));
        // Before anything is performed in this life.
        if let Err(error) = engine::outbox::take_over(&world, place.worker).await {
            tracing::warn!(%error, "what an earlier life performed comes again when its time is over");
        }
        loops::serve(place.worker, running);
        let slots = match plan.roles {
            Roles::ServeAndWork => slots(&plan.config),
            Roles::Serve => 0,
        };
        recover(running, place.worker, slots);
        let doors = doors(&plan, &world, backend, address, &stop);
        tasks.spawn(listener::serve(listener, web::router(doors), Bounds::usual(), stop.clone()));
        Ok(Self { address, world, sign_in, gateway, proxy, _place: place, tasks, stop })
    }

    /// The address to write into a browser.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops: what is under way is ended and put back, and everything is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("not everything ended in {} seconds", GRACE.as_secs());
        }
        self.proxy.shutdown().await;
        self.gateway.shutdown().await;
    }
}

/// A worker without doors: on the same data directory as a server, or later on the same database.
///
/// # Errors
/// When the data directory or the store cannot be used.
pub async fn work(config: &Config, data: &std::path::Path, until: CancellationToken) -> anyhow::Result<()> {
    let Wired { world, gateway, proxy, place, .. } = wiring::wire(config, data, SecretSource::Files).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(upkeep::look_for_catalogue(Arc::clone(&gateway), until.clone()));
    take_over(&world, place.worker).await;
    loops::work(place.worker, slots(config), Running { world: &world, tasks: &tasks, stop: &until });
    until.cancelled().await;
    tasks.close();
    let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    proxy.shutdown().await;
    gateway.shutdown().await;
    Ok(())
}

/// Brings order into what an earlier life left, then begins to work: jails of that life are ended
/// before there are new ones, and branches that moved without being recorded are followed.
fn recover(running: Running<'_>, worker: WorkerId, slots: usize) {
    let (world, tasks, stop) = (Arc::clone(running.world), running.tasks.clone(), running.stop.clone());
    running.tasks.spawn(async move {
        take_over(&world, worker).await;
        loops::work(worker, slots, Running { world: &world, tasks: &tasks, stop: &stop });
        upkeep::reconcile(world, stop).await;
    });
}

/// Ends the jails of an earlier life of this worker, and gives back the runs that it held: nobody else
/// can be at them, and they need not wait until their leases lapse.
async fn take_over(world: &World, worker: WorkerId) {
    match world.sandbox.sweep().await {
        Ok(swept) if swept.processes + swept.groups > 0 => {
            tracing::info!("ended {} processes of an earlier life", swept.processes);
        }
        Ok(_) => {}
        Err(error) => {
            // Its runs may still be worked on; they go on when their leases lapse.
            tracing::error!(%error, "what an earlier life left cannot be ended");
            return;
        }
    }
    match world.store.worker_release(worker, world.clock.now()).await {
        Ok(0) => {}
        Ok(runs) => tracing::info!("took over {runs} runs of an earlier life"),
        Err(error) => tracing::warn!(%error, "runs of an earlier life go on when their leases lapse"),
    }
}

fn slots(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    config.work.slots.unwrap_or_else(cores).max(1)
}

/// Makes the administrator of a new server. Until somebody has signed in, every start gives a new token
/// that does so, once, in place of the one before: a lost one locks nobody out.
async fn first_administrator(world: &World) -> anyhow::Result<Option<SecretString>> {
    let now = world.clock.now();
    let new = Account {
        id: AccountId::new(world.clock.unique()),
        name: ADMINISTRATOR.to_owned(),
        role: Role::Admin,
        created_at: now,
    };
    let account =
        match world.store.account_list().await?.into_iter().find(|account| account.name == ADMINISTRATOR) {
            Some(account) => account,
            None => match world.store.account_create(&new).await? {
                Recorded::New => new,
                Recorded::Known(account) => account,
            },
        };
    let tokens = world.store.token_list(account.id).await?;
    if tokens.iter().any(|token| !token.once) {
        return Ok(None);
    }
    for unused in tokens {
        world.store.token_revoke(unused.id).await?;
    }
    let (secret, hash) = web::token::mint();
    let token = Token {
        id: TokenId::new(world.clock.unique()),
        account: account.id,
        label: "first sign-in".to_owned(),
        hash,
        role: Role::Admin,
        once: true,
        reach: None,
        created_at: now,
        expires_at: None,
    };
    world.store.token_create(&token).await?;
    Ok(Some(secret))
}

fn doors(
    plan: &Plan,
    world: &Arc<World>,
    git: GitBackend,
    address: SocketAddr,
    closing: &CancellationToken,
) -> Doors {
    let base = plan.config.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    let mut settings = web::Settings::new(base, env!("CARGO_PKG_VERSION"));
    settings.public_read = plan.config.public_read;
    settings.public_metrics = plan.config.public_metrics;
    settings.actions = plan.config.actions.clone();
    let metrics = metrics();
    Doors {
        world: Arc::clone(world),
        git: Arc::new(git),
        settings,
        metrics: Arc::new(move || metrics.render()),
        closing: closing.clone(),
    }
}

/// The recorder of this process; the first server of a process installs it.
fn metrics() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another recorder can only be a test's own; ours then renders nothing.
        let _ = metrics::set_global_recorder(recorder);
        handle
    };
    RECORDER.get_or_init(install).clone()
}
