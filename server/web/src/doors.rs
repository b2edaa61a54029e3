//! What the doors need, and what the operator decided about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use engine::World;
use ports::smart_http::SmartHttp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::actions::{Actions, Keys};
use crate::rate::{Buckets, Rate};

/// Renders the server's metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Everything that the doors need.
pub struct Doors {
    /// The rest of the product.
    pub world: Arc<World>,
    /// Git over HTTP.
    pub git: Arc<dyn SmartHttp>,
    /// What the operator decided.
    pub settings: Settings,
    /// What `/metrics` answers.
    pub metrics: RenderMetrics,
    /// Fires when the server is about to stop: streams end, so that their readers go elsewhere.
    pub closing: CancellationToken,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the operator decided about the doors.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether strangers may look at everything that a viewer may.
    pub public_read: bool,
    /// Whether strangers may read `/metrics`.
    pub public_metrics: bool,
    /// Where people find this server, without a slash at the end: `https://spellbook.example.com`.
    pub base_url: String,
    /// The version to show.
    pub version: String,
    /// The largest body of an API call, bytes.
    pub api_body: usize,
    /// The largest webhook, bytes.
    pub hook_body: usize,
    /// How long an answer may take to begin.
    pub patience: Duration,
    /// How long git's answer may take to begin: it may have to look through a large push first.
    pub git_patience: Duration,
    /// How often one address may call the API and git; `None` is as often as it likes.
    pub address_rate: Option<Rate>,
    /// How often one token may be used.
    pub token_rate: Option<Rate>,
    /// How often one address may call webhooks.
    pub hook_rate: Option<Rate>,
    /// Whose address a request is said to come from.
    pub client_address: ClientAddress,
    /// How many live streams are open at once.
    pub streams: usize,
    /// How long a token lasts that was got by signing in.
    pub token_life: Duration,
    /// How long a one-time token lasts that an administrator made.
    pub sign_in_life: Duration,
    /// Which GitHub Actions jobs may sign in.
    pub actions: Actions,
}

impl Settings {
    /// The defaults, for a server at this address.
    pub fn new(base_url: impl Into<String>, version: impl Into<String>) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            public_read: false,
            public_metrics: false,
            base_url: base_url.into().trim_end_matches('/').to_owned(),
            version: version.into(),
            api_body: 2 << 20,
            hook_body: 25 << 20,
            patience: Duration::from_secs(30),
            git_patience: Duration::from_secs(600),
            address_rate: Some(Rate { per_second: 100, burst: 400 }),
            token_rate: Some(Rate { per_second: 50, burst: 200 }),
            hook_rate: Some(Rate { per_second: 5_000, burst: 10_000 }),
            client_address: ClientAddress::Peer,
            streams: 1_000,
            token_life: 90 * DAY,
            sign_in_life: 7 * DAY,
            actions: Actions::default(),
        }
    }
}

/// Whose address a request is said to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The other end of the connection.
    Peer,
    /// The last entry of `X-Forwarded-For`: only behind a proxy that always writes it.
    Forwarded,
}

/// The doors, and what they keep in mind.
pub(crate) struct Server {
    pub(crate) doors: Doors,
    pub(crate) addresses: Buckets<String>,
    pub(crate) tokens: Buckets<uuid::Uuid>,
    pub(crate) hooks: Buckets<String>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) keys: Keys,
}

impl Server {
    pub(crate) fn new(doors: Doors) -> Arc<Self> {
        let settings = &doors.settings;
        Arc::new(Self {
            addresses: Buckets::new(settings.address_rate),
            tokens: Buckets::new(settings.token_rate),
            hooks: Buckets::new(settings.hook_rate),
            streams: Arc::new(Semaphore::new(settings.streams)),
            keys: Keys::default(),
            doors,
        })
    }

    pub(crate) fn world(&self) -> &World {
        &self.doors.world
    }

    pub(crate) fn store(&self) -> &dyn ports::store::Store {
        &*self.doors.world.store
    }

    pub(crate) fn now(&self) -> domain::time::Timestamp {
        self.doors.world.clock.now()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.doors.settings
    }
}
