//! One jail's programs, as long as they are admitted: the listener, its connections, and what all of
//! them share.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use ports::models::Choice;
use ports::proxy::{Guest, Visit, VisitReport};
use ports::sandbox::Door;
use ports::till::Till;
use rand::RngExt;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::book::Book;
use super::{egress, forward};
use crate::config::Dialect;
use crate::gateway::{Gateway, Target};
use crate::web::Egress;

/// Connections of one jail at once; further ones wait unaccepted.
const CONNECTIONS: usize = 256;

/// Calls of models of one jail at once; further ones wait.
const CALLS: usize = 16;

/// Memory for the bodies of requests of one jail at once, KiB.
const BODIES: usize = 64 << 10;

/// How long the head of a request may take, the time between two requests included.
const HEAD_MAX: Duration = Duration::from_secs(120);

/// The most of a head, bytes.
const HEAD_BYTES: usize = 64 << 10;

/// How long to wait when no connection can be accepted: the server is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// What a visit needs of the proxy.
pub(super) struct Around {
    pub(super) gateway: Arc<Gateway>,
    pub(super) egress: Arc<Egress>,
    pub(super) runtime: Handle,
    pub(super) tasks: TaskTracker,
}

/// A visit.
pub(super) struct Admitted(Arc<Shared>);

/// What the connections of a visit share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) token: SecretString,
    pub(super) choice: Choice,
    models: Vec<Target>,
    /// Whom the conversation is with, once someone answered.
    pub(super) kept: Mutex<Option<String>>,
    pub(super) till: Arc<dyn Till>,
    calls_left: Option<AtomicU32>,
    pub(super) provider_tools: Vec<String>,
    pub(super) allowed: Vec<String>,
    pub(super) calls: Arc<Semaphore>,
    pub(super) bodies: Arc<Semaphore>,
    pub(super) book: Arc<Book>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) egress: Arc<Egress>,
    pub(super) over: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
}

impl Admitted {
    pub(super) fn new(guest: Guest, around: Around) -> Self {
        let models = guest.choice.targets.iter().filter_map(|name| around.gateway.resolve(name)).collect();
        let token =
            format!("spellbook-{:032x}{:032x}", rand::rng().random::<u128>(), rand::rng().random::<u128>());
        Self(Arc::new(Shared {
            name: guest.name,
            token: SecretString::from(token),
            choice: guest.choice,
            models,
            kept: Mutex::default(),
            till: guest.till,
            calls_left: guest.most_calls.map(AtomicU32::new),
            provider_tools: guest.provider_tools,
            allowed: guest.allowed,
            calls: Arc::new(Semaphore::new(CALLS)),
            bodies: Arc::new(Semaphore::new(BODIES)),
            book: Arc::default(),
            gateway: around.gateway,
            egress: around.egress,
            over: CancellationToken::new(),
            tasks: around.tasks,
            runtime: around.runtime,
        }))
    }
}

/// Leaves out the token.
impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Door for Admitted {
    fn open(&self, listener: std::net::TcpListener) -> io::Result<Box<dyn Send>> {
        if self.0.over.is_cancelled() {
            return Err(io::Error::other("the visit has ended"));
        }
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let _inside = self.0.runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let closed = self.0.over.child_token();
        let serving = serve(Arc::clone(&self.0), listener, at, closed.clone());
        self.0.tasks.spawn_on(serving, &self.0.runtime);
        let guard: DropGuard = closed.drop_guard();
        Ok(Box::new(guard))
    }
}

impl Visit for Admitted {
    fn token(&self) -> SecretString {
        self.0.token.clone()
    }

    fn end(&self) -> VisitReport {
        self.0.over.cancel();
        self.0.book.close()
    }
}

/// A visit that nobody ended is over when nobody holds it.
impl Drop for Admitted {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// The target of a model's name, if it is one of the guest's: by the guest's own name for it, by
    /// any other that means the same, or by what its provider calls it. The first that speaks the
    /// language; where the one that the program was told does not, one that does.
    pub(super) fn target(&self, name: &str, dialect: Dialect) -> Option<&Target> {
        let meant = self.gateway.resolve(name);
        let is_meant = |target: &&Target| {
            target.facts.id == name || meant.as_ref().is_some_and(|meant| meant.is_same_model(target))
        };
        let mut own = self.names(Some(dialect)).filter(|target| target.requested == name);
        let instead = || self.names(Some(dialect)).next().filter(|_| self.is_told(name));
        own.next().or_else(|| self.names(Some(dialect)).find(is_meant)).or_else(instead)
    }

    /// Whether it is the name that the program was told, or what its provider calls it.
    pub(super) fn is_told(&self, name: &str) -> bool {
        let Some(told) = self.choice.targets.first() else { return false };
        let means = |target: &Target| target.requested == *told && target.facts.id == name;
        told == name || self.models.first().is_some_and(means)
    }

    /// The names of the models that may be asked, in the language or in any.
    pub(super) fn names(&self, dialect: Option<Dialect>) -> impl Iterator<Item = &Target> {
        let speaks = move |target: &&Target| dialect.is_none_or(|dialect| target.provider.speaks(dialect));
        self.models.iter().filter(speaks)
    }

    /// Takes one of the calls that are left.
    pub(super) fn take_call(&self) -> bool {
        let Some(left) = &self.calls_left else { return true };
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

async fn serve(visit: Arc<Shared>, listener: TcpListener, at: SocketAddr, closed: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let serving = connection(Arc::clone(&visit), stream, at, place);
                    let closed = closed.clone();
                    visit
                        .tasks
                        .spawn_on(async move { closed.run_until_cancelled(serving).await }, &visit.runtime);
                }
                Err(error) => {
                    tracing::warn!(visit.name = %visit.name, %error, "a door cannot accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    closed.run_until_cancelled(accepting).await;
}

async fn connection(visit: Arc<Shared>, stream: TcpStream, at: SocketAddr, place: OwnedSemaphorePermit) {
    // Nothing is lost when it fails: answers are only slower.
    let _ = stream.set_nodelay(true);
    let place = Arc::new(place);
    let answering = service_fn(move |request: Request<Incoming>| {
        let (visit, place) = (Arc::clone(&visit), Arc::clone(&place));
        async move {
            let is_absolute = request.uri().scheme().is_some() || request.uri().authority().is_some();
            let answer = if request.method() == Method::CONNECT {
                egress::tunnel(&visit, request, place).await
            } else if is_absolute {
                egress::forward(&visit, request).await
            } else {
                forward::answer(&visit, request, at).await
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answering)
        .with_upgrades();
    // What goes wrong on a connection is between the program and itself.
    let _ = serving.await;
}
