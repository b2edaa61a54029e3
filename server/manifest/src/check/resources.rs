//! What a daemon may touch and use: permissions, limits, concurrency.

use std::time::Duration;

use domain::limits::Limits;
use domain::money::NanoUsd;
use domain::run::ConcurrencyBehavior;

use super::Check;
use super::names::Visible;
use crate::codes;
use crate::diagnostic::Problem;
use crate::model::{ConcurrencySpec, Permissions};
use crate::raw::daemon::{
    Behavior, Concurrency, Contents, Limits as RawLimits, Permissions as RawPermissions,
};
use crate::raw::scalar::{Money, Processors, Secret, Size, Time};
use crate::read::{Place, Slot};
use crate::units::{show_bytes, show_duration};

impl Check<'_> {
    pub(super) fn permissions(&mut self, raw: Option<&RawPermissions>) -> Permissions {
        let Some(raw) = raw else { return Permissions::default() };
        let network = raw.network.get();
        let allowed = network.and_then(|network| network.allowed.get());
        let blocked = network.and_then(|network| network.blocked.get());
        let secrets = raw.secrets.get().into_iter().flatten().filter_map(Slot::get);
        Permissions {
            contents_write: raw.contents.get() == Some(&Contents::Write),
            network_allowed: self.hosts(allowed.map(Vec::as_slice)),
            network_blocked: self.hosts(blocked.map(Vec::as_slice)),
            secrets: secrets.map(|Secret(name)| name.clone()).collect(),
        }
    }

    /// Warns of secrets that are declared and not used; comes after everything that may use one.
    pub(super) fn unused_secrets(&mut self, raw: Option<&RawPermissions>) {
        let declared = raw.and_then(|raw| raw.secrets.get()).into_iter().flatten();
        for (Secret(name), place) in declared.filter_map(Slot::found) {
            if !self.used_secrets.contains(name) {
                let message = format!("nothing uses the secret `{name}`");
                self.reader.report(Problem::warning(&codes::UNUSED_SECRET, message).help("remove it"), place);
            }
        }
    }

    /// The limits: those that are written, held against the ceiling; the defaults for the rest, which are
    /// lowered to the ceiling in silence.
    pub(super) fn limits(&mut self, raw: Option<&RawLimits>) -> Limits {
        let none = RawLimits::default();
        let raw = raw.unwrap_or(&none);
        let (ceiling, usual) = (self.rules.ceiling, Limits::DEFAULT);
        let time = |slot: &Slot<Time>| slot.found().map(|(time, place)| (time.0, place));
        let size = |slot: &Slot<Size>| slot.found().map(|(size, place)| (size.0, place));
        let count = |slot: &Slot<u32>| slot.found().map(|(count, place)| (*count, place));
        let cpus = raw.cpus.found().map(|(Processors(millis), place)| (*millis, place));
        let cost = raw.cost.found().map(|(Money(cost), place)| (*cost, place));
        Limits {
            timeout: self.limit(
                "timeout",
                time(&raw.timeout),
                (usual.timeout, ceiling.timeout),
                show_duration,
            ),
            memory: self.limit("memory", size(&raw.memory), (usual.memory, ceiling.memory), show_bytes),
            cpu_millis: self.limit("cpus", cpus, (usual.cpu_millis, ceiling.cpu_millis), show_cpus),
            processes: self.limit(
                "processes",
                count(&raw.processes),
                (usual.processes, ceiling.processes),
                show,
            ),
            disk: self.limit("disk", size(&raw.disk), (usual.disk, ceiling.disk), show_bytes),
            output: self.limit("output", size(&raw.output), (usual.output, ceiling.output), show_bytes),
            cost: self.cost(cost),
            turns: self.limit("turns", count(&raw.turns), (usual.turns, ceiling.turns), show),
        }
    }

    fn limit<T: Copy + Ord + Default>(
        &mut self,
        key: &str,
        asked: Option<(T, Place)>,
        (usual, ceiling): (T, T),
        show: impl Fn(T) -> String,
    ) -> T {
        let Some((asked, place)) = asked else { return usual.min(ceiling) };
        if asked > ceiling {
            self.above(key, &show(asked), &show(ceiling), place);
        }
        if asked == T::default() {
            let message = format!("with a `{key}` of {} nothing can run", show(asked));
            self.reader.report(Problem::error(&codes::ZERO_LIMIT, message), place);
        }
        asked
    }

    /// Money has no default, but may have a ceiling, which then holds for all. Nothing at all is a fine limit
    /// for a daemon without models.
    fn cost(&mut self, asked: Option<(NanoUsd, Place)>) -> Option<NanoUsd> {
        let ceiling = self.rules.ceiling.cost;
        let Some((asked, place)) = asked else { return ceiling };
        if let Some(ceiling) = ceiling.filter(|ceiling| asked > *ceiling) {
            self.above("cost", &asked.to_string(), &ceiling.to_string(), place);
        }
        Some(asked)
    }

    fn above(&mut self, key: &str, asked: &str, ceiling: &str, place: Place) {
        let message = format!("a `{key}` of {asked} is above the ceiling of this server, {ceiling}");
        self.reader.report(
            Problem::error(&codes::ABOVE_CEILING, message).expected(format!("at most {ceiling}")),
            place,
        );
    }

    pub(super) fn concurrency(
        &mut self,
        raw: Option<&Concurrency>,
        visible: &Visible<'_>,
    ) -> Option<ConcurrencySpec> {
        match raw? {
            Concurrency::Group(group) => {
                self.template_names(group, visible);
                let group = group.get().map(|group| group.0.clone());
                Some(ConcurrencySpec { group, limit: 1, behavior: ConcurrencyBehavior::Queue })
            }
            Concurrency::Map(map) => {
                self.template_names(&map.group, visible);
                Some(ConcurrencySpec {
                    group: map.group.get().map(|group| group.0.clone()),
                    limit: self.within(&map.limit, 1..=1_000).unwrap_or(1),
                    behavior: match map.behavior.get() {
                        Some(Behavior::Cancel) => ConcurrencyBehavior::Cancel,
                        Some(Behavior::Fail) => ConcurrencyBehavior::Fail,
                        Some(Behavior::Queue) | None => ConcurrencyBehavior::Queue,
                    },
                })
            }
        }
    }

    /// A number that must lie in a range.
    pub(super) fn within(&mut self, slot: &Slot<u32>, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let (number, place) = slot.found()?;
        if !range.contains(number) {
            let problem = Problem::error(&codes::OUT_OF_RANGE, format!("{number} is out of range"));
            self.reader.report(problem.expected(format!("{} to {}", range.start(), range.end())), place);
        }
        Some(*number)
    }

    /// A list that may not be longer.
    pub(super) fn at_most(&mut self, length: usize, most: usize, place: Place) {
        if length > most {
            let message = format!("the list has {length} items");
            self.reader.report(
                Problem::error(&codes::TOO_LONG_LIST, message).expected(format!("at most {most}")),
                place,
            );
        }
    }

    /// A stage's own time limit, within the run's.
    pub(super) fn stage_timeout(&mut self, slot: &Slot<Time>, run: Duration) -> Option<Duration> {
        let (Time(timeout), place) = slot.found()?;
        if timeout.is_zero() {
            self.reader.report(Problem::error(&codes::ZERO_LIMIT, "in no time nothing can run"), place);
        } else if *timeout > run {
            let message = format!("the run ends after {}", show_duration(run));
            let problem = Problem::error(&codes::STAGE_TIMEOUT, message);
            self.reader.report(problem.expected(format!("at most {}", show_duration(run))), place);
        }
        Some(*timeout)
    }
}

fn show(count: u32) -> String {
    count.to_string()
}

fn show_cpus(millis: u32) -> String {
    format!("{}", f64::from(millis) / 1_000.0)
}
