//! What a program is told that may not do what it asks for, in the words of its language, so that it
//! stops at once instead of trying again.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::class::{Class, Fault};
use crate::config::Dialect;

/// An answer broke off while it passed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BrokeOff(pub(super) String);

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BrokeOff>;

/// An answer.
pub(super) type Answer = Response<Body>;

/// Why a request is not done, or failed.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    /// A stable word for it.
    pub(super) code: &'static str,
    /// For people, and for models that read it; never a secret.
    pub(super) message: String,
    /// Whether trying again may help.
    again: bool,
}

impl Refusal {
    /// The request is malformed, or could be read in two ways.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request_invalid", message)
    }

    /// The token is missing, or another visit's.
    pub(super) fn no_token() -> Self {
        let why = "the key is not this run's: use the one that the program was started with";
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", why)
    }

    /// It is not for this guest.
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Nothing is left to spend.
    pub(super) fn spent(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, code, message)
    }

    /// The other side does not answer as it should.
    pub(super) fn upstream(message: impl Into<String>) -> Self {
        Self { again: true, ..Self::new(StatusCode::BAD_GATEWAY, "upstream_failed", message) }
    }

    /// The other side is silent.
    pub(super) fn silent(message: impl Into<String>) -> Self {
        Self { again: true, ..Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_silent", message) }
    }

    /// It was asked as much as it may be, and may be again later.
    pub(super) fn busy(target: &str, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000);
        let message = format!("{target} was asked as much as it may be in a minute; again in {seconds} s");
        Self { again: true, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message) }
    }

    /// What a fault of a call comes to.
    pub(super) fn of(target: &str, fault: &Fault) -> Self {
        let message = format!("{target} {}", fault.message);
        match (fault.code, fault.class) {
            (code @ ("cost_limit" | "budget_exhausted"), _) => Self::spent(code, message),
            ("budget_unavailable", _) => Self::upstream(message),
            ("unpriced_model", _) => Self::forbidden("unpriced_model", message),
            (_, Class::Account | Class::Unavailable) => {
                Self { again: false, ..Self::new(StatusCode::BAD_GATEWAY, "model_unavailable", message) }
            }
            _ => Self::upstream(message),
        }
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), again: false }
    }

    /// The answer in the language's own form of an error.
    pub(super) fn answer(&self, dialect: Option<Dialect>) -> Answer {
        let is_spent = self.status == StatusCode::PAYMENT_REQUIRED;
        // Codex tries again after 402, and stops at once after this.
        let as_quota = is_spent && dialect == Some(Dialect::OpenaiResponses);
        let (status, code) = if as_quota {
            (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota")
        } else {
            (self.status, self.code)
        };
        let mut answer = json_answer(status, &self.body(dialect, code));
        if !self.again {
            answer.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        answer
    }

    fn body(&self, dialect: Option<Dialect>, code: &str) -> Value {
        let message = &self.message;
        match dialect {
            Some(Dialect::AnthropicMessages) => {
                json!({ "type": "error", "error": { "type": self.anthropic_type(), "message": message } })
            }
            Some(Dialect::Gemini) => {
                let status = self.google_status();
                json!({ "error": { "code": self.status.as_u16(), "message": message, "status": status } })
            }
            _ => json!({ "error": { "message": message, "type": code, "param": null, "code": code } }),
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            400 => "invalid_request_error",
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            _ => "api_error",
        }
    }

    fn google_status(&self) -> &'static str {
        match self.status.as_u16() {
            400 | 413 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            402 | 429 => "RESOURCE_EXHAUSTED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            504 => "DEADLINE_EXCEEDED",
            _ => "UNAVAILABLE",
        }
    }

    /// The last event of a stream that broke, in the language's own form. Nothing says after it that
    /// the answer was whole.
    pub(super) fn event(&self, dialect: Dialect) -> Bytes {
        let (name, body) = match dialect {
            Dialect::AnthropicMessages => ("error", self.body(Some(dialect), self.code)),
            Dialect::OpenaiResponses => {
                let error = json!({ "code": "server_error", "message": self.message });
                let response = json!({ "object": "response", "status": "failed", "error": error });
                ("response.failed", json!({ "type": "response.failed", "response": response }))
            }
            Dialect::OpenaiImages => {
                ("error", json!({ "type": "error", "error": self.body(None, self.code)["error"] }))
            }
            Dialect::OpenaiChat | Dialect::Gemini => ("", self.body(Some(dialect), self.code)),
        };
        let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        Bytes::from(format!("\n{name}data: {body}\n\n"))
    }
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(whole(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A body that is there already.
pub(super) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
