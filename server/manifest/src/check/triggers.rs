//! `on`.

use croner::parser::{CronParser, Seconds, Year};
use domain::name::DaemonId;
use domain::trigger::{Filter, Trigger, TriggerKind};
use jiff::civil::DateTime;
use jiff::tz::TimeZoneDatabase;

use super::Check;
use super::names::Visible;
use crate::codes;
use crate::diagnostic::Problem;
use crate::raw::scalar::{Line, OneOrMany, Time};
use crate::raw::trigger::{Kind, Role, Trigger as RawTrigger, Triggers};
use crate::read::{Place, Slot};
use crate::suggest::{did_you_mean, one_of, quoted};

/// The most triggers of a daemon.
const MAX_TRIGGERS: usize = 50;
/// Words that other bots answer to.
const RESERVED_COMMANDS: [&str; 9] =
    ["help", "approve", "hold", "retest", "ok-to-test", "lgtm", "plan", "apply", "spellbook"];

impl Check<'_> {
    pub(super) fn triggers(&mut self, slot: &Slot<Triggers>, visible: &Visible<'_>) -> Vec<Trigger> {
        let Some((Triggers(list), place)) = slot.found() else { return Vec::new() };
        self.at_most(list.len(), MAX_TRIGGERS, place);
        list.iter()
            .filter_map(|(kind, slot)| {
                let (raw, place) = slot.found()?;
                self.condition_names(&raw.skip_if, visible);
                let filter = self.filter(kind, raw);
                let on = self.trigger_kind(kind, raw, place)?;
                let time = |slot: &Slot<Time>| slot.get().map(|time| time.0);
                Some(Trigger {
                    on,
                    filter,
                    skip_if: raw.skip_if.get().map(|condition| condition.expression.source().to_owned()),
                    cooldown: time(&raw.cooldown),
                    debounce: time(&raw.debounce),
                })
            })
            .collect()
    }

    fn filter(&mut self, kind: &Kind, raw: &RawTrigger) -> Filter {
        let roles = raw.roles.get().map_or(&[][..], |roles| &roles.0);
        Filter {
            types: self.types(kind, &raw.types),
            branches: self.globs(&raw.branches),
            paths: self.globs(&raw.paths),
            paths_ignore: self.globs(&raw.paths_ignore),
            actors: lines(&raw.actors),
            roles: roles.iter().filter_map(Slot::get).map(|role: &Role| role.as_str().to_owned()).collect(),
            labels: lines(&raw.labels),
            drafts: raw.drafts.cloned(),
        }
    }

    fn types(&mut self, kind: &Kind, slot: &Slot<OneOrMany<Line>>) -> Vec<String> {
        let items = slot.get().map_or(&[][..], |list| &list.0);
        for (Line(word), place) in items.iter().filter_map(Slot::found) {
            if !kind.types.contains(&word.as_str()) && !kind.types.is_empty() {
                let problem =
                    Problem::error(&codes::UNKNOWN_WORD, format!("{} is not known here", quoted(word)))
                        .expected(one_of(kind.types.iter().copied()))
                        .maybe_help(did_you_mean(word, kind.types.iter().copied()));
                self.reader.report(problem, place);
            }
        }
        lines(slot)
    }

    /// Globs that compile.
    pub(super) fn globs(&mut self, slot: &Slot<OneOrMany<Line>>) -> Vec<String> {
        let items = slot.get().map_or(&[][..], |list| &list.0);
        if let Some(place) = slot.place() {
            self.at_most(items.len(), 200, place);
        }
        for (Line(glob), place) in items.iter().filter_map(Slot::found) {
            if let Some(problem) = glob_fault(glob) {
                self.reader.report(problem, place);
            }
        }
        lines(slot)
    }

    fn trigger_kind(&mut self, kind: &Kind, raw: &RawTrigger, place: Place) -> Option<TriggerKind> {
        Some(match kind.word {
            "push" => TriggerKind::Push,
            "pull_request" => TriggerKind::PullRequest,
            "comment" => TriggerKind::Comment { command: self.command(&raw.command) },
            "issues" => TriggerKind::Issues,
            "label" => TriggerKind::Label { names: lines(&raw.names) },
            "release" => TriggerKind::Release,
            "check_suite" => TriggerKind::CheckSuite,
            "schedule" => self.schedule(raw)?,
            "webhook" => {
                let (secret, place) = raw.secret.found().map(|(secret, place)| (secret.0.clone(), place))?;
                self.use_secret(secret.as_str(), place);
                TriggerKind::Webhook { secret }
            }
            "daemon" => TriggerKind::Daemon { ids: self.daemon_ids(&raw.ids) },
            "manual" => TriggerKind::Manual,
            other => {
                let problem =
                    Problem::error(&codes::UNKNOWN_TRIGGER, format!("there is no trigger {}", quoted(other)));
                self.reader.report(problem, place);
                return None;
            }
        })
    }

    fn command(&mut self, slot: &Slot<Line>) -> Option<String> {
        let (Line(written), place) = slot.found()?;
        let word = written.strip_prefix('/').unwrap_or(written);
        let message = if RESERVED_COMMANDS.contains(&word) {
            format!("{} is a command of its own", quoted(&format!("/{word}")))
        } else if DaemonId::parse(word).is_err() || word.len() > 32 {
            format!("{} cannot be a command", quoted(word))
        } else {
            return Some(word.to_owned());
        };
        let problem = Problem::error(&codes::RESERVED_COMMAND, message);
        self.reader.report(
            problem.expected("a word of lower-case letters, digits and hyphens that no bot owns"),
            place,
        );
        None
    }

    pub(super) fn daemon_ids(&mut self, slot: &Slot<OneOrMany<Line>>) -> Vec<DaemonId> {
        let items = slot.get().map_or(&[][..], |list| &list.0);
        let found = items.iter().filter_map(Slot::found);
        found
            .filter_map(|(Line(id), place)| {
                crate::raw::scalar::parsed(id, place, &mut self.reader, &codes::BAD_DAEMON_NAME)
            })
            .collect()
    }

    fn schedule(&mut self, raw: &RawTrigger) -> Option<TriggerKind> {
        let timezone = self.timezone(&raw.timezone);
        let (Line(written), place) = raw.cron.found()?;
        let cron = spoken(written, &format!("{}/{}", self.source.directory, self.source.id))
            .unwrap_or_else(|| written.clone());
        if let Some(message) = cron_fault(&cron) {
            let problem = Problem::error(&codes::BAD_CRON, message)
                .expected("minute, hour, day of month, month, day of week")
                .help("for example `0 9 * * 1`, or `daily between 9:00 and 17:00`");
            self.reader.report(problem, place);
        }
        Some(TriggerKind::Schedule { cron, timezone })
    }

    fn timezone(&mut self, slot: &Slot<Line>) -> String {
        let Some((Line(name), place)) = slot.found() else { return "UTC".to_owned() };
        // The copy that is built in, so that a manifest means the same on every machine.
        let zones = TimeZoneDatabase::bundled();
        if zones.get(name).is_err() {
            let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
            let problem =
                Problem::error(&codes::BAD_TIME_ZONE, format!("there is no time zone {}", quoted(name)));
            let help = did_you_mean(name, names.iter().map(String::as_str));
            self.reader.report(problem.expected("an IANA name like `Europe/Berlin`").maybe_help(help), place);
        }
        name.clone()
    }
}

