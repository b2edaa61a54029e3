//! Why a call of a model failed, and what is done then: the one table of it.
//!
//! Nine classes: eight of errors, and the stream that breaks after its first byte. A status is read
//! as a number and a code as a whole word; a provider's message decides only where some providers
//! say the thing nowhere else.

use std::time::Duration;

use ports::Retry;
use serde_json::Value;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The other side was away, slow or broken.
    Transient,
    /// Too many calls at once.
    RateLimited,
    /// The key is missing or wrong, or the account is out of money or rights.
    Account,
    /// There is no such model, or nothing answers there as configured.
    Unavailable,
    /// The model cannot do that: the question is too long, or it does not take a parameter.
    Capability,
    /// A filter or the model itself refused.
    Content,
    /// The question is wrong, and would be wrong everywhere.
    Request,
    /// We ended it ourselves.
    Local,
    /// The answer broke off after it had begun.
    StreamBroken,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether the same target is asked again.
    pub(crate) same: Same,
    /// Whether the next target is asked.
    pub(crate) next: Next,
    /// The failure's code, when nobody is left to ask.
    pub(crate) code: &'static str,
    /// Whether the stage may be tried again.
    pub(crate) retry: Retry,
}

/// Whether the same target is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    /// No.
    Never,
    /// After a while that grows, and not before `Retry-After`.
    Backoff,
    /// Only when it says how long to wait, and that is not long.
    RetryAfter,
}

/// Whether the next target is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// No: it would be as wrong there.
    Stop,
    /// Yes.
    Any,
    /// Yes, but none that reads no more than this one.
    Larger,
}

impl Class {
    /// The word in the ledger.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::RateLimited => "rate_limited",
            Self::Account => "account",
            Self::Unavailable => "unavailable",
            Self::Capability => "capability",
            Self::Content => "content",
            Self::Request => "request",
            Self::Local => "local",
            Self::StreamBroken => "stream_broken",
        }
    }

    /// The table.
    pub(crate) const fn policy(self) -> Policy {
        use {Next as N, Same as S};
        let (same, next, code, retry) = match self {
            Self::Transient => (S::Backoff, N::Any, "model_unavailable", Retry::Later),
            Self::RateLimited => (S::RetryAfter, N::Any, "model_unavailable", Retry::Later),
            Self::Account => (S::Never, N::Any, "model_unavailable", Retry::Never),
            Self::Unavailable => (S::Never, N::Any, "model_unavailable", Retry::Never),
            Self::Capability => (S::Never, N::Larger, "model_incapable", Retry::Never),
            Self::Content => (S::Never, N::Stop, "model_refused", Retry::Never),
            Self::Request => (S::Never, N::Stop, "request_invalid", Retry::Never),
            Self::Local => (S::Never, N::Stop, "cancelled", Retry::Never),
            Self::StreamBroken => (S::Backoff, N::Any, "model_unavailable", Retry::Later),
        };
        Policy { same, next, code, retry }
    }
}

/// One failed call.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// What kind.
    pub(crate) class: Class,
    /// The failure's code, when nobody is left to ask: the class's, unless it has one of its own.
    pub(crate) code: &'static str,
    /// What happened, without the provider's name; never a secret.
    pub(crate) message: String,
    /// How long the provider asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, code: class.policy().code, message: message.into(), retry_after: None }
    }

    /// The same, under a code of its own.
    pub(crate) fn coded(self, code: &'static str) -> Self {
        Self { code, ..self }
    }
}

/// What a provider says about an error, in either dialect's shape or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaint {
    /// `error.code`, when it is a word.
    pub(crate) code: String,
    /// `error.type`.
    pub(crate) kind: String,
    /// `error.message`, cut.
    pub(crate) message: String,
    /// `error.code` or `error.status`, when it is a number.
    pub(crate) status: Option<u16>,
}

/// The longest message of a provider that is passed on, characters.
const MESSAGE_MAX: usize = 400;

impl Complaint {
    /// From the body of an error, or an error in a stream. `{"error": {"message": …}}` is both
    /// dialects'; some compatible servers send `{"error": "…"}`, `{"message": …}` or no JSON at all.
    pub(crate) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of(&value),
            Err(_) => Self { message: line(&String::from_utf8_lossy(body)), ..Self::default() },
        }
    }

    /// From a parsed body. Some servers wrap it in a list.
    pub(crate) fn of(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        if let Some(text) = error.as_str() {
            return Self { message: line(text), ..Self::default() };
        }
        let word = |name: &str| error.get(name).and_then(Value::as_str).map(line).unwrap_or_default();
        let status = ["code", "status"].into_iter().find_map(|name| error.get(name)?.as_u64());
        Self {
            code: word("code"),
            kind: word("type"),
            message: word("message"),
            status: status.and_then(|status| u16::try_from(status).ok()),
        }
    }

    /// Whether any of the words is its code or type.
    fn is(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.code == *word || self.kind == *word)
    }
}

