//! Quick actions: lines of a comment or a description that begin with a slash are orders to GitLab, which it carries
//! out with the rights of who wrote them. What a daemon writes may hold words of strangers, so none of its lines is
//! left an order: a backslash before the slash shows the same and orders nothing.

/// The text, ordering nothing.
pub(crate) fn harmless(text: &str) -> String {
    each_line(text, |line| {
        let at = line.find(['/', '\\']).filter(|_| may_order(line))?;
        Some(format!("{}\\{}", &line[..at], &line[at..]))
    })
}

/// The text as it was before that.
pub(crate) fn as_meant(text: &str) -> String {
    each_line(text, |line| {
        let at = line.find('\\').filter(|_| may_order(line))?;
        Some(format!("{}{}", &line[..at], &line[at + 1..]))
    })
}

/// Whether a line is space, backslashes or none, a slash and a letter.
fn may_order(line: &str) -> bool {
    let rest = line.trim_start().trim_start_matches('\\');
    let mut rest = rest.chars();
    rest.next() == Some('/') && rest.next().is_some_and(char::is_alphabetic)
}

fn each_line(text: &str, changed: impl Fn(&str) -> Option<String>) -> String {
    text.split_inclusive('\n').map(|line| changed(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(meant: &str, written: &str) {
        assert_eq!(harmless(meant), written);
        assert_eq!(as_meant(written), meant);
    }

    #[test]
    fn no_line_is_an_order() {
        check("Hello.\n/merge\n/approve", "Hello.\n\\/merge\n\\/approve");
        check("  /close\r\n", "  \\/close\r\n");
        check("\\/close", "\\\\/close");
        check("\\\\/close\n", "\\\\\\/close\n");
        check("```\n/label ~x\n```", "```\n\\/label ~x\n```");
    }

    #[test]
    fn everything_else_is_left() {
        for text in ["", "a /merge", "/ x", "//x", "/1", "- /merge", "> /merge", "\\n", "\\ /x", "a\\/b"] {
            check(text, text);
        }
    }
}
