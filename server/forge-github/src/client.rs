//! One request to GitHub's API and its answer, whatever it says. Nothing is tried again here: who asked
//! knows whether that is safe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::service::middleware::extra_headers::ExtraHeadersLayer;
use octocrab::service::middleware::reqwest_connector::ReqwestConnector;
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use reqwest::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::config::{BuildError, Config};
use crate::failure::Failure;

/// The longest list of GitHub is a few megabytes.
const LARGEST_ANSWER: usize = 16 << 20;
const OURSELVES: &str = concat!("spellbook/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A repository that was renamed answers with where it is now.
const MOST_REDIRECTS: usize = 3;

/// What is to be done with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

/// An answer, of any status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Null when there is none, or it is not JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The page after this one, as a path and query below the API (RFC 8288).
    pub(crate) fn next_page(&self, api_url: &str) -> Option<String> {
        self.header("link")?.split(',').find_map(|link| {
            let (target, words) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = words.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next"));
            if is_next { below(api_url, target) } else { None }
        })
    }
}

/// The client for one GitHub.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: BaseUriLayer,
    api_url: String,
    timeout: Duration,
}

impl Client {
    pub(crate) fn build(config: &Config) -> Result<Self, BuildError> {
        // Another part of the program may have done so already; one is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| BuildError::Client(error.to_string()))?;
        let api_url = config.api_url.trim_end_matches('/').to_owned();
        let wrong = || BuildError::Address { url: api_url.clone(), rule: "is no address" };
        let base = BaseUriLayer::new(api_url.parse().map_err(|_| wrong())?);
        Ok(Self { http, base, api_url, timeout: config.timeout })
    }

    pub(crate) fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Asks, with `path` below the API. Of redirects only those of a read are followed, and only to the
    /// same API: a credential goes nowhere else, and a write is not repeated.
    ///
    /// # Errors
    /// When there is no answer; what was asked may have happened nevertheless.
    pub(crate) async fn send(
        &self,
        bearer: Option<&SecretString>,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let asked = self.once(bearer, verb, &path, body);
            let answer = tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(|_| {
                Err(Failure::later(format!("GitHub did not answer within {} s", self.timeout.as_secs())))
            })?;
            let target = answer.header("location").and_then(|target| below(&self.api_url, target));
            match (answer.status, verb, target) {
                (301 | 302 | 307 | 308, Verb::Get, Some(target)) => path = target,
                _ => return Ok(answer),
            }
        }
        Err(Failure::later("GitHub redirects for ever"))
    }

    async fn once(
        &self,
        bearer: Option<&SecretString>,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let octocrab = self.octocrab(bearer);
        let response = match verb {
            Verb::Get => octocrab._get(path).await,
            Verb::Post => octocrab._post(path, body).await,
            Verb::Patch => octocrab._patch(path, body).await,
            Verb::Delete => octocrab._delete(path, body).await,
        };
        let response = response.map_err(|error| unreachable(&error))?;
        let (parts, body) = response.into_parts();
        let bytes = Limited::new(body, LARGEST_ANSWER).collect().await;
        let bytes = bytes.map_err(|error| Failure::later(format!("GitHub's answer broke off: {error}")))?;
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().filter_map(header).collect(),
            body: serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null),
        })
    }

    /// Building one costs microseconds; the connections are those of the client that all share. It is put
    /// together by hand, since the name of its maker is among the headers that its own builder sends.
    fn octocrab(&self, bearer: Option<&SecretString>) -> Octocrab {
        let mut headers = vec![(USER_AGENT, HeaderValue::from_static(OURSELVES))];
        if let Some(bearer) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {}", bearer.expose_secret()));
            let mut value = value.expect("because tokens are checked when they come");
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        let built = OctocrabBuilder::new_empty()
            .with_service(ReqwestConnector::new(self.http.clone()))
            .with_layer(&ExtraHeadersLayer::new(Arc::new(headers)))
            .with_layer(&self.base)
            .with_auth(AuthState::None)
            .build();
        match built {
            Ok(octocrab) => octocrab,
            Err(never) => match never {},
        }
    }
}

/// Whether text may be sent as a token: a line break in it would end the header.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A part of a path or query, with everything escaped that means something there.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A path of several parts, as the name of a branch is, each of them escaped.
pub(crate) fn escaped_path(path: &str) -> String {
    path.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

/// The path and query of an address below the API; `None` when it is somewhere else.
fn below(api_url: &str, target: &str) -> Option<String> {
    let path = target.strip_prefix(api_url)?;
    path.starts_with('/').then(|| path.to_owned())
}

/// The whole chain of an error, without the address, which is GitHub's own.
fn unreachable(error: &octocrab::Error) -> Failure {
    let mut words = vec!["GitHub cannot be reached".to_owned()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    Failure::later(words.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = "https://ghe.example.com/api/v3";

    #[test]
    fn only_pages_of_the_same_api_are_followed() {
        let next = |link: &str| {
            let headers = BTreeMap::from([("link".to_owned(), link.to_owned())]);
            Answer { status: 200, headers, body: Value::Null }.next_page(API)
        };
        let here = format!("<{API}/user?page=1>; rel=\"prev\", <{API}/user?page=3>; rel=\"next\"");
        assert_eq!(next(&here).as_deref(), Some("/user?page=3"));
        assert_eq!(next("<https://evil.example/user?page=3>; rel=\"next\""), None);
        assert_eq!(next("<https://ghe.example.com/api/v3.evil.example/x>; rel=\"next\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a/b c?d=é#~"), "a%2Fb%20c%3Fd%3D%C3%A9%23~");
        assert_eq!(escaped_path("fix/50%#1"), "fix/50%25%231");
    }

    #[test]
    fn a_token_with_a_line_break_is_none() {
        assert!(is_token("ghp_abc") && !is_token("ghp_abc\n") && !is_token("") && !is_token("ghp é"));
    }
}