/// One line without control characters, of bearable length.
fn line(text: &str) -> String {
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    words.flat_map(str::chars).filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

const QUOTA: [&str; 4] =
    ["insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"];
const TOO_LONG: [&str; 3] =
    ["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
const UNSUPPORTED: [&str; 3] = ["unsupported_parameter", "unsupported_value", "unsupported_model"];
const FILTERED: [&str; 6] = [
    "content_filter",
    "content_policy_violation",
    "moderation_blocked",
    "invalid_prompt",
    "ResponsibleAIPolicyViolation",
    "refusal",
];
const NO_MODEL: [&str; 3] = ["model_not_found", "model_deprecated", "model_decommissioned"];

/// What an answer with an error status means.
pub(crate) fn classify(status: u16, complaint: &Complaint) -> Class {
    match status {
        300..=399 => Class::Unavailable,
        _ if complaint.is(&NO_MODEL) => Class::Unavailable,
        401..=403 => Class::Account,
        404 | 410 | 501 => Class::Unavailable,
        408 | 500 | 502..=599 => Class::Transient,
        429 if complaint.is(&QUOTA) => Class::Account,
        429 => Class::RateLimited,
        _ if complaint.is(&FILTERED) => Class::Content,
        _ if complaint.is(&QUOTA) => Class::Account,
        _ if complaint.is(&UNSUPPORTED) || complaint.is(&TOO_LONG) => Class::Capability,
        400 if says_too_long(&complaint.message) => Class::Capability,
        _ => Class::Request,
    }
}

/// What an error in the middle of a stream means. Providers send one when they are overloaded after
/// they had answered 200.
pub(crate) fn classify_in_stream(complaint: &Complaint) -> Class {
    match complaint.status {
        Some(status @ 400..=599) => classify(status, complaint),
        _ if complaint.is(&FILTERED) => Class::Content,
        _ if complaint.is(&TOO_LONG) => Class::Capability,
        _ if complaint.is(&QUOTA) || complaint.is(&["authentication_error", "permission_error"]) => {
            Class::Account
        }
        _ if complaint.is(&["invalid_request_error", "request_too_large"]) => Class::Request,
        _ if complaint.is(&["rate_limit_error", "rate_limit_exceeded"]) => Class::RateLimited,
        _ => Class::StreamBroken,
    }
}

/// Anthropic, vLLM and Google say only in words that a question is too long.
fn says_too_long(message: &str) -> bool {
    [
        "prompt is too long",
        "exceed context limit",
        "maximum context length",
        "exceeds the maximum number of tokens",
    ]
    .iter()
    .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expect: Class) {
        assert_eq!(classify(status, &Complaint::read(body.as_bytes())), expect, "{status} {body}");
    }

    #[test]
    fn a_status_tells_most() {
        for status in [408, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529] {
            check(status, "", Class::Transient);
        }
        for status in [401, 402, 403] {
            check(status, "{}", Class::Account);
        }
        for status in [301, 404, 410, 501] {
            check(status, "<html>", Class::Unavailable);
        }
        for status in [400, 405, 409, 413, 418, 422] {
            check(status, "null", Class::Request);
        }
        check(429, "", Class::RateLimited);
    }

    #[test]
    fn a_code_tells_more() {
        check(
            429,
            r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"You exceeded"}}"#,
            Class::Account,
        );
        check(
            400,
            r#"{"error":{"code":"context_length_exceeded","message":"This model's"}}"#,
            Class::Capability,
        );
        check(
            400,
            r#"{"error":{"code":400,"message":"request (9031 tokens)","type":"exceed_context_size_error"}}"#,
            Class::Capability,
        );
        check(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            Class::Capability,
        );
        check(400, r#"{"error":{"code":"unsupported_parameter","param":"temperature"}}"#, Class::Capability);
        check(400, r#"{"error":{"code":"content_filter"}}"#, Class::Content);
        check(400, r#"{"error":{"code":"model_not_found"}}"#, Class::Unavailable);
        check(
            400,
            r#"[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]"#,
            Class::Request,
        );
        // A number in the words of a message is no status.
        check(400, r#"{"error":{"message":"500 tokens is below 529"}}"#, Class::Request);
    }

    #[test]
    fn an_error_in_a_stream_is_classified_too() {
        for (body, expect) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Class::StreamBroken,
            ),
            (r#"{"error":{"code":429,"message":"slow down"}}"#, Class::RateLimited),
            (r#"{"error":{"type":"invalid_request_error"}}"#, Class::Request),
            (r#"{"error":"boom"}"#, Class::StreamBroken),
        ] {
            assert_eq!(classify_in_stream(&Complaint::read(body.as_bytes())), expect, "{body}");
        }
    }

    #[test]
    fn a_message_is_one_short_line() {
        let long = format!(r#"{{"error":{{"message":"a\n\u001b[31mb {}"}}}}"#, "x".repeat(10_000));
        let complaint = Complaint::read(long.as_bytes());
        assert!(complaint.message.starts_with("a [31mb x"), "{}", complaint.message);
        assert_eq!(complaint.message.chars().count(), MESSAGE_MAX);
    }
}
