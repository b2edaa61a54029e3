//! What is at an address of Forgejo, as it is at this moment.

use domain::name::Commit;
use forge_remote::{Failure, below, thing};
use ports::forge::{Thing, ThingKind};
use serde_json::Value;

use crate::shape::text;
use crate::visit::Visit;

/// What may be at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Comment(u64),
    /// An issue or a pull request, which share their numbers.
    Thread(u64),
    /// A release: by its tag.
    Release(String),
    Commit(Commit),
}

impl Page {
    /// Reads an address below this Forgejo's own; `None` when it is of another kind.
    pub(crate) fn parse(web_url: &str, url: &str) -> Option<Self> {
        let (path, fragment) = below(web_url, url)?;
        if let Some(id) = fragment.strip_prefix("issuecomment-") {
            return id.parse().ok().map(Self::Comment);
        }
        // The repository was found before, perhaps under a name that it no longer has.
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        match parts.as_slice() {
            ["pulls", _, "commits", commit] | ["commit", commit] => {
                Commit::parse(*commit).ok().map(Self::Commit)
            }
            ["issues" | "pulls", thread, ..] => thread.parse().ok().map(Self::Thread),
            ["releases", "tag", tag @ ..] if !tag.is_empty() => Some(Self::Release(tag.join("/"))),
            _ => None,
        }
    }

    /// What is there.
    pub(crate) async fn look(&self, visit: &Visit<'_>) -> Result<Option<Thing>, Failure> {
        let own = Some(visit.own.id);
        let (kind, found) = match self {
            Self::Comment(id) => (ThingKind::Comment, visit.find(&format!("/issues/comments/{id}")).await?),
            Self::Thread(number) => {
                let thread = visit.find(&format!("/issues/{number}")).await?;
                let is_pull = |thread: &Value| thread.get("pull_request").is_some_and(Value::is_object);
                match thread {
                    Some(thread) if is_pull(&thread) => {
                        (ThingKind::PullRequest, visit.find(&format!("/pulls/{number}")).await?)
                    }
                    thread => (ThingKind::Issue, thread),
                }
            }
            Self::Release(tag) => {
                let list = visit.list("/releases?limit=50").await?;
                let is_it = |release: &Value| text(release, "/tag_name") == Some(tag);
                (ThingKind::Release, list.into_iter().find(is_it))
            }
            Self::Commit(commit) => (ThingKind::Commit, visit.find(&format!("/git/commits/{commit}")).await?),
        };
        Ok(found.and_then(|found| thing(kind, &found, own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_browsers_show_them() {
        let check = |below: &str, expect: Option<Page>| {
            let url = format!("https://codeberg.example/{below}");
            assert_eq!(Page::parse("https://codeberg.example", &url), expect, "{below}");
        };
        let commit = Commit::parse("0123456789abcdef0123456789abcdef01234567").expect("a commit");
        check("acme/app/issues/8", Some(Page::Thread(8)));
        check("acme/app/pulls/7/files?style=split", Some(Page::Thread(7)));
        check("acme/app/pulls/7#issuecomment-21", Some(Page::Comment(21)));
        check("acme/app/releases/tag/app/v1.0", Some(Page::Release("app/v1.0".to_owned())));
        check(&format!("acme/app/commit/{commit}"), Some(Page::Commit(commit.clone())));
        check(&format!("acme/app/pulls/7/commits/{commit}"), Some(Page::Commit(commit)));
        for below in ["", "acme/app", "acme/app/issues/x", "acme/app/src/branch/main", "acme/app/commit/main"]
        {
            check(below, None);
        }
    }
}
