//! Long Markdown in several parts, each of which reads well alone: cut between paragraphs where that is
//! possible, and never so that a code block or a `<details>` is left open.

/// A part of a text, with what it needs around it to stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part<'a> {
    before: String,
    text: &'a str,
    after: String,
}

/// The text in parts of at most `most` units of UTF-16, which is at least what forges count. `most` is a
/// thousand or more.
pub fn split(text: &str, most: usize) -> Vec<String> {
    let parts = parts(text, most);
    parts.into_iter().map(|part| format!("{}{}{}", part.before, part.text, part.after)).collect()
}

/// The text as it fits into `most`, with a word in place of what does not.
pub fn shorten(text: &str, most: usize, word: &str) -> String {
    if units(text) <= most {
        return text.to_owned();
    }
    let mut first = split(text, most.saturating_sub(units(word) + 2).max(LEAST)).swap_remove(0);
    first.truncate(first.trim_end().len());
    first.push_str("\n\n");
    first.push_str(word);
    first
}

/// How long a text is to a forge, or less.
pub fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Room for what opens and closes a part, beside at least some text.
const LEAST: usize = 1_000;
/// A fence's first line is repeated in each part; of one longer than this only the marks, and more marks than
/// these are nobody's code.
const LONGEST_FENCE: usize = 100;
/// So deep `<details>` are closed and opened again.
const DEEPEST: usize = 8;
const AGAIN: &str = "<details open><summary>…</summary>\n\n";
const OVER: &str = "\n</details>\n";

fn parts(text: &str, most: usize) -> Vec<Part<'_>> {
    let most = most.max(LEAST);
    let mut parts = Vec::new();
    let mut state = State::default();
    let mut rest = text;
    loop {
        let before = state.opening();
        let room = most - units(&before);
        if units(rest) + units(&state.clone().over(rest).closing(rest)) <= room {
            let after = state.over(rest).closing(rest);
            parts.push(Part { before, text: rest, after });
            return parts;
        }
        let cut = cut(rest, room, &state);
        let (now, later) = rest.split_at(cut);
        state = state.over(now);
        parts.push(Part { before, text: now, after: state.closing(now) });
        rest = later;
    }
}

/// Where to cut: after the last paragraph of the second half; else after a line outside of code, else after
/// any line, else wherever.
fn cut(text: &str, room: usize, state: &State) -> usize {
    let mut state = state.clone();
    let (mut at, mut length) = (0, 0);
    let mut best: Option<Place> = None;
    for line in text.split_inclusive('\n') {
        state = state.over(line);
        (at, length) = (at + line.len(), length + units(line));
        if length + units(&state.closing(line)) > room {
            break;
        }
        let quality = match (state.is_open(), line.trim().is_empty()) {
            (false, true) => 3,
            (false, false) => 2,
            (true, _) => 1,
        };
        let early = length * 2 < room;
        if best.as_ref().is_none_or(|known| quality >= known.quality || (known.early && !early)) {
            best = Some(Place { at, quality, early });
        }
    }
    best.map_or_else(|| in_line(text, room), |place| place.at)
}

/// Where a text could be cut.
struct Place {
    at: usize,
    quality: u8,
    /// In the first half of the room, where cutting wastes much.
    early: bool,
}

/// As much of one long line as fits, whatever it opens or closes.
fn in_line(text: &str, room: usize) -> usize {
    let room = room - LEAST / 2;
    let mut length = 0;
    for (at, c) in text.char_indices() {
        length += c.len_utf16();
        if length > room {
            return at;
        }
    }
    text.len()
}

/// What is open at some place of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    fence: Option<Fence>,
    details: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fence {
    mark: char,
    length: usize,
    /// Its first line, as it is written again.
    line: String,
}

impl State {
    /// What is open after some more text.
    fn over(mut self, text: &str) -> Self {
        for line in text.split_inclusive('\n') {
            self.line(line.trim_end_matches(['\n', '\r']));
        }
        self
    }

    const fn is_open(&self) -> bool {
        self.fence.is_some() || self.details > 0
    }

