//! A server's API, as the commands need it: requests, their refusals in words, and live streams that
//! survive a broken connection.
//!
//! Redirects are not followed: the token is for the server that was named, and for no other.

pub(crate) mod answers;
mod events;
mod server_url;
mod stream;

use std::time::Duration;

use anyhow::anyhow;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::cli::Global;
use crate::credentials::Credentials;
use crate::exit::{CommandError, Exit};
use crate::server::DEFAULT_LISTEN;
use crate::tools;
use answers::{Part, Problem};

pub(crate) use server_url::ServerUrl;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent. A quiet stream has a line of comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest answer, bytes.
const LONGEST: usize = 64 << 20;
/// How often something that is safe to repeat is tried, and the wait before the second time.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// A server, and who is asking it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: ServerUrl,
    token: Option<SecretString>,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy)]
struct Call<'c> {
    method: &'c Method,
    url: &'c Url,
    body: Option<&'c Json>,
    /// Makes a repeated call the same as one.
    key: Option<&'c str>,
}

impl Client {
    /// The server that the command line, the environment or the last sign-in names, asked by whoever is
    /// signed in there.
    pub(crate) fn connect(global: &Global) -> Result<Self, CommandError> {
        let given = tools::variable("SPELLBOOK_TOKEN").map(|token| token.trim().to_owned());
        let given = given.filter(|token| !token.is_empty()).map(SecretString::from);
        // Where nothing is asked of it, a broken file breaks nothing.
        if let (Some(server), Some(token)) = (&global.server, &given) {
            return Self::new(server_url(server)?, Some(token.clone()));
        }
        let credentials = Credentials::read()?;
        let server = match &global.server {
            Some(text) => server_url(text)?,
            None => match credentials.last_server() {
                Some(server) => server,
                None => server_url(&format!("http://{DEFAULT_LISTEN}"))?,
            },
        };
        let token = given.or_else(|| credentials.token(&server));
        Self::new(server, token)
    }

