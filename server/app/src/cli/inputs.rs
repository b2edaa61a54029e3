//! `--input`: what a run is given, as a command line can say it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value as Json};

use crate::exit::CommandError;

/// The longest text of one input, bytes; the server takes no longer one.
const LONGEST: u64 = 1 << 20;

/// One `--input`, not yet read.
#[derive(Clone, PartialEq, Eq)]
pub struct Input {
    /// The input's name.
    pub name: String,
    /// Where its value comes from.
    pub value: Value,
}

/// Where the value of an input comes from.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_debug_implementations, reason = "a value may be secret")]
pub enum Value {
    /// It stands on the command line.
    Text(String),
    /// It is the content of a file.
    File(PathBuf),
    /// It is read from standard input.
    Stdin,
}

/// Values may be secret; only the name is shown.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An `--input` that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as name=value, or as name=@file for the content of a file")]
pub struct InputError;

impl FromStr for Input {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Self, InputError> {
        let (name, value) = text.split_once('=').ok_or(InputError)?;
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InputError);
        }
        let Ok(value) = value.parse();
        Ok(Self { name: name.to_owned(), value })
    }
}

impl FromStr for Value {
    type Err = Infallible;

    /// `@@` begins a text with an `@`.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            None => Self::Text(text.to_owned()),
            Some("-") => Self::Stdin,
            Some(rest) if rest.starts_with('@') => Self::Text(rest.to_owned()),
            Some(path) => Self::File(PathBuf::from(path)),
        })
    }
}

/// Reads all inputs. Values stay text; who knows the daemon makes numbers and JSON of them.
///
/// # Errors
/// When a name or standard input is given twice, or a file cannot be read, is too long or no text.
pub fn read(inputs: &[Input]) -> Result<Map<String, Json>, CommandError> {
    let mut names = BTreeSet::new();
    let mut values = Map::new();
    if inputs.iter().filter(|input| input.value == Value::Stdin).count() > 1 {
        return Err(CommandError::usage("input_twice", "only one input can be read from standard input"));
    }
    for Input { name, value } in inputs {
        if !names.insert(name) {
            return Err(CommandError::usage("input_twice", format!("the input `{name}` is given twice")));
        }
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::File(path) => file(name, path)?,
            Value::Stdin => text(name, "standard input", io::stdin().lock())?,
        };
        values.insert(name.clone(), Json::from(text));
    }
    Ok(values)
}

fn file(name: &str, path: &Path) -> Result<String, CommandError> {
    let open = || -> io::Result<File> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
    };
    let file = open().map_err(|error| {
        let message = format!("the input `{name}` cannot be read from {}", path.display());
        CommandError::usage("input_unreadable", message).because(error)
    })?;
    text(name, &path.display().to_string(), file)
}

fn text(name: &str, place: &str, from: impl Read) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| {
        CommandError::usage("input_unreadable", format!("the input `{name}` cannot be read from {place}"))
            .because(error)
    })?;
    if bytes.len() as u64 > LONGEST {
        return Err(CommandError::usage(
            "input_too_long",
            format!("the input `{name}` is longer than 1 MiB"),
        ));
    }
    String::from_utf8(bytes).map_err(|_| {
        CommandError::usage("input_not_text", format!("the input `{name}` ({place}) is not UTF-8 text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, Value)>) {
        let expect = expect.map(|(name, value)| Input { name: name.to_owned(), value });
        assert_eq!(text.parse::<Input>().ok(), expect, "{text:?}");
    }

    #[test]
    fn values_stand_there_or_come_from_elsewhere() {
        check("depth=quick", Some(("depth", Value::Text("quick".into()))));
        check("empty=", Some(("empty", Value::Text(String::new()))));
        check("sum=1+1=2", Some(("sum", Value::Text("1+1=2".into()))));
        check("notes=@notes.md", Some(("notes", Value::File("notes.md".into()))));
        check("notes=@-", Some(("notes", Value::Stdin)));
        check("who=@@ada", Some(("who", Value::Text("@ada".into()))));
        for text in ["", "depth", "=x", "a b=c", "a\n=c"] {
            check(text, None);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let code = |texts: &[&str]| {
            let inputs: Vec<Input> = texts.iter().map(|text| text.parse().unwrap()).collect();
            read(&inputs).unwrap_err().code().to_owned()
        };
        assert_eq!(code(&["a=1", "a=2"]), "input_twice");
        assert_eq!(code(&["a=@-", "b=@-"]), "input_twice");
        assert_eq!(code(&["a=@/nowhere/at/all"]), "input_unreadable");
        assert_eq!(code(&["a=@/"]), "input_unreadable");
        assert_eq!(code(&["a=@/dev/zero"]), "input_too_long");
        assert_eq!(code(&["a=@/bin/sh"]), "input_not_text");
    }
}
