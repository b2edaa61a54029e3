//! Which keys are safe.

use object_store::path::Path;
use ports::objects::ObjectsError;

/// The longest key, bytes.
const LONGEST: usize = 1_000;
/// The longest part of a key, bytes: a file name of 255, less what a half-written one has besides.
const LONGEST_PART: usize = 200;

/// A key as a path: parts of letters, digits, `-`, `_` and `.`, none of them empty or beginning with a
/// dot. No such path leaves the storage, and no storage writes it in another way.
pub(crate) fn parse(key: &str) -> Result<Path, ObjectsError> {
    let refused = || ObjectsError::Key(key.chars().take(80).collect());
    if key.len() > LONGEST || !key.split('/').all(is_part) {
        return Err(refused());
    }
    Path::parse(key).map_err(|_| refused())
}

fn is_part(part: &str) -> bool {
    (1..=LONGEST_PART).contains(&part.len())
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
