//! Variables: what a daemon on a branch keeps from run to run. A run reads a variable once, when a stage first
//! needs it; from then on it knows it so, or as its own stages set it, after a crash too: the journal says what
//! it was. What a stage sets is stored with its entry, if nobody else has written since the run read it.

use std::collections::BTreeMap;

use domain::id::MemoWriteId;
use domain::memo::{
    Expected, LONGEST_VARIABLE, MemoAuthor, MemoKey, MemoKind, MemoOwner, MemoWrite, Sealed, Seen,
};
use domain::name::MemoName;
use domain::run::{Failure, Run};
use domain::stage::StageRecord;
use domain::value::Value;
use manifest::Manifest;
use manifest::model::Stage;
use ports::vault::VaultError;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::world::World;

/// What a run knows of its daemon's variables.
#[derive(Debug)]
pub(crate) struct Variables {
    owner: MemoOwner,
    known: Mutex<BTreeMap<String, Variable>>,
}

/// A variable, as a run knows it.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) value: Value,
    /// Which writing of it; `None` for what it is at first.
    written: Option<MemoWriteId>,
    sealed: Option<Sealed>,
    /// Whether the journal says so.
    recorded: bool,
}

/// The variables that a stage reads, or sets and its run has read.
pub(crate) type Held = BTreeMap<String, Variable>;

/// Whose variables a run reads and sets.
pub(crate) fn owner(run: &Run) -> MemoOwner {
    MemoOwner { repository: run.repository, daemon: run.daemon.clone(), branch: run.branch.clone() }
}

/// The name of a variable.
pub(crate) fn key(owner: &MemoOwner, name: &str) -> Result<MemoKey, Failure> {
    let name = MemoName::parse(name).map_err(|error| Failure::new("state_invalid", error.to_string()))?;
    Ok(MemoKey { owner: owner.clone(), kind: MemoKind::Variable, name })
}

/// Opens what was sealed for a variable.
pub(crate) async fn open(world: &World, key: &MemoKey, sealed: &Sealed) -> Result<Value, Failure> {
    let plain = world.vault.open(&key.bound(), sealed).await.map_err(|error| unreadable(key, &error))?;
    serde_json::from_slice(&plain)
        .map_err(|error| Failure::new("state_unreadable", format!("`{}` cannot be read: {error}", key.name)))
}

/// Seals a value for a variable: the bytes, and how long the value is.
pub(crate) async fn seal(world: &World, key: &MemoKey, value: &Value) -> Result<(Sealed, usize), Failure> {
    let size = value.json.to_string().len();
    if size > LONGEST_VARIABLE {
        let message = format!("`{}` would have {} KiB; a variable has at most 256", key.name, size >> 10);
        return Err(Failure::new("state_too_large", message));
    }
    let plain =
        serde_json::to_vec(value).map_err(|error| Failure::new("state_invalid", error.to_string()))?;
    match world.vault.seal(&key.bound(), &plain).await {
        Ok(sealed) => Ok((sealed, size)),
        Err(error) => Err(unreadable(key, &error)),
    }
}

fn unreadable(key: &MemoKey, error: &VaultError) -> Failure {
    Failure::new("state_unreadable", format!("`{}` cannot be opened or sealed: {error}", key.name))
}

impl Variables {
    /// What a run knows once it has gone as far as its journal says.
    pub(crate) async fn resumed(
        world: &World,
        run: &Run,
        manifest: &Manifest,
        journal: &[StageRecord],
    ) -> Result<Self, Failure> {
        let owner = owner(run);
        // In the order in which they ended: a later word outweighs an earlier one.
        let seen: BTreeMap<&str, &Seen> =
            journal.iter().flat_map(|record| &record.state).map(|seen| (seen.name.as_str(), seen)).collect();
        let mut known = BTreeMap::new();
        for (name, Seen { written, sealed, .. }) in seen {
            let value = match sealed {
                Some(sealed) => open(world, &key(&owner, name)?, sealed).await?,
                None => first(manifest, name),
            };
            let variable = Variable { value, written: *written, sealed: sealed.clone(), recorded: true };
            known.insert(name.to_owned(), variable);
        }
        Ok(Self { owner, known: Mutex::new(known) })
    }

    /// The variables that a stage reads, and of those that it sets the ones that the run has read before.
    pub(crate) async fn hold(
        &self,
        world: &World,
        manifest: &Manifest,
        stage: &Stage,
    ) -> Result<Held, Failure> {
        let mut held = self.read(world, manifest, stage.reads.iter()).await?;
        let known = self.known.lock().await;
        for name in stage.set.keys() {
            if let Some(variable) = known.get(name) {
                held.insert(name.clone(), variable.clone());
            }
        }
        Ok(held)
    }

