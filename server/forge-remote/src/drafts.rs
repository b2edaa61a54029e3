//! Drafts that are told by their title, as Forgejo and GitLab have them.

use serde_json::{Value, json};

use crate::shape::{flag, text};

/// How a title says that its pull request is a draft.
#[derive(Debug, Clone, Copy)]
pub struct Drafts {
    /// The mark that is given to a new draft, with the space after it.
    pub mark: &'static str,
    /// All that the forge takes for one, in small letters.
    pub marks: &'static [&'static str],
}

impl Drafts {
    /// The title of a new draft.
    pub fn marked(&self, title: &str) -> String {
        format!("{}{title}", self.mark)
    }

    /// A thread or pull request without the mark of a draft in its title, which is said by `draft` too.
    pub fn bare(&self, mut thread: Value) -> Value {
        if is_draft(&thread)
            && let Some((_, title)) = text(&thread, "/title").and_then(|title| self.parted(title))
        {
            let title = title.to_owned();
            thread["title"] = json!(title);
        }
        thread
    }

    /// The title that a thread is to have, with the mark of a draft that it has now.
    pub fn marked_as(&self, thread: &Value, title: &str) -> String {
        let there = text(thread, "/title").and_then(|title| self.parted(title));
        match there.filter(|_| is_draft(thread)) {
            Some((mark, _)) => format!("{mark}{title}"),
            None => title.to_owned(),
        }
    }

    /// The mark of a draft with the space after it, and the rest.
    fn parted<'t>(&self, title: &'t str) -> Option<(&'t str, &'t str)> {
        let is_mark =
            |mark: &&&str| title.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
        let mark = self.marks.iter().find(is_mark)?;
        let rest = title[mark.len()..].trim_start();
        Some(title.split_at(title.len() - rest.len()))
    }
}

fn is_draft(thread: &Value) -> bool {
    flag(thread, "/draft").or_else(|| flag(thread, "/pull_request/draft")) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_stays_one_under_another_title() {
        let drafts = Drafts { mark: "WIP: ", marks: &["wip:", "[wip]"] };
        let check = |title: &str, is_draft: bool, bare: &str, renamed: &str| {
            let pull = json!({ "title": title, "draft": is_draft });
            assert_eq!(drafts.bare(pull.clone())["title"], bare);
            assert_eq!(drafts.marked_as(&pull, "New"), renamed);
        };
        check("WIP: Mend", true, "Mend", "WIP: New");
        check("[wip]Mend", true, "Mend", "[wip]New");
        check("WIP: Mend", false, "WIP: Mend", "New");
        check("Mend", true, "Mend", "New");
        check("w\u{ed}", true, "w\u{ed}", "New");
        let issue = json!({ "title": "WIP: x", "pull_request": { "draft": true } });
        assert_eq!(drafts.bare(issue)["title"], "x");
        assert_eq!(drafts.marked("Mend"), "WIP: Mend");
    }
}
