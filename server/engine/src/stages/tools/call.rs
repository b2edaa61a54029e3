//! A call of a tool, as the model meant it.

use std::fmt;

use manifest::model::Tool;
use ports::models::ToolCall;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::stages::servers::Foreign;

/// What a model wants done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    Read(Read),
    Write(Write),
    Edit(Edit),
    List(List),
    Search(Search),
    Run(Run),
    Foreign(Foreign),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Read {
    pub(super) path: String,
    #[serde(default = "first")]
    pub(super) first: u64,
    #[serde(default = "lines")]
    pub(super) lines: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Write {
    pub(super) path: String,
    pub(super) content: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Edit {
    pub(super) path: String,
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct List {
    #[serde(default = "here")]
    pub(super) path: String,
    #[serde(default = "depth")]
    pub(super) depth: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Search {
    pub(super) pattern: String,
    #[serde(default = "here")]
    pub(super) path: String,
    pub(super) files: Option<String>,
    #[serde(default)]
    pub(super) ignore_case: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Run {
    pub(super) command: String,
    #[serde(default = "seconds")]
    pub(super) seconds: u64,
}

fn first() -> u64 {
    1
}

fn lines() -> u64 {
    400
}

fn here() -> String {
    ".".to_owned()
}

fn depth() -> u64 {
    2
}

fn seconds() -> u64 {
    120
}

impl Call {
    /// What is meant by a call, where the stage allows these tools; besides, there are others.
    ///
    /// # Errors
    /// With what is wrong, in words for the model.
    pub(super) fn read(call: &ToolCall, allowed: &[Tool], others: &[&str]) -> Result<Self, String> {
        let Some(tool) = allowed.iter().find(|tool| tool.as_str() == call.name) else {
            let known: Vec<&str> =
                allowed.iter().map(|tool| tool.as_str()).chain(others.iter().copied()).collect();
            return Err(format!("there is no tool `{}`; there are {}", call.name, known.join(", ")));
        };
        let arguments = call.arguments.as_str();
        match tool {
            Tool::Read => parsed(arguments).map(|read: Read| {
                Self::Read(Read { first: read.first.max(1), lines: read.lines.clamp(1, 2_000), ..read })
            }),
            Tool::Write => parsed(arguments).map(Self::Write),
            Tool::Edit => parsed(arguments).map(Self::Edit),
            Tool::List => parsed(arguments)
                .map(|list: List| Self::List(List { depth: list.depth.clamp(1, 10), ..list })),
            Tool::Search => parsed(arguments).map(Self::Search),
            Tool::Run => parsed(arguments)
                .map(|run: Run| Self::Run(Run { seconds: run.seconds.clamp(1, 86_400), ..run })),
        }
    }
}

fn parsed<T: DeserializeOwned>(arguments: &str) -> Result<T, String> {
    serde_json::from_str(arguments)
        .map_err(|error| format!("the arguments are not as the tool wants them: {error}"))
}

impl Edit {
    /// The text with the change.
    ///
    /// # Errors
    /// When it is not clear what to change, in words for the model.
    pub(super) fn apply(&self, text: &str) -> Result<String, String> {
        let places = if self.old.is_empty() { 0 } else { text.matches(&self.old).count() };
        match places {
            _ if self.old.is_empty() => Err("`old` is empty; to make a file, write it".to_owned()),
            _ if self.old == self.new => Err("`old` and `new` are the same".to_owned()),
            0 if text.contains(self.old.trim()) => {
                Err("`old` is not in the file with just this white space around it; read the file again"
                    .to_owned())
            }
            0 => Err("`old` is not in the file; read the file again".to_owned()),
            1 => Ok(text.replacen(&self.old, &self.new, 1)),
            _ if self.all => Ok(text.replace(&self.old, &self.new)),
            many => Err(format!(
                "`old` is in the file {many} times; give more of what is around it, or set `all`"
            )),
        }
    }
}

/// For people, on one line.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Read { path, first: 1, .. }) => write!(f, "read {}", line(path)),
            Self::Read(Read { path, first, .. }) => write!(f, "read {} from line {first}", line(path)),
            Self::Write(Write { path, .. }) => write!(f, "write {}", line(path)),
            Self::Edit(Edit { path, .. }) => write!(f, "edit {}", line(path)),
            Self::List(List { path, .. }) => write!(f, "list {}", line(path)),
            Self::Search(Search { pattern, path, .. }) => {
                write!(f, "search {} for {}", line(path), line(pattern))
            }
            Self::Run(Run { command, .. }) => write!(f, "run {}", line(command)),
            Self::Foreign(foreign) => f.write_str(&line(&foreign.to_string())),
        }
    }
}

/// A text on one line, cut.
fn line(text: &str) -> String {
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    let mut shown: String = words.flat_map(str::chars).filter(|c| !c.is_control()).take(160).collect();
    if text.chars().count() > 160 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, arguments: &str) -> Result<Call, String> {
        let call = ToolCall { name: name.to_owned(), arguments: arguments.to_owned(), opaque: None };
        Call::read(&call, &[Tool::Read, Tool::List, Tool::Edit, Tool::Run], &["a__b"])
    }

    #[track_caller]
    fn check(name: &str, arguments: &str, expect: &str) {
        let found = read(name, arguments).map_or_else(|why| why, |call| call.to_string());
        assert_eq!(found, expect, "{name} {arguments}");
    }

    #[test]
    fn calls_are_read_and_shown() {
        check("read", r#"{"path":"a.rs"}"#, "read a.rs");
        check("read", r#"{"path":"a.rs","first":7,"why":"curious"}"#, "read a.rs from line 7");
        check("list", "{}", "list .");
        check("run", r#"{"command":"cargo\n  test \u001b[31m"}"#, "run cargo test [31m");
        check("write", "{}", "there is no tool `write`; there are read, list, edit, run, a__b");
        check(
            "read",
            "{",
            "the arguments are not as the tool wants them: EOF while parsing an object at line 1 column 1",
        );
        check(
            "read",
            r#"{"file":"a"}"#,
            "the arguments are not as the tool wants them: missing field `path` at line 1 column 12",
        );
        let Ok(Call::Read(read)) = read("read", r#"{"path":"a","first":0,"lines":99999}"#) else { panic!() };
        assert_eq!((read.first, read.lines), (1, 2_000));
    }

    #[track_caller]
    fn edit(old: &str, new: &str, all: bool, expect: Result<&str, &str>) {
        let edit = Edit { path: "a".to_owned(), old: old.to_owned(), new: new.to_owned(), all };
        let found = edit.apply("one two\n  one\n");
        assert_eq!(found.as_deref().map_err(|why| why.split([';', ',']).next().unwrap()), expect, "{old:?}");
    }

    #[test]
    fn an_edit_is_clear_or_refused() {
        edit("two", "three", false, Ok("one three\n  one\n"));
        edit("one", "1", true, Ok("1 two\n  1\n"));
        edit("  one", "", false, Ok("one two\n\n"));
        edit("one", "1", false, Err("`old` is in the file 2 times"));
        edit("four", "4", false, Err("`old` is not in the file"));
        edit("\ttwo", "2", false, Err("`old` is not in the file with just this white space around it"));
        edit("", "2", false, Err("`old` is empty"));
        edit("two", "two", false, Err("`old` and `new` are the same"));
    }
}
