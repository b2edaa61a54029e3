//! What is at an address of GitLab, as it is at this moment.

use domain::name::Commit;
use forge_remote::{Failure, below, escaped, thing as seen};
use ports::forge::{Thing, ThingKind};
use serde_json::{Value, json};

use crate::shape::number;
use crate::site::meant;
use crate::thing;
use crate::thread::Thread;
use crate::visit::Visit;

/// What may be at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// A comment under a thread.
    Note(Thread, u64),
    /// A comment on a commit.
    Remark(Commit, u64),
    Thread(Thread),
    /// A release: by its tag.
    Release(String),
    Commit(Commit),
}

impl Page {
    /// Reads an address below this GitLab's own; `None` when it is of another kind.
    pub(crate) fn parse(web_url: &str, url: &str) -> Option<Self> {
        let (path, fragment) = below(web_url, url)?;
        // The project was found before, perhaps under a name that it no longer has.
        let (_, rest) = path.split_once("/-/")?;
        let note = fragment.strip_prefix("note_").and_then(|id| id.parse().ok());
        let parts: Vec<&str> = rest.split('/').collect();
        let thread = match parts.as_slice() {
            ["issues", iid, ..] => iid.parse().ok().map(Thread::Issue),
            ["merge_requests", iid, ..] => iid.parse().ok().map(Thread::MergeRequest),
            _ => None,
        };
        if let Some(thread) = thread {
            return Some(note.map_or(Self::Thread(thread), |id| Self::Note(thread, id)));
        }
        match parts.as_slice() {
            ["commit", commit] => {
                let commit = Commit::parse(*commit).ok()?;
                Some(match note {
                    Some(id) => Self::Remark(commit, id),
                    None => Self::Commit(commit),
                })
            }
            ["releases", tag @ ..] if !tag.is_empty() => Some(Self::Release(tag.join("/"))),
            _ => None,
        }
    }

    /// What is there.
    pub(crate) async fn look(&self, visit: &Visit<'_>) -> Result<Option<Thing>, Failure> {
        let (kind, found) = match self {
            Self::Note(thread, id) => {
                let note = visit.find(&format!("{}/notes/{id}", thread.path())).await?;
                (ThingKind::Comment, note.map(|note| visit.comment(&thread.path(), &note)))
            }
            Self::Remark(commit, id) => {
                let notes = visit.commit_notes(commit).await?;
                let is_it = |note: &&Value| number(note, "/id") == Some(*id);
                let at = format!("/commit/{commit}");
                (ThingKind::Comment, notes.iter().find(is_it).map(|note| visit.comment(&at, note)))
            }
            Self::Thread(thread @ Thread::Issue(_)) => {
                let issue = visit.find(&thread.path()).await?;
                (ThingKind::Issue, issue.as_ref().and_then(thing::issue).map(meant))
            }
            Self::Thread(thread @ Thread::MergeRequest(_)) => {
                let request = visit.find(&thread.path()).await?;
                (ThingKind::PullRequest, request.as_ref().and_then(thing::merge_request).map(meant))
            }
            Self::Release(tag) => {
                let release = visit.find(&format!("/releases/{}", escaped(tag))).await?;
                (ThingKind::Release, release.as_ref().map(thing::release).map(meant))
            }
            Self::Commit(commit) => {
                let found = visit.find(&format!("/repository/commits/{commit}")).await?;
                let shown = |found: &Value| {
                    json!({ "sha": found["id"], "html_url": found["web_url"],
                        "commit": { "message": found["message"] } })
                };
                (ThingKind::Commit, found.as_ref().map(shown))
            }
        };
        Ok(found.and_then(|found| seen(kind, &found, Some(visit.own.id))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_browsers_show_them() {
        let check = |below: &str, expect: Option<Page>| {
            let url = format!("https://lab.example/{below}");
            assert_eq!(Page::parse("https://lab.example/", &url), expect, "{below}");
        };
        let commit = Commit::parse("0123456789abcdef0123456789abcdef01234567").expect("a commit");
        check("acme/team/app/-/issues/8", Some(Page::Thread(Thread::Issue(8))));
        check("acme/app/-/merge_requests/7/diffs?view=inline", Some(Page::Thread(Thread::MergeRequest(7))));
        check("acme/app/-/issues/8#note_21", Some(Page::Note(Thread::Issue(8), 21)));
        check("acme/app/-/merge_requests/7#note_22", Some(Page::Note(Thread::MergeRequest(7), 22)));
        check(&format!("acme/app/-/commit/{commit}#note_23"), Some(Page::Remark(commit.clone(), 23)));
        check(&format!("acme/app/-/commit/{commit}"), Some(Page::Commit(commit)));
        check("acme/app/-/releases/app/v1.0", Some(Page::Release("app/v1.0".to_owned())));
        for below in ["", "acme/app", "acme/app/-/issues/x", "acme/app/-/tree/main", "acme/app/issues/8"] {
            check(below, None);
        }
    }
}
