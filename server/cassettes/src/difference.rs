//! Differences of texts, and which recording is most like what was asked.

use similar::TextDiff;

/// A unified difference of two texts, under these names.
pub fn difference(old: (&str, &str), new: (&str, &str)) -> String {
    // A text without a newline at its end differs in that from no other.
    let lines = |text: &str| format!("{}\n", text.trim_end_matches('\n'));
    let (before, after) = (lines(old.1), lines(new.1));
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header(old.0, new.0).to_string()
}

/// The one of several texts that is most like another one.
pub(crate) fn nearest<'t>(text: &str, others: impl IntoIterator<Item = &'t str>) -> Option<&'t str> {
    let alike = |other: &str| TextDiff::from_words(other, text).ratio();
    let ranked = others.into_iter().map(|other| (alike(other), other));
    ranked.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, other)| other)
}
