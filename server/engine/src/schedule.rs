//! The clock: makes events of cron expressions. The newest moment that has passed is due, once: a
//! server that was away catches up with one run, and two servers make the same event.

use std::collections::BTreeSet;
use std::str::FromStr;

use croner::Cron;
use domain::event::{Actor, Event, EventKind};
use domain::id::{EventId, RevisionId};
use domain::repository::BranchRole;
use domain::revision::{Revision, RevisionContent};
use domain::time::Timestamp;
use domain::trigger::TriggerKind;
use domain::value::Taint;
use ports::store::{Recorded, StoreError};
use serde_json::json;

use crate::world::World;

/// The moments that a loop has struck already, so that it asks the store about each only once.
#[derive(Debug, Default)]
pub struct Struck(BTreeSet<(RevisionId, String)>);

/// Records the events of all schedules whose moment has come; says how many.
///
/// # Errors
/// When the store does not answer; the moments are still due then.
pub async fn next(world: &World, struck: &mut Struck) -> Result<usize, StoreError> {
    let now = world.clock.now();
    let mut recorded = 0;
    let mut seen = BTreeSet::new();
    for revision in world.store.revision_scheduled().await? {
        let RevisionContent::Valid { triggers, .. } = &revision.content else { continue };
        for trigger in triggers {
            let TriggerKind::Schedule { cron, timezone } = &trigger.on else { continue };
            // A moment before the daemon was deployed is not its moment.
            let due = last_due(cron, timezone, now).filter(|due| *due > revision.created_at);
            let Some(at) = due else { continue };
            let due = Due { cron, timezone, at };
            let clock = (revision.id, due.key());
            if struck.0.contains(&clock) {
                seen.insert(clock);
                continue;
            }
            if strike(world, &revision, &due).await? == Recorded::New {
                recorded += 1;
            }
            seen.insert(clock);
        }
    }
    struck.0 = seen;
    Ok(recorded)
}

/// A moment of a schedule.
#[derive(Debug)]
struct Due<'a> {
    cron: &'a str,
    timezone: &'a str,
    at: Timestamp,
}

impl Due<'_> {
    /// What makes the moment one: where the hour is fixed, the time on the wall, so that an hour which
    /// comes twice when clocks go back strikes once (as in Vixie cron); else the moment itself.
    fn key(&self) -> String {
        let every_hour = self.cron.split_whitespace().nth(1).is_some_and(|hour| hour.starts_with('*'));
        let zoned = || Some(zoned(self.at, self.timezone)?.datetime());
        match zoned().filter(|_| !every_hour) {
            Some(wall) => format!("{}/{}/{wall}", self.cron, self.timezone),
            None => format!("{}/{}", self.cron, self.at.millis()),
        }
    }
}

async fn strike(world: &World, revision: &Revision, due: &Due<'_>) -> Result<Recorded<EventId>, StoreError> {
    let heads = world.store.branch_list(revision.repository).await?;
    let head = heads.iter().find(|head| head.branch == revision.branch && head.role == BranchRole::Deploy);
    let event = Event {
        id: EventId::new(world.clock.unique()),
        repository: revision.repository,
        kind: EventKind::Schedule,
        action: None,
        branch: Some(revision.branch.clone()),
        commit: head.map(|head| head.commit.clone()),
        paths: Vec::new(),
        actor: Actor::server(),
        labels: Vec::new(),
        draft: false,
        payload: json!({ "daemon": { "id": revision.daemon.as_str() }, "schedule": { "cron": due.cron, "due": due.at.to_string() } }),
        taint: Taint::Trusted,
        depth: 0,
        occurred_at: due.at,
    };
    let key =
        format!("schedule/{}/{}/{}/{}", revision.repository, revision.daemon, revision.branch, due.key());
    world.store.event_record(&event, Some(&key)).await
}

/// The newest moment of a cron expression that is not after `now`; none when the expression or the
/// zone is not understood, or it has no such moment. Local times that a change of clocks skips are
/// taken as the library does: the next moment that exists.
fn last_due(cron: &str, timezone: &str, now: Timestamp) -> Option<Timestamp> {
    let now = zoned(now, timezone)?;
    let due = Cron::from_str(cron).ok()?.find_previous_occurrence(&now, true).ok()?;
    Some(Timestamp::from_millis(due.timestamp().as_millisecond()))
}

fn zoned(at: Timestamp, timezone: &str) -> Option<jiff::Zoned> {
    let zone = jiff::tz::TimeZone::get(timezone).ok()?;
    Some(jiff::Timestamp::from_millisecond(at.millis()).ok()?.to_zoned(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cron: &str, timezone: &str, now: &str, expect: Option<&str>) {
        let now: jiff::Timestamp = now.parse().unwrap();
        let due = last_due(cron, timezone, Timestamp::from_millis(now.as_millisecond()));
        assert_eq!(due.map(|due| due.to_string()).as_deref(), expect, "{cron} in {timezone} at {now}");
    }

    #[test]
    fn the_newest_moment_that_has_passed_is_due() {
        check("0 9 * * 1", "UTC", "2026-11-24T12:00:00Z", Some("2026-11-23T09:00:00.000Z"));
        check("0 9 * * *", "Europe/Berlin", "2026-07-01T07:00:00Z", Some("2026-07-01T07:00:00.000Z"));
        check("0 9 * * *", "Europe/Berlin", "2026-07-01T06:59:59Z", Some("2026-06-30T07:00:00.000Z"));
        check("not cron", "UTC", "2026-07-01T06:59:59Z", None);
        check("0 9 * * *", "Mars/Olympus", "2026-07-01T06:59:59Z", None);
    }

    #[test]
    fn a_fixed_hour_that_comes_twice_strikes_once() {
        // Clocks in Berlin go back at 03:00 on 2026-10-25, so that 02:30 comes twice.
        let at =
            |time: &str| Timestamp::from_millis(time.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let key = |cron, time| Due { cron, timezone: "Europe/Berlin", at: at(time) }.key();
        let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        assert_eq!(key("30 2 * * *", first), key("30 2 * * *", second));
        assert_ne!(key("30 * * * *", first), key("30 * * * *", second));
    }
}