    /// Variables by name, each read from the store when the run does not know it.
    pub(crate) async fn read(
        &self,
        world: &World,
        manifest: &Manifest,
        names: impl Iterator<Item = &String>,
    ) -> Result<Held, Failure> {
        let mut held = Held::new();
        // Held while the store is asked: stages that run side by side see the same.
        let mut known = self.known.lock().await;
        for name in names {
            if !known.contains_key(name) {
                known.insert(name.clone(), self.look(world, manifest, name).await?);
            }
            held.extend(known.get(name).map(|variable| (name.clone(), variable.clone())));
        }
        Ok(held)
    }

    async fn look(&self, world: &World, manifest: &Manifest, name: &str) -> Result<Variable, Failure> {
        let key = key(&self.owner, name)?;
        let memo = world.store.memo_get(&key).await.map_err(|error| {
            Failure::new("state_unavailable", format!("the variable `{name}` cannot be read: {error}"))
        })?;
        Ok(match memo {
            None => Variable { value: first(manifest, name), written: None, sealed: None, recorded: false },
            Some(memo) => Variable {
                value: open(world, &key, &memo.sealed).await?,
                written: Some(memo.written),
                sealed: Some(memo.sealed),
                recorded: false,
            },
        })
    }

    /// Lets a stage that is tried again read anew what it reads and sets.
    pub(crate) async fn forget(&self, stage: &Stage) {
        let mut known = self.known.lock().await;
        known.retain(|name, _| !stage.reads.contains(name) && !stage.set.contains_key(name));
    }

    /// What a stage wants set, now that it has succeeded.
    pub(crate) async fn wanted(
        &self,
        world: &World,
        run: &Run,
        stage: &Stage,
        (context, held): (&Context, &Held),
    ) -> Result<Vec<(MemoWrite, Value)>, Failure> {
        let mut wanted = Vec::new();
        for (name, template) in &stage.set {
            let value = template
                .evaluate(context)
                .map_err(|error| Failure::new("expression_failed", format!("`set: {name}`: {error}")))?;
            let key = key(&self.owner, name)?;
            let (sealed, size) = seal(world, &key, &value).await?;
            // What the run never read it may replace, whatever it is: nothing of it is lost unseen.
            let expected = held.get(name).map_or(Expected::Anything, |known| Expected::found(known.written));
            let write = MemoWrite {
                key,
                expected,
                written: MemoWriteId::new(world.clock.unique()),
                sealed,
                size,
                by: MemoAuthor::Run(run.id),
                at: world.clock.now(),
            };
            wanted.push((write, value));
        }
        Ok(wanted)
    }

    /// What the journal is to say with a stage: what it sets, and all that the run has read and the journal does
    /// not have, whichever stage read it. A list whose items have entries is the same list after a crash.
    pub(crate) async fn seen(&self, wanted: &[(MemoWrite, Value)]) -> Vec<Seen> {
        let set = |name: &str| wanted.iter().any(|(write, _)| write.key.name.as_str() == name);
        let known = self.known.lock().await;
        let read = known.iter().filter(|(name, known)| !known.recorded && !set(name));
        let read = read.filter_map(|(name, known)| {
            let name = MemoName::parse(name.as_str()).ok()?;
            Some(Seen { name, written: known.written, sealed: known.sealed.clone() })
        });
        let set = wanted.iter().map(|(MemoWrite { key, written, sealed, .. }, _)| Seen {
            name: key.name.clone(),
            written: Some(*written),
            sealed: Some(sealed.clone()),
        });
        read.chain(set).collect()
    }

    /// Takes for known what was recorded with a stage.
    pub(crate) async fn recorded(&self, seen: &[Seen], wanted: Vec<(MemoWrite, Value)>) {
        let mut known = self.known.lock().await;
        for Seen { name, written, .. } in seen {
            if let Some(variable) = known.get_mut(name.as_str()).filter(|known| known.written == *written) {
                variable.recorded = true;
            }
        }
        for (MemoWrite { key, written, sealed, .. }, value) in wanted {
            let variable = Variable { value, written: Some(written), sealed: Some(sealed), recorded: true };
            known.insert(key.name.to_string(), variable);
        }
    }
}

/// What a variable is before it was ever set.
fn first(manifest: &Manifest, name: &str) -> Value {
    Value::trusted(manifest.state.get(name).cloned().unwrap_or_default())
}

/// Why a variable could not be set: another was first.
pub(crate) fn conflict(name: &MemoName, by: Option<&MemoAuthor>) -> Failure {
    let who = by.map_or_else(|| "somebody removed".to_owned(), |by| format!("{by} has written"));
    let message = format!(
        "{who} `{name}` since this run read it, so that nothing was set; `retry` lets the stage read it anew and try again"
    );
    Failure::new("state_conflict", message)
}

/// Why a variable could not be set: there is no room.
pub(crate) fn full(name: &MemoName) -> Failure {
    let message = format!(
        "there is no room for `{name}`: a daemon's variables on a branch are at most 64 and hold 1 MiB together; remove \
         one that is not used any more with `spellbook state remove`"
    );
    Failure::new("state_full", message)
}
