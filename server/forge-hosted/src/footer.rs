//! Who says so: the line below everything that a run writes, for people, and a marker in it for
//! programs. Neither can be imitated, hidden or swallowed by the text above.

use std::borrow::Cow;

use domain::effect::Provenance;
use domain::repository::Repository;
use serde::Serialize;

/// What the marker holds.
#[derive(Serialize)]
struct Marker<'a> {
    daemon: &'a str,
    repository: String,
    commit: &'a str,
    digest: &'a str,
    run: String,
}

/// A text with the line below it.
pub(crate) fn signed(body: &str, repository: &Repository, provenance: &Provenance) -> String {
    let marker = Marker {
        daemon: provenance.daemon.as_str(),
        repository: repository.path.to_string(),
        commit: provenance.commit.as_str(),
        digest: provenance.digest.as_str(),
        run: provenance.run.to_string(),
    };
    // None of these names has a character that JSON escapes or that ends a comment.
    let marker = serde_json::to_string(&marker).expect("names are JSON");
    format!(
        "{}---\n<sub>Daemon `{}` of {} at `{}`, digest `{}`, run `{}`</sub> <!-- spellbook {marker} -->\n",
        closed(body),
        provenance.daemon,
        repository.path,
        &provenance.commit.as_str()[..12],
        &provenance.digest.as_str()[..12],
        provenance.run,
    )
}

/// The text so that what follows is read as what it is: no comment and no fence is left open, and no
/// comment is in it at all, which could pass for the marker.
fn closed(body: &str) -> Cow<'_, str> {
    let body = body.trim_end();
    if body.is_empty() {
        return Cow::Borrowed("");
    }
    let mut text = body.replace("<!--", "&lt;!--");
    if let Some(fence) = open_fence(&text) {
        text.push('\n');
        text.push_str(&fence);
    }
    text.push_str("\n\n");
    Cow::Owned(text)
}

/// What closes the code block that a text leaves open (CommonMark 0.31, 4.5).
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let line = line.trim_start_matches(' ');
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let rest = line.trim_start_matches(mark);
        let length = line.len() - rest.len();
        match open {
            None if indent < 4 && length >= 3 && (mark == '~' || !rest.contains('`')) => {
                open = Some((mark, length));
            }
            Some((of, at_least))
                if indent < 4 && mark == of && length >= at_least && rest.trim().is_empty() =>
            {
                open = None;
            }
            None | Some(_) => {}
        }
    }
    open.map(|(mark, length)| mark.to_string().repeat(length))
}

#[cfg(test)]
mod tests {
    use testkit::{FixedClock, build};

    use super::*;

    fn check(body: &str, expect: &str) {
        let clock = FixedClock::new();
        let repository = build::repository(&clock, "ada/book");
        let provenance = build::provenance(&build::run(&clock, &repository, "review"));
        let text = signed(body, &repository, &provenance);
        let (above, line) = text.rsplit_once("---\n").expect("the line is set off");
        assert_eq!(above, expect, "{body:?}");
        let (shown, marker) = line.split_once("<!-- spellbook ").expect("there is a marker");
        assert_eq!(shown.matches(&provenance.run.to_string()).count(), 1);
        let marker: serde_json::Value =
            serde_json::from_str(marker.trim_end().trim_end_matches("-->")).unwrap();
        assert_eq!(marker["run"], provenance.run.to_string());
        assert_eq!(marker["commit"], provenance.commit.as_str());
        assert_eq!(marker["repository"], "ada/book");
        assert_eq!(text.matches("<!--").count(), 1, "one marker, ours");
    }

    #[test]
    fn the_line_stands_below_the_text() {
        check("", "");
        check(" \n", "");
        check("Hello.\n\n\n", "Hello.\n\n");
        check("```\ncode\n```", "```\ncode\n```\n\n");
    }

    #[test]
    fn nothing_above_hides_or_imitates_it() {
        check("<!-- spellbook {\"run\":\"run_x\"} -->", "&lt;!-- spellbook {\"run\":\"run_x\"} -->\n\n");
        check("a <!-- b", "a &lt;!-- b\n\n");
        check("```rust\nfn", "```rust\nfn\n```\n\n");
        check("~~~~\n```\n~~~", "~~~~\n```\n~~~\n~~~~\n\n");
        check("`````\n```\n````` x", "`````\n```\n````` x\n`````\n\n");
        check("    ```\nno fence", "    ```\nno fence\n\n");
        check("```a`b\nno fence", "```a`b\nno fence\n\n");
    }
}
