//! Connections in. What answers is `web`; here is how long a connection may take to ask, how many there may
//! be, and how they end.
//!
//! `axum::serve` has no such bounds: a client that sends one byte a second, or none, holds its connection for
//! ever, and enough of them use up the files that the process may have open. This is the same server (hyper)
//! with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The largest head of a request, bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// How long nothing is accepted when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(500);

/// What is too much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How long a client may take from one request, or from the connection, to the end of the next head.
    pub(crate) head_time: Duration,
    /// How many connections are open at once.
    pub(crate) connections: usize,
}

impl Bounds {
    /// The usual ones. Half of the files that the process may have open are left for everything else.
    pub(crate) fn usual() -> Self {
        let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
        let connections = files.map_or(4_096, |files| files / 2).clamp(16, 4_096);
        Self { head_time: Duration::from_secs(30), connections }
    }
}

/// Answers until it is to stop; returns when every request that was under way has been answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let (waiting, tasks) = (Waiting::default(), TaskTracker::new());
    let mut number = 0_u64;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                continue;
            }
        };
        // Whoever has asked nothing yet makes room, longest first. When all have asked, the next one waits.
        if room.available_permits() == 0 {
            waiting.drop_oldest();
        }
        let Some(Ok(permit)) = stop.run_until_cancelled(Arc::clone(&room).acquire_owned()).await else {
            break;
        };
        number += 1;
        let connection = Connection { stream, peer, permit, guest: waiting.enter(number) };
        tasks.spawn(connection.serve(router.clone(), bounds, stop.clone()));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// A client that went away before it was let in.
fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// An accepted connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    guest: Guest,
}

impl Connection {
    async fn serve(self, router: Router, bounds: Bounds, stop: CancellationToken) {
        let Self { stream, peer, permit, guest } = self;
        let router = TowerToHyperService::new(router);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn(|mut request: Request<Incoming>| {
            if !asked.swap(true, Ordering::Relaxed) {
                guest.has_asked();
            }
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(bounds.head_time).max_header_size(LONGEST_HEAD);
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = guest.dropped.cancelled() => Ok(()),
            () = stop.cancelled() => {
                if asked.load(Ordering::Relaxed) {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                } else {
                    Ok(())
                }
            }
        };
        if let Err(error) = ended {
            // Clients go away as they like; it is nobody's fault here.
            tracing::debug!(%peer, %error, "a connection ended early");
        }
        drop(permit);
    }
}

/// The connections on which nothing was asked yet, in the order in which they came.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Mutex<BTreeMap<u64, CancellationToken>>>);

impl Waiting {
    fn enter(&self, number: u64) -> Guest {
        let dropped = CancellationToken::new();
        self.lock().insert(number, dropped.clone());
        Guest { waiting: self.clone(), number, dropped }
    }

    fn drop_oldest(&self) {
        if let Some((_, oldest)) = self.lock().pop_first() {
            oldest.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those that wait; it leaves it by asking, or by ending.
struct Guest {
    waiting: Waiting,
    number: u64,
    /// Somebody else needs the room.
    dropped: CancellationToken,
}

impl Guest {
    fn has_asked(&self) {
        self.waiting.lock().remove(&self.number);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.has_asked();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);
    const ASK: &[u8] = b"GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    struct House {
        address: SocketAddr,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
        begun: Arc<Notify>,
        go_on: Arc<Notify>,
    }

    /// A server that tells who asks, at once or when it is told to.
    async fn house(bounds: Bounds) -> House {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, go_on, stop) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
        let notes = (Arc::clone(&begun), Arc::clone(&go_on));
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let slow = move || async move {
            notes.0.notify_one();
            notes.1.notified().await;
            "at last"
        };
        let router = Router::new().route("/peer", get(peer)).route("/slow", get(slow));
        #[expect(clippy::disallowed_methods, reason = "the test ends it")]
        let serving = tokio::spawn(serve(listener, router, bounds, stop.clone()));
        House { address, stop, serving, begun, go_on }
    }

    /// Connects and sends this.
    async fn client(house: &House, text: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream
    }

    /// What the server says until it closes the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A connection that is torn down has said nothing more.
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut text)).await.expect("it was closed");
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn whoever_does_not_ask_is_dropped_and_others_are_answered() {
        let house = house(Bounds { head_time: Duration::from_millis(300), connections: 100 }).await;
        let silent = client(&house, b"").await;
        let slow = client(&house, b"GET /peer HTTP/1.1\r\nx-slow: a").await;
        let idle = client(&house, b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let asking = client(&house, ASK).await;
        let address = asking.local_addr().unwrap().to_string();
        let answer = rest(asking).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&address), "{answer}");
        assert!(rest(silent).await.is_empty());
        let told = rest(slow).await;
        assert!(!told.contains("200"), "{told}");
        assert!(rest(idle).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn whoever_asks_is_let_in_though_many_sit_there() {
        let house = house(Bounds { head_time: LONG, connections: 4 }).await;
        let mut sitting = Vec::new();
        for _ in 0..20 {
            sitting.push(client(&house, b"GET").await);
        }
        let answer = rest(client(&house, ASK).await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // The first to come was the first to go.
        assert!(rest(sitting.remove(0)).await.is_empty());
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_end() {
        let house = house(Bounds { head_time: LONG, connections: 1 }).await;
        let asking = client(&house, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        house.begun.notified().await;
        house.stop.cancel();
        house.go_on.notify_one();
        assert!(rest(asking).await.ends_with("at last"));
        tokio::time::timeout(LONG, house.serving).await.expect("it ended").unwrap();
    }

    #[tokio::test]
    async fn whoever_asks_nothing_does_not_delay_the_end() {
        let house = house(Bounds { head_time: LONG, connections: 2 }).await;
        let sitting = client(&house, b"GET /sl").await;
        // The second is let in after the first.
        rest(client(&house, ASK).await).await;
        house.stop.cancel();
        tokio::time::timeout(LONG, house.serving).await.expect("it ended").unwrap();
        assert!(rest(sitting).await.is_empty());
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let house = house(Bounds { head_time: LONG, connections: 1 }).await;
        let mut stream = client(&house, b"GET /peer HTTP/1.1\r\nx-long: ").await;
        // The server may close before everything is written.
        let _ = stream.write_all(&vec![b'a'; 2 * LONGEST_HEAD]).await;
        let answer = rest(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
