//! Other people's servers from a tape.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ports::Retry;
use ports::web::{Web, WebError, WebRequest, WebResponse};
use serde_json::Value as Json;

use crate::cassette::{Body, Failed, Reply, Returned, Sent, WebRecording};
use crate::tape::Tape;

/// What stands for a header's value that is nobody's business.
const HIDDEN: &str = "(hidden)";
/// Words in the names of headers whose values are hidden, whatever they are.
const PRIVATE: [&str; 8] =
    ["auth", "cookie", "token", "secret", "key", "password", "signature", "credential"];
/// The header in which an MCP server names a session.
const SESSION: &str = "mcp-session-id";
/// Failures of a request; the code is one of these words again when it is replayed.
const CODES: [&str; 6] =
    ["host_not_allowed", "address_refused", "timed_out", "unreachable", "too_large", "invalid_url"];

/// Servers that answer from a tape.
#[derive(Debug)]
pub struct TapedWeb {
    tape: Arc<Tape>,
    real: Arc<dyn Web>,
    /// Sessions as their servers call them. Whoever knows a name could speak in its session, and it is another
    /// one in each recording: a tape has their numbers.
    sessions: Mutex<Vec<String>>,
}

impl TapedWeb {
    /// With this behind it, which a replay never uses.
    pub fn new(tape: Arc<Tape>, real: Arc<dyn Web>) -> Self {
        Self { tape, real, sessions: Mutex::default() }
    }

    fn sent(&self, request: &WebRequest) -> Sent {
        let scrub = &self.tape.scrub;
        let header = |(name, value): &(String, String)| {
            let lower = name.to_ascii_lowercase();
            let private = PRIVATE.iter().any(|word| lower.contains(word));
            format!("{lower}: {}", if private { HIDDEN.to_owned() } else { scrub.text(value) })
        };
        let is_json = request.headers.iter().any(|(name, value)| is_json(name, value));
        Sent {
            method: request.method.clone(),
            url: scrub.text(&request.url),
            headers: request.headers.iter().map(header).collect(),
            body: self.body(&request.body, is_json),
        }
    }

    /// The number that stands for a session.
    fn numbered(&self, session: &str) -> String {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sessions.iter().position(|known| known == session).unwrap_or_else(|| {
            sessions.push(session.to_owned());
            sessions.len() - 1
        });
        format!("session-{}", at + 1)
    }

    /// The request as the server of its session knows it.
    fn in_session(&self, mut request: WebRequest) -> WebRequest {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, value) in request.headers.iter_mut().filter(|(name, _)| is_session(name)) {
            let number = value.strip_prefix("session-").and_then(|number| number.parse::<usize>().ok());
            let real = number.and_then(|number| sessions.get(number.checked_sub(1)?));
            if let Some(real) = real {
                real.clone_into(value);
            }
        }
        request
    }

    fn body(&self, bytes: &Bytes, is_json: bool) -> Option<Body> {
        let scrub = &self.tape.scrub;
        if bytes.is_empty() {
            return None;
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Some(Body::Base64(scrub.text(&STANDARD.encode(bytes))));
        };
        let json = is_json.then(|| serde_json::from_str::<Json>(text).ok()).flatten();
        Some(json.map_or_else(|| Body::Text(scrub.text(text)), |json| Body::Json(scrub.json(json))))
    }
}

fn is_session(name: &str) -> bool {
    name.eq_ignore_ascii_case(SESSION)
}

fn is_json(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case("content-type") && value.contains("json")
}

#[async_trait]
impl Web for TapedWeb {
    async fn send(&self, request: WebRequest) -> Result<WebResponse, WebError> {
        let sent = self.sent(&request);
        let what = format!("{} {}", sent.method, sent.url);
        let nothing = Failed { code: String::new(), message: String::new(), retry: false };
        let blank = WebRecording { shown: String::new(), request: sent, reply: Reply::Failure(nothing) };
        if let Some(recording) = self.tape.play(&what, &blank, |state| &mut state.web) {
            return replayed(recording.reply);
        }
        if self.tape.is_replay() {
            let message = "this request has no recording; `spellbook test --record` sends it".to_owned();
            return Err(WebError { code: "not_recorded", message, retry: Retry::Never });
        }
        let answer = self.real.send(self.in_session(request)).await;
        let reply = match &answer {
            Ok(response) => {
                let kind = response.headers.iter().find(|(name, _)| name == "content-type");
                let is_json = kind.is_some_and(|(name, value)| is_json(name, value));
                let session = response.headers.iter().find(|(name, _)| is_session(name));
                Reply::Answer(Returned {
                    status: response.status,
                    content_type: kind.map(|(_, value)| value.clone()),
                    session: session.map(|(_, value)| self.numbered(value)),
                    body: self.body(&response.body, is_json),
                })
            }
            Err(error) => Reply::Failure(Failed {
                code: error.code.to_owned(),
                message: self.tape.scrub.text(&error.message),
                retry: error.retry == Retry::Later,
            }),
        };
        self.tape.state().web.keep(WebRecording { reply: reply.clone(), ..blank });
        // A recorded run goes on with what a replay will go on with.
        replayed(reply)
    }
}

fn replayed(reply: Reply<Returned>) -> Result<WebResponse, WebError> {
    let returned = match reply {
        Reply::Answer(returned) => returned,
        Reply::Failure(Failed { code, message, retry }) => {
            let code = CODES.into_iter().find(|known| *known == code).unwrap_or("unreachable");
            return Err(WebError { code, message, retry: if retry { Retry::Later } else { Retry::Never } });
        }
    };
    let body = match returned.body {
        None => Bytes::new(),
        Some(Body::Json(json)) => Bytes::from(json.to_string()),
        Some(Body::Text(text)) => Bytes::from(text),
        Some(Body::Base64(text)) => Bytes::from(STANDARD.decode(text).unwrap_or_default()),
    };
    let headers = [("content-type", returned.content_type), (SESSION, returned.session)];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Ok(WebResponse { status: returned.status, headers, body })
}

impl Sent {
    /// The request, as lines for people.
    pub(crate) fn script(&self) -> String {
        let mut lines = vec![format!("{} {}", self.method, self.url)];
        lines.extend(self.headers.iter().cloned());
        lines.extend(self.body.iter().map(|body| match body {
            Body::Json(json) => format!("\n{json:#}"),
            Body::Text(text) | Body::Base64(text) => format!("\n{text}"),
        }));
        lines.join("\n")
    }
}
