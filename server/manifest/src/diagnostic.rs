//! Diagnostics: everything that is wrong with a file, each with a code and a place.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::codes::{self, Code};

/// The most diagnostics of one check; the rest is counted.
pub(crate) const MAX_DIAGNOSTICS: usize = 100;

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// `SB0101`: stable, described in `docs/diagnostics.md`.
    pub code: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// The file, relative to the repository.
    pub file: String,
    /// Its line, from 1; 1 also when the file is missing.
    pub line: u32,
    /// Its column, from 1, in characters.
    pub column: u32,
    /// The line of its end.
    pub end_line: u32,
    /// The column behind its last character.
    pub end_column: u32,
    /// The same as bytes of the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What was expected in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do: "did you mean `needs`?"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The value that it is about, as a JSON pointer into the file; empty for the file as a whole.
    pub pointer: String,
}

impl Diagnostic {
    /// Whether the file is unusable because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `daemons/review/daemon.yaml:3:5: error[SB0101]: unknown key `stagse``
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, code, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}[{code}]: {message}")
    }
}

/// How grave a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but may not do what its author means.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checked<T> {
    /// What the file says; `None` if and only if some diagnostic is an error.
    pub value: Option<T>,
    /// Everything that is wrong, in the order of the files and of the places in them.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Checked<T> {
    /// Whether the file can be used.
    pub fn is_valid(&self) -> bool {
        self.value.is_some()
    }

    /// The value stands only if nothing is an error; whoever made it need not look.
    pub(crate) fn new(value: Option<T>, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by(|a, b| (&a.file, a.span.start, a.code).cmp(&(&b.file, b.span.start, b.code)));
        let broken = diagnostics.iter().any(Diagnostic::is_error);
        debug_assert!(broken || value.is_some(), "a file without errors has a value");
        Self { value: value.filter(|_| !broken), diagnostics }
    }
}

/// The diagnostics as JSON: a list of objects with the fields of [`Diagnostic`].
pub fn to_json(diagnostics: &[Diagnostic]) -> serde_json::Value {
    serde_json::to_value(diagnostics).expect("because diagnostics are texts and numbers")
}

/// What is wrong, before its place is known.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: &'static Code,
    severity: Severity,
    message: String,
    expected: Option<String>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn error(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), expected: None, help: None }
    }

    pub(crate) fn warning(code: &'static Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    #[must_use]
    pub(crate) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    #[must_use]
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    #[must_use]
    pub(crate) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }

    /// The diagnostic, at bytes of a text.
    pub(crate) fn at(self, file: &str, text: &str, span: Range<usize>, pointer: String) -> Diagnostic {
        let (line, column) = position(text, span.start);
        let (end_line, end_column) = position(text, span.end);
        Diagnostic {
            code: self.code.id,
            severity: self.severity,
            file: file.to_owned(),
            line,
            column,
            end_line,
            end_column,
            span,
            message: self.message,
            expected: self.expected,
            help: self.help,
            pointer,
        }
    }
}

/// Line and column of a byte, from 1. A file has at most a hundred diagnostics, so counting is cheap
/// enough and needs no index.
fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (narrow(line), narrow(column))
}

/// Collects diagnostics, up to [`MAX_DIAGNOSTICS`].
#[derive(Debug, Default)]
pub(crate) struct Report {
    diagnostics: Vec<Diagnostic>,
    dropped: usize,
    broken: bool,
}

impl Report {
    pub(crate) fn push(&mut self, problem: Problem, place: impl FnOnce(Problem) -> Diagnostic) {
        self.broken |= problem.severity == Severity::Error;
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(place(problem));
        } else {
            self.dropped += 1;
        }
    }

    /// Whether the next problem would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn finish(mut self, file: &str) -> Vec<Diagnostic> {
        if self.dropped > 0 {
            let message = format!("{} more problems are not shown", self.dropped);
            let severity = if self.broken { Severity::Error } else { Severity::Warning };
            let problem = Problem { severity, ..Problem::error(&codes::TOO_MANY, message) };
            let mut last = problem.at(file, "", 0..0, String::new());
            last.span = usize::MAX..usize::MAX;
            self.diagnostics.push(last);
        }
        self.diagnostics
    }
}
