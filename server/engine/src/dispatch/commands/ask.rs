//! Commands that ask how things are: `status`, `why` and `estimate`.

use domain::name::{Address, At, DaemonId};
use ports::store::Page;
use serde_json::{Map, Value as Json};

use super::{Heard, Hearing};
use crate::dispatch::answers;
use crate::dispatch::ordered::reason_or_later;
use crate::dispatch::subject::Undecided;
use crate::estimate;

/// How many runs and events are shown.
const SHOWN: usize = 10;

impl Hearing<'_, '_> {
    /// `status`
    pub(super) async fn status(&self) -> Result<Heard, Undecided> {
        let runs = self.runs().await?;
        let pauses = self.scene.world.store.pause_list(self.scene.repository.id).await?;
        let now = self.scene.world.clock.now();
        Ok(Heard::Done(Some(answers::status(&runs, SHOWN, &pauses, now))))
    }

    /// `why [ID]`
    pub(super) async fn why(&self, daemon: Option<&DaemonId>) -> Result<Heard, Undecided> {
        let store = &self.scene.world.store;
        let thread = self.comment.reference.thread;
        let mut events = Vec::new();
        for event in
            store.event_list(self.scene.repository.id, Some(thread), &Page::first(4 * SHOWN as u32)).await?
        {
            if event.id == self.scene.event.id || events.len() == SHOWN {
                continue;
            }
            let mut matches = store.match_list(event.id).await?;
            matches.retain(|record| daemon.is_none_or(|daemon| record.daemon == *daemon));
            if !matches.is_empty() {
                events.push((event, matches));
            }
        }
        Ok(Heard::Done(Some(answers::why(&events, daemon, self.scene.world.clock.now()))))
    }

    /// `estimate ID [input=value …]`
    pub(super) async fn estimate(
        &self,
        daemon: DaemonId,
        given: &Map<String, Json>,
    ) -> Result<Heard, Undecided> {
        let repository = self.scene.repository.path.clone();
        let address = Address { repository, daemon: daemon.clone(), at: At::Named(self.home.branch.clone()) };
        let estimated = match estimate::of(self.scene.world, &address, given).await {
            Ok(estimate) => Ok(estimate),
            Err(refusal) => reason_or_later(refusal)?,
        };
        Ok(match estimated {
            Ok(estimate) => Heard::Done(Some(answers::estimate(&daemon, &estimate))),
            Err(reason) => Heard::Refused(format!("`{daemon}` cannot be estimated: {reason}.")),
        })
    }
}