/// The texts of a list.
pub(super) fn lines(slot: &Slot<OneOrMany<Line>>) -> Vec<String> {
    let items = slot.get().map_or(&[][..], |list| &list.0);
    items.iter().filter_map(Slot::get).map(|line| line.0.clone()).collect()
}

/// What is wrong with a glob.
pub(super) fn glob_fault(glob: &str) -> Option<Problem> {
    let pattern = glob.strip_prefix('!').unwrap_or(glob);
    let wrong = |message: String| Some(Problem::error(&codes::BAD_GLOB, message));
    if pattern.is_empty() {
        return wrong("the glob is empty".to_owned());
    }
    match globset::GlobBuilder::new(pattern).literal_separator(true).build() {
        Ok(_) => None,
        Err(error) => wrong(format!("{} is not a glob: {}", quoted(glob), error.kind())),
    }
}

/// What is wrong with a cron expression.
fn cron_fault(cron: &str) -> Option<String> {
    if cron.starts_with('@') || cron.split_whitespace().count() != 5 {
        return Some(format!("{} does not have five fields", quoted(cron)));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let schedule = match parser.parse(cron) {
        Ok(schedule) => schedule,
        Err(error) => return Some(format!("{} is not a schedule: {error}", quoted(cron))),
    };
    // A leap year lies ahead of this day, so that the 29th of February is found.
    let start = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);
    let strikes = schedule.find_next_occurrence(&start, true).is_ok();
    (!strikes).then(|| format!("{} never strikes", quoted(cron)))
}

/// `hourly`, `daily`, `weekly`, `daily between 9:00 and 17:00` as a cron expression. The minute is chosen by
/// the daemon's name, so that daemons do not all begin at once, and stays the same.
fn spoken(text: &str, daemon: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
        (hour <= 23 && minute <= 59 || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
    };
    let (from, until, days) = match words.as_slice() {
        ["hourly"] => return Some(format!("{} * * * *", scattered(daemon) % 60)),
        ["daily"] => (0, 24 * 60, "*".to_owned()),
        ["weekly"] => (0, 24 * 60, (scattered(daemon) / 1_440 % 7).to_string()),
        ["daily", "between", from, "and", until] => (minute(from)?, minute(until)?, "*".to_owned()),
        _ => return None,
    };
    let at = from + scattered(daemon) % until.checked_sub(from).filter(|length| *length > 0)?;
    Some(format!("{} {} * * {days}", at % 60, at / 60))
}

/// A number that a name always gives (FNV-1a, 64 bits).
fn scattered(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_five_fields_and_strike() {
        for cron in ["0 9 * * 1", "*/5 * * * *", "0 0 29 2 *", "0 9 * * MON-FRI", "30 8 1,15 * *"] {
            assert_eq!(cron_fault(cron), None, "{cron}");
        }
        for cron in [
            "",
            "* * * * * *",
            "0 0 30 2 *",
            "60 * * * *",
            "@daily",
            "* * * *",
            "a b c d e",
            "0 0 31 4,6,9,11 *",
        ] {
            assert!(cron_fault(cron).is_some(), "{cron:?} was accepted");
        }
    }

    #[test]
    fn spoken_schedules_lie_in_their_window_and_stay() {
        for daemon in ["a", "daemons/review/review", "x/y"] {
            let cron = spoken("daily between 9:00 and 17:00", daemon).expect("it is a schedule");
            let hour: u32 = cron.split(' ').nth(1).and_then(|hour| hour.parse().ok()).expect("an hour");
            assert!((9..17).contains(&hour), "{cron}");
            assert_eq!(spoken("daily between 9:00 and 17:00", daemon), Some(cron));
            for text in ["hourly", "daily", "weekly", "daily between 0:00 and 24:00"] {
                assert_eq!(spoken(text, daemon).as_deref().map(cron_fault), Some(None), "{text}");
            }
        }
        for text in [
            "daily between 17:00 and 9:00",
            "daily between 9 and 17",
            "daily between 25:00 and 26:00",
            "yearly",
        ] {
            assert_eq!(spoken(text, "a"), None, "{text}");
        }
    }
}
