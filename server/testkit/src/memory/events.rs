use async_trait::async_trait;
use domain::event::Event;
use domain::id::{DeliveryId, EventId, RepositoryId};
use domain::time::Timestamp;
use ports::store::events::{
    Delivery, DeliveryRecord, Dispatch, Dispatched, MatchRecord, Rest, Sweep, SweepOf,
};
use ports::store::{Events, Page, Recorded, StoreError, Topic};

use super::{MemoryStore, State, newest};

/// A delivery, and what was made of it.
#[derive(Debug)]
pub(super) struct Kept {
    delivery: Delivery,
    verdict: Option<String>,
}

impl Kept {
    fn record(&self) -> DeliveryRecord {
        let Delivery { id, source, repository, name, external_id, body, received_at, .. } = &self.delivery;
        DeliveryRecord {
            id: *id,
            source: source.clone(),
            repository: *repository,
            name: name.clone(),
            external_id: external_id.clone(),
            bytes: body.len() as u64,
            received_at: *received_at,
            verdict: self.verdict.clone(),
        }
    }
}

/// An event, and what was made of it.
#[derive(Debug)]
pub(super) struct Fact {
    event: Event,
    dedupe: Option<String>,
    matches: Option<Vec<MatchRecord>>,
    due_at: Option<Timestamp>,
}

#[async_trait]
impl Events for MemoryStore {
    async fn delivery_record(&self, delivery: &Delivery) -> Result<Recorded<DeliveryId>, StoreError> {
        let mut state = self.state();
        let known = state.deliveries.values().map(|kept| &kept.delivery).find(|known| {
            known.source == delivery.source
                && known.repository == delivery.repository
                && (known.content == delivery.content
                    || (known.external_id.is_some() && known.external_id == delivery.external_id))
        });
        if let Some(known) = known {
            return Ok(Recorded::Known(known.id));
        }
        if state.deliveries.contains_key(&delivery.id) {
            return Err(StoreError::Conflict(format!("{} is there already", delivery.id)));
        }
        if let Some(repository) = delivery.repository {
            state.refuse_unknown_repository(repository)?;
        }
        state.deliveries.insert(delivery.id, Kept { delivery: delivery.clone(), verdict: None });
        drop(state);
        self.wake(&[Topic::Events]);
        Ok(Recorded::New)
    }

    async fn delivery_next(&self) -> Result<Option<Delivery>, StoreError> {
        let state = self.state();
        Ok(state.deliveries.values().find(|kept| kept.verdict.is_none()).map(|kept| kept.delivery.clone()))
    }

    async fn delivery_settle(&self, id: DeliveryId, verdict: &str, _at: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        let kept =
            state.deliveries.get_mut(&id).ok_or_else(|| StoreError::Conflict(format!("there is no {id}")))?;
        kept.verdict.get_or_insert_with(|| verdict.to_owned());
        Ok(())
    }

    async fn delivery_list(
        &self,
        source: Option<&str>,
        page: &Page,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let state = self.state();
        let of = state.deliveries.values().rev();
        let of = of.filter(|kept| source.is_none_or(|source| kept.delivery.source == source));
        Ok(newest(of.map(|kept| (kept.delivery.id.uuid(), kept.record())), page))
    }

    async fn event_record(
        &self,
        event: &Event,
        dedupe: Option<&str>,
    ) -> Result<Recorded<EventId>, StoreError> {
        let mut state = self.state();
        let same = |fact: &&Fact| {
            dedupe.is_some() && fact.dedupe.as_deref() == dedupe && fact.event.repository == event.repository
        };
        if let Some(known) = state.events.values().find(same) {
            return Ok(Recorded::Known(known.event.id));
        }
        state.refuse_unknown_repository(event.repository)?;
        state.refuse_known_event(event.id)?;
        state.keep_event(event, dedupe);
        drop(state);
        self.wake(&[Topic::Events]);
        Ok(Recorded::New)
    }

    async fn event_get(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        Ok(self.state().events.get(&id).map(|fact| fact.event.clone()))
    }

