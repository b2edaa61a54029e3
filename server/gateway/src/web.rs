//! Out to other people's servers, for `http` stages: only where a daemon may go. [`gate`] is the
//! judgement, which programs in jails are under too.
//!
//! A host is allowed by name and port before anything is looked up; its addresses are looked up once,
//! checked, and connected to as they are, so that a name cannot change its mind in between. Redirects
//! are answers. Errors never hold a header, a query or a body.

mod address;
pub(crate) mod allowed;
pub(crate) mod gate;
mod sets;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use ports::Retry;
use ports::web::{Web, WebError, WebRequest, WebResponse};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::client;
use gate::{Gate, Lookup, Manner, Reach, refusal, system_lookup};
pub use sets::{Finder, Found};

/// What an operator may configure, as it stands in the server's TOML file under `[network]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether daemons may use plain `http`.
    pub allow_http: bool,
    /// Hosts and ports (`intranet.example:8443`) that may be at a private, loopback or link-local
    /// address. A daemon must still name them.
    pub allow_private: Vec<String>,
    /// Sets of hosts by the name under which daemons ask for all of them (`node`, `python`, …).
    pub sets: BTreeMap<String, Vec<String>>,
}

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An entry of `allow_private`.
    #[error("`allow_private`: `{0}` is not `host:port`")]
    Private(String),
    /// A set of hosts.
    #[error("the set of hosts `{0}`: {1}")]
    Set(String, String),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for the network cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Calls addresses on behalf of daemons.
pub struct Egress {
    allow_http: bool,
    pub(crate) gate: Gate,
    public: reqwest::Client,
    private: reqwest::Client,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("allow_http", &self.allow_http).finish_non_exhaustive()
    }
}

/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest address, bytes.
const URL_MAX: usize = 8 << 10;

/// Headers that belong to the connection or would say another host than the one that was checked.
const OURS: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "proxy-authorization",
];

impl Egress {
    /// Builds it. Nothing is called yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn build(config: &Config) -> Result<Self, BuildError> {
        let lookup: Arc<Lookup> = Arc::new(|host| Box::pin(system_lookup(host)));
        Self::with_lookup(config, &lookup)
    }

    /// Sets that nobody listed are looked for on this machine.
    #[must_use]
    pub fn finding(mut self, finder: Arc<Finder>) -> Self {
        self.gate.find_by(finder);
        self
    }

    pub(crate) fn with_lookup(config: &Config, lookup: &Arc<Lookup>) -> Result<Self, BuildError> {
        client::install_tls();
        let client = |only_public| {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .user_agent(crate::client::USER_AGENT)
                .no_gzip()
                .referer(false)
                .connect_timeout(CONNECT_MAX)
                // Each call looks up, checks and connects for itself.
                .pool_max_idle_per_host(0)
                .dns_resolver(Resolver { lookup: Arc::clone(lookup), only_public })
                .build()
                .map_err(BuildError::Client)
        };
        Ok(Self {
            allow_http: config.allow_http,
            gate: Gate::build(config, Arc::clone(lookup))?,
            public: client(true)?,
            private: client(false)?,
        })
    }

    /// Where a request goes, if it may.
    fn admit(&self, request: &WebRequest) -> Result<Destination<'_>, WebError> {
        let url = parse(&request.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(0);
        if url.scheme() == "http" && !self.allow_http {
            let why =
                format!("{host} is called over plain http; use https, or ask the operator to allow http");
            return Err(never("host_not_allowed", why));
        }
        let manner = if url.scheme() == "https" { Manner::Https } else { Manner::Http };
        let reach = self.gate.judge(&request.allowed, &host, port, manner);
        let client = match reach.map_err(|denied| never(denied.code, denied.message))? {
            Reach::Private => &self.private,
            Reach::Public => &self.public,
        };
        Ok(Destination { client, url, host, port })
    }
}

struct Destination<'a> {
    client: &'a reqwest::Client,
    url: Url,
    host: String,
    port: u16,
}

