//! What a daemon may do: whom it reaches, what it uses, what the server does for it, and at which price.

use std::collections::BTreeMap;

use domain::limits::Limits;
use domain::money::{NanoUsd, Price, PriceModel};
use manifest::Manifest;
use manifest::model::{McpReach, McpServer, OutcomeKind, OutcomeSpec};

use super::{Bearing, Differences, Heading, code, codes, missing};
use crate::report;

impl Differences<'_> {
    pub(super) fn capabilities(&mut self) {
        self.network();
        self.secrets();
        self.outcomes();
        self.permissions();
        self.servers();
        self.limits();
        self.commerce();
    }

    fn network(&mut self) {
        let (before, after) = (&self.before.permissions, &self.after.permissions);
        let (hosts, now) = (before.hosts(), after.hosts());
        let (opened, closed) = (missing(&now, &hosts), missing(&hosts, &now));
        // A blocked host matters also where a named set or a wildcard opens it.
        let others = |list: Vec<String>, said: &[String]| -> Vec<String> {
            list.into_iter().filter(|host| !said.contains(host)).collect()
        };
        let unblocked = others(missing(&before.network_blocked, &after.network_blocked), &opened);
        let blocked = others(missing(&after.network_blocked, &before.network_blocked), &closed);
        let first = if hosts.is_empty() && !self.is_new { "; before it reached no host" } else { "" };
        self.listed(Heading::Network, Bearing::Wider, &opened, |hosts| {
            format!("it may reach {hosts}{first}")
        });
        if !now.is_empty() {
            self.listed(Heading::Network, Bearing::Wider, &unblocked, |hosts| {
                format!("no longer blocked: {hosts}")
            });
        }
        self.listed(Heading::Network, Bearing::Narrower, &closed, |hosts| {
            format!("it no longer reaches {hosts}")
        });
        self.listed(Heading::Network, Bearing::Narrower, &blocked, |hosts| format!("blocked: {hosts}"));
    }

    fn secrets(&mut self) {
        let names = |manifest: &Manifest| -> Vec<String> {
            manifest.permissions.secrets.iter().map(ToString::to_string).collect()
        };
        let (before, after) = (names(self.before), names(self.after));
        let (more, less) = (missing(&after, &before), missing(&before, &after));
        self.listed(Heading::Secrets, Bearing::Wider, &more, |names| format!("it may use {names}"));
        self.listed(Heading::Secrets, Bearing::Narrower, &less, |names| format!("it no longer uses {names}"));
    }

    /// Outcomes of one kind are compared in their order.
    fn outcomes(&mut self) {
        let (before, after) = (by_kind(self.before), by_kind(self.after));
        for (kind, specs) in &after {
            let known = before.get(kind).map_or(&[][..], Vec::as_slice);
            for (at, spec) in specs.iter().enumerate() {
                match known.get(at) {
                    Some(known) => self.outcome(known, spec),
                    None => self.new_outcome(spec),
                }
            }
        }
        for (kind, specs) in &before {
            let bearing = if *kind == OutcomeKind::Noop { Bearing::Neither } else { Bearing::Narrower };
            for _ in after.get(kind).map_or(0, Vec::len)..specs.len() {
                self.say(Heading::Outcomes, bearing, format!("no longer {}", code(kind.as_str())));
            }
        }
    }

    fn new_outcome(&mut self, spec: &OutcomeSpec) {
        let bearing = if spec.kind == OutcomeKind::Noop { Bearing::Neither } else { Bearing::Wider };
        let times = if spec.max == 1 { "once a run".to_owned() } else { format!("{} times a run", spec.max) };
        let leave = if touches_protected(spec) { ", protected files too" } else { "" };
        let text = format!("{}, at most {times}{leave}", code(spec.kind.as_str()));
        self.say(Heading::Outcomes, bearing, text);
    }

    fn outcome(&mut self, before: &OutcomeSpec, after: &OutcomeSpec) {
        let kind = code(after.kind.as_str());
        let most = Bearing::of(&before.max, &after.max);
        let what = format!("{kind} at most, a run");
        self.turned(Heading::Outcomes, most, &what, [&before.max.to_string(), &after.max.to_string()]);
        let bearing = match (&before.condition, &after.condition) {
            (Some(_), None) => Bearing::Wider,
            (None, Some(_)) => Bearing::Narrower,
            _ => Bearing::Neither,
        };
        let (was, is) = (condition(before), condition(after));
        self.turned(Heading::Outcomes, bearing, &format!("{kind} when"), [&was, &is]);
        match (touches_protected(before), touches_protected(after)) {
            (false, true) => {
                self.say(Heading::Outcomes, Bearing::Wider, format!("{kind} may change protected files"));
            }
            (true, false) => {
                let text = format!("{kind} no longer changes protected files");
                self.say(Heading::Outcomes, Bearing::Narrower, text);
            }
            _ => {}
        }
        let mut names: Vec<&String> = before.fields.keys().chain(after.fields.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| *name != PROTECTED && before.fields.get(*name) != after.fields.get(*name));
        let names: Vec<String> = names.into_iter().cloned().collect();
        self.listed(Heading::Outcomes, Bearing::Neither, &names, |names| {
            format!("{kind} has another {names}")
        });
    }

    fn permissions(&mut self) {
        match (self.before.permissions.contents_write, self.after.permissions.contents_write) {
            (false, true) => {
                let text = "it may change files of the repository (`contents: write`)".to_owned();
                self.say(Heading::Permissions, Bearing::Wider, text);
            }
            (true, false) => {
                let text = "it no longer changes files of the repository".to_owned();
                self.say(Heading::Permissions, Bearing::Narrower, text);
            }
            _ => {}
        }
    }

    fn servers(&mut self) {
        let (before, after) = (&self.before.mcp_servers, &self.after.mcp_servers);
        for (name, server) in after {
            let shown = code(name);
            let Some(known) = before.get(name) else {
                let text = format!("{shown} is new: {}, {}", reach(server), tools(server));
                self.say(Heading::Servers, Bearing::Wider, text);
                continue;
            };
            self.turned(Heading::Servers, Bearing::Neither, &shown, [&reach(known), &reach(server)]);
            let within = server.allowed.iter().all(|glob| known.allowed.contains(glob));
            let bearing = match (known.allowed.is_empty(), server.allowed.is_empty()) {
                (true, _) => Bearing::Narrower,
                (false, false) if within => Bearing::Narrower,
                (false, _) => Bearing::Wider,
            };
            self.turned(Heading::Servers, bearing, &shown, [&tools(known), &tools(server)]);
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.say(Heading::Servers, Bearing::Narrower, format!("{} is gone", code(name)));
        }
    }

    fn limits(&mut self) {
        type Row = (&'static str, fn(&Limits) -> u128, fn(&Limits) -> String);
        let rows: [Row; 8] = [
            (
                "cost",
                |limits| limits.cost.map_or(u128::MAX, |cost| cost.nanos().unsigned_abs().into()),
                |limits| limits.cost.as_ref().map_or_else(|| "no bound".to_owned(), NanoUsd::to_string),
            ),
            ("timeout", |limits| limits.timeout.as_millis(), |limits| report::span(limits.timeout)),
            ("turns", |limits| limits.turns.into(), |limits| limits.turns.to_string()),
            (
                "cpus",
                |limits| limits.cpu_millis.into(),
                |limits| (f64::from(limits.cpu_millis) / 1_000.0).to_string(),
            ),
            ("memory", |limits| limits.memory.into(), |limits| report::size(limits.memory)),
            ("disk", |limits| limits.disk.into(), |limits| report::size(limits.disk)),
            ("processes", |limits| limits.processes.into(), |limits| limits.processes.to_string()),
            ("output", |limits| limits.output.into(), |limits| report::size(limits.output)),
        ];
        let (before, after) = (&self.before.limits, &self.after.limits);
        for (name, much, shown) in rows {
            let bearing = Bearing::of(&much(before), &much(after));
            if bearing != Bearing::Neither {
                self.turned(Heading::Limits, bearing, name, [&shown(before), &shown(after)]);
            }
        }
    }

    fn commerce(&mut self) {
        let (was, is) = (price(&self.before.price), price(&self.after.price));
        self.turned(Heading::Price, Bearing::Neither, "a user pays", [&was, &is]);
        let licence =
            |manifest: &Manifest| manifest.license.as_deref().map_or_else(|| "none".to_owned(), code);
        let (was, is) = (licence(self.before), licence(self.after));
        if was != is {
            self.say(Heading::Licence, Bearing::Neither, format!("{was} → {is}"));
        }
    }
}

