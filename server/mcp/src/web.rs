//! Streamable HTTP with every request made by [`Web`].
//!
//! An answer is read whole, streams of events too: they end with the answer (MCP, "Sending Messages to the
//! Server"). A stream of what a server says unasked is not opened: nobody here would listen.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderName, HeaderValue};
use ports::Retry;
use ports::mcp::McpError;
use ports::web::{Web, WebError, WebRequest, WebResponse};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};

use crate::client::shown;

const SESSION: &str = "mcp-session-id";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// Calls one address.
#[derive(Clone)]
pub(crate) struct Caller {
    web: Arc<dyn Web>,
    /// Every request is one like this.
    pattern: Arc<WebRequest>,
}

/// No answer, or none that is understood.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered(WebError);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Unanswered {}

type Failed = StreamableHttpError<Unanswered>;

/// What an error of the SDK's transport comes from, where it comes from a call.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> Option<McpError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(StreamableHttpError::Client(Unanswered(WebError { code, message, retry }))) =
            error.downcast_ref::<Failed>()
        {
            return Some(McpError { code, message: message.clone(), retry: *retry });
        }
        if let Some(error) = error.downcast_ref::<Failed>() {
            let message = format!("its answer is not understood: {}", shown(&error.to_string()));
            return Some(McpError { code: "mcp_not_understood", message, retry: Retry::Never });
        }
        next = error.source();
    }
    None
}

impl Caller {
    pub(crate) fn new(web: Arc<dyn Web>, pattern: WebRequest) -> Self {
        Self { web, pattern: Arc::new(pattern) }
    }

    /// Sends one request. The SDK's own headers come after those of the pattern, in the same order each time.
    async fn send(
        &self,
        method: &str,
        body: Bytes,
        session: Option<&str>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Result<WebResponse, Failed> {
        let mut request = WebRequest { method: method.to_owned(), body, ..(*self.pattern).clone() };
        let mut own = vec![("accept".to_owned(), format!("{JSON}, {EVENTS}"))];
        if !request.body.is_empty() {
            own.push(("content-type".to_owned(), JSON.to_owned()));
        }
        own.extend(session.map(|session| (SESSION.to_owned(), session.to_owned())));
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut more: Vec<_> = more.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        more.sort();
        own.extend(more);
        request.headers.retain(|(name, _)| !own.iter().any(|(owned, _)| owned.eq_ignore_ascii_case(name)));
        request.headers.extend(own);
        self.web.send(request).await.map_err(|error| StreamableHttpError::Client(Unanswered(error)))
    }
}

/// What an answer to a message is.
fn read(
    response: WebResponse,
    message: &ClientJsonRpcMessage,
    session: Option<&str>,
) -> Result<StreamableHttpPostResponse, Failed> {
    let header =
        |name: &str| response.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let kind = header("content-type").map_or("", |kind| kind.split(';').next().unwrap_or_default().trim());
    let begun = header(SESSION).cloned();
    let asks = matches!(message, JsonRpcMessage::Request(_));
    match response.status {
        404 if session.is_some() => return Err(StreamableHttpError::SessionExpired),
        200..=299 if !asks => return Ok(StreamableHttpPostResponse::Accepted),
        200..=299 if kind.eq_ignore_ascii_case(EVENTS) => {
            let events = SseStream::from_bytes_stream(stream::iter([Ok::<_, std::convert::Infallible>(
                response.body,
            )]));
            return Ok(StreamableHttpPostResponse::Sse(events.boxed(), begun));
        }
        _ => {}
    }
    let parsed = serde_json::from_slice::<ServerJsonRpcMessage>(&response.body);
    match (response.status, parsed) {
        (200..=299, Ok(answer)) | (_, Ok(answer @ JsonRpcMessage::Error(_))) => {
            Ok(StreamableHttpPostResponse::Json(answer, begun))
        }
        (200..=299, Err(error)) => {
            let why = Cow::from(format!("{kind} that is not a message: {error}"));
            Err(StreamableHttpError::UnexpectedServerResponse(why))
        }
        _ => Err(refused(&response)),
    }
}

/// A status that is no success, in words.
fn refused(response: &WebResponse) -> Failed {
    let status = response.status;
    let retry = if status == 429 || status >= 500 { Retry::Later } else { Retry::Never };
    let more = match status {
        300..=399 => "redirects are not followed: declare the address that it leads to".to_owned(),
        401 | 403 => "it wants to know who asks: see `headers` of the server".to_owned(),
        _ => shown(&String::from_utf8_lossy(&response.body)),
    };
    let message = format!("it answered with status {status}: {more}");
    StreamableHttpError::Client(Unanswered(WebError { code: "mcp_refused", message, retry }))
}

impl StreamableHttpClient for Caller {
    type Error = Unanswered;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let body = Bytes::from(serde_json::to_vec(&message)?);
        let response = self.send("POST", body, session_id.as_deref(), custom_headers).await?;
        read(response, &message, session_id.as_deref())
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        // A server need not know it.
        self.send("DELETE", Bytes::new(), Some(&session_id), custom_headers).await.map(drop)
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        _session_id: Option<Arc<str>>,
        _last_event_id: Option<String>,
        _auth_header: Option<String>,
        _custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    }
}
