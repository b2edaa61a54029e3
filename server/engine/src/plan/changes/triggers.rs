//! When a daemon runs.

use domain::trigger::{Filter, Trigger, TriggerKind, reaches};

use super::{Bearing, Differences, Heading, code, codes};
use crate::report;

impl Differences<'_> {
    /// Triggers for the same thing are compared in their order.
    pub(super) fn triggers(&mut self) {
        let mut left: Vec<&Trigger> = self.before.triggers.iter().collect();
        for trigger in &self.after.triggers {
            let (subject, now) = (subject(&trigger.on), conditions(trigger));
            match left.iter().position(|known| known.on == trigger.on) {
                Some(at) => {
                    let known = left.remove(at);
                    let bearing = bearing(&known.filter, &trigger.filter);
                    self.turned(Heading::Triggers, bearing, &subject, [&conditions(known), &now]);
                }
                None => {
                    let when = if now == "always" { String::new() } else { format!(": {now}") };
                    self.say(Heading::Triggers, Bearing::Neither, format!("it runs on {subject}{when}"));
                }
            }
        }
        for trigger in left {
            let text = format!("it no longer runs on {}", subject(&trigger.on));
            self.say(Heading::Triggers, Bearing::Neither, text);
        }
    }
}

/// What must happen.
fn subject(on: &TriggerKind) -> String {
    match on {
        TriggerKind::Push => "a push".to_owned(),
        TriggerKind::PullRequest => "a pull request".to_owned(),
        TriggerKind::Comment { command: Some(command) } => {
            format!("a comment {}", code(&format!("/{command}")))
        }
        TriggerKind::Comment { command: None } => "a comment that asks for it".to_owned(),
        TriggerKind::Issues => "an issue".to_owned(),
        TriggerKind::Label { names } if names.is_empty() => "any label".to_owned(),
        TriggerKind::Label { names } => format!("a label of {}", codes(names)),
        TriggerKind::Release => "a release".to_owned(),
        TriggerKind::CheckSuite => "the end of a check suite".to_owned(),
        TriggerKind::Schedule { cron, timezone } => {
            format!("the schedule {} in {}", code(cron), code(timezone))
        }
        TriggerKind::Webhook { secret } => {
            format!("a call of its own endpoint, signed by {}", code(secret.as_str()))
        }
        TriggerKind::Daemon { ids } if ids.is_empty() => "the end of any other daemon".to_owned(),
        TriggerKind::Daemon { ids } => {
            format!("the end of {}", codes(&ids.iter().map(ToString::to_string).collect::<Vec<_>>()))
        }
        TriggerKind::Manual => "demand".to_owned(),
    }
}

/// What must hold besides, in words.
fn conditions(trigger: &Trigger) -> String {
    let Filter { types, branches, paths, paths_ignore, actors, roles, labels, drafts } = &trigger.filter;
    let lists = [
        ("types", types),
        ("branches", branches),
        ("paths", paths),
        ("paths_ignore", paths_ignore),
        ("actors", actors),
        ("roles", roles),
        ("labels", labels),
    ];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let mut said: Vec<String> = lists.map(|(name, list)| format!("{name} {}", codes(list))).collect();
    said.extend((*drafts == Some(false)).then(|| "no drafts".to_owned()));
    said.extend(trigger.skip_if.as_ref().map(|skip| format!("not if {}", code(skip))));
    said.extend(trigger.cooldown.map(|rest| format!("cooldown {}", report::span(rest))));
    said.extend(trigger.debounce.map(|wait| format!("debounce {}", report::span(wait))));
    if said.is_empty() { "always".to_owned() } else { said.join("; ") }
}

/// Whether more people may start it than before. Whatever else a filter takes away makes it run more often only.
fn bearing(before: &Filter, after: &Filter) -> Bearing {
    match (within(after, before), within(before, after)) {
        (false, _) => Bearing::Wider,
        (true, false) => Bearing::Narrower,
        (true, true) => Bearing::Neither,
    }
}

/// Whether everybody whom one filter lets through is let through by the other.
fn within(filter: &Filter, other: &Filter) -> bool {
    let reached = |role: &String| other.roles.iter().any(|wanted| reaches(role, wanted));
    let roles = other.roles.is_empty() || (!filter.roles.is_empty() && filter.roles.iter().all(reached));
    let known = |actor: &String| other.actors.contains(actor);
    let actors = other.actors.is_empty() || (!filter.actors.is_empty() && filter.actors.iter().all(known));
    roles && actors
}
