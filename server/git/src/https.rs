//! Git over https, on a client of our own: addresses are judged when they are connected to, redirects
//! stay on the host they came from, the credential goes to that host only and is held nowhere else,
//! connections are used again for the next poll.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gix::error::message;
use gix::protocol::transport::client::AuthenticationRequired;
use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse,
};
use ports::source::{RemotePolicy, SourceError};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::error::{Doing, of_status, refused};
use crate::meter::{Meter, Metered};
use crate::remote::allow;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 3;

/// A client that connects to what a policy allows.
pub(crate) fn client(policy: RemotePolicy, certificates: Option<&Path>) -> Result<Client, SourceError> {
    // Another part of the program may have done so already; one is enough.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("git/2 spellbook/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        .referer(false)
        .dns_resolver(Arc::new(Judging(policy)))
        .redirect(Policy::custom(|attempt| {
            let same_host =
                attempt.previous().last().is_some_and(|from| origin(from) == origin(attempt.url()));
            if !same_host {
                attempt.error("the remote redirects to another host; use the address of the new place")
            } else if attempt.previous().len() > MOST_REDIRECTS {
                attempt.error("the remote redirects for ever")
            } else {
                attempt.follow()
            }
        }));
    if let Some(path) = certificates {
        let pem = std::fs::read(path).doing("reading the certificates")?;
        builder = builder
            .tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem).doing("reading the certificates")?);
    }
    builder.build().doing("making the https client")
}

fn origin(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

/// Resolves a name and refuses it when any of its addresses is not allowed: what was judged is what
/// is connected to, so that a name cannot change its mind in between.
struct Judging(RemotePolicy);

impl Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                allow(address.ip(), policy)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The transport of one fetch.
pub(crate) struct Connection<'m> {
    pub(crate) client: Client,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) meter: &'m Meter,
    pub(crate) moved_to: Option<String>,
}

impl Connection<'_> {
    fn request(
        &self,
        request: RequestBuilder,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> RequestBuilder {
        let mut request = request.timeout(self.timeout);
        for header in headers {
            let Some((name, value)) = header.as_ref().split_once(':') else { continue };
            // gix introduces itself; we do that ourselves.
            if name.eq_ignore_ascii_case("user-agent") {
                continue;
            }
            let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value.trim()).ok());
            request = match parsed {
                Some((name, value)) => request.header(name, value),
                None => request,
            };
        }
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }
}

impl<'m> Http for Connection<'m> {
    type Headers = Part<'m>;
    type ResponseBody = BufReader<Part<'m>>;
    type PostBody = Posting<'m>;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let exchange = Shared::new(self.request(self.client.get(url), headers), self.meter);
        let final_url = exchange.lock().run().map_err(gix::Error::from_error)?;
        if let Some(tail) = url.strip_prefix(base_url)
            && final_url.as_str() != url
        {
            match final_url.as_str().strip_suffix(tail) {
                Some(base) => self.moved_to = Some(base.to_owned()),
                None => {
                    return Err(gix::Error::from_error(message("the remote redirects to something else")));
                }
            }
        }
        Ok(GetResponse { headers: exchange.headers(), body: exchange.body() })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let exchange = Shared::new(self.request(self.client.post(url), headers), self.meter);
        Ok(PostResponse {
            post_body: Posting(exchange.clone()),
            headers: exchange.headers(),
            body: exchange.body(),
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.moved_to.clone()
    }
}

/// A request that is sent when its answer is first looked at.
struct Exchange<'m> {
    state: State,
    meter: &'m Meter,
}

enum State {
    Collecting(Option<RequestBuilder>, Vec<u8>),
    Answered { headers: Cursor<Vec<u8>>, body: Response },
}

