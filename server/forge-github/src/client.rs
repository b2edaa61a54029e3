//! One request to GitHub's API and its answer, whatever it says. Nothing is tried again here: who asked
//! knows whether that is safe.

use std::sync::Arc;
use std::time::Duration;

use forge_remote::{Answer, Failure, MOST_REDIRECTS, Verb};
use http_body_util::{BodyExt, Limited};
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::service::middleware::extra_headers::ExtraHeadersLayer;
use octocrab::service::middleware::reqwest_connector::ReqwestConnector;
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use reqwest::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::config::{BuildError, Config};

/// The longest list of GitHub is a few megabytes.
const LARGEST_ANSWER: usize = 16 << 20;
const OURSELVES: &str = concat!("spellbook/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Asks, with `path` below the API.
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
            match answer.redirect(verb, &self.api_url) {
                Some(target) => path = target,
                None => return Ok(answer),
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
            Verb::Put => octocrab._put(path, body).await,
            Verb::Delete => octocrab._delete(path, body).await,
        };
        let response = response.map_err(|error| Failure::unreachable("GitHub", &error))?;
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
