//! Services that host repositories, and what can be done there.

use async_trait::async_trait;
use domain::effect::{Effect, Receipt};
use domain::repository::Repository;

/// Performs effects on one kind of forge.
#[async_trait]
pub trait Forge: std::fmt::Debug + Send + Sync {
    /// Performs an effect and looks whether it is there. Performing the same effect again finds what
    /// the first time made: after a crash it is simply called again.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError>;
}

/// An effect was not performed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ForgeError {
    /// What happened, for people.
    pub message: String,
    /// Whether trying again may help.
    pub retry: crate::Retry,
}
