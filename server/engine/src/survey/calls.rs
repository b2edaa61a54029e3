//! Calls between the daemons of one commit: is there what a daemon calls, and does it take what it is given?
//! Only daemons that call others are looked at again, and only what they call is read.

use std::collections::{BTreeMap, BTreeSet};

use domain::name::{Commit, DaemonId};
use manifest::model::Input;
use manifest::{Manifest, Siblings};
use ports::source::{EntryKind, SourceError, View};

use super::{BOUNDS, Survey, Surveyed, Verdict};
use crate::world::World;

/// Where daemons live unless `spellbook.yaml` says otherwise.
const ROOTS: [&str; 2] = ["daemons", ".spellbook/daemons"];

impl Survey<'_> {
    /// The same daemons, with what is to be said of their calls among their warnings.
    pub(crate) async fn with_calls(&self, mut surveyed: Vec<Surveyed>) -> Result<Vec<Surveyed>, SourceError> {
        let mut beside = Beside { survey: self, found: BTreeMap::new(), ids: None };
        for daemon in &mut surveyed {
            let Verdict::Valid { manifest, .. } = &daemon.verdict else { continue };
            if manifest.callees().is_empty() {
                continue;
            }
            let siblings = beside.of(manifest).await?;
            let directory = std::slice::from_ref(&daemon.directory);
            let read = self.world.source.directories(&self.view, &self.commit, directory, BOUNDS).await?;
            if let Some(found) = read.first() {
                daemon.verdict = self.check(&daemon.name, found, Some(&siblings));
            }
        }
        Ok(surveyed)
    }
}

/// The daemons of a commit by name, as far as they are in the usual places, without reading them.
pub(crate) async fn names(world: &World, view: &View, commit: &Commit) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    for root in ROOTS {
        let entries = world.source.list(view, commit, root).await?;
        let directories = entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
        names.extend(directories.map(|entry| entry.name));
    }
    Ok(names)
}

/// What lies beside a daemon, as far as it was asked for.
struct Beside<'s, 'w> {
    survey: &'s Survey<'w>,
    found: BTreeMap<DaemonId, Found>,
    ids: Option<BTreeSet<DaemonId>>,
}

/// A daemon that somebody calls.
#[derive(Clone)]
enum Found {
    /// It can run, and asks for this.
    Asks(Vec<Input>),
    /// It is there and cannot run, which is said where it stands.
    Broken,
    /// It is not there.
    Nothing,
}

impl Beside<'_, '_> {
    async fn of(&mut self, caller: &Manifest) -> Result<Siblings, SourceError> {
        let mut siblings = Siblings::default();
        for id in caller.callees() {
            match self.look(id).await? {
                Found::Asks(inputs) => drop(siblings.called.insert(id.clone(), Some(inputs))),
                Found::Broken => drop(siblings.called.insert(id.clone(), None)),
                Found::Nothing => siblings.ids = self.ids().await?,
            }
        }
        Ok(siblings)
    }

    async fn look(&mut self, id: &DaemonId) -> Result<Found, SourceError> {
        if let Some(found) = self.found.get(id) {
            return Ok(found.clone());
        }
        let found = match self.survey.find(id).await?.map(|daemon| daemon.verdict) {
            Some(Verdict::Valid { manifest, .. }) => Found::Asks(manifest.inputs.clone()),
            Some(Verdict::Invalid { .. }) => Found::Broken,
            Some(Verdict::Removed) | None => Found::Nothing,
        };
        self.found.insert(id.clone(), found.clone());
        Ok(found)
    }

    async fn ids(&mut self) -> Result<BTreeSet<DaemonId>, SourceError> {
        if let Some(ids) = &self.ids {
            return Ok(ids.clone());
        }
        let names = names(self.survey.world, &self.survey.view, &self.survey.commit).await?;
        let ids: BTreeSet<DaemonId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(self.ids.insert(ids).clone())
    }
}
