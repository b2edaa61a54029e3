use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use ports::Retry;
use ports::web::{Web, WebError, WebRequest, WebResponse};

use super::Asked;

type Script = dyn Fn(&WebRequest) -> Result<WebResponse, WebError> + Send + Sync;

/// A web whose servers answer by a script. Like the real one it refuses a host that the request does
/// not allow; named sets and addresses are not looked into.
pub struct ScriptedWeb {
    script: Box<Script>,
    asked: Asked<WebRequest>,
}

impl ScriptedWeb {
    /// A web whose servers answer as `script` says.
    pub fn new(
        script: impl Fn(&WebRequest) -> Result<WebResponse, WebError> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Box::new(script), asked: Asked::nothing() }
    }

    /// An answer.
    pub fn answer(status: u16, body: &str) -> WebResponse {
        WebResponse { status, headers: Vec::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// No answer: the server cannot be reached.
    pub fn unreachable(message: &str) -> WebError {
        WebError { code: "unreachable", message: message.to_owned(), retry: Retry::Later }
    }

    /// The requests that got through, in order.
    pub fn requests(&self) -> Vec<WebRequest> {
        self.asked.all()
    }
}

impl fmt::Debug for ScriptedWeb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedWeb").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[async_trait]
impl Web for ScriptedWeb {
    async fn send(&self, request: WebRequest) -> Result<WebResponse, WebError> {
        let Some((host, port)) = host_and_port(&request.url) else {
            let message = format!("`{}` is not an http address", request.url);
            return Err(WebError { code: "invalid_url", message, retry: Retry::Never });
        };
        if !request.allowed.iter().any(|allowed| allows(allowed, &host, port)) {
            let message = format!("the daemon may not reach {host}");
            return Err(WebError { code: "host_not_allowed", message, retry: Retry::Never });
        }
        self.asked.note(&request);
        let response = (self.script)(&request)?;
        if response.body.len() > request.max_bytes {
            let message = format!("the answer is longer than {} bytes", request.max_bytes);
            return Err(WebError { code: "too_large", message, retry: Retry::Never });
        }
        Ok(response)
    }
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let usual = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        None => (authority, usual),
        Some((host, port)) => (host, port.parse().ok()?),
    };
    (!host.is_empty()).then(|| (host.to_lowercase(), port))
}

fn allows(allowed: &str, host: &str, port: u16) -> bool {
    let (name, only) = match allowed.rsplit_once(':') {
        None => (allowed, None),
        Some((name, only)) => (name, only.parse::<u16>().ok()),
    };
    let named = match name.strip_prefix("*.") {
        None => name == host,
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
    };
    named && only.is_none_or(|only| only == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_is_reached() {
        let check = |allowed: &str, url: &str, expect: bool| {
            let reached = host_and_port(url).is_some_and(|(host, port)| allows(allowed, &host, port));
            assert_eq!(reached, expect, "{url} where {allowed} is allowed");
        };
        check("api.example.com", "https://api.example.com/v1", true);
        check("api.example.com", "https://evil.com/api.example.com", false);
        check("api.example.com", "https://api.example.com@evil.com/", false);
        check("*.example.com", "https://a.b.example.com", true);
        check("*.example.com", "https://example.com", false);
        check("*.example.com", "https://badexample.com", false);
        check("127.0.0.1:8443", "http://127.0.0.1:8443/x", true);
        check("127.0.0.1:8443", "http://127.0.0.1/x", false);
        check("api.example.com", "ftp://api.example.com", false);
    }
}
