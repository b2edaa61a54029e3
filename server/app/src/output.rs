//! What commands say: documents and tables on standard output, notes and errors on standard error.
//!
//! Text that others wrote (names, logs, messages) goes through [`visible`] before a terminal sees it,
//! because a terminal obeys control characters.

mod text;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Cell, ContentArrangement, Table};
use serde::Serialize;

use crate::cli::{Global, When};
use crate::exit::CommandError;
use crate::progress::{Audience, Progress};
use crate::tools;

pub(crate) use text::{visible, visible_lines};

/// Where commands write, and how.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    json: bool,
    out: Side,
    err: Side,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy)]
struct Side {
    terminal: bool,
    color: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// It needs a look.
    Odd,
    /// It is a name or a command.
    Name,
    /// It matters less.
    Dim,
    /// It is a heading.
    Strong,
    /// It is text.
    Plain,
}

impl Tone {
    /// The tone of a status of a run or a stage, of sync or of health.
    pub(crate) fn of(status: &str) -> Self {
        match status {
            "succeeded" | "done" | "Healthy" | "Synced" | "valid" => Self::Good,
            "failed" | "timed_out" | "refused" | "Degraded" | "Invalid" | "Unreachable" | "invalid" => {
                Self::Bad
            }
            "running" | "waiting" | "pending" | "OutOfSync" | "Missing" | "staged" => Self::Odd,
            "queued" | "skipped" | "cancelled" | "Suspended" => Self::Dim,
            _ => Self::Plain,
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Odd => AnsiColor::Yellow.on_default(),
            Self::Name => AnsiColor::Cyan.on_default(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Plain => Style::new(),
        }
    }
}

impl Ui {
    /// As the command line and the environment say.
    pub fn new(global: &Global) -> Self {
        let wanted = |terminal: bool| match global.color {
            When::Always => true,
            When::Never => false,
            // https://no-color.org: any value but an empty one.
            When::Auto => terminal && tools::variable("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let side = |terminal: bool| Side { terminal, color: wanted(terminal) };
        Self {
            json: global.json,
            out: side(io::stdout().is_terminal()),
            err: side(io::stderr().is_terminal()),
        }
    }

    /// Whether a program reads the output.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard output has colours.
    pub(crate) fn has_color(&self) -> bool {
        self.out.color
    }

    /// Text for standard output in the colour of its tone. It is made visible.
    pub(crate) fn paint(&self, tone: Tone, text: impl Display) -> String {
        painted(self.out, tone, &visible(&text.to_string()))
    }

    /// Writes a line to standard output.
    ///
    /// # Errors
    /// When it cannot be written; quietly when nobody reads it any more.
    pub fn line(&self, text: impl Display) -> Result<(), CommandError> {
        write(format_args!("{text}\n"))
    }

    /// Writes text to standard output as it is.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub fn text(&self, text: impl Display) -> Result<(), CommandError> {
        write(format_args!("{text}"))
    }

    /// Writes text of somebody else's to standard output: made visible on a terminal, untouched in a
    /// file or a pipe.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub fn foreign(&self, text: &str) -> Result<(), CommandError> {
        if self.out.terminal {
            for line in text.split_inclusive('\n') {
                let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
                write(format_args!("{}{end}", visible(line)))?;
            }
            return Ok(());
        }
        write(format_args!("{text}"))
    }

    /// The same text as [`foreign`](Self::foreign) would write, without its line's end.
    pub(crate) fn foreign_line<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        if self.out.terminal { visible(text) } else { text.into() }
    }

    /// Writes one JSON document.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub fn document(&self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        self.line(text::escaped_json(&text))
    }

    /// Writes one object of a stream, on a line of its own.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub fn record(&self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(text::escaped_json(&text))
    }

    /// Writes a table whose cells are text with a tone.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub(crate) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [(Tone, String); N]>,
    ) -> Result<(), CommandError> {
        let mut table = Table::new();
        table.load_style(comfy_table::TableStyle::new());
        table.set_header(header.map(|name| cell(Tone::Strong, name)));
        for row in rows {
            table.add_row(row.map(|(tone, text)| cell(tone, &visible(&text))));
        }
        match (self.out.terminal, self.out.color) {
            (true, _) => table.set_content_arrangement(ContentArrangement::Dynamic),
            (false, _) => table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.out.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let last = N.saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// Tells a person something on standard error; programs are not told.
    pub fn note(&self, text: impl Display) {
        if !self.json {
            self.complain(&format!("{text}\n"));
        }
    }

    /// Warns a person on standard error; programs are not told.
    pub fn warn(&self, text: impl Display) {
        let word = painted(self.err, Tone::Odd, "warning:");
        self.note(format_args!("{word} {}", visible(&text.to_string())));
    }

    /// Says once why a command did not do what was asked.
    pub fn error(&self, error: &CommandError) {
        if error.is_quiet() {
            return;
        }
        if self.json {
            return self.complain(&format!("{}\n", text::escaped_json(&error.to_json().to_string())));
        }
        let word = |tone, word: &str| painted(self.err, tone, word);
        let code = painted(self.err, Tone::Dim, &format!("({})", visible(error.code())));
        let mut text = format!("{} {} {code}\n", word(Tone::Bad, "error:"), lines(&error.to_string()));
        for cause in error.causes() {
            text.push_str(&format!("  {} {}\n", word(Tone::Dim, "caused by:"), lines(&cause)));
        }
        if let Some(help) = error.advice() {
            text.push_str(&format!("  {} {}\n", word(Tone::Good, "help:"), lines(help)));
        }
        self.complain(&text);
    }

    /// Shows that something is under way.
    pub(crate) fn spinner(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> Progress {
        Progress::spinner(self.audience(), what)
    }

    /// Shows how many steps of many are done.
    pub(crate) fn steps(&self, what: impl Into<std::borrow::Cow<'static, str>>, count: usize) -> Progress {
        Progress::steps(self.audience(), what, count)
    }

    fn audience(&self) -> Audience {
        if self.err.terminal && !self.json { Audience::Terminal } else { Audience::Nobody }
    }

    /// Standard error is the last resort: when it is closed, nobody can be told.
    fn complain(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Text of several lines, each made visible and the later ones indented.
fn lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n    ")
}

fn painted(side: Side, tone: Tone, text: &str) -> String {
    if !side.color || tone == Tone::Plain {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

fn cell(tone: Tone, text: &str) -> Cell {
    use comfy_table::{Attribute, Color};
    let cell = Cell::new(text);
    match tone {
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Odd => cell.fg(Color::Yellow),
        Tone::Name => cell.fg(Color::Cyan),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
        Tone::Plain => cell,
    }
}

fn write(text: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::reader_gone(),
        _ => CommandError::failed("output_unwritable", "the output cannot be written").because(error),
    })
}
