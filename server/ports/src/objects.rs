//! Large things by key: logs, artifacts.

use async_trait::async_trait;
use bytes::Bytes;

/// Keeps immutable objects. A key is a relative path of letters, digits, `-`, `_`, `.` and `/`.
#[async_trait]
pub trait Objects: std::fmt::Debug + Send + Sync {
    /// Stores an object; it is durable when this returns. The same key again replaces it whole.
    ///
    /// # Errors
    /// When it could not be stored; nothing is half written then.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError>;

    /// Reads an object, or a part of it from `offset`, at most `length` bytes; `None` when there is
    /// no such object. An offset past the end gives nothing.
    ///
    /// # Errors
    /// When the storage does not answer.
    async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectsError>;

    /// Removes an object, if there is one.
    ///
    /// # Errors
    /// When the storage does not answer.
    async fn delete(&self, key: &str) -> Result<(), ObjectsError>;
}

/// The storage failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The key is not a safe path.
    #[error("`{0}` is not an object key")]
    Key(String),
    /// The storage said no, or nothing.
    #[error("object storage failed: {0}")]
    Storage(String),
}
