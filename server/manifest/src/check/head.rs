//! A daemon as a whole: what it is, its inputs, its models; everything else is asked of the other rooms.

use std::collections::{BTreeMap, BTreeSet};

use domain::money::{NanoUsd, Price, PriceModel};
use domain::name::SecretName;
use domain::route::{Ability, Route};
use serde_json::Value as Json;

use super::Check;
use super::names::{Moment, ROOTS, Visible};
use crate::codes;
use crate::diagnostic::Problem;
use crate::model::{Category, Input, InputKind, Manifest, ModelAlias};
use crate::raw::daemon::{self as raw, Daemon, InputType};
use crate::raw::scalar::{Any, Identifier, Line, Money, Named, Secret, Text};
use crate::read::{Place, Slot};
use crate::suggest::quoted;

/// The highest price.
const MAX_PRICE: NanoUsd = NanoUsd::USD.times(1_000_000);

/// The secrets that a daemon declares.
pub(super) fn secrets(daemon: &Daemon) -> BTreeSet<SecretName> {
    let declared = daemon.permissions.get().and_then(|permissions| permissions.secrets.get());
    declared.into_iter().flatten().filter_map(Slot::get).map(|Secret(name)| name.clone()).collect()
}

/// The daemon; `None` when something without which there is none could not be read.
pub(super) fn daemon(check: &mut Check<'_>, daemon: &Daemon) -> Option<Manifest> {
    let inputs = check.inputs(&daemon.inputs);
    let state = check.variables(&daemon.state);
    let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let early = Visible::new(&names, Moment::Before);
    let triggers = check.triggers(&daemon.on, &early);
    let concurrency = check.concurrency(daemon.concurrency.get(), &early);
    let permissions = check.permissions(daemon.permissions.get());
    let limits = check.limits(daemon.limits.get());
    let models = check.models(&daemon.models);
    let during = Visible::new(&names, Moment::During);
    let mcp_servers = check.servers(daemon, &permissions, &names, limits.timeout);
    let body = check.body(daemon, during, &models, limits.timeout);
    check.unused_servers(daemon);
    check.unused_secrets(daemon.permissions.get());
    let license = check.license(&daemon.license);
    let price = check.price(&daemon.price, &license, &daemon.license);
    if let Some((tags, place)) = daemon.tags.found() {
        check.at_most(tags.len(), 20, place);
    }
    let line = |slot: &Slot<Line>| slot.get().map(|line| line.0.clone());
    Some(Manifest {
        name: line(&daemon.name)?,
        version: line(&daemon.version),
        author: line(&daemon.author),
        description: daemon.description.get().map(|Text(text)| text.trim().to_owned()),
        category: daemon.category.get().map(|category| match category {
            raw::Category::Development => Category::Development,
            raw::Category::Content => Category::Content,
            raw::Category::Analysis => Category::Analysis,
            raw::Category::Creative => Category::Creative,
        }),
        tags: daemon.tags.get().into_iter().flatten().filter_map(line).collect(),
        license,
        price,
        inputs,
        state,
        triggers,
        permissions,
        limits,
        concurrency,
        models,
        mcp_servers,
        stages: body.stages,
        on_failure: body.on_failure,
        outcomes: body.outcomes,
        outcomes_read: body.outcomes_read,
        reads_diff: check.reads_diff,
    })
}