    async fn event_list(
        &self,
        repository: RepositoryId,
        thread: Option<u64>,
        page: &Page,
    ) -> Result<Vec<Event>, StoreError> {
        let state = self.state();
        let of =
            |event: &&Event| event.repository == repository && (thread.is_none() || event.thread() == thread);
        let events = state.events.values().rev().map(|fact| &fact.event).filter(of);
        Ok(newest(events.map(|event| (event.id.uuid(), event.clone())), page))
    }

    async fn event_next(&self, now: Timestamp) -> Result<Option<Event>, StoreError> {
        let state = self.state();
        let ready = |fact: &&Fact| fact.matches.is_none() && fact.due_at.is_none_or(|at| at <= now);
        Ok(state.events.values().find(ready).map(|fact| fact.event.clone()))
    }

    async fn event_postpone(&self, id: EventId, until: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        let fact = state.events.get_mut(&id);
        fact.ok_or_else(|| StoreError::Conflict(format!("there is no {id}")))?.due_at = Some(until);
        Ok(())
    }

    async fn event_dispatch(&self, dispatch: &Dispatch) -> Result<Dispatched, StoreError> {
        let mut state = self.state();
        let Some(fact) = state.events.get(&dispatch.event) else {
            return Err(StoreError::Conflict(format!("there is no {}", dispatch.event)));
        };
        if fact.matches.is_some() {
            return Ok(Dispatched::Already);
        }
        let repository = fact.event.repository;
        state.refuse_runs(&dispatch.runs)?;
        for new in &dispatch.runs {
            state.enqueue(new, None, dispatch.at);
        }
        for effect in &dispatch.effects {
            state.keep_effect(effect, None);
        }
        for (effect, dedupe) in &dispatch.once {
            if state.known_effect(effect.repository, dedupe).is_none() {
                state.keep_effect(effect, Some(dedupe));
            }
        }
        state.rest(repository, &dispatch.rests);
        if let Some(fact) = state.events.get_mut(&dispatch.event) {
            fact.matches = Some(dispatch.matches.clone());
            if let Some(learned) = &dispatch.learned {
                fact.event = learned.clone();
            }
        }
        drop(state);
        self.wake(&[Topic::Events, Topic::Runs, Topic::Outbox]);
        Ok(Dispatched::Recorded)
    }

    async fn sweep_get(&self, of: &SweepOf) -> Result<Option<Sweep>, StoreError> {
        Ok(self.state().sweeps.get(&of.key()).copied())
    }

    async fn sweep_record(&self, of: &SweepOf, sweep: &Sweep) -> Result<(), StoreError> {
        self.state().sweeps.insert(of.key(), *sweep);
        Ok(())
    }

    async fn match_list(&self, event: EventId) -> Result<Vec<MatchRecord>, StoreError> {
        let state = self.state();
        Ok(state.events.get(&event).and_then(|fact| fact.matches.clone()).unwrap_or_default())
    }
}

impl State {
    pub(super) fn is_of_thread(&self, id: EventId, thread: u64) -> bool {
        self.events.get(&id).is_some_and(|fact| fact.event.thread() == Some(thread))
    }

    fn rest(&mut self, repository: RepositoryId, rests: &[Rest]) {
        for rest in rests {
            match rest {
                Rest::Pause(pause) => {
                    let key = (repository, pause.daemon.clone(), pause.branch.clone());
                    self.pauses.entry(key).or_insert_with(|| pause.clone());
                }
                Rest::Resume { daemon, branch } => {
                    self.pauses.remove(&(repository, daemon.clone(), branch.clone()));
                }
            }
        }
    }

    pub(super) fn refuse_known_event(&self, id: EventId) -> Result<(), StoreError> {
        if self.events.contains_key(&id) {
            return Err(StoreError::Conflict(format!("{id} is there already")));
        }
        Ok(())
    }

    pub(super) fn refuse_unknown_repository(&self, id: RepositoryId) -> Result<(), StoreError> {
        if self.repositories.contains_key(&id) {
            return Ok(());
        }
        Err(StoreError::Conflict(format!("there is no {id}")))
    }

    pub(super) fn keep_event(&mut self, event: &Event, dedupe: Option<&str>) {
        let fact =
            Fact { event: event.clone(), dedupe: dedupe.map(str::to_owned), matches: None, due_at: None };
        self.events.insert(event.id, fact);
    }
}
