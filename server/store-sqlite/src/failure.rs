//! What SQLite says, in the words of the port.

use ports::store::StoreError;
use sqlx::error::ErrorKind;

/// The low byte of an extended result code is the plain one (<https://sqlite.org/rescode.html>).
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_NOTADB: u32 = 26;

/// Any failure of the database.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => match database.kind() {
            ErrorKind::UniqueViolation
            | ErrorKind::ForeignKeyViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation => StoreError::Conflict(database.message().to_owned()),
            _ if is_broken(database.code().as_deref()) => StoreError::Corrupt(database.message().to_owned()),
            _ => StoreError::Unavailable(database.message().to_owned()),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            StoreError::Corrupt(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn is_broken(code: Option<&str>) -> bool {
    let code = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    matches!(code, Some(SQLITE_CORRUPT | SQLITE_NOTADB))
}

/// A contradiction with what is there.
pub(crate) fn missing(what: impl std::fmt::Display) -> StoreError {
    StoreError::Conflict(format!("there is no {what}"))
}

/// A value that cannot be written as JSON: a map with keys that are not text, never one of ours.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub(crate) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Conflict(format!("it cannot be stored: {error}"))
}
