//! Objects as files below a directory.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use ports::objects::{Objects, ObjectsError};

use crate::key;

/// Objects below a directory of this machine. An object is written beside its place, flushed, and put
/// there by a rename: a reader sees the old one or the new one, and what was answered survives the
/// loss of power.
#[derive(Debug, Clone)]
pub struct DiskObjects {
    storage: Arc<dyn ObjectStore>,
}

impl DiskObjects {
    /// Opens a directory; makes it, for nobody else's eyes, if there is none.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(directory: &Path) -> Result<Self, ObjectsError> {
        let failed = |error: &dyn std::fmt::Display| {
            ObjectsError::Storage(format!("{} cannot be opened: {error}", directory.display()))
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(|error| failed(&error))?;
        let storage = LocalFileSystem::new_with_prefix(directory).map_err(|error| failed(&error))?;
        Ok(Self { storage: Arc::new(storage.with_fsync(true)) })
    }
}

#[async_trait]
impl Objects for DiskObjects {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.storage.put(&key::parse(key)?, bytes.into()).await.map(drop).map_err(failed)
    }

    async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectsError> {
        let path = key::parse(key)?;
        let error = match length {
            // A range of nothing is an error to the storage.
            0 => None,
            _ => match self.storage.get_range(&path, offset..offset.saturating_add(length)).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => Some(error),
            },
        };
        // So is a range that begins past the end; how long the object is tells it from a failure.
        match (self.storage.head(&path).await, error) {
            (Err(error), _) if is_absent(&error) => Ok(None),
            (Err(error), _) => Err(failed(error)),
            (Ok(_), None) => Ok(Some(Bytes::new())),
            (Ok(object), Some(_)) if offset >= object.size => Ok(Some(Bytes::new())),
            (Ok(_), Some(error)) => Err(failed(error)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        match self.storage.delete(&key::parse(key)?).await {
            Err(error) if !is_absent(&error) => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether there is no such object; also when a directory stands in its place, or another object
/// in the place of its directory.
fn is_absent(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(error) if is_elsewhere(error.kind()) => return true,
            _ => cause = error.source(),
        }
    }
    matches!(error, Error::NotFound { .. })
}

fn is_elsewhere(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: Error) -> ObjectsError {
    ObjectsError::Storage(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use testkit::conformance::objects::Fresh;

    use super::*;

    async fn fresh() -> Fresh {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let objects = DiskObjects::open(&directory.path().join("objects")).expect("a new directory opens");
        Fresh::keeping(objects, directory)
    }

    testkit::objects_conformance!(fresh);

    #[tokio::test]
    async fn objects_are_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let objects = DiskObjects::open(directory.path()).unwrap();
        objects.put("runs/1/log", Bytes::from_static(b"one\n")).await.unwrap();
        drop(objects);
        let objects = DiskObjects::open(directory.path()).unwrap();
        assert_eq!(objects.get("runs/1/log", 0, 99).await.unwrap().as_deref(), Some(&b"one\n"[..]));
    }

    #[tokio::test]
    async fn a_half_written_object_is_no_object() {
        let directory = tempfile::tempdir().unwrap();
        // What the library leaves behind when the process is killed while it writes `log`.
        std::fs::write(directory.path().join("log#1"), b"hal").unwrap();
        let objects = DiskObjects::open(directory.path()).unwrap();
        assert_eq!(objects.get("log", 0, 99).await.unwrap(), None);
        objects.put("log", Bytes::from_static(b"whole")).await.unwrap();
        assert_eq!(objects.get("log", 0, 99).await.unwrap().as_deref(), Some(&b"whole"[..]));
    }

    #[test]
    fn the_directory_is_for_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("objects");
        DiskObjects::open(&path).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("objects");
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(DiskObjects::open(&path), Err(ObjectsError::Storage(_))));
    }
}