impl Check<'_> {
    fn inputs(&mut self, slot: &Slot<Vec<Slot<raw::Input>>>) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        let Some((list, place)) = slot.found() else { return inputs };
        self.at_most(list.len(), 200, place);
        for raw in list.iter().filter_map(Slot::get) {
            let Some((Identifier(name), place)) = raw.name.found() else { continue };
            self.free_name(name, place);
            if inputs.iter().any(|input| input.name == *name) {
                let message = format!("there is already an input {}", quoted(name));
                self.reader.report(Problem::error(&codes::DUPLICATE_NAME, message), place);
            }
            inputs.push(self.input(name, raw, place));
        }
        inputs
    }

    /// A name that has no meaning of its own.
    pub(super) fn free_name(&mut self, name: &str, place: Place) {
        if ROOTS.contains(&name) {
            let message = format!("{} has a meaning of its own in expressions", quoted(name));
            self.reader
                .report(Problem::error(&codes::RESERVED_NAME, message).help("choose another name"), place);
        }
    }

    fn input(&mut self, name: &str, raw: &raw::Input, place: Place) -> Input {
        let kind = self.input_kind(raw, place);
        let default = raw.default.found().map(|(Any(json), place)| (json.clone(), place));
        if let Some((json, place)) = &default
            && !fits(json, &kind)
        {
            let problem = Problem::error(&codes::BAD_DEFAULT, "the default does not fit the input's type");
            self.reader.report(problem.expected(kind_words(&kind)), *place);
        }
        Input {
            name: name.to_owned(),
            description: raw.description.get().map(|text| text.0.clone()),
            required: raw.required.cloned().unwrap_or(true) && default.is_none(),
            default: default.map(|(json, _)| json),
            kind,
        }
    }

    fn input_kind(&mut self, raw: &raw::Input, place: Place) -> InputKind {
        let options: Vec<String> = raw
            .options
            .get()
            .into_iter()
            .flatten()
            .filter_map(Slot::get)
            .map(|line| line.0.clone())
            .collect();
        let kind = raw.r#type.get().copied().unwrap_or(InputType::String);
        let is_enum = kind == InputType::Enum;
        if is_enum && options.is_empty() && raw.options.place().is_none_or(|_| raw.options.get().is_some()) {
            let problem = Problem::error(&codes::BAD_OPTIONS, "an input of the type `enum` needs `options`");
            self.reader.report(problem, raw.r#type.place().unwrap_or(place));
        }
        if let Some(place) = raw.options.place().filter(|_| !is_enum) {
            let problem = Problem::error(&codes::BAD_OPTIONS, "only an input of the type `enum` has options");
            self.reader.report(problem.help("write `type: enum`"), place);
        }
        match kind {
            InputType::String => InputKind::String,
            InputType::Text => InputKind::Text,
            InputType::Number => InputKind::Number,
            InputType::Integer => InputKind::Integer,
            InputType::Boolean => InputKind::Boolean,
            InputType::Enum => InputKind::Enum(options),
            InputType::File => InputKind::File,
            InputType::Json => InputKind::Json,
            InputType::Secret => InputKind::Secret,
        }
    }

    fn models(&mut self, slot: &Slot<Named<raw::ModelAlias>>) -> BTreeMap<String, ModelAlias> {
        let mut models = BTreeMap::new();
        for (name, _, alias) in slot.get().map_or(&[][..], |named| &named.0) {
            let Some(alias) = alias.get() else { continue };
            let model = self.model(alias);
            models.insert(name.clone(), model);
        }
        models
    }

    fn model(&mut self, raw: &raw::ModelAlias) -> ModelAlias {
        let route = raw.route.get().copied().unwrap_or(raw::Route::Order);
        let list = raw.targets.get().map_or(&[][..], Vec::as_slice);
        if let Some(place) = raw.targets.place().filter(|_| raw.targets.get().is_some_and(Vec::is_empty)) {
            self.reader.report(Problem::error(&codes::MISSING_KEY, "`targets` names no model"), place);
        }
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for (target, place) in list.iter().filter_map(Slot::found) {
            let Some((Line(name), name_place)) = target.model.found() else { continue };
            self.known_model(name, &[], name_place);
            if target.weight.is_written() != (route == raw::Route::Weighted) {
                let problem =
                    Problem::error(&codes::KEYS_EXCLUDE, "`weight` and `route: weighted` go together");
                self.reader.report(problem.help("write `{ model: NAME, weight: 1 }`"), place);
            }
            weights.extend(self.within(&target.weight, 1..=1_000));
            targets.push(name.clone());
        }
        let requires = raw.requires.get().into_iter().flatten().filter_map(Slot::get);
        ModelAlias {
            route: match route {
                raw::Route::Order => Route::Order,
                raw::Route::Cheapest => Route::Cheapest,
                raw::Route::Fastest => Route::Fastest,
                raw::Route::Weighted => Route::Weighted,
                raw::Route::Quality => Route::Quality,
            },
            targets,
            weights,
            requires: requires.map(|ability| Ability::ALL[*ability as usize]).collect(),
        }
    }

    /// The licence, or the repository's.
    pub(super) fn license(&mut self, slot: &Slot<Line>) -> Option<String> {
        let Some((Line(license), place)) = slot.found() else {
            return self.rules.spellbook.and_then(|spellbook| spellbook.license.clone());
        };
        if let Some(problem) = license_fault(license) {
            self.reader.report(problem, place);
        }
        Some(license.clone())
    }

    /// The price, or the repository's.
    fn price(&mut self, slot: &Slot<raw::Price>, license: &Option<String>, written: &Slot<Line>) -> Price {
        let Some((raw, place)) = slot.found() else {
            return self.rules.spellbook.map_or(Price::Free, |spellbook| spellbook.price.clone());
        };
        let (price, problem) = price(raw);
        if let Some(problem) = problem {
            self.reader.report(problem, place);
        }
        if price != Price::Free {
            let place = written.place().unwrap_or(place);
            if let Some(problem) = unsellable(license.as_deref()) {
                self.reader.report(problem, place);
            }
        }
        price
    }
}

