//! What forges, the network and git say when they say no, in the words of the port.

use std::time::Duration;

use domain::time::Timestamp;
use ports::Retry;
use ports::forge::ForgeError;
use ports::source::SourceError;
use serde_json::Value;

use crate::answer::Answer;
use crate::shape::text;

/// When a forge says "later" and not when (GitHub's advice for secondary limits).
const A_MINUTE: Duration = Duration::from_secs(60);
const LONGEST_MESSAGE: usize = 500;

/// A forge did not do what was asked.
#[derive(Debug, Clone)]
pub enum Failure {
    /// There is no such thing, or none that we may see.
    Missing(String),
    /// It may not be done.
    Refused(String),
    /// It cannot be done so: a field is wrong, or it is there already.
    Unfit(String),
    /// It may go better another time; where the forge says so, not before a moment.
    Later(String, Option<Timestamp>),
}

impl Failure {
    /// What an answer of a forge that is no success means.
    pub fn of(service: &str, answer: &Answer, now: Timestamp) -> Self {
        let said = said(service, answer);
        match answer.status {
            429 => Self::Later(said, Some(limited_until(answer, now).unwrap_or(now.after(A_MINUTE)))),
            403 => match limited_until(answer, now) {
                Some(until) => Self::Later(said, Some(until)),
                None => Self::Refused(said),
            },
            404 | 410 | 451 => Self::Missing(said),
            409 | 422 => Self::Unfit(said),
            408 | 500.. => Self::Later(said, None),
            // A redirect that was not followed leads away from the forge, or in a circle.
            300..400 => Self::Later(said, None),
            _ => Self::Refused(said),
        }
    }

    /// It may go better another time.
    pub fn later(message: impl Into<String>) -> Self {
        Self::Later(message.into(), None)
    }

    /// The forge says yes, and something else than what it documents.
    pub fn odd(service: &str, what: &str) -> Self {
        Self::later(format!("{service} answered without {what}"))
    }

    /// It will be asked, no faster than it allows.
    pub fn in_time(service: &str, from: Timestamp) -> Self {
        Self::Later(format!("{service} is asked no faster than it allows"), Some(from))
    }

    /// It cannot be reached; the whole chain of the error is said.
    pub fn unreachable(service: &str, error: &dyn std::error::Error) -> Self {
        let mut words = vec![format!("{service} cannot be reached")];
        let mut cause = error.source();
        while let Some(error) = cause {
            words.push(error.to_string());
            cause = error.source();
        }
        words.dedup();
        Self::later(words.join(": "))
    }
}

impl From<Failure> for ForgeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(message) | Failure::Refused(message) | Failure::Unfit(message) => {
                Self::refused(message)
            }
            Failure::Later(message, not_before) => Self { message, retry: Retry::Later, not_before },
        }
    }
}

impl From<SourceError> for Failure {
    /// Git's own words.
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unreachable(_) | SourceError::Broken(_) => Self::later(error.to_string()),
            SourceError::NotFound(_) | SourceError::Refused(_) | SourceError::Unauthorized(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// Until when a limit holds, when the answer is one. A plain "forbidden" is none.
fn limited_until(answer: &Answer, now: Timestamp) -> Option<Timestamp> {
    if let Some(wait) = answer.header("retry-after") {
        // The other form of it is a date, which no forge uses.
        let seconds = wait.parse::<u64>().map_or(A_MINUTE, Duration::from_secs);
        return Some(now.after(seconds.max(Duration::from_secs(1))));
    }
    if answer.header("x-ratelimit-remaining") == Some("0") {
        let reset = answer.header("x-ratelimit-reset").and_then(|reset| reset.parse::<i64>().ok());
        let reset = reset.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)));
        return Some(reset.filter(|reset| *reset > now).unwrap_or(now.after(A_MINUTE)));
    }
    let message = text(&answer.body, "/message").unwrap_or_default().to_ascii_lowercase();
    let is_limit = message.contains("rate limit") || message.contains("abuse");
    is_limit.then(|| now.after(A_MINUTE))
}

