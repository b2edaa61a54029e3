//! What is at an address of GitHub, as it is at this moment.

use domain::name::Commit;
use domain::repository::Repository;
use forge_remote::{Failure, below, thing};
use ports::forge::{Thing, ThingKind};
use serde_json::Value;

use crate::github::GitHub;
use crate::shape::text;
use crate::visit::Visit;

/// What may be at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// A comment: the list that it is in, and its number.
    Comment(&'static str, u64),
    /// An issue or a pull request, which share their numbers and, in part, their addresses.
    Thread(u64),
    Check(u64),
    /// A release: by its tag.
    Release(String),
    Commit(Commit),
}

impl Page {
    /// Reads an address below this GitHub's own; `None` when it is of another kind.
    pub(crate) fn parse(web_url: &str, url: &str) -> Option<Self> {
        let (path, fragment) = below(web_url, url)?;
        // The repository was found before, perhaps under a name that it no longer has.
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let comment = [
            ("issuecomment-", "/issues/comments"),
            ("discussion_r", "/pulls/comments"),
            ("commitcomment-", "/comments"),
        ];
        let commented = comment
            .iter()
            .find_map(|(mark, list)| Some(Self::Comment(list, fragment.strip_prefix(mark)?.parse().ok()?)));
        if commented.is_some() {
            return commented;
        }
        match parts.as_slice() {
            ["pull", _, "commits", commit] | ["commit", commit] => {
                Commit::parse(*commit).ok().map(Self::Commit)
            }
            ["issues" | "pull", thread, ..] => thread.parse().ok().map(Self::Thread),
            ["runs", check] => check.parse().ok().map(Self::Check),
            ["releases", "tag", tag @ ..] if !tag.is_empty() => Some(Self::Release(tag.join("/"))),
            _ => None,
        }
    }

    /// What is there.
    pub(crate) async fn look(
        &self,
        github: &GitHub,
        repository: &Repository,
    ) -> Result<Option<Thing>, Failure> {
        let visit = match self {
            // The token that is kept for reading does not read checks.
            Self::Check(_) => github.visit_with(repository, &[("checks", "read")]).await?,
            _ => github.visit(repository).await?,
        };
        match self {
            Self::Comment(list, id) => {
                let found = visit.find(&format!("{list}/{id}")).await?;
                Ok(found.and_then(|found| visit.thing(ThingKind::Comment, &found)))
            }
            Self::Thread(nth) => visit.thing_of_thread(*nth).await,
            Self::Check(id) => {
                let found = visit.find(&format!("/check-runs/{id}")).await?;
                Ok(found.and_then(|found| visit.thing(ThingKind::Check, &found)))
            }
            Self::Release(tag) => {
                let list = visit.list("/releases?per_page=100").await?;
                let found = list.iter().find(|release| text(release, "/tag_name") == Some(tag));
                Ok(found.and_then(|found| visit.thing(ThingKind::Release, found)))
            }
            Self::Commit(commit) => {
                let found = visit.find(&format!("/commits/{commit}")).await?;
                Ok(found.and_then(|found| visit.thing(ThingKind::Commit, &found)))
            }
        }
    }
}

impl Visit<'_> {
    async fn thing_of_thread(&self, nth: u64) -> Result<Option<Thing>, Failure> {
        let Some(issue) = self.find(&format!("/issues/{nth}")).await? else { return Ok(None) };
        if issue.get("pull_request").is_none_or(Value::is_null) {
            return Ok(self.thing(ThingKind::Issue, &issue));
        }
        let pull = self.find(&format!("/pulls/{nth}")).await?;
        Ok(pull.and_then(|pull| self.thing(ThingKind::PullRequest, &pull)))
    }

    fn thing(&self, kind: ThingKind, found: &Value) -> Option<Thing> {
        let own = self.own();
        let own = if kind == ThingKind::Check { own.and_then(|own| own.app) } else { own.map(|own| own.id) };
        thing(kind, found, own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(below: &str, expect: Option<&Page>) {
        let url = format!("https://ghe.example.com/{below}");
        assert_eq!(Page::parse("https://ghe.example.com/", &url).as_ref(), expect, "{below}");
    }

    #[test]
    fn addresses_are_read_as_browsers_show_them() {
        let commit = Commit::parse("0123456789abcdef0123456789abcdef01234567").expect("a commit");
        check("acme/app/issues/8", Some(&Page::Thread(8)));
        check("acme/app/pull/7/files?w=1", Some(&Page::Thread(7)));
        check("acme/app/issues/8#issuecomment-21", Some(&Page::Comment("/issues/comments", 21)));
        check("acme/app/pull/7#issuecomment-21", Some(&Page::Comment("/issues/comments", 21)));
        check("acme/app/pull/7/files#discussion_r22", Some(&Page::Comment("/pulls/comments", 22)));
        check(&format!("acme/app/commit/{commit}#commitcomment-23"), Some(&Page::Comment("/comments", 23)));
        check(&format!("acme/app/commit/{commit}"), Some(&Page::Commit(commit.clone())));
        check(&format!("acme/app/pull/7/commits/{commit}"), Some(&Page::Commit(commit)));
        check("acme/app/runs/5?check_suite_focus=true", Some(&Page::Check(5)));
        check("acme/app/releases/tag/app/v1.0", Some(&Page::Release("app/v1.0".to_owned())));
        for below in [
            "",
            "acme/app",
            "acme/app/issues/x",
            "acme/app/tree/main",
            "acme/app/commit/main",
            "acme/app/releases/tag/",
            "acme/app#issuecomment-x",
        ] {
            check(below, None);
        }
        assert_eq!(Page::parse("https://github.com", "https://github.com.evil.example/a/b/issues/1"), None);
    }
}
