//! "No", as programs are told it: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! The only place that chooses an HTTP status. What is said to the caller never holds what only the
//! operator may know; that is logged here, once.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Role;
use engine::{Refusal, RefusalKind};
use ports::source::SourceError;
use ports::store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not answered as wished.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// A name for this kind of problem: `urn:spellbook:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:spellbook:problem:not_found")]
    kind: String,
    /// The status in words.
    #[schema(example = "Not Found")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// Stable, for programs.
    #[schema(example = "not_found")]
    code: &'static str,
    /// What is wrong and what to do, for people.
    detail: String,
    #[serde(skip)]
    challenge: Option<&'static str>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:spellbook:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            challenge: None,
            retry_after: None,
        }
    }

    /// What was given makes no sense.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// There is nothing there that the caller may see.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// It contradicts how things are.
    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// Nobody knows who is asking.
    pub(crate) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, code, detail);
        Self { challenge: Some("Bearer realm=\"spellbook\""), ..problem }
    }

    /// The one who is asking may not.
    pub(crate) fn forbidden(needed: Role, has: Role) -> Self {
        let detail = format!("this needs the role {needed}; this token has {has}");
        Self::new(StatusCode::FORBIDDEN, "role_missing", detail)
    }

    /// Too often.
    pub(crate) fn rate_limited(wait: std::time::Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!("too many requests; try again in {seconds} s"),
        );
        Self { retry_after: u64::try_from(seconds).ok(), ..problem }
    }

    /// Not now.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// The server is at fault; the reason goes to the log only.
    pub(crate) fn internal(reason: &str) -> Self {
        tracing::error!(reason, "a request failed inside");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something is wrong on the server; its log says more under this response's x-request-id",
        )
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same, as git shows it to people: it prints bodies that are plain text (`remote: …`), and
    /// asks for a password only when challenged with `Basic`.
    pub(crate) fn for_git(self) -> Response {
        let challenge = self.challenge.map(|_| "Basic realm=\"spellbook\", charset=\"UTF-8\"");
        let text = format!("{} ({})\n", self.detail, self.code);
        let mut response = (self.status(), text).into_response();
        self.mark(&mut response, challenge);
        response
    }

    fn mark(&self, response: &mut Response, challenge: Option<&'static str>) {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        self.mark(&mut response, self.challenge);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::Invalid => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.code, refusal.message)
            }
            RefusalKind::NotFound => Self::new(StatusCode::NOT_FOUND, refusal.code, refusal.message),
            RefusalKind::Conflict => Self::conflict(refusal.code, refusal.message),
            RefusalKind::Forbidden => Self::new(StatusCode::FORBIDDEN, refusal.code, refusal.message),
            RefusalKind::Unavailable => {
                tracing::warn!(code = refusal.code, reason = refusal.message, "a request has to wait");
                Self::unavailable(refusal.code, "this is not possible at the moment; try again shortly")
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(reason, "the store is not available");
                Self::unavailable(
                    "store_unavailable",
                    "the store does not answer at the moment; try again shortly",
                )
            }
            StoreError::Conflict(reason) => {
                tracing::warn!(reason, "the store refuses");
                Self::conflict("conflict", "this contradicts what is stored; look again and repeat it")
            }
            StoreError::Corrupt(reason) => Self::internal(&reason),
        }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::NotFound(detail) => Self::not_found(detail),
            SourceError::Refused(detail) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "git_refused", detail)
            }
            SourceError::Unreachable(reason) | SourceError::Unauthorized(reason) => {
                tracing::warn!(reason, "git's other side does not answer");
                Self::unavailable(
                    "git_unreachable",
                    "the origin of the repository does not answer at the moment",
                )
            }
            SourceError::Broken(reason) => Self::internal(&reason),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        // The first words are axum's; what follows is where and why.
        let text = rejection.body_text();
        let why = text.split_once(": ").map_or(text.as_str(), |(_, why)| why);
        let detail = format!("the body does not fit: {why}");
        match rejection {
            JsonRejection::JsonDataError(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail)
            }
            JsonRejection::JsonSyntaxError(_) => Self::bad_request("invalid_json", detail),
            JsonRejection::MissingJsonContentType(_) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send the body as JSON, with `Content-Type: application/json`",
            ),
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            other => Self::new(other.status(), "invalid_body", detail),
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "the body is larger than this door allows",
            );
        }
        Self::bad_request("body_broken", "the body ended before its time")
    }
}

impl From<PathRejection> for Problem {
    fn from(_rejection: PathRejection) -> Self {
        Self::not_found("there is nothing at this address")
    }
}
