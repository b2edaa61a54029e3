//! Objects in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use ports::objects::{Objects, ObjectsError};

/// Keeps objects as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryObjects(Mutex<BTreeMap<String, Bytes>>);

impl MemoryObjects {
    /// A place that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.kept().insert(valid(key)?.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectsError> {
        let kept = self.kept();
        let Some(bytes) = kept.get(valid(key)?) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(bytes.len());
        Ok(Some(bytes.slice(start..end)))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.kept().remove(valid(key)?);
        Ok(())
    }
}

/// The rule of [`Objects`]: a relative path of letters, digits, `-`, `_`, `.` and `/`, no part of
/// which is empty or begins with a dot.
fn valid(key: &str) -> Result<&str, ObjectsError> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 200
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if key.len() <= 1_000 && key.split('/').all(part) {
        Ok(key)
    } else {
        Err(ObjectsError::Key(key.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use crate::conformance::objects::Fresh;

    async fn fresh() -> Fresh {
        Fresh::new(super::MemoryObjects::new())
    }

    crate::objects_conformance!(fresh);
}
