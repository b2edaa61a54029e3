//! How failures of gix, of the disk and of the `git` program become errors of the port.

use std::any::Any;
use std::fmt::Display;

use ports::source::SourceError;

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    /// The disk or git itself failed.
    fn doing(self, what: &str) -> Result<T, SourceError>;
}

impl<T, E: Display + 'static> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, SourceError> {
        self.map_err(|error| {
            let cause = (&error as &dyn Any).downcast_ref().map_or_else(|| error.to_string(), words);
            SourceError::Broken(format!("{what}: {cause}"))
        })
    }
}

/// An error of gix with what caused it, in one line; by itself it shows only its own level.
pub(crate) fn words(error: &gix::Error) -> String {
    let mut words: Vec<String> = error.iter_errors().map(|error| error.to_string()).collect();
    words.dedup();
    words.join(": ")
}

/// What an HTTP status says about who may see a repository.
pub(crate) fn of_status(status: u16) -> Option<SourceError> {
    match status {
        401 | 403 => Some(SourceError::Unauthorized("the remote wants another credential".into())),
        404 | 410 => {
            Some(SourceError::NotFound("the remote has no such repository, or hides it from us".into()))
        }
        _ => None,
    }
}

pub(crate) fn no_commit(commit: &domain::name::Commit) -> SourceError {
    SourceError::NotFound(format!("there is no commit {commit} in this repository"))
}

pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T, SourceError> {
    Err(SourceError::Refused(why.into()))
}
