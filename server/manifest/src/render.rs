//! Diagnostics for people: code frames in the manner of rustc.

use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};

/// How wide a frame may be, columns.
const WIDTH: usize = 120;
/// Lines longer than this are not shown, bytes.
const LONGEST_LINE: usize = 2_000;

/// How diagnostics look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// Letters only.
    #[default]
    Plain,
    /// With colours of a terminal.
    Color,
}

/// The texts that diagnostics are about.
pub trait Sources {
    /// The text of a file, by its path in the repository; without it the frame is left out.
    fn text(&self, file: &str) -> Option<&str>;
}

impl Sources for BTreeMap<String, String> {
    fn text(&self, file: &str) -> Option<&str> {
        self.get(file).map(String::as_str)
    }
}

/// One file: its path and its text.
impl Sources for (&str, &str) {
    fn text(&self, file: &str) -> Option<&str> {
        (self.0 == file).then_some(self.1)
    }
}

/// Renders diagnostics with a frame of the source each, and a line that counts them.
pub fn render(diagnostics: &[Diagnostic], sources: &dyn Sources, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Color => Renderer::styled(),
    };
    let renderer = renderer.term_width(WIDTH).decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&frame(diagnostic, sources)));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diagnostics));
    text
}

fn frame<'a>(diagnostic: &'a Diagnostic, sources: &'a dyn Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let lines = sources.text(&diagnostic.file).and_then(|source| Excerpt::of(source, &diagnostic.span));
    let mut group = match lines {
        Some(excerpt) => {
            let mut mark = AnnotationKind::Primary.span(excerpt.mark);
            if let Some(expected) = &diagnostic.expected {
                mark = mark.label(format!("expected {expected}"));
            }
            let snippet = Snippet::source(excerpt.text)
                .line_start(excerpt.first_line)
                .path(diagnostic.file.as_str())
                .annotation(mark);
            title.element(snippet)
        }
        None => {
            let group = title.element(place(diagnostic));
            match &diagnostic.expected {
                Some(expected) => group.element(Level::NOTE.message(format!("expected {expected}"))),
                None => group,
            }
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

/// Where it is, without a frame: the line is too long to be shown, or it is about the file as a whole.
fn place(diagnostic: &Diagnostic) -> Origin<'_> {
    let path = Origin::path(diagnostic.file.as_str());
    let narrow = |number: u32| usize::try_from(number).unwrap_or(1);
    if diagnostic.span.start == 0 {
        return path;
    }
    path.line(narrow(diagnostic.line)).char_column(narrow(diagnostic.column))
}

/// The lines that a frame shows. Only they are given to the renderer, which would otherwise walk the
/// whole file for each diagnostic.
struct Excerpt<'a> {
    text: &'a str,
    first_line: usize,
    mark: Range<usize>,
}

impl<'a> Excerpt<'a> {
    /// The line where the span begins and the one before it; the mark ends with the line.
    fn of(source: &'a str, span: &Range<usize>) -> Option<Self> {
        let start = source.get(..span.start)?.rfind('\n').map_or(0, |newline| newline + 1);
        let end = source[span.start..].find('\n').map_or(source.len(), |length| span.start + length);
        let end = start + source[start..end].trim_end().len();
        if end < start || end - start > LONGEST_LINE {
            return None;
        }
        let before = source[..start.saturating_sub(1)].rfind('\n').map_or(0, |newline| newline + 1);
        let from = if start - before > LONGEST_LINE { start } else { before };
        let mark_start = span.start.min(end);
        let mark_end = span.end.clamp(mark_start, end);
        let first_line = source[..from].bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some(Self {
            text: source.get(from..end)?,
            first_line,
            mark: mark_start - from..widened(source, mark_start, mark_end.max(mark_start)) - from,
        })
    }
}

/// An empty mark covers the character that follows it, if the line has one.
fn widened(source: &str, start: usize, end: usize) -> usize {
    if end > start {
        return end;
    }
    match source[start..].chars().next() {
        Some(c) if c != '\n' && c != '\r' => start + c.len_utf8(),
        _ => start,
    }
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity: Severity| diagnostics.iter().filter(|one| one.severity == severity).count();
    let words = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let counted = [words(count(Severity::Error), "error"), words(count(Severity::Warning), "warning")];
    let counted: Vec<String> = counted.into_iter().flatten().collect();
    if counted.is_empty() { String::new() } else { format!("{}\n", counted.join(", ")) }
}