impl Exchange<'_> {
    /// Sends the request, once; gives the address that answered.
    fn run(&mut self) -> io::Result<Url> {
        if let State::Collecting(request, body) = &mut self.state {
            let Some(request) = request.take() else {
                return Err(io::Error::other("the request has failed"));
            };
            let response =
                request.body(std::mem::take(body)).send().map_err(|error| io::Error::other(words(error)))?;
            self.meter.status.store(status(&response).as_u16(), Ordering::Relaxed);
            if response.status() == StatusCode::UNAUTHORIZED {
                let why = AuthenticationRequired { www_authenticate: Vec::new() };
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            if response.status().is_redirection() {
                return Err(io::Error::other("the remote redirects to something else"));
            }
            if !response.status().is_success() {
                return Err(io::Error::other(format!("the remote answers {}", response.status())));
            }
            let mut headers = Vec::new();
            for (name, value) in response.headers() {
                headers.extend_from_slice(name.as_str().as_bytes());
                headers.push(b':');
                headers.extend_from_slice(value.as_bytes());
                headers.push(b'\n');
            }
            self.state = State::Answered { headers: Cursor::new(headers), body: response };
        }
        match &self.state {
            State::Answered { body, .. } => Ok(body.url().clone()),
            State::Collecting(..) => Err(io::Error::other("the request has failed")),
        }
    }
}

/// What a failure to connect, or to get an answer, means.
pub(crate) fn failure(error: reqwest::Error) -> SourceError {
    let text = words(error);
    if text.contains("not allowed here") || text.contains("redirects") {
        return SourceError::Refused(text);
    }
    SourceError::Unreachable(text)
}

/// The status of an answer; one that forbids for a while is "too many requests", as which not all forges send it.
fn status(response: &Response) -> StatusCode {
    let header = |name: &str| response.headers().get(name);
    let waits = header("retry-after").is_some()
        || header("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0");
    match response.status() {
        StatusCode::FORBIDDEN if waits => StatusCode::TOO_MANY_REQUESTS,
        status => status,
    }
}

/// What an answer's status means.
pub(crate) fn judge(response: &Response) -> Result<(), SourceError> {
    let status = status(response);
    if let Some(error) = of_status(status.as_u16()) {
        return Err(error);
    }
    if status.is_redirection() {
        return refused("the remote redirects to something else");
    }
    if status.is_success() {
        return Ok(());
    }
    let text = format!("the remote answers {status}");
    let may_change = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    Err(if may_change { SourceError::Unreachable(text) } else { SourceError::Refused(text) })
}

/// The failure and what it came from, without the address: it may be long and adds nothing.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[derive(Clone)]
struct Shared<'m>(Arc<Mutex<Exchange<'m>>>);

impl<'m> Shared<'m> {
    fn new(request: RequestBuilder, meter: &'m Meter) -> Self {
        Self(Arc::new(Mutex::new(Exchange { state: State::Collecting(Some(request), Vec::new()), meter })))
    }

    fn lock(&self) -> MutexGuard<'_, Exchange<'m>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers(&self) -> Part<'m> {
        Part { exchange: self.clone(), is_headers: true, buffer: Vec::new(), at: 0 }
    }

    fn body(&self) -> BufReader<Part<'m>> {
        let part = Part { exchange: self.clone(), is_headers: false, buffer: Vec::new(), at: 0 };
        BufReader::with_capacity(64 << 10, part)
    }
}

/// What is to be posted.
pub(crate) struct Posting<'m>(Shared<'m>);

impl Write for Posting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0.lock().state {
            State::Collecting(_, body) => body.extend_from_slice(bytes),
            State::Answered { .. } => return Err(io::Error::other("the request has been sent")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The headers, a line each, or the body of an answer.
pub(crate) struct Part<'m> {
    exchange: Shared<'m>,
    is_headers: bool,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut exchange = self.exchange.lock();
        exchange.run()?;
        let meter = exchange.meter;
        match &mut exchange.state {
            State::Answered { headers, .. } if self.is_headers => headers.read(buffer),
            State::Answered { body, .. } => Metered { inner: body, meter }.read(buffer),
            State::Collecting(..) => Ok(0),
        }
    }
}

impl BufRead for Part<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.buffer.len() {
            let mut chunk = vec![0; 4 << 10];
            let read = self.read(&mut chunk)?;
            chunk.truncate(read);
            (self.buffer, self.at) = (chunk, 0);
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}
