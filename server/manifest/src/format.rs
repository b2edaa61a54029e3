//! One way to write a file: line ends, trailing spaces, indentation, and the order of a daemon's keys. Comments
//! stay, and the meaning stays: each step is kept only if the file still says the same.

use std::ops::Range;

use crate::raw;
use crate::yaml::{self, Entry, Node, Shape};

/// Why a file was not formatted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct FormatError {
    /// Where, from 1.
    pub line: u32,
    /// Where, from 1, in characters.
    pub column: u32,
    /// The file is not YAML, and this is why.
    pub message: String,
}

/// Formats `daemon.yaml` or `spellbook.yaml`. Formatting twice is the same as formatting once. A step that
/// would change what the file says (an indentation indicator, spaces that a script needs) is left out.
///
/// # Errors
/// When the file is not YAML.
pub fn fmt(text: &str) -> Result<String, FormatError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let wanted = yaml::parse(text).map_err(|error| refused(text, &error))?.to_json();
    let mut current = text.to_owned();
    for step in [line_ends, trailing_space, final_newline, indentation, key_order, final_newline] {
        let next = step(&current);
        let same = yaml::parse(&next).is_ok_and(|node| node.to_json() == wanted);
        if same && lines_of(&next) == lines_of(&current) {
            current = next;
        }
    }
    Ok(current)
}

fn refused(text: &str, error: &yaml::YamlError) -> FormatError {
    let before = text.get(..error.span.start).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    FormatError {
        line: narrow(before.matches('\n').count() + 1),
        column: narrow(column),
        message: error.message.clone(),
    }
}

/// What stands on the lines, in any order: a step may move and shift lines, but never lose one.
fn lines_of(text: &str) -> Vec<String> {
    let single = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(single).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n")
}

fn trailing_space(text: &str) -> String {
    let trimmed = |line: &str| line.trim_end_matches([' ', '\t']).to_owned();
    text.split('\n').map(trimmed).collect::<Vec<_>>().join("\n")
}

fn final_newline(text: &str) -> String {
    format!("{}\n", text.trim_start_matches('\n').trim_end_matches('\n'))
}

/// Two spaces for each level. Texts over several lines move with the line that they begin on.
fn indentation(text: &str) -> String {
    let mut levels: Vec<Level> = vec![Level { old: 0, new: 0 }];
    let mut lines = Vec::new();
    let mut body: Option<Body> = None;
    let all: Vec<&str> = text.split('\n').collect();
    for (number, line) in all.iter().enumerate() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let content = &line[indent..];
        if content.is_empty() {
            lines.push((*line).to_owned());
            continue;
        }
        if let Some(inside) = body.as_mut().filter(|body| indent > body.below) {
            lines.push(format!("{}{content}", " ".repeat(inside.shifted(indent))));
            continue;
        }
        body = None;
        if content.starts_with('#') {
            let next = all[number..]
                .iter()
                .find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
            let column = next.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
            let mut ahead = levels.clone();
            lines.push(format!("{}{content}", " ".repeat(level(&mut ahead, column))));
            continue;
        }
        let (shown, below) = structured(content, indent, &mut levels);
        if opens_body(content) {
            let new = levels.last().map_or(0, |level| level.new);
            body = Some(Body { below, new: new + 2, first: None });
        }
        lines.push(shown);
    }
    lines.join("\n")
}

/// A column of the old text and what it becomes.
#[derive(Debug, Clone, Copy)]
struct Level {
    old: usize,
    new: usize,
}

/// The lines of a text that begins with `|` or `>`.
struct Body {
    /// They are indented more than this.
    below: usize,
    new: usize,
    /// The indentation of the first of them.
    first: Option<usize>,
}

impl Body {
    fn shifted(&mut self, indent: usize) -> usize {
        let first = *self.first.get_or_insert(indent);
        self.new + indent.saturating_sub(first)
    }
}

/// The new column of an old one.
fn level(levels: &mut Vec<Level>, old: usize) -> usize {
    while levels.len() > 1 && levels.last().is_some_and(|level| level.old > old) {
        levels.pop();
    }
    let last = levels.last().copied().unwrap_or(Level { old: 0, new: 0 });
    if last.old == old {
        return last.new;
    }
    levels.push(Level { old, new: last.new + 2 });
    last.new + 2
}

/// A line with its dashes and content in the new columns, and the old column that its value lies below.
fn structured(content: &str, indent: usize, levels: &mut Vec<Level>) -> (String, usize) {
    let mut column = indent;
    let mut rest = content;
    let mut new = level(levels, column);
    let mut shown = " ".repeat(new);
    while let Some(inner) = rest.strip_prefix("- ") {
        let spaces = inner.len() - inner.trim_start_matches(' ').len();
        column += 2 + spaces;
        rest = &inner[spaces..];
        new += 2;
        shown.push_str("- ");
        levels.push(Level { old: column, new });
    }
    shown.push_str(rest);
    (shown, column)
}

/// Whether a line ends with the header of a text over several lines.
fn opens_body(content: &str) -> bool {
    let end = content.split(" #").next().unwrap_or(content).trim_end();
    let Some(header) = end.rsplit(' ').next() else { return false };
    header.starts_with(['|', '>']) && header[1..].chars().all(|c| matches!(c, '+' | '-' | '0'..='9'))
}

/// The keys of `daemon` in the order of the reference, unknown ones last; each with the comments above it.
fn key_order(text: &str) -> String {
    let moved = yaml::parse(text).ok().and_then(|node| {
        let daemon = entries(&node)?.iter().find(|entry| entry.key == "daemon")?;
        reordered(text, entries(&daemon.value)?)
    });
    moved.unwrap_or_else(|| text.to_owned())
}

fn entries(node: &Node) -> Option<&[Entry]> {
    match &node.shape {
        Shape::Map(entries) => Some(entries),
        Shape::Scalar(_) | Shape::List(_) => None,
    }
}

fn reordered(text: &str, entries: &[Entry]) -> Option<String> {
    if !text.ends_with('\n') {
        return reordered(&format!("{text}\n"), entries);
    }
    let line_start = |offset: usize| text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let column = |entry: &Entry| entry.key_span.start - line_start(entry.key_span.start);
    let first = entries.first()?;
    let own_line =
        |entry: &Entry| text[line_start(entry.key_span.start)..entry.key_span.start].trim().is_empty();
    if entries.iter().any(|entry| column(entry) != column(first) || !own_line(entry)) {
        return None;
    }
    let starts: Vec<usize> =
        entries.iter().map(|entry| above(text, line_start(entry.key_span.start), column(first))).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let mut pieces: Vec<(usize, Range<usize>)> = entries
        .iter()
        .map(|entry| rank(&entry.key))
        .zip(starts.iter().zip(ends).map(|(start, end)| *start..end))
        .collect();
    pieces.sort_by_key(|(rank, _)| *rank);
    let body: String = pieces.into_iter().map(|(_, piece)| &text[piece]).collect();
    Some(format!("{}{body}", &text[..*starts.first()?]))
}

fn rank(key: &str) -> usize {
    let known = raw::daemon::Daemon::KEYS;
    known.iter().position(|known| *known == key).unwrap_or(known.len())
}

/// Where the comments right above a line begin, if they are indented as the line is.
fn above(text: &str, line: usize, column: usize) -> usize {
    let mut start = line;
    while start > 0 {
        let previous = text[..start - 1].rfind('\n').map_or(0, |newline| newline + 1);
        let written = &text[previous..start - 1];
        let comment =
            written.trim_start().starts_with('#') && written.len() - written.trim_start().len() == column;
        if !comment {
            break;
        }
        start = previous;
    }
    start
}