/// The field by which an outcome may change protected files.
const PROTECTED: &str = "protected_files";

fn touches_protected(spec: &OutcomeSpec) -> bool {
    spec.fields.get(PROTECTED).is_some_and(|value| value.source() != "blocked")
}

fn condition(spec: &OutcomeSpec) -> String {
    spec.condition.as_ref().map_or_else(|| "always".to_owned(), |condition| code(condition.source()))
}

fn by_kind(manifest: &Manifest) -> BTreeMap<OutcomeKind, Vec<&OutcomeSpec>> {
    let mut kinds: BTreeMap<OutcomeKind, Vec<&OutcomeSpec>> = BTreeMap::new();
    for spec in &manifest.outcomes {
        kinds.entry(spec.kind).or_default().push(spec);
    }
    kinds
}

fn reach(server: &McpServer) -> String {
    match &server.reach {
        McpReach::Program(program) => format!("the program {}", code(&program.command.join(" "))),
        McpReach::Address { url, .. } => code(url),
    }
}

fn tools(server: &McpServer) -> String {
    match server.allowed.as_slice() {
        [] => "all of its tools".to_owned(),
        allowed => format!("the tools {}", codes(allowed)),
    }
}

fn price(price: &Price) -> String {
    let Price::Paid { amount, model, trial_runs } = price else { return "nothing".to_owned() };
    let often = match model {
        PriceModel::OneTime => "once",
        PriceModel::Monthly => "a month",
        PriceModel::Yearly => "a year",
        PriceModel::PerRun => "a run",
    };
    let free = match trial_runs {
        0 => String::new(),
        1 => ", one run free".to_owned(),
        count => format!(", {count} runs free"),
    };
    format!("{amount} {often}{free}")
}
