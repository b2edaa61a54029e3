//! The vault: keeps what is stored from being read, or exchanged, by whoever has the store.

use async_trait::async_trait;
use domain::memo::Sealed;

/// Seals bytes, and opens what it sealed. The bytes that something is `bound` to are not kept: whoever opens
/// it must know them, so that what was sealed for one place is of no use in another.
#[async_trait]
pub trait Vault: std::fmt::Debug + Send + Sync {
    /// Seals bytes under the newest key.
    ///
    /// # Errors
    /// When the vault does not answer.
    async fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Sealed, VaultError>;

    /// Opens what was sealed, under whichever key, with the same `bound`.
    ///
    /// # Errors
    /// When it was sealed under a key that is not there, was changed, or belongs elsewhere.
    async fn open(&self, bound: &[u8], sealed: &Sealed) -> Result<Vec<u8>, VaultError>;
}

/// Something stays sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It was sealed under a key that the vault does not have.
    #[error("it was sealed under the key {0}, which this server does not have")]
    KeyMissing(String),
    /// It is not what was sealed, or was sealed for another place.
    #[error("it was changed after it was sealed, or belongs elsewhere")]
    Broken,
    /// The vault does not answer.
    #[error("the vault does not answer: {0}")]
    Unavailable(String),
}
