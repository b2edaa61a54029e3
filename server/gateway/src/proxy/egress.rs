//! Other hosts: tunnels (`CONNECT`) and plain HTTP in absolute form, as to any proxy. Which hosts is
//! [`crate::web::gate`]'s to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::book::Host;
use super::refusal::{Answer, Body, BrokeOff, whole};
use super::token;
use super::visit::Shared;
use crate::web::allowed;
use crate::web::gate::{Denied, Manner};

/// How long nothing may pass through a connection.
const IDLE: Duration = Duration::from_secs(300);

/// How long a tunnel may stand.
const TOTAL: Duration = Duration::from_secs(3_600);

/// What is read at once, bytes.
const PIECE: usize = 16 << 10;

/// Why a request is not done.
struct Refused {
    status: StatusCode,
    message: String,
}

/// Opens a tunnel.
pub(super) async fn tunnel(
    visit: &Arc<Shared>,
    request: Request<Incoming>,
    place: Arc<OwnedSemaphorePermit>,
) -> Answer {
    match opened(visit, &request).await {
        Ok((far, host)) => {
            let standing = stand(request, far, host, place);
            let over = visit.over.clone();
            visit.tasks.spawn_on(async move { over.run_until_cancelled(standing).await }, &visit.runtime);
            Response::new(whole(Bytes::new()))
        }
        Err(refused) => refused.answer(visit),
    }
}

async fn opened(visit: &Shared, request: &Request<Incoming>) -> Result<(TcpStream, Arc<Host>), Refused> {
    if request.uri().scheme().is_some() || request.uri().path_and_query().is_some() {
        return Err(Refused::malformed("a tunnel is asked for by host and port alone"));
    }
    let (name, port) = whither(request, None)?;
    let has_body =
        request.headers().contains_key(CONTENT_LENGTH) || request.headers().contains_key(TRANSFER_ENCODING);
    if has_body {
        return Err(Refused::malformed("a request for a tunnel has no body"));
    }
    connect(visit, &name, port, Manner::Tunnel).await
}

