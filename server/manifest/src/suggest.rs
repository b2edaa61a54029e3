//! "Did you mean": the known word that is nearest to a misspelt one.

/// Words longer than this are not compared; nobody misspells so much.
const LONGEST: usize = 64;

/// The candidate that `word` is most likely a misspelling of.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let wanted = word.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST && *candidate != word)
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean x?`, when there is such a candidate.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Edits between two words; `-`, `_` and a space count as one another.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.replace(['-', ' '], "_");
    strsim::osa_distance(&plain(a), &plain(b))
}

/// Words as a person lists them: `a`, `b` or `c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// Text of others inside a message: in backquotes, cut to 60 characters, control characters spelt out.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(shown_char).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn shown_char(c: char) -> Vec<char> {
    if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
        c.escape_debug().collect()
    } else {
        vec![c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: Option<&str>) {
        assert_eq!(closest(word, ["stages", "needs", "continue_on_error", "name"]), expect, "for {word:?}");
    }

    #[test]
    fn a_slip_is_understood_and_a_guess_is_not_made() {
        check("stagse", Some("stages"));
        check("STAGES", Some("stages"));
        check("continue-on-error", Some("continue_on_error"));
        check("need", Some("needs"));
        check("colour", None);
        check("x", None);
        check(&"s".repeat(1000), None);
    }

    #[test]
    fn text_of_others_cannot_draw_on_the_terminal() {
        assert_eq!(quoted("a\u{1b}[2Jb\u{202e}"), "`a\\u{1b}[2Jb\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }
}
