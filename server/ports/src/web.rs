//! Calls of other people's servers, for `http` stages.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Calls addresses on behalf of a daemon. Only what `allowed` names is reached, by name and port,
/// resolved once; private, loopback and link-local addresses are refused unless the operator's own
/// configuration allows them; redirects are not followed.
#[async_trait]
pub trait Web: std::fmt::Debug + Send + Sync {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer; a status of 400 or more is an answer.
    async fn send(&self, request: WebRequest) -> Result<WebResponse, WebError>;
}

/// A request.
#[derive(Clone)]
pub struct WebRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Where to: `https`, or `http` where the operator allows it.
    pub url: String,
    /// Headers in order; they may hold secrets.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
    /// Hosts and named sets that may be reached: `api.example.com`, `*.example.com`, `host:8443`.
    pub allowed: Vec<String>,
    /// From the first byte sent to the last byte read.
    pub timeout: Duration,
    /// The largest answer, bytes; a longer one is an error.
    pub max_bytes: usize,
}

/// Leaves out headers and body: they may hold secrets.
impl std::fmt::Debug for WebRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct WebResponse {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct WebError {
    /// `host_not_allowed`, `address_refused`, `timed_out`, `unreachable`, `too_large`, `invalid_url`.
    pub code: &'static str,
    /// What happened and what to do, for people; never a secret.
    pub message: String,
    /// Whether trying again may help.
    pub retry: crate::Retry,
}