#[async_trait]
impl Web for Egress {
    async fn send(&self, request: WebRequest) -> Result<WebResponse, WebError> {
        self.gate.look(&request.allowed).await;
        let to = self.admit(&request)?;
        let outgoing = to.client.request(method(&request.method)?, to.url.clone());
        let outgoing = outgoing.headers(headers(&request.headers)?).body(request.body.clone());
        let result = timeout(request.timeout, exchange(outgoing, &to, request.max_bytes)).await;
        let result = result.unwrap_or_else(|_| {
            let why = format!("{}:{} did not answer within {:?}", to.host, to.port, request.timeout);
            Err(WebError { code: "timed_out", message: why, retry: Retry::Later })
        });
        match &result {
            Ok(response) => tracing::info!(
                web.host = %to.host, web.port = to.port, web.status = response.status,
                "{}:{} answered {}", to.host, to.port, response.status
            ),
            Err(error) => {
                tracing::info!(web.host = %to.host, web.port = to.port, web.code = error.code, "{error}");
            }
        }
        result
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    to: &Destination<'_>,
    max_bytes: usize,
) -> Result<WebResponse, WebError> {
    let mut response = request.send().await.map_err(|error| unanswered(&error, to))?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unanswered(&error, to))? {
        if body.len() + chunk.len() > max_bytes {
            let why = format!("the answer of {} is longer than {max_bytes} bytes", to.host);
            return Err(never("too_large", why));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(WebResponse { status, headers, body: Bytes::from(body) })
}

fn never(code: &'static str, message: String) -> WebError {
    WebError { code, message, retry: Retry::Never }
}

/// What an error of the connection means. Its own words may hold the address with its query.
fn unanswered(error: &reqwest::Error, to: &Destination<'_>) -> WebError {
    let mut cause = error.source();
    let mut deepest = String::new();
    while let Some(deeper) = cause {
        if let Some(refused) = deeper.downcast_ref::<Refused>() {
            return never("address_refused", refusal(&to.host, refused.kind));
        }
        deepest = deeper.to_string();
        cause = deeper.source();
    }
    let what = if error.is_timeout() || error.is_connect() {
        "cannot be reached"
    } else {
        "broke off the connection"
    };
    let message = format!("{}:{} {what}: {deepest}", to.host, to.port);
    WebError { code: "unreachable", message, retry: Retry::Later }
}

fn parse(text: &str) -> Result<Url, WebError> {
    let refused = |why: &str| never("invalid_url", format!("the address {why}"));
    if text.len() > URL_MAX {
        return Err(refused("is longer than 8 KiB"));
    }
    // The parser would drop these in silence, and so call another address than the one written.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refused("has white space or a control character in it; encode it"));
    }
    let mut url = Url::parse(text).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    // The parser reads `https:///x` and `https:x` as host `x`: nobody means that.
    if text.split_once("://").is_none_or(|(_, rest)| rest.starts_with(['/', '\\'])) {
        return Err(refused("must have a host after `https://`"));
    }
    // A dot at the end says only that the name is absolute.
    if let Some(plain) = url.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
        url.set_host(Some(&plain)).map_err(|_| refused("has no host"))?;
    }
    if !matches!(url.scheme(), "https" | "http") {
        return Err(refused("must begin with https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("has a user or password in it; put them into a header"));
    }
    Ok(url)
}

fn method(text: &str) -> Result<Method, WebError> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) | Err(_) => {
            let why = "the request's method is not one that can be sent; use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS";
            Err(never("invalid_request", why.to_owned()))
        }
        Ok(method) => Ok(method),
    }
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, WebError> {
    let refused = |why: String| never("invalid_request", why);
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| refused(format!("`{shown}` is no header's name")))?;
        if OURS.contains(&name.as_str()) {
            return Err(refused(format!("the header `{shown}` is set by the server itself")));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            refused(format!("the value of header `{shown}` has a line break or control character in it"))
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Looks names up for a client, and refuses those that lead where they must not.
struct Resolver {
    lookup: Arc<Lookup>,
    only_public: bool,
}

/// A name that leads where it must not.
#[derive(Debug)]
struct Refused {
    kind: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host is {}", self.kind)
    }
}

impl std::error::Error for Refused {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (looking, only_public) = ((self.lookup)(name.as_str().to_owned()), self.only_public);
        Box::pin(async move {
            let found = looking.await?;
            // One bad address among good ones is a name that plays games.
            if only_public && let Some(kind) = found.iter().find_map(|ip| address::refused(*ip)) {
                return Err(Refused { kind }.into());
            }
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
#[path = "web/tests.rs"]
mod tests;
