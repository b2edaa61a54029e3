//! "Did you mean": the known word that is nearest to a misspelt one.

/// Words longer than this are not compared; nobody misspells so much.
const LONGEST: usize = 64;

/// The candidate that `word` is most likely a misspelling of.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Edits between two words; `-`, `_` and a space count as one another.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.replace(['-', ' '], "_");
    strsim::osa_distance(&plain(a), &plain(b))
}

/// Words as a person lists them: `a`, `b` or `c`.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// Text of others inside a comment: as [`quoted`], and nothing in it ends the code that it stands in.
pub fn code(text: &str) -> String {
    quoted(&text.replace('`', "'"))
}

/// Text of others inside a message: in backquotes, cut to 60 characters, characters that cannot be seen
/// spelt out.
pub fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(shown_char).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn shown_char(c: char) -> Vec<char> {
    if is_unseen(c) { c.escape_unicode().collect() } else { vec![c] }
}

/// Whether a character shows nothing of itself: control characters, those that turn the direction of a text,
/// those without a width. The two joiners are left: some scripts, and pictures, are written with them.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
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
