//! Keys in a file, which is made when it is not there.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::keyring::{Keyring, KeyringError};

/// Who else may read a file, in its mode.
const OTHERS: u32 = 0o077;

/// A file that gives no keys.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or made.
    #[error("the key file {0} cannot be read or made")]
    Unreadable(PathBuf, #[source] io::Error),
    /// Others may read it.
    #[error("the key file {0} may be read by others; run `chmod 600 {0}`")]
    Open(PathBuf),
    /// There is no key in it.
    #[error("the key file {0} makes no sense")]
    Senseless(PathBuf, #[source] KeyringError),
}

impl Keyring {
    /// The keys of a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, may be read by others, or holds no key.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(FileError::Open(path.to_owned()));
        }
        let text = SecretString::from(std::fs::read_to_string(path).map_err(unreadable)?);
        Self::parse(&text).map_err(|error| FileError::Senseless(path.to_owned(), error))
    }

    /// The keys of a file; where there is none, one is made with a new key. Of several processes that make
    /// it at the same time one does, and the others read it.
    ///
    /// # Errors
    /// As [`Keyring::read`], and when the file cannot be made.
    pub fn read_or_make(path: &Path) -> Result<Self, FileError> {
        if !path.try_exists().map_err(|error| FileError::Unreadable(path.to_owned(), error))? {
            make(path).map_err(|error| FileError::Unreadable(path.to_owned(), error))?;
        }
        Self::read(path)
    }
}

/// Makes the file whole or not at all, and never over one that is there: a key that was used is not lost.
fn make(path: &Path) -> io::Result<()> {
    let key = Keyring::draw().ok_or_else(|| io::Error::other("there are no random numbers"))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{}", key.expose_secret())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside)?;
    if let Some(directory) = path.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        let first = Keyring::read_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a key was lost");
        assert_eq!(Keyring::read_or_make(&path).unwrap().newest(), first.newest());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn a_file_for_everyone_or_without_a_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        assert!(matches!(Keyring::read(&path), Err(FileError::Unreadable(..))));
        Keyring::read_or_make(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::read_or_make(&path), Err(FileError::Open(_))));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "nothing\n").unwrap();
        assert!(matches!(Keyring::read_or_make(&path), Err(FileError::Senseless(..))));
    }
}