/// The forge's words, on one line: `GitHub says 422: Validation Failed (head: invalid)`.
fn said(service: &str, answer: &Answer) -> String {
    let message = match (answer.body.get("message"), text(&answer.body, "/error")) {
        (Some(Value::String(message)), _) => message.clone(),
        // GitLab says it by field, or as a list.
        (Some(message), _) if !message.is_null() => message.to_string(),
        (_, error) => error.unwrap_or("nothing more").to_owned(),
    };
    let errors = answer.body.get("errors").and_then(Value::as_array).into_iter().flatten();
    let errors: Vec<String> = errors.take(10).map(one_error).filter(|error| !error.is_empty()).collect();
    let details = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    let whole = format!("{service} says {}: {message}{details}", answer.status);
    whole.replace(char::is_control, " ").chars().take(LONGEST_MESSAGE).collect()
}

fn one_error(error: &Value) -> String {
    if let Some(words) = error.as_str() {
        return words.to_owned();
    }
    match (text(error, "/field"), text(error, "/message"), text(error, "/code")) {
        (_, Some(message), _) => message.to_owned(),
        (Some(field), None, Some(code)) => format!("{field}: {code}"),
        (field, None, code) => field.or(code).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);

    fn check(status: u16, headers: &[(&str, &str)], body: Value, expect: &str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let error = ForgeError::from(Failure::of("GitHub", &Answer { status, headers, body }, NOW));
        let after = error.not_before.map(|at| format!(" after {} s", at.since(NOW).as_secs()));
        let got = format!("{:?}{}: {}", error.retry, after.unwrap_or_default(), error.message);
        assert_eq!(got, expect);
    }

    #[test]
    fn answers_say_whether_trying_again_helps() {
        check(
            403,
            &[],
            json!({ "message": "Resource not accessible by integration" }),
            "Never: GitHub says 403: Resource not accessible by integration",
        );
        check(
            401,
            &[("x-ratelimit-remaining", "0")],
            json!({ "message": "Bad credentials" }),
            "Never: GitHub says 401: Bad credentials",
        );
        check(
            403,
            &[("retry-after", "30")],
            json!({ "message": "secondary" }),
            "Later after 30 s: GitHub says 403: secondary",
        );
        check(
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795341690")],
            json!({}),
            "Later after 90 s: GitHub says 403: nothing more",
        );
        check(
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "17")],
            json!({}),
            "Later after 60 s: GitHub says 403: nothing more",
        );
        check(
            403,
            &[],
            json!({ "message": "You have exceeded a secondary rate limit." }),
            "Later after 60 s: GitHub says 403: You have exceeded a secondary rate limit.",
        );
        check(429, &[], Value::Null, "Later after 60 s: GitHub says 429: nothing more");
        check(
            429,
            &[("retry-after", "Sun, 22 Nov 2026 10:01:00 GMT")],
            Value::Null,
            "Later after 60 s: GitHub says 429: nothing more",
        );
        check(502, &[], json!("<html>"), "Later: GitHub says 502: nothing more");
        check(404, &[], json!({ "message": "Not Found" }), "Never: GitHub says 404: Not Found");
    }

    #[test]
    fn every_forge_says_it_in_another_place() {
        let by_field = json!({ "message": { "title": ["can't be blank"] } });
        check(400, &[], by_field, "Never: GitHub says 400: {\"title\":[\"can't be blank\"]}");
        let by_error = json!({ "error": "insufficient_scope", "scope": "api" });
        check(403, &[], by_error, "Never: GitHub says 403: insufficient_scope");
        check(404, &[], json!({ "message": null }), "Never: GitHub says 404: nothing more");
    }

    #[test]
    fn what_is_wrong_with_a_field_is_said() {
        let errors = json!({ "message": "Validation Failed", "errors": [
            { "resource": "PullRequest", "field": "base", "code": "invalid" },
            { "message": "No commits between\nmain and x", "code": "custom" }, "and more", 7,
        ] });
        check(
            422,
            &[],
            errors,
            "Never: GitHub says 422: Validation Failed (base: invalid; \
            No commits between main and x; and more)",
        );
    }
}
