//! What the store and git say, in the words of the port.

use ports::Retry;
use ports::forge::ForgeError;
use ports::source::SourceError;
use ports::store::StoreError;

/// It is not allowed, and trying again will not help.
pub(crate) fn refused(message: impl Into<String>) -> ForgeError {
    ForgeError { message: message.into(), retry: Retry::Never }
}

/// It may go better another time.
pub(crate) fn later(message: impl Into<String>) -> ForgeError {
    ForgeError { message: message.into(), retry: Retry::Later }
}

pub(crate) fn store_failed(error: &StoreError) -> ForgeError {
    match error {
        StoreError::Unavailable(_) => later(error.to_string()),
        StoreError::Conflict(_) | StoreError::Corrupt(_) => refused(error.to_string()),
    }
}

pub(crate) fn git_failed(error: &SourceError) -> ForgeError {
    match error {
        SourceError::Unreachable(_) | SourceError::Broken(_) => later(error.to_string()),
        SourceError::NotFound(_) | SourceError::Refused(_) | SourceError::Unauthorized(_) => {
            refused(error.to_string())
        }
    }
}
