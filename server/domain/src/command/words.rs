//! The words of a command: separated by spaces, with values in quotation marks where they hold spaces.

use super::Mistake;

/// A word, without its quotation marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Where the first `=` outside quotation marks stands.
    equals: Option<usize>,
}

impl Word {
    /// Name and value of `name=value`.
    pub(super) fn split(&self) -> Option<(&str, &str)> {
        let at = self.equals?;
        Some((&self.text[..at], &self.text[at + 1..]))
    }
}

/// Takes a line apart. A quotation mark opens at the beginning of a word or of a value, straight or as phones
/// write them; in double ones, `\"` and `\\` stand for themselves.
pub(super) fn words(line: &str) -> Result<Vec<Word>, Mistake> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        let may_open = word.text.is_empty() || word.equals == Some(word.text.len() - 1);
        match c {
            '"' | '“' | '”' if may_open => quoted(&mut rest, word, &['"', '“', '”'], Some('\\'))?,
            '\'' | '‘' | '’' if may_open => quoted(&mut rest, word, &['\'', '‘', '’'], None)?,
            '=' if word.equals.is_none() => {
                word.equals = Some(word.text.len());
                word.text.push('=');
            }
            c => word.text.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Adds what stands up to the next mark.
fn quoted(
    rest: &mut std::str::Chars<'_>,
    word: &mut Word,
    marks: &[char],
    escape: Option<char>,
) -> Result<(), Mistake> {
    while let Some(c) = rest.next() {
        if marks.contains(&c) {
            return Ok(());
        }
        let next = rest.clone().next();
        match next {
            Some(next) if Some(c) == escape && (marks.contains(&next) || Some(next) == escape) => {
                word.text.push(next);
                rest.next();
            }
            _ => word.text.push(c),
        }
    }
    Err(Mistake::Quote)
}