    /// A server, asked with a token or as a stranger.
    pub(crate) fn new(server: ServerUrl, token: Option<SecretString>) -> Result<Self, CommandError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("spellbook/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                CommandError::failed("http_unusable", "no HTTP client can be made").because(error)
            })?;
        Ok(Self { http, server, token })
    }

    /// The server.
    pub(crate) fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Gets what is at a path below `/api/v1`.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Json, CommandError> {
        let url = self.url(path, query);
        self.repeatedly(Call { method: &Method::GET, url: &url, body: None, key: None }).await
    }

    /// Gets what is at a path below `/api/v1` as it is.
    pub(crate) async fn bytes(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<u8>, CommandError> {
        let url = self.url(path, query);
        let response = self.send(self.request(&Method::GET, &url)).await.map_err(|refused| refused.error)?;
        body(response).await.map_err(|error| self.broken(error))
    }

    /// Gets all entries of a list, part by part.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<Json>, CommandError> {
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let part = self.part(path, query, after.as_deref()).await?;
            entries.extend(part.items);
            after = part.next;
            if after.is_none() {
                return Ok(entries);
            }
        }
    }

    /// Gets one part of a list: the entries after a cursor, and the next cursor.
    pub(crate) async fn part(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        after: Option<&str>,
    ) -> Result<Part<Json>, CommandError> {
        let mut query: Vec<(&str, &str)> = query.to_vec();
        query.push(("limit", "200"));
        query.extend(after.map(|after| ("after", after)));
        let part: Part<Json> = understood(self.get(path, &query).await?)?;
        // A server that gives the same cursor for ever would be asked for ever.
        let more = !part.items.is_empty() && part.next.as_deref() != after;
        Ok(Part { next: part.next.filter(|_| more), ..part })
    }

    /// Asks for something to be done, once.
    pub(crate) async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Json, CommandError> {
        let (url, body) = (self.url(path, &[]), serde_json::to_value(body).map_err(anyhow::Error::from)?);
        let call = Call { method: &Method::POST, url: &url, body: Some(&body), key: None };
        self.once(call).await.map_err(|refusal| refusal.error)
    }

    /// Makes what is at a path another.
    pub(crate) async fn put(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Json,
    ) -> Result<Json, CommandError> {
        let url = self.url(path, query);
        let call = Call { method: &Method::PUT, url: &url, body: Some(body), key: None };
        self.once(call).await.map_err(|refusal| refusal.error)
    }

    /// Removes what is at a path; the answer is null.
    pub(crate) async fn delete(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Json, CommandError> {
        let url = self.url(path, query);
        let call = Call { method: &Method::DELETE, url: &url, body: None, key: None };
        self.once(call).await.map_err(|refusal| refusal.error)
    }

    /// Asks for something to be done under a key: when the answer is lost it is asked for again, and
    /// still done once.
    pub(crate) async fn post_keyed(
        &self,
        path: &[&str],
        body: &impl Serialize,
        key: &str,
    ) -> Result<Json, CommandError> {
        let (url, body) = (self.url(path, &[]), serde_json::to_value(body).map_err(anyhow::Error::from)?);
        self.repeatedly(Call { method: &Method::POST, url: &url, body: Some(&body), key: Some(key) }).await
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let segments: Vec<&str> = ["api", "v1"].iter().chain(path).copied().collect();
        self.server.at(&segments, query)
    }

    async fn repeatedly(&self, call: Call<'_>) -> Result<Json, CommandError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) if refusal.again.is_some() && tries < TRIES => {
                    tokio::time::sleep(refusal.again.unwrap_or_default().max(PAUSE * tries)).await;
                }
                Err(refusal) => return Err(refusal.error),
            }
        }
    }

    async fn once(&self, call: Call<'_>) -> Result<Json, Refused> {
        let mut request = self.request(call.method, call.url).header(header::ACCEPT, "application/json");
        if let Some(key) = call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Json::Null);
        }
        let bytes = body(response)
            .await
            .map_err(|error| Refused { again: Some(PAUSE), error: self.broken(error) })?;
        serde_json::from_slice(&bytes).map_err(|error| Refused::finally(self.no_spellbook().because(error)))
    }

    fn request(&self, method: &Method, url: &Url) -> RequestBuilder {
        let request = self.http.request(method.clone(), url.clone());
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Sends a request; an answer that is not a success is a refusal.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let response = request.send().await.map_err(|error| Refused {
            again: (error.is_connect() || error.is_timeout() || error.is_request()).then_some(PAUSE),
            error: self.unreachable(error),
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// What a server that says no means for the person who asked.
    async fn refused(&self, response: Response) -> Refused {
        let status = response.status();
        if let Some(target) = response.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            let message = format!("the server at {} sends us elsewhere: {target}", self.server);
            let help = "if that is where it is now, name it by --server or `spellbook login`";
            return Refused::finally(CommandError::unavailable("redirected", message).help(help));
        }
        let wait =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let again = matches!(status.as_u16(), 429 | 502 | 503 | 504)
            .then(|| wait.map_or(PAUSE, Duration::from_secs).min(Duration::from_secs(10)));
        let problem: Problem = match body(response).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Problem::default(),
        };
        Refused { again, error: self.explained(status, problem) }
    }

    fn explained(&self, status: StatusCode, problem: Problem) -> CommandError {
        let words = problem.detail.or(problem.title).unwrap_or_else(|| {
            format!("the server at {} answers {status} and does not say why", self.server)
        });
        let code = problem.code.unwrap_or_else(|| format!("http_{}", status.as_u16()));
        let error = CommandError::new(exit_of(status), code, words);
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                error.help(format!("spellbook login {}", self.server))
            }
            StatusCode::UNAUTHORIZED => error.help(format!("sign in again: spellbook login {}", self.server)),
            StatusCode::FORBIDDEN => error.help("ask an administrator of the server for a token that may"),
            status if status.is_server_error() => {
                error.help(format!("try again; the log of the server at {} says more", self.server))
            }
            _ => error,
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> CommandError {
        let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        // The address stands in the message already.
        CommandError::unavailable("server_unreachable", format!("the server at {} {what}", self.server))
            .because(error.without_url())
            .help("is it running? `spellbook serve` starts one; --server or SPELLBOOK_SERVER names another")
    }

    fn broken(&self, error: anyhow::Error) -> CommandError {
        CommandError::unavailable(
            "answer_broken",
            format!("the answer of the server at {} broke off", self.server),
        )
        .because(error)
    }

    fn no_spellbook(&self) -> CommandError {
        let message = format!("what {} answers is not what a Spellbook server says", self.server);
        CommandError::unavailable("not_a_spellbook_server", message).help("check the address")
    }
}

/// A request that was not answered as wished.
#[derive(Debug)]
struct Refused {
    error: CommandError,
    /// After how long the same may be asked again, when that may help.
    again: Option<Duration>,
}

impl Refused {
    fn finally(error: CommandError) -> Self {
        Self { error, again: None }
    }
}

/// The exit code for a status.
fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::TOO_MANY_REQUESTS => Exit::Unavailable,
        status if status.is_server_error() => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

/// A body, if it is not longer than any of ours.
async fn body(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LONGEST {
            return Err(anyhow!("it is longer than {} MiB", LONGEST >> 20));
        }
    }
    Ok(bytes)
}

/// The address of a server, from the command line.
pub(crate) fn server_url(text: &str) -> Result<ServerUrl, CommandError> {
    text.parse()
        .map_err(|error: server_url::ServerUrlError| CommandError::usage("invalid_server", error.to_string()))
}

/// An answer as the type that a command shows.
pub(crate) fn understood<T: DeserializeOwned>(answer: Json) -> Result<T, CommandError> {
    serde_json::from_value(answer).map_err(|error| {
        CommandError::unavailable("answer_not_understood", "the server's answer is not understood")
            .because(error)
            .help("is the server of another version? `spellbook --version` says this program's")
    })
}