/// Carries bytes both ways until an end closes, nothing passes for a while, or time is up.
async fn stand(
    request: Request<Incoming>,
    far: TcpStream,
    host: Arc<Host>,
    _place: Arc<OwnedSemaphorePermit>,
) {
    let Ok(near) = hyper::upgrade::on(request).await else { return };
    let (near_read, near_write) = tokio::io::split(TokioIo::new(near));
    let (far_read, far_write) = far.into_split();
    let carry = async {
        // An end that breaks off ends both directions; one that closes only its own.
        let _ = tokio::try_join!(
            carry(near_read, far_write, &host.sent),
            carry(far_read, near_write, &host.received)
        );
    };
    let watch = async {
        let mut before = u64::MAX;
        loop {
            let now = host.sent.load(Ordering::Relaxed).wrapping_add(host.received.load(Ordering::Relaxed));
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(IDLE).await;
        }
    };
    tokio::select! {
        () = carry => {}
        () = watch => {}
        () = tokio::time::sleep(TOTAL) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Passes on a request over plain HTTP.
pub(super) async fn forward(visit: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    match forwarded(visit, request).await {
        Ok(answer) => answer,
        Err(refused) => refused.answer(visit),
    }
}

async fn forwarded(visit: &Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Refused> {
    if request.uri().scheme_str() != Some("http") {
        return Err(Refused::malformed(
            "only plain http is passed on; ask for a tunnel (CONNECT) for anything else",
        ));
    }
    if request.method() == Method::TRACE {
        return Err(Refused::malformed("TRACE is not passed on"));
    }
    let (name, port) = whither(&request, Some(80))?;
    let (far, host) = connect(visit, &name, port, Manner::Http).await?;
    let request = rewritten(request, &host)?;
    let broken = |_| Refused::unreachable(format!("{name}:{port} broke off the connection"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(far)).await.map_err(broken)?;
    let over = visit.over.clone();
    visit.tasks.spawn_on(async move { over.run_until_cancelled(connection).await }, &visit.runtime);
    let silent = |_| Refused::unreachable(format!("{name}:{port} did not answer within {IDLE:?}"));
    let answer = timeout(IDLE, sender.send_request(request)).await.map_err(silent)?.map_err(broken)?;
    let (mut head, body) = answer.into_parts();
    let named = token::named_by_connection(&head.headers);
    let of_the_connection = |name: &&HeaderName| {
        **name != CONTENT_LENGTH && (token::is_of_the_connection(name) || named.contains(name))
    };
    for name in head.headers.keys().filter(of_the_connection).cloned().collect::<Vec<_>>() {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, counted(body, host, |host| &host.received)))
}

/// The request as it goes to its host: in origin form, without what belongs to the connection to us.
fn rewritten(request: Request<Incoming>, host: &Arc<Host>) -> Result<Request<Body>, Refused> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let malformed = || Refused::malformed("the address cannot be read");
    head.uri = path.parse::<Uri>().map_err(|_| malformed())?;
    head.version = hyper::Version::HTTP_11;
    let named = token::named_by_connection(&head.headers);
    let length = head.headers.get(CONTENT_LENGTH).cloned();
    let is_ours = |name: &HeaderName| {
        (token::is_of_the_connection(name) && name != "accept-encoding")
            || named.contains(name)
            || name.as_str().starts_with("proxy-")
    };
    for name in head.headers.keys().filter(|name| is_ours(name)).cloned().collect::<Vec<_>>() {
        head.headers.remove(name);
    }
    if let Some(length) = length {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    head.headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|_| malformed())?);
    Ok(Request::from_parts(head, counted(body, Arc::clone(host), |host| &host.sent)))
}

/// A body whose bytes are counted as they pass, and which may not stop for long.
fn counted(body: Incoming, host: Arc<Host>, count: fn(&Host) -> &AtomicU64) -> Body {
    let frames = futures::stream::unfold(Some((BodyStream::new(body), host)), move |state| async move {
        let (mut body, host) = state?;
        let failed = |why: &str| Some((Err::<Frame<Bytes>, BrokeOff>(BrokeOff(why.to_owned())), None));
        match timeout(IDLE, body.next()).await {
            Ok(Some(Ok(frame))) => {
                count(&host).fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
                Some((Ok(frame), Some((body, host))))
            }
            Ok(Some(Err(_))) => failed("the connection broke off"),
            Ok(None) => None,
            Err(_) => failed("nothing passed for too long"),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The host and port of a request's address, in their plain form.
fn whither(request: &Request<Incoming>, usual: Option<u16>) -> Result<(String, u16), Refused> {
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let malformed = || Refused::malformed("the address is no plain host and port");
    let (name, port) = allowed::place(authority, usual).ok_or_else(malformed)?;
    // A host of its own in the head would be another than the one that is judged.
    let mut hosts = request.headers().get_all(HOST).iter();
    let (said, second) = (hosts.next(), hosts.next());
    if let Some(said) = said {
        let said = said.to_str().ok().and_then(|host| allowed::place(host, Some(port)));
        if second.is_some() || said != Some((name.clone(), port)) {
            return Err(Refused::malformed("the `Host` of the request is another than its address"));
        }
    }
    Ok((name, port))
}

async fn connect(
    visit: &Shared,
    name: &str,
    port: u16,
    manner: Manner,
) -> Result<(TcpStream, Arc<Host>), Refused> {
    let gate = &visit.egress.gate;
    let reach = gate.judge(&visit.allowed, name, port, manner).map_err(|denied| {
        visit.book.host(name, port, Some(denied.message.clone()));
        Refused::from(denied)
    })?;
    let host = visit.book.host(name, port, None);
    let far = gate.connect(name, port, reach).await.map_err(|denied| {
        if denied.code == "address_refused" {
            host.refuse(&denied.message);
        }
        Refused::from(denied)
    })?;
    // Nothing is lost when it fails.
    let _ = far.set_nodelay(true);
    tracing::info!(visit.name = %visit.name, web.host = name, web.port = port, "{} reaches {name}:{port}", visit.name);
    Ok((far, host))
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let is_away = denied.code == "unreachable";
        let status = if is_away { StatusCode::BAD_GATEWAY } else { StatusCode::FORBIDDEN };
        Self { status, message: denied.message }
    }
}

impl Refused {
    fn malformed(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.to_owned() }
    }

    fn unreachable(message: String) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, message }
    }

    fn answer(&self, visit: &Shared) -> Answer {
        tracing::info!(visit.name = %visit.name, visit.status = self.status.as_u16(), "a request of {} is refused: {}", visit.name, self.message);
        let mut answer = Response::new(whole(format!("{}\n", self.message)));
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    }
}