    /// Fences as CommonMark 0.31 has them in 4.5; `<details>` begin and end lines, as people write them.
    fn line(&mut self, line: &str) {
        let inner = line.trim_start_matches(' ');
        let indent = line.len() - inner.len();
        let mark = inner.chars().next().filter(|c| matches!(c, '`' | '~') && indent < 4);
        let run = mark.map_or(0, |mark| inner.len() - inner.trim_start_matches(mark).len());
        let words = &inner[run..];
        match (&self.fence, mark) {
            (Some(fence), Some(mark)) => {
                if mark == fence.mark && run >= fence.length && words.trim().is_empty() {
                    self.fence = None;
                }
            }
            (None, Some(mark))
                if (3..=LONGEST_FENCE).contains(&run) && (mark == '~' || !words.contains('`')) =>
            {
                let short = units(line) <= LONGEST_FENCE;
                let line = if short { line.to_owned() } else { mark.to_string().repeat(run) };
                self.fence = Some(Fence { mark, length: run, line });
            }
            (Some(_), None) => {}
            (None, _) => {
                let lower = inner.to_ascii_lowercase();
                let opened = lower.matches("<details").count();
                let closed = lower.matches("</details").count();
                self.details = (self.details + opened).saturating_sub(closed);
            }
        }
    }

    /// What is written at the beginning of the next part.
    fn opening(&self) -> String {
        let mut opening = AGAIN.repeat(self.details.min(DEEPEST));
        if let Some(fence) = &self.fence {
            opening.push_str(&fence.line);
            opening.push('\n');
        }
        opening
    }

    /// What is written at the end of this part.
    fn closing(&self, text: &str) -> String {
        let mut closing = String::new();
        if let Some(fence) = &self.fence {
            if !text.ends_with('\n') {
                closing.push('\n');
            }
            closing.extend(std::iter::repeat_n(fence.mark, fence.length));
            closing.push('\n');
        }
        closing.push_str(&OVER.repeat(self.details.min(DEEPEST)));
        closing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_stays_whole() {
        assert_eq!(split("", 1_000), [""]);
        assert_eq!(split("a\n\nb\n", 1_000), ["a\n\nb\n"]);
        assert_eq!(split("```\nopen", 1_000), ["```\nopen\n```\n"]);
    }

    #[test]
    fn it_is_cut_between_paragraphs() {
        let paragraph = format!("{}\n{}\n\n", "a".repeat(300), "b".repeat(300));
        let parts = split(&paragraph.repeat(3), 1_300);
        assert_eq!(parts, [paragraph.repeat(2), paragraph]);
    }

    #[test]
    fn code_goes_on_as_code() {
        let code = format!("Look:\n\n```rust\n{}```\n\nEnd.\n", "let x = 1;\n".repeat(150));
        let parts = split(&code, 1_000);
        assert!(parts.len() == 2 && parts[0].ends_with("let x = 1;\n```\n"), "{parts:#?}");
        assert!(parts[1].starts_with("```rust\nlet x") && parts[1].ends_with("```\n\nEnd.\n"));
    }

    #[test]
    fn folded_text_stays_folded() {
        let text = format!("<details><summary>Log</summary>\n\n{}\n</details>\n", "line\n".repeat(300));
        let parts = split(&text, 1_200);
        assert_eq!(parts.len(), 2);
        assert!(parts[0].ends_with("line\n\n</details>\n") && parts[1].starts_with("<details open>"));
        let balanced = |part: &String| part.matches("<details").count() == part.matches("</details").count();
        assert!(parts.iter().all(balanced));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(shorten("short", 1_000, "more"), "short");
        let long = shorten(&"word\n\n".repeat(1_000), 1_100, "… more on the page of the run");
        assert!(long.ends_with("word\n\n… more on the page of the run") && units(&long) <= 1_100, "{long}");
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,90}",
            "[àß語😀`~]{1,40}",
            Just(String::new()),
            Just("```rust".to_owned()),
            Just("```".to_owned()),
            Just("~~~~".to_owned()),
            Just("   ```".to_owned()),
            Just("<details><summary>S</summary>".to_owned()),
            Just("</details>".to_owned()),
            "[a-z]{900,2400}",
            Just("`".repeat(1_500)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Nothing is lost, everything fits, and no part leaves anything open.
        #[test]
        fn parts_stand_alone(lines in prop::collection::vec(line(), 0..60), most in 1_000usize..3_000) {
            let text = lines.join("\n");
            let parts = parts(&text, most);
            prop_assert_eq!(parts.iter().map(|part| part.text).collect::<String>(), &*text);
            let mut state = State::default();
            for part in &parts {
                let whole = format!("{}{}{}", part.before, part.text, part.after);
                prop_assert!(units(&whole) <= most, "{} > {most}", units(&whole));
                prop_assert!(!part.text.is_empty() || parts.len() == 1);
                let open = State::default().over(&whole);
                prop_assert_eq!(&open.fence, &None, "{}", whole);
                prop_assert_eq!(&part.before, &state.opening());
                state = state.over(part.text);
            }
        }
    }
}
