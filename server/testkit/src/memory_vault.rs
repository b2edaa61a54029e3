//! A vault that remembers what it sealed, and gives out tickets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use domain::memo::Sealed;
use ports::vault::{Vault, VaultError};

/// A vault in memory: sealed bytes are the number of what it keeps.
#[derive(Debug, Default)]
pub struct MemoryVault(Mutex<BTreeMap<Vec<u8>, Kept>>);

/// What bytes were bound to, and the bytes.
type Kept = (Vec<u8>, Vec<u8>);

impl MemoryVault {
    /// The one key that it has.
    const KEY: &str = "memory";

    /// A vault that has sealed nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Vault for MemoryVault {
    async fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Sealed, VaultError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = format!("ticket {}", kept.len()).into_bytes();
        kept.insert(ticket.clone(), (bound.to_vec(), plain.to_vec()));
        Ok(Sealed { key: Self::KEY.to_owned(), bytes: ticket })
    }

    async fn open(&self, bound: &[u8], sealed: &Sealed) -> Result<Vec<u8>, VaultError> {
        if sealed.key != Self::KEY {
            return Err(VaultError::KeyMissing(sealed.key.clone()));
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(&sealed.bytes) {
            Some((known, plain)) if known == bound => Ok(plain.clone()),
            _ => Err(VaultError::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::conformance::vault::Fresh;

    async fn fresh() -> Fresh {
        Fresh::new(super::MemoryVault::new())
    }

    crate::vault_conformance!(fresh);
}
