//! What every request and every answer passes through: an id, a span, figures, bounds on pace and
//! time, headers that keep browsers from doing harm.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;

use crate::doors::{ClientAddress, Server};
use crate::problem::Problem;

/// The header that names a request in the server's log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives a request its id and span, and counts it. Ids that callers bring are not taken over: they
/// could be anything, and the log would repeat it.
pub(crate) async fn identify(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let id = server.world().clock.unique().simple().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = known_method(request.method());
    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.route = %route);
    let begun = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status(), begun.elapsed());
    span.in_scope(|| {
        tracing::debug!(
            http.status = status.as_u16(),
            took_ms = took.as_millis(),
            "{method} {route}: {status}"
        );
    });
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.as_u16().to_string())];
    metrics::counter!("spellbook_http_requests_total", &labels).increment(1);
    metrics::histogram!("spellbook_http_request_seconds", &labels[..2]).record(took);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A method as a label; made-up ones would make figures without end.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Headers for every answer that does not bring its own: no script, no frame, no guessing of types, no
/// page of another origin reads it.
pub(crate) async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    const GUARDS: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in GUARDS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if server.settings().base_url.starts_with("https://") {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    response
}

/// Makes an answer of a panic. What it said is in the log, by the panic hook.
pub(crate) fn panicked(_payload: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal("a handler panicked").into_response()
}

/// Holds an address to the pace of the API.
pub(crate) async fn pace(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    match server.addresses.take(caller(&server, &request), server.now()) {
        Ok(()) => next.run(request).await,
        Err(wait) => Problem::rate_limited(wait).into_response(),
    }
}

/// Holds an address to the pace of webhooks.
pub(crate) async fn hook_pace(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    match server.hooks.take(caller(&server, &request), server.now()) {
        Ok(()) => next.run(request).await,
        Err(wait) => Problem::rate_limited(wait).into_response(),
    }
}

/// Holds an answer to the time in which it must begin. A stream that has begun goes on.
pub(crate) async fn patience(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    within(server.settings().patience, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

/// The same for git, which is given more time and told in its own way.
pub(crate) async fn git_patience(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    within(server.settings().git_patience, request, next).await.unwrap_or_else(Problem::for_git)
}

async fn within(most: Duration, request: Request, next: Next) -> Result<Response, Problem> {
    let reads_only = matches!(*request.method(), Method::GET | Method::HEAD);
    tokio::time::timeout(most, next.run(request)).await.map_err(|_| {
        if reads_only {
            return Problem::unavailable("too_slow", "the server took too long; try again shortly");
        }
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the request did not arrive whole in time",
        )
    })
}

/// Whose request it is, for the pace: an address, or the network of 2⁶⁴ that one IPv6 line has.
fn caller(server: &Server, request: &Request) -> String {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let address = match server.settings().client_address {
        ClientAddress::Peer => peer,
        ClientAddress::Forwarded => forwarded(request.headers()).or(peer),
    };
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        None => "unknown".to_owned(),
    }
}

/// The last entry of `X-Forwarded-For`: the one that the proxy itself wrote.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}
