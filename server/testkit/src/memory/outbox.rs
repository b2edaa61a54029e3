use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{Effect, EffectStatus};
use domain::id::{EffectId, RepositoryId, RunId, WorkerId};
use domain::time::Timestamp;
use ports::store::{Fenced, Outbox, Recorded, StoreError, Topic};

use super::{MemoryStore, State};

/// An effect; they stand in the order in which they came.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) effect: Effect,
    /// Until when it is with a performer.
    pub(super) held_until: Option<Timestamp>,
    /// With whom.
    pub(super) held_by: Option<WorkerId>,
    pub(super) dedupe: Option<String>,
}

impl Wanted {
    fn is_held(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    fn due_at(&self) -> Option<Timestamp> {
        match self.effect.status {
            EffectStatus::Pending { at, .. } => Some(at),
            EffectStatus::Staged | EffectStatus::Done { .. } | EffectStatus::Refused { .. } => None,
        }
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn effect_next(
        &self,
        performer: WorkerId,
        now: Timestamp,
        hold: Duration,
    ) -> Result<Option<Effect>, StoreError> {
        let mut state = self.state();
        let busy: Vec<_> =
            state.effects.iter().filter(|w| w.is_held(now)).map(|w| w.effect.repository).collect();
        let ready = state
            .effects
            .iter_mut()
            .filter(|wanted| !busy.contains(&wanted.effect.repository))
            .filter_map(|wanted| Some((wanted.due_at().filter(|at| *at <= now)?, wanted)));
        // `min_by_key` gives the first of equals: the one that came first.
        let Some((_, wanted)) = ready.min_by_key(|(at, _)| *at) else { return Ok(None) };
        (wanted.held_until, wanted.held_by) = (Some(now.after(hold)), Some(performer));
        wanted.effect.attempts += 1;
        Ok(Some(wanted.effect.clone()))
    }

    async fn performer_release(&self, performer: WorkerId, until: Timestamp) -> Result<u64, StoreError> {
        let mut released = 0;
        for wanted in &mut self.state().effects {
            if wanted.held_by == Some(performer) && wanted.is_held(until) {
                wanted.held_until = Some(until);
                released += 1;
            }
        }
        Ok(released)
    }

    async fn effect_record(&self, effect: &Effect, dedupe: &str) -> Result<Recorded<EffectId>, StoreError> {
        let mut state = self.state();
        if let Some(known) = state.known_effect(effect.repository, dedupe) {
            return Ok(Recorded::Known(known));
        }
        state.refuse_unknown_repository(effect.repository)?;
        state.keep_effect(effect, Some(dedupe));
        drop(state);
        self.wake(&[Topic::Outbox]);
        Ok(Recorded::New)
    }

    async fn effect_settle(
        &self,
        effect: EffectId,
        attempts: u32,
        status: &EffectStatus,
    ) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        let Some(wanted) = state.effects.iter_mut().find(|wanted| wanted.effect.id == effect) else {
            return Ok(Fenced::Lost);
        };
        let settled =
            matches!(wanted.effect.status, EffectStatus::Done { .. } | EffectStatus::Refused { .. });
        if settled || wanted.effect.attempts != attempts {
            return Ok(Fenced::Lost);
        }
        wanted.effect.status = status.clone();
        (wanted.held_until, wanted.held_by) = (None, None);
        drop(state);
        self.wake(&[Topic::Outbox]);
        Ok(Fenced::Written)
    }

    async fn effect_list(&self, run: RunId) -> Result<Vec<Effect>, StoreError> {
        let state = self.state();
        let of_run = state.effects.iter().filter(|wanted| wanted.effect.author.run() == Some(run));
        Ok(of_run.map(|wanted| wanted.effect.clone()).collect())
    }

    async fn effect_keyed(
        &self,
        repository: RepositoryId,
        key: &str,
        most: u32,
    ) -> Result<Vec<Effect>, StoreError> {
        let state = self.state();
        let effects = state.effects.iter().rev().map(|wanted| &wanted.effect);
        let same = |effect: &&Effect| effect.repository == repository && effect.key == key;
        Ok(effects.filter(same).take(most as usize).cloned().collect())
    }

    async fn effect_promote(&self, effect: EffectId, at: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let staged = state
            .effects
            .iter_mut()
            .find(|wanted| wanted.effect.id == effect && wanted.effect.status == EffectStatus::Staged);
        let Some(wanted) = staged else { return Ok(false) };
        wanted.effect.status = EffectStatus::wanted(at);
        drop(state);
        self.wake(&[Topic::Outbox]);
        Ok(true)
    }
}

impl State {
    /// The effect that is known under a key.
    pub(super) fn known_effect(&self, repository: RepositoryId, dedupe: &str) -> Option<EffectId> {
        let known = self.effects.iter().find(|wanted| {
            wanted.dedupe.as_deref() == Some(dedupe) && wanted.effect.repository == repository
        });
        known.map(|wanted| wanted.effect.id)
    }

    pub(super) fn keep_effect(&mut self, effect: &Effect, dedupe: Option<&str>) {
        let dedupe = dedupe.map(str::to_owned);
        self.effects.push(Wanted { effect: effect.clone(), held_until: None, held_by: None, dedupe });
    }
}
