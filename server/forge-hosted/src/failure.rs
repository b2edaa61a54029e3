//! What the store and git say, in the words of the port.

use ports::forge::ForgeError;
use ports::source::SourceError;
use ports::store::StoreError;

pub(crate) fn store_failed(error: &StoreError) -> ForgeError {
    match error {
        StoreError::Unavailable(_) => ForgeError::later(error.to_string()),
        StoreError::Conflict(_) | StoreError::Corrupt(_) => ForgeError::refused(error.to_string()),
    }
}

pub(crate) fn git_failed(error: &SourceError) -> ForgeError {
    match error {
        SourceError::Unreachable(_) | SourceError::Broken(_) => ForgeError::later(error.to_string()),
        SourceError::NotFound(_) | SourceError::Refused(_) | SourceError::Unauthorized(_) => {
            ForgeError::refused(error.to_string())
        }
    }
}
