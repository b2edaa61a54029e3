//! Text of other people's, made fit for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with everything that a terminal would obey made visible: `␛` for an escape, `<U+202E>` for
/// a change of direction. Sequences that only set colours are left out, as they are common in logs and
/// would hide the text between them.
///
/// What counts: the control characters C0, DEL and C1 (ECMA-48, 5.2 and 5.3), of which only the tab
/// stays; line and paragraph separators; the bidirectional controls (Unicode UAX #9, 2.1 to 2.5),
/// which can make a text read as another one.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_obeyed) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 8);
    shown.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(c) = rest.chars().next() {
        if let Some(length) = color_sequence(rest) {
            rest = &rest[length..];
            continue;
        }
        show(c, &mut shown);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(shown)
}

/// Several lines with colours of our own: those stay, everything else is made visible.
pub(crate) fn visible_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = color_sequence(rest).unwrap_or(c.len_utf8());
        if length > c.len_utf8() || c == '\n' {
            shown.push_str(&rest[..length]);
        } else {
            show(c, &mut shown);
        }
        rest = &rest[length..];
    }
    shown
}

/// A JSON document without a character that a terminal would obey. Line ends and spaces stand between
/// values; everything else of the kind is inside a text, where it can be written as an escape.
pub(crate) fn escaped_json(document: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_obeyed(c) && c != '\n';
    if !document.contains(is_escaped) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 8);
    for c in document.chars() {
        match is_escaped(c) {
            true => write!(escaped, "\\u{:04x}", c as u32).expect("because a string takes everything"),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn show(c: char, into: &mut String) {
    match c {
        c if !is_obeyed(c) => into.push(c),
        // The control pictures of Unicode stand in the order of ASCII.
        '\0'..='\u{1f}' => into.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
        '\u{7f}' => into.push('\u{2421}'),
        _ => write!(into, "<U+{:04X}>", c as u32).expect("because a string takes everything"),
    }
}

/// The length of the sequence that begins here, if it only sets colours: SGR (ECMA-48, 8.3.117).
fn color_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    parameters[end..].starts_with('m').then_some("\u{1b}[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(visible(text), expect, "{text:?}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        check("plain text, ünïcödé 日本 🪄\twith a tab", "plain text, ünïcödé 日本 🪄\twith a tab");
        check("\u{1b}]0;owned\u{7}", "␛]0;owned␇");
        check(
            "\u{1b}]8;;https://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
            "␛]8;;https://evil.example␛\\click␛]8;;␛\\",
        );
        check("\u{1b}]52;c;cm0gLXJm\u{7}", "␛]52;c;cm0gLXJm␇");
        check("\u{1b}[2J\u{1b}[H", "␛[2J␛[H");
        check("safe\rrm -rf", "safe␍rm -rf");
        check("a\nb\u{8}\u{7f}\0", "a␊b␈␡␀");
        check("\u{9b}31m\u{9d}0;x\u{9c}", "<U+009B>31m<U+009D>0;x<U+009C>");
        check("user\u{202e}gpj.exe\u{2069}", "user<U+202E>gpj.exe<U+2069>");
    }

    #[test]
    fn colours_are_left_out() {
        check("\u{1b}[31mred\u{1b}[0m and \u{1b}[1;38;5;9mbold\u{1b}[m", "red and bold");
        check("\u{1b}[31", "␛[31");
        check("\u{1b}[?25l", "␛[?25l");
        check("\u{1b}\u{1b}[0m[2J", "␛[2J");
    }

    #[test]
    fn frames_keep_their_own_colours() {
        assert_eq!(
            visible_lines("\u{1b}[1mtitle\u{1b}[0m\n \u{1b}]0;x\u{7}\u{9d}\n"),
            "\u{1b}[1mtitle\u{1b}[0m\n ␛]0;x␇<U+009D>\n"
        );
    }

    #[test]
    fn json_means_the_same_after_it_was_escaped() {
        let value = serde_json::json!({ "a\u{9d}": ["\u{1b}\u{202e}", "\n\t"] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escaped_json(&text);
        assert!(!escaped.contains(['\u{9d}', '\u{202e}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    proptest! {
        #[test]
        fn nothing_that_is_obeyed_is_left(text in "(\\PC|\\pC|\u{1b}\\[|m)*") {
            let shown = visible(&text);
            prop_assert!(!shown.contains(is_obeyed));
            prop_assert_eq!(visible(&shown), &*shown);
        }
    }
}
