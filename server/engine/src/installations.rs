//! Where on its forges the server is at home. Webhooks say when that changes; the forge, when it is asked,
//! says how it is, and both lead to the same: a watched repository with a place, or without one.

use std::collections::BTreeSet;
use std::fmt;

use domain::name::{Branch, ForgeName, RepositoryPath};
use domain::repository::{Origin, Place, Repository, Sync, SyncStatus};
use domain::time::Timestamp;
use ports::forge::{ForgeError, Found, Host};
use ports::store::events::{Sweep, SweepOf};
use ports::store::{Page, StoreError};

use crate::repositories;
use crate::sweep::OVERLAP;
use crate::world::World;

/// What became of the repositories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The server is at home in these now.
    pub added: Vec<String>,
    /// These have another name.
    pub renamed: Vec<String>,
    /// In these the server is not at home any more.
    pub removed: Vec<String>,
    /// These are not taken, and why.
    pub refused: Vec<String>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("added", &self.added),
            ("renamed", &self.renamed),
            ("removed", &self.removed),
            ("not taken", &self.refused),
        ];
        let there = parts.iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<_> = there.map(|(word, names)| format!("{word}: {}", names.join(", "))).collect();
        f.write_str(if said.is_empty() { "nothing changed" } else { "" })?;
        f.write_str(&said.join("; "))
    }
}

/// Takes what a webhook says: the server is at home in some repositories, and in others no longer.
///
/// # Errors
/// When the store does not answer; done again, it leads to the same.
pub async fn changed(world: &World, added: &[Found], removed: &[Place]) -> Result<Changed, StoreError> {
    let mut changed = Changed::default();
    let known = all(world).await?;
    for found in added {
        welcome(world, &known, found, &mut changed).await?;
    }
    for place in removed {
        if let Some(repository) = world.store.repository_at(place).await? {
            leave(world, &repository, &mut changed).await?;
        }
    }
    if !changed.refused.is_empty() {
        tracing::warn!("not taken, although the server is at home there: {}", changed.refused.join(", "));
    }
    Ok(changed)
}

