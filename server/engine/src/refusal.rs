//! "No", said to a person or a program that asked for something.

use ports::source::SourceError;
use ports::store::StoreError;

/// Why something that was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What sort of no it is.
    pub kind: RefusalKind,
    /// Stable, for programs: `daemon_not_found`.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// What sort of no it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was given makes no sense.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It contradicts how things are.
    Conflict,
    /// It is not allowed.
    Forbidden,
    /// Not now.
    Unavailable,
}

impl Refusal {
    /// What was given makes no sense.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Invalid, code, message: message.into() }
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotFound, code, message: message.into() }
    }

    /// It contradicts how things are.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Conflict, code, message: message.into() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self { kind: RefusalKind::Unavailable, code: "store_unavailable", message: error.to_string() }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        let (kind, code) = match &error {
            SourceError::NotFound(_) => (RefusalKind::NotFound, "git_not_found"),
            SourceError::Refused(_) => (RefusalKind::Invalid, "git_refused"),
            SourceError::Unreachable(_) => (RefusalKind::Unavailable, "git_unreachable"),
            SourceError::Unauthorized(_) => (RefusalKind::Unavailable, "git_unauthorized"),
            SourceError::Broken(_) => (RefusalKind::Unavailable, "git_broken"),
        };
        Self { kind, code, message: error.to_string() }
    }
}
