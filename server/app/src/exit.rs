//! How a command ends: an exit code that scripts can rely on, and what a person is told when it is
//! not what they wanted.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use serde_json::{Value as Json, json};

/// The exit codes of the program. The larger ones are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// A run failed, or what was asked for could not be done.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A manifest is invalid.
    Invalid = 65,
    /// A server, or something that the command needs, is not available.
    Unavailable = 69,
    /// Not allowed: no token, a token that does not hold, or one that may not do this.
    Denied = 77,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked. It is shown once, by [`Ui::error`](crate::output::Ui::error).
#[derive(Debug)]
pub struct CommandError {
    exit: Exit,
    code: String,
    message: String,
    help: Option<String>,
    source: Option<anyhow::Error>,
    quiet: bool,
}

impl CommandError {
    /// An error with a stable code, in words for the person at the terminal.
    pub fn new(exit: Exit, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { exit, code, message, help: None, source: None, quiet: false }
    }

    /// What was asked for could not be done.
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    /// The command line makes no sense.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    /// Something that the command needs is not there.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, code, message)
    }

    /// The reader of the output has gone away (`spellbook list | head -1`): nobody is left to be told,
    /// and nothing went wrong.
    pub(crate) fn reader_gone() -> Self {
        Self { quiet: true, ..Self::new(Exit::Ok, "reader_gone", "nobody reads the output any more") }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same, with what is behind it.
    #[must_use]
    pub fn because(self, source: impl Into<anyhow::Error>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The exit code of the program.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The stable code: `not_found`, `token_missing`, …
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether nothing is said about it.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What is behind it, nearest first. A cause whose words are already part of what stands before it
    /// is left out.
    pub fn causes(&self) -> Vec<String> {
        let mut said = self.message.clone();
        let mut causes = Vec::new();
        for cause in self.source.iter().flat_map(anyhow::Error::chain) {
            let text = cause.to_string();
            if !said.contains(&text) {
                causes.push(text.clone());
                said = text;
            }
        }
        causes
    }

    /// The error for programs.
    pub fn to_json(&self) -> Json {
        json!({ "error": {
            "code": self.code,
            "message": self.message,
            "help": self.help,
            "causes": self.causes(),
            "exit": self.exit.code(),
        } })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(AsRef::as_ref)
    }
}

/// An error that nobody branches on: its outermost words are the message, the rest are the causes.
impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::failed("failed", error.to_string()).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn causes_are_told_once_each() {
        let inner = anyhow!("permission denied").context("cannot open /x").context("cannot open /x: again");
        let error = CommandError::from(inner);
        assert_eq!(error.to_string(), "cannot open /x: again");
        assert_eq!(error.causes(), ["permission denied"]);
    }

    #[test]
    fn codes_are_those_of_the_manual() {
        let all = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Invalid, Exit::Unavailable, Exit::Denied];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 65, 69, 77]);
    }
}
