//! What a daemon keeps from run to run, for people: looking at it and changing it.

use std::sync::Arc;

use domain::id::MemoWriteId;
use domain::memo::{Expected, Memo, MemoAuthor, MemoKey, MemoKind, MemoOwner, MemoWrite, SESSION_LIFE};
use domain::name::{Address, At, MemoName};
use domain::run::Failure;
use domain::time::Timestamp;
use domain::value::Value;
use manifest::Manifest;
use ports::store::memos::Kept;

use crate::refusal::{Refusal, RefusalKind};
use crate::world::World;
use crate::{address, variables};

/// A variable or a session, as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// What it is.
    pub kind: MemoKind,
    /// Its name.
    pub name: String,
    /// How many times it was written; 0 for a variable that was never set.
    pub version: u64,
    /// How long it is, bytes of JSON.
    pub size: usize,
    /// Who wrote it, and when.
    pub written: Option<(MemoAuthor, Timestamp)>,
}

/// A daemon on a branch, and what is known of it there.
#[derive(Debug)]
pub struct Owner {
    owner: MemoOwner,
    /// What it declares; nothing while it is invalid or gone, which takes nothing from it.
    manifest: Option<Arc<Manifest>>,
}

/// Finds whose state an address means: a daemon's, on a branch.
///
/// # Errors
/// `repository_not_found`, `daemon_not_found`, or `branch_missing` for a tag or a commit.
pub async fn owner(world: &World, address: &Address) -> Result<Owner, Refusal> {
    let Some(repository) = world.store.repository_find(&address.repository).await? else {
        let message = format!("there is no repository {}", address.repository);
        return Err(Refusal::not_found("repository_not_found", message));
    };
    let resolved = address::resolve(world, address).await;
    let branch = match (&address.at, &resolved) {
        (At::Deployed, Ok(resolved)) => resolved.branch.clone(),
        (At::Deployed, Err(_)) => repository.default_branch.clone(),
        // A tag is found on another branch.
        (At::Named(name), Ok(resolved)) if resolved.branch == *name => name.clone(),
        (At::Named(name), Err(_)) => name.clone(),
        (At::Named(_) | At::Commit(_), _) => {
            let message = "state belongs to a branch, not to a tag or a commit; write `@` and the branch";
            return Err(Refusal::invalid("branch_missing", message));
        }
    };
    let manifest = match resolved {
        Ok(resolved) => Some(resolved.manifest),
        Err(refusal) if refusal.kind == RefusalKind::Unavailable => return Err(refusal),
        // What an invalid or removed daemon keeps is still there.
        Err(refusal) => {
            if world.store.revision_current(repository.id, &address.daemon, &branch).await?.is_none() {
                return Err(refusal);
            }
            None
        }
    };
    let owner = MemoOwner { repository: repository.id, daemon: address.daemon.clone(), branch };
    Ok(Owner { owner, manifest })
}

