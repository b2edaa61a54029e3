//! Parts of long texts.

/// The beginning of a text, whole lines where that is possible.
pub(super) fn head(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let cut = &text[..text.floor_char_boundary(most)];
    cut.rsplit_once('\n').map_or(cut, |(whole, _)| whole)
}

/// The end of a text, whole lines where that is possible, and how much is missing.
pub(super) fn tail(text: &str, most: usize) -> String {
    let text = text.trim_end();
    if text.len() <= most {
        return text.to_owned();
    }
    let rest = &text[text.ceil_char_boundary(text.len() - most)..];
    let rest = rest.split_once('\n').map_or(rest, |(_, whole)| whole);
    format!("… {} bytes before are left out\n{rest}", text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_by_whole_lines() {
        let text = (0..2_000).map(|n| format!("line {n}\n")).collect::<String>();
        let shown = tail(&text, 6_000);
        assert!(shown.len() < 6_064 && shown.ends_with("line 1999"), "{shown}");
        assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with("line ")), "{shown}");
        let shown = head(&text, 6_000);
        assert!(shown.len() <= 6_000 && text.starts_with(&format!("{shown}\n")), "{shown}");
        assert_eq!((head("a\n", 2), tail("a\n", 2).as_str()), ("a\n", "a"));
        assert_eq!(head("ü", 1), "");
    }
}
