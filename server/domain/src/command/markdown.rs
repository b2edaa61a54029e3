//! The lines of a comment that are what they look like: plain text at the beginning of a line of a paragraph
//! (CommonMark 0.31 with GitHub's tables, strike-through, task lists and alerts).

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A line that begins with plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'t> {
    /// As it stands in the source.
    pub(super) text: &'t str,
    /// Whether it is plain text to its end.
    pub(super) is_plain: bool,
}

/// The lines of the paragraphs that stand in nothing else: not in a quote, a list, a table or a footnote.
pub(super) fn lines(source: &str) -> Vec<Line<'_>> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let mut lines = Vec::new();
    let mut blocks = 0_usize;
    let mut open: Option<Open> = None;
    for (event, range) in Parser::new_ext(source, options).into_offset_iter() {
        match (&event, &mut open) {
            (Event::Start(Tag::Paragraph), None) if blocks == 0 => open = Some(Open::default()),
            (Event::End(TagEnd::Paragraph), Some(paragraph)) => {
                lines.extend(paragraph.finish(source));
                open = None;
            }
            (Event::Start(_), None) => blocks += 1,
            (Event::End(_), None) => blocks = blocks.saturating_sub(1),
            (Event::SoftBreak | Event::HardBreak, Some(paragraph)) => lines.extend(paragraph.finish(source)),
            (Event::Text(_), Some(paragraph)) => paragraph.add(&range, true),
            (Event::Start(_), Some(paragraph)) => {
                paragraph.add(&range, false);
                paragraph.inside += 1;
            }
            (Event::End(_), Some(paragraph)) => paragraph.inside = paragraph.inside.saturating_sub(1),
            (_, Some(paragraph)) => paragraph.add(&range, false),
            (_, None) => {}
        }
    }
    lines
}

/// A paragraph that is being read.
#[derive(Debug, Default)]
struct Open {
    /// How many emphases, links and the like are open.
    inside: usize,
    line: Option<Extent>,
}

/// The line that is being read.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: usize,
    end: usize,
    begins_plain: bool,
    is_plain: bool,
}

impl Open {
    fn add(&mut self, range: &Range<usize>, is_text: bool) {
        let is_plain = is_text && self.inside == 0;
        match &mut self.line {
            None => {
                let Range { start, end } = *range;
                self.line = Some(Extent { start, end, begins_plain: is_plain, is_plain });
            }
            Some(line) => {
                line.end = line.end.max(range.end);
                line.is_plain &= is_plain;
            }
        }
    }

    /// The line, at its end, when it begins with plain text.
    fn finish<'t>(&mut self, source: &'t str) -> Option<Line<'t>> {
        let line = self.line.take().filter(|line| line.begins_plain)?;
        // A backslash before it makes a character something to be shown, not meant.
        let before = source.get(..line.start)?.rsplit(['\n', '\r']).next()?;
        let text = source.get(line.start..line.end)?.split(['\n', '\r']).next()?;
        before
            .trim_matches([' ', '\t'])
            .is_empty()
            .then(|| Line { text: text.trim(), is_plain: line.is_plain })
    }
}