/// Everything that is kept, without what it says: variables, those that were never set too, then sessions.
///
/// # Errors
/// When the store does not answer.
pub async fn list(world: &World, owner: &Owner) -> Result<Vec<Shown>, Refusal> {
    let mut all: Vec<Shown> =
        world.store.memo_list(&owner.owner, MemoKind::Variable).await?.iter().map(shown).collect();
    for (name, first) in owner.manifest.iter().flat_map(|manifest| &manifest.state) {
        if all.iter().all(|known| known.name != *name) {
            all.push(unset(name, first));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.extend(world.store.memo_list(&owner.owner, MemoKind::Session).await?.iter().map(shown));
    Ok(all)
}

/// One variable and what it is.
///
/// # Errors
/// `variable_not_found`, or `state_unreadable` when it cannot be opened.
pub async fn get(world: &World, owner: &Owner, name: &str) -> Result<(Shown, Value), Refusal> {
    let key = key(owner, MemoKind::Variable, name)?;
    if let Some(memo) = world.store.memo_get(&key).await? {
        let value = variables::open(world, &key, &memo.sealed).await.map_err(sealed)?;
        return Ok((shown(&memo), value));
    }
    let first = owner.manifest.as_ref().and_then(|manifest| manifest.state.get(name));
    let first = first.ok_or_else(|| unknown(owner, MemoKind::Variable, name))?;
    Ok((unset(name, first), Value::trusted(first.clone())))
}

/// What a person wants a variable to be.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which variable.
    pub name: String,
    /// What it is to be.
    pub value: serde_json::Value,
    /// Which version it must have, 0 for one that was never set; nothing for whichever.
    pub version: Option<u64>,
    /// Who wants it.
    pub by: String,
}

/// Sets a variable. Whoever may do that is trusted, and so is the value.
///
/// # Errors
/// `variable_not_found` for one that the daemon does not declare, `state_conflict` when it has another version,
/// `state_too_large`, `state_full`.
pub async fn set(world: &World, owner: &Owner, change: Change) -> Result<Shown, Refusal> {
    let Change { name, value, version, by } = change;
    let key = key(owner, MemoKind::Variable, &name)?;
    let declared = owner.manifest.as_ref().is_some_and(|manifest| manifest.state.contains_key(&name));
    if !declared {
        return Err(unknown(owner, MemoKind::Variable, &name));
    }
    let known = world.store.memo_get(&key).await?;
    let there = known.as_ref().map_or(0, |memo| memo.version);
    if let Some(version) = version.filter(|version| *version != there) {
        let message = format!("`{name}` has version {there}, not {version}: look at it again");
        return Err(Refusal::conflict("state_conflict", message));
    }
    let expected = match version {
        None => Expected::Anything,
        Some(_) => Expected::found(known.map(|memo| memo.written)),
    };
    let (sealed, size) = variables::seal(world, &key, &Value::trusted(value)).await.map_err(sealed)?;
    let write = MemoWrite {
        key: key.clone(),
        expected,
        written: MemoWriteId::new(world.clock.unique()),
        sealed,
        size,
        by: MemoAuthor::Person(by),
        at: world.clock.now(),
    };
    kept(world.store.memo_put(&write).await?, &key)?;
    match world.store.memo_get(&key).await? {
        Some(memo) => Ok(shown(&memo)),
        None => Err(unknown(owner, MemoKind::Variable, &name)),
    }
}

/// Removes a variable, which is then what it was at first, or a session, which then begins anew.
///
/// # Errors
/// `variable_not_found`, `session_not_found`.
pub async fn remove(world: &World, owner: &Owner, kind: MemoKind, name: &str) -> Result<(), Refusal> {
    let key = key(owner, kind, name)?;
    if world.store.memo_get(&key).await?.is_none() {
        return Err(unknown(owner, kind, name));
    }
    kept(world.store.memo_remove(&key, Expected::Anything).await?, &key)
}

/// Forgets the sessions that nobody has used for long. Says how many.
///
/// # Errors
/// When the store does not answer.
pub async fn forget_sessions(world: &World) -> Result<u64, Refusal> {
    let now = world.clock.now().millis();
    let life = i64::try_from(SESSION_LIFE.as_millis()).unwrap_or(i64::MAX);
    Ok(world.store.session_expire(Timestamp::from_millis(now.saturating_sub(life))).await?)
}

fn key(owner: &Owner, kind: MemoKind, name: &str) -> Result<MemoKey, Refusal> {
    let name = MemoName::parse(name).map_err(|_| unknown(owner, kind, name))?;
    Ok(MemoKey { owner: owner.owner.clone(), kind, name })
}

fn unknown(owner: &Owner, kind: MemoKind, name: &str) -> Refusal {
    let (MemoOwner { daemon, branch, .. }, short) = (&owner.owner, name.chars().take(80).collect::<String>());
    match kind {
        MemoKind::Variable => {
            let names = owner.manifest.iter().flat_map(|manifest| manifest.state.keys());
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!("`{daemon}` has no variable `{short}` on {branch}; it declares {known}");
            Refusal::not_found("variable_not_found", message)
        }
        MemoKind::Session => Refusal::not_found(
            "session_not_found",
            format!("`{daemon}` has no session `{short}` on {branch}"),
        ),
    }
}

fn sealed(failure: Failure) -> Refusal {
    match failure.code.as_str() {
        "state_too_large" => Refusal::invalid("state_too_large", failure.message),
        _ => Refusal { kind: RefusalKind::Unavailable, code: "state_unreadable", message: failure.message },
    }
}

fn kept(kept: Kept, key: &MemoKey) -> Result<(), Refusal> {
    match kept {
        Kept::Written => Ok(()),
        Kept::Full(key) => Err(Refusal::conflict("state_full", variables::full(&key.name).message)),
        Kept::Lost | Kept::Conflict(..) => {
            let message = format!("`{}` was written at the same moment: look at it again", key.name);
            Err(Refusal::conflict("state_conflict", message))
        }
    }
}

fn shown(memo: &Memo) -> Shown {
    Shown {
        kind: memo.key.kind,
        name: memo.key.name.to_string(),
        version: memo.version,
        size: memo.size,
        written: Some((memo.by.clone(), memo.at)),
    }
}

fn unset(name: &str, first: &serde_json::Value) -> Shown {
    Shown {
        kind: MemoKind::Variable,
        name: name.to_owned(),
        version: 0,
        size: first.to_string().len(),
        written: None,
    }
}