/// What is wrong with a licence.
pub(super) fn license_fault(license: &str) -> Option<Problem> {
    if license == "proprietary" {
        return None;
    }
    let error = spdx::Expression::parse(license).err()?;
    let problem = Problem::error(
        &codes::BAD_LICENSE,
        format!("{} is not a licence: {}", quoted(license), error.reason),
    );
    let near = spdx::imprecise_license_id(license).map(|(id, _)| format!("did you mean `{}`?", id.name));
    let near = near.or_else(|| {
        let known = [
            "MIT",
            "Apache-2.0",
            "GPL-3.0-only",
            "GPL-3.0-or-later",
            "BSD-3-Clause",
            "MPL-2.0",
            "CC-BY-4.0",
            "CC0-1.0",
            "ISC",
            "proprietary",
        ];
        crate::suggest::did_you_mean(license, known)
    });
    Some(problem.expected("an SPDX expression, or `proprietary`").maybe_help(near))
}

/// Why nothing can be sold under a licence.
pub(super) fn unsellable(license: Option<&str>) -> Option<Problem> {
    let Some(license) = license else {
        let message = "a price, but no licence: who pays gets no rights";
        return Some(Problem::warning(&codes::UNSELLABLE, message).help("add `license`"));
    };
    let expression = spdx::Expression::parse(license).ok()?;
    let sellable = expression.evaluate(|requirement| {
        let name = requirement.license.to_string().to_lowercase();
        !name.contains("-nc-") && !name.ends_with("-nc") && !name.contains("noncommercial")
    });
    let message = format!("{} forbids commercial use, so it cannot have a price", quoted(license));
    (!sellable).then(|| Problem::error(&codes::UNSELLABLE, message))
}

/// The price, and what is wrong with it.
pub(super) fn price(raw: &raw::Price) -> (Price, Option<Problem>) {
    let (amount, model, trial_runs) = match raw {
        raw::Price::Free => return (Price::Free, None),
        raw::Price::Amount(amount) => (amount, PriceModel::OneTime, 0),
        raw::Price::Map(map) => {
            let model = map.model.get().map_or(PriceModel::OneTime, |model| match model {
                raw::PriceModel::OneTime => PriceModel::OneTime,
                raw::PriceModel::Monthly => PriceModel::Monthly,
                raw::PriceModel::Yearly => PriceModel::Yearly,
                raw::PriceModel::PerRun => PriceModel::PerRun,
            });
            (&map.amount, model, map.trial_runs.cloned().unwrap_or(0))
        }
    };
    let Some(Money(amount)) = amount.get().copied() else { return (Price::Free, None) };
    if amount == NanoUsd::ZERO {
        return (Price::Free, None);
    }
    let cents = amount.nanos() % NanoUsd::CREDIT.nanos() == 0;
    let message = if amount >= MAX_PRICE {
        Some(format!("{amount} is too much"))
    } else if !cents && model != PriceModel::PerRun {
        Some(format!("{amount} is not a number of cents"))
    } else if trial_runs > 1_000 {
        Some("more than 1000 runs for trial".to_owned())
    } else {
        None
    };
    (
        Price::Paid { amount, model, trial_runs },
        message.map(|message| Problem::error(&codes::BAD_PRICE, message)),
    )
}

/// Whether a default is what its input must be.
fn fits(json: &Json, kind: &InputKind) -> bool {
    match kind {
        InputKind::String | InputKind::Text | InputKind::File => json.is_string(),
        InputKind::Number => json.is_number(),
        InputKind::Integer => json.is_i64() || json.is_u64(),
        InputKind::Boolean => json.is_boolean(),
        InputKind::Enum(options) => {
            json.as_str().is_some_and(|text| options.iter().any(|option| option == text))
        }
        InputKind::Json => true,
        InputKind::Secret => false,
    }
}

fn kind_words(kind: &InputKind) -> String {
    match kind {
        InputKind::String | InputKind::Text | InputKind::File => "a text".to_owned(),
        InputKind::Number => "a number".to_owned(),
        InputKind::Integer => "a whole number".to_owned(),
        InputKind::Boolean => "`true` or `false`".to_owned(),
        InputKind::Enum(options) => crate::suggest::one_of(options.iter().map(String::as_str)),
        InputKind::Json => "any value".to_owned(),
        InputKind::Secret => "none: a secret is always given".to_owned(),
    }
}
