//! Why something did or did not run: which thread a person means, and what the server heard of it.

use domain::name::RepositoryPath;
use domain::repository::{Origin, Repository};
use ports::store::{Page, StoreError};

use crate::refusal::Refusal;
use crate::world::World;

/// So many repositories are looked through for one that is known under another name than on its forge.
const LOOKED: u32 = 2_000;
/// How many of them at once.
const AT_ONCE: u32 = 200;
/// The parts of addresses behind which the number of a pull request stands, on the forges that there are.
const PULLS: [&str; 3] = ["pull", "pulls", "merge_requests"];
/// And that of an issue.
const ISSUES: [&str; 2] = ["issues", "work_items"];

/// An issue or a pull request, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The forge's host, where an address was given.
    pub host: Option<String>,
    /// The repository's path there.
    pub path: String,
    /// Its number there.
    pub number: u64,
    /// Whether it is an issue for sure; some forges count these apart.
    pub is_issue: bool,
}

impl Thread {
    /// Reads `owner/repository#7`, or the address of a page about it; `None` when that is not what stands there.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let Some((_, address)) = text.split_once("://") else {
            let (path, number) = text.split_once('#')?;
            let valid = path.split('/').count() == 2 && path.split('/').all(|part| !part.is_empty());
            let number = number.parse().ok()?;
            return valid.then(|| Self { host: None, path: path.to_owned(), number, is_issue: false });
        };
        let address = address.split(['?', '#']).next().unwrap_or(address);
        let (host, below) = address.split_once('/')?;
        let (path, rest) = in_repository(below)?;
        let mut parts = rest.into_iter();
        let kind = parts.next()?;
        let number = parts.next()?.parse().ok()?;
        let host = host.rsplit('@').next().unwrap_or(host).to_lowercase();
        let is_issue = ISSUES.contains(&kind);
        (is_issue || PULLS.contains(&kind)).then_some(Self { host: Some(host), path, number, is_issue })
    }

    /// The number by which this server knows it, in its repository.
    pub fn number_in(&self, world: &World, repository: &Repository) -> u64 {
        let host = repository.origin.place().and_then(|place| world.hosts.get(&place.forge));
        host.filter(|_| self.is_issue).map_or(self.number, |host| host.issue_number(self.number))
    }
}

/// The path of a repository, and the parts of what stands behind it. GitLab nests groups, and ends the path of a
/// project by `/-/`.
pub(crate) fn in_repository(address: &str) -> Option<(String, Vec<&str>)> {
    let parts: Vec<&str> = address.split('/').filter(|part| !part.is_empty()).collect();
    let (path, rest) = match parts.iter().position(|part| *part == "-") {
        Some(end) => (&parts[..end], &parts[end + 1..]),
        None => parts.split_at_checked(2)?,
    };
    (path.len() >= 2).then(|| (path.join("/"), rest.to_vec()))
}

/// The repository that a thread is in.
///
/// # Errors
/// When the server knows no such repository, or the store does not answer.
pub async fn repository(world: &World, thread: &Thread) -> Result<Repository, Refusal> {
    let path: Option<RepositoryPath> = thread.path.parse().ok();
    let named = match &path {
        Some(path) => world.store.repository_find(path).await?,
        None => None,
    };
    let found = match named.filter(|found| thread.host.is_none() || is_of(found, thread)) {
        Some(found) => Some(found),
        None => elsewhere(world, thread).await?,
    };
    found.ok_or_else(|| {
        let named: String = thread.path.chars().filter(|c| !c.is_control()).take(200).collect();
        let message = format!("this server knows no repository `{named}`");
        Refusal::not_found("repository_not_found", message)
    })
}

/// A repository that has another name here than on its forge.
async fn elsewhere(world: &World, thread: &Thread) -> Result<Option<Repository>, StoreError> {
    let mut page = Page::first(AT_ONCE);
    for _ in 0..LOOKED / AT_ONCE {
        let some = world.store.repository_list(&page).await?;
        let last = some.last().map(|repository| repository.id.uuid());
        if let Some(found) = some.into_iter().find(|repository| is_of(repository, thread)) {
            return Ok(Some(found));
        }
        if last.is_none() {
            break;
        }
        page.after = last;
    }
    Ok(None)
}

/// Whether a repository is the one that a thread's address names: by where it is fetched from, or by what its
/// forge calls it now.
fn is_of(repository: &Repository, thread: &Thread) -> bool {
    let Origin::Watched { url, place, .. } = &repository.origin else { return false };
    let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let same =
        |path: &str| path.trim_end_matches('/').trim_end_matches(".git").eq_ignore_ascii_case(&thread.path);
    let here = thread.host.as_ref().is_none_or(|wanted| host.eq_ignore_ascii_case(wanted));
    here && (same(path) || place.as_ref().is_some_and(|place| same(&place.path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(Option<&str>, &str, u64)>) {
        let got = Thread::parse(text);
        assert!(got.as_ref().is_none_or(|one| one.is_issue == text.contains("/issues/")), "{text}");
        let got = got.as_ref().map(|one| (one.host.as_deref(), one.path.as_str(), one.number));
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn threads_are_read_as_people_write_them() {
        check("acme/app#7", Some((None, "acme/app", 7)));
        check("https://github.com/acme/app/pull/7", Some((Some("github.com"), "acme/app", 7)));
        check("https://GitHub.com/acme/app/pull/7/files?w=1#r3", Some((Some("github.com"), "acme/app", 7)));
        check("https://git.example.com/acme/app/issues/12", Some((Some("git.example.com"), "acme/app", 12)));
        let nested = "https://lab.example.com/a/team/b/-/merge_requests/3#note_5";
        check(nested, Some((Some("lab.example.com"), "a/team/b", 3)));
        check("https://lab.example.com/a/b/-/issues/3", Some((Some("lab.example.com"), "a/b", 3)));
        check("https://lab.example.com/a/b/-/merge_requests/3", Some((Some("lab.example.com"), "a/b", 3)));
        for text in [
            "",
            "acme/app",
            "app#7",
            "acme/app#x",
            "acme/a/b#1",
            "https://github.com/acme/app",
            "https://x/a/b/tree/7",
        ] {
            check(text, None);
        }
    }
}