/// Asks a forge where the server is at home, and makes it so. Where the forge does not say, as with a token,
/// it is asked about each watched repository without a place.
///
/// # Errors
/// The outer one when the store does not answer, the inner one when the forge does not.
pub async fn reconcile(
    world: &World,
    forge: &ForgeName,
    host: &dyn Host,
) -> Result<Result<Changed, ForgeError>, StoreError> {
    let begun = world.clock.now();
    let mut changed = Changed::default();
    let places = match host.places().await {
        Ok(places) => places,
        Err(error) => return Ok(Err(error)),
    };
    let known = all(world).await?;
    let Some(places) = places else {
        for repository in known.iter().filter(|repository| repository.origin.place().is_none()) {
            let Origin::Watched { url, .. } = &repository.origin else { continue };
            match host.place(url).await {
                Ok(Some(found)) => welcome(world, &known, &found, &mut changed).await?,
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        return Ok(Ok(changed));
    };
    for found in &places {
        welcome(world, &known, found, &mut changed).await?;
    }
    let home: BTreeSet<u64> = places.iter().map(|found| found.place.id).collect();
    for repository in &known {
        let Some(place) = repository.origin.place().filter(|place| place.forge == *forge) else { continue };
        // A webhook may have added it while the forge was asked.
        if !home.contains(&place.id) && !is_at_home_since(world, repository, begun).await? {
            leave(world, repository, &mut changed).await?;
        }
    }
    Ok(Ok(changed))
}

/// The server is at home in a repository.
async fn welcome(
    world: &World,
    known: &[Repository],
    found: &Found,
    changed: &mut Changed,
) -> Result<(), StoreError> {
    let name = &found.place.path;
    if let Some(repository) = world.store.repository_at(&found.place).await? {
        if follow(world, &repository, found).await? {
            changed.renamed.push(name.clone());
        }
        return Ok(());
    }
    let same = |repository: &&Repository| match &repository.origin {
        Origin::Watched { url, place: None, .. } => is_same_url(url, &found.url),
        Origin::Watched { .. } | Origin::Hosted => false,
    };
    if let Some(repository) = known.iter().find(same) {
        // What happened before is nobody's question any more.
        forget_the_past(world, repository).await?;
        settle_at(world, repository, found).await?;
        world.store.repository_hint(repository.id, world.clock.now()).await?;
        changed.added.push(name.clone());
        return Ok(());
    }
    match create(world, found).await? {
        None => {
            tracing::info!(forge = %found.place.forge, "at home in {name}");
            changed.added.push(name.clone());
        }
        Some(reason) => changed.refused.push(format!("{name} ({reason})")),
    }
    Ok(())
}

/// Makes a repository that is new to the server; or why not.
async fn create(world: &World, found: &Found) -> Result<Option<String>, StoreError> {
    let path = match found.place.path.parse::<RepositoryPath>() {
        Ok(path) => path,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if let Some(other) = world.store.repository_find(&path).await? {
        let whose = match &other.origin {
            Origin::Hosted => "this server hosts itself".to_owned(),
            Origin::Watched { url, .. } => format!("is watched at {url}"),
        };
        return Ok(Some(format!("the name belongs to a repository that {whose}")));
    }
    let place = Some(found.place.clone());
    let origin = Origin::Watched { url: found.url.clone(), credential: None, place };
    // Where the forge does not say which, the first look does.
    let branch = || Branch::parse("main").expect("because it is a branch's name");
    let branch = found.default_branch.clone().unwrap_or_else(branch);
    match repositories::create(world, path, origin, branch).await {
        Ok(_) => Ok(None),
        // Somebody else may have been quicker with the same.
        Err(_) if world.store.repository_at(&found.place).await?.is_some() => Ok(None),
        // Whatever it is, the next sweep tries again.
        Err(refusal) => Ok(Some(refusal.to_string())),
    }
}

/// Follows a repository to where it is now; whether it was elsewhere.
pub(crate) async fn follow(
    world: &World,
    repository: &Repository,
    found: &Found,
) -> Result<bool, StoreError> {
    let Origin::Watched { url, place: Some(place), .. } = &repository.origin else { return Ok(false) };
    if *place == found.place && is_same_url(url, &found.url) {
        return Ok(false);
    }
    settle_at(world, repository, found).await?;
    world.store.repository_hint(repository.id, world.clock.now()).await?;
    tracing::info!(repository = %repository.path, "{} is called {} now", place.path, found.place.path);
    Ok(true)
}

async fn settle_at(world: &World, repository: &Repository, found: &Found) -> Result<(), StoreError> {
    let Origin::Watched { credential, .. } = &repository.origin else { return Ok(()) };
    let place = Some(found.place.clone());
    let origin = Origin::Watched { url: found.url.clone(), credential: credential.clone(), place };
    world.store.repository_origin(repository.id, &origin).await
}

/// The server is not at home in a repository any more. It is kept, with its runs and their history; without a
/// credential of its own it is not looked at until somebody asks.
async fn leave(world: &World, repository: &Repository, changed: &mut Changed) -> Result<(), StoreError> {
    let Origin::Watched { url, credential, place: Some(place) } = &repository.origin else { return Ok(()) };
    if credential.is_none() {
        let message = format!("the server is not at home there any more, says {}", place.forge);
        let sync = Sync {
            status: SyncStatus::Unreachable,
            message: Some(message),
            checked_at: Some(world.clock.now()),
            due_at: None,
            failures: 0,
        };
        world.store.repository_synced(repository.id, &sync).await?;
    }
    // Last: until then it is found here again when this is done again.
    let origin = Origin::Watched { url: url.clone(), credential: credential.clone(), place: None };
    world.store.repository_origin(repository.id, &origin).await?;
    tracing::info!(repository = %repository.path, "no longer at home in {}", place.path);
    changed.removed.push(place.path.clone());
    Ok(())
}

async fn forget_the_past(world: &World, repository: &Repository) -> Result<(), StoreError> {
    let now = world.clock.now();
    let sweep = Sweep { through: now.after(OVERLAP), due_at: now, failures: 0 };
    world.store.sweep_record(&SweepOf::Repository(repository.id), &sweep).await
}

/// Whether a repository got its place after a moment.
async fn is_at_home_since(
    world: &World,
    repository: &Repository,
    moment: Timestamp,
) -> Result<bool, StoreError> {
    let sweep = world.store.sweep_get(&SweepOf::Repository(repository.id)).await?;
    Ok(repository.created_at > moment || sweep.is_some_and(|sweep| sweep.through > moment))
}

/// Where a watched repository would be under another path on its forge.
pub(crate) fn url_at(origin: &Origin, path: &str) -> Option<String> {
    let Origin::Watched { url, place: Some(place), .. } = origin else { return None };
    let (base, suffix) = match url.strip_suffix(".git") {
        Some(base) => (base, ".git"),
        None => (url.as_str(), ""),
    };
    let at = base.len().checked_sub(place.path.len())?;
    let (front, end) = base.split_at_checked(at)?;
    let fits = end.eq_ignore_ascii_case(&place.path) && front.ends_with('/');
    fits.then(|| format!("{front}{path}{suffix}"))
}

/// Whether two addresses are of the same repository: forges do not tell letters apart by case, and take `.git`
/// at the end or not.
fn is_same_url(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = url.trim_end_matches('/');
        url.strip_suffix(".git").unwrap_or(url).to_lowercase()
    };
    plain(one) == plain(other)
}

/// Every repository.
pub(crate) async fn all(world: &World) -> Result<Vec<Repository>, StoreError> {
    let mut page = Page::first(500);
    let mut all = Vec::new();
    loop {
        let mut part = world.store.repository_list(&page).await?;
        let Some(last) = part.last() else { return Ok(all) };
        page.after = Some(last.id.uuid());
        all.append(&mut part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_under_its_new_name() {
        let check = |url: &str, expect: Option<&str>| {
            let place = Place { forge: "github".parse().unwrap(), path: "acme/app".to_owned(), id: 7 };
            let origin = Origin::Watched { url: url.to_owned(), credential: None, place: Some(place) };
            assert_eq!(url_at(&origin, "acme/tool").as_deref(), expect, "{url}");
        };
        check("https://github.com/acme/app.git", Some("https://github.com/acme/tool.git"));
        check("https://github.com/Acme/App", Some("https://github.com/acme/tool"));
        check("https://github.com/other/app.git", None);
        check("https://mirror.example.com/x-acme/app.git", None);
        check("é", None);
    }

    #[test]
    fn addresses_are_compared_as_forges_do() {
        assert!(is_same_url("https://github.com/Acme/app", "https://github.com/acme/app.git"));
        assert!(is_same_url("https://github.com/acme/app/", "https://github.com/acme/app"));
        assert!(!is_same_url("https://github.com/acme/app2", "https://github.com/acme/app"));
    }
}
