//! `spellbook.yaml`.

use domain::files::File;
use domain::money::Price;

use super::head::{license_fault, price, unsellable};
use super::triggers::{glob_fault, lines};
use super::{regular_text, tree};
use crate::codes;
use crate::diagnostic::{Checked, Problem, Report};
use crate::raw::scalar::{Line, OneOrMany, parsed};
use crate::raw::spellbook as raw;
use crate::read::{Place, Read, Reader, Slot};
use crate::spellbook::{Branches, Bundle, Forks, Publisher, Requirement, Spellbook};
use crate::suggest::quoted;
use crate::yaml::{Node, Shape};

/// Checks a repository's own file, at `path` in the repository, for a server of this version. An empty file is
/// one that says nothing.
pub fn check_spellbook(path: &str, file: &File, server: &str) -> Checked<Spellbook> {
    let mut report = Report::default();
    let value = read(path, file, server, &mut report);
    Checked::new(value, report.finish(path))
}

fn read(path: &str, file: &File, server: &str, report: &mut Report) -> Option<Spellbook> {
    let text = regular_text(Some(file), path, report)?;
    let node = tree(text, path, report)?;
    if node.shape == Shape::Scalar(serde_json::Value::Null) {
        return Some(Spellbook::default());
    }
    Some(spellbook(&node, server, &mut Reader::new(path.to_owned(), text, report)))
}

fn spellbook(node: &Node, server: &str, reader: &mut Reader<'_>) -> Spellbook {
    let root = reader.root(node);
    let Some(raw) = raw::File::read(node, root, reader) else { return Spellbook::default() };
    let license = raw.license.found().map(|(Line(license), place)| {
        report(license_fault(license), place, reader);
        license.clone()
    });
    let own_price = priced(&raw.price, reader);
    if let (Some(place), true) = (raw.price.place(), own_price != Price::Free) {
        report(unsellable(license.as_deref()), raw.license.place().unwrap_or(place), reader);
    }
    Spellbook {
        publisher: raw.publisher.get().and_then(|raw| publisher(raw, reader)),
        license,
        price: own_price,
        publish: raw.publish.cloned().unwrap_or(true),
        bundles: raw.bundles.get().into_iter().flatten().filter_map(|slot| bundle(slot, reader)).collect(),
        daemons: globs(&raw.daemons, reader).unwrap_or_default(),
        branches: raw.branches.get().map_or_else(Branches::default, |raw| branches(raw, reader)),
        forks: raw.forks.get().map_or_else(Forks::default, |raw| Forks {
            allowed: raw.allowed.cloned(),
            revenue_share: raw.revenue_share.get().map_or(0, |share| share.0),
        }),
        dashboard: raw.dashboard.cloned().unwrap_or_default(),
        redirect: raw
            .redirect
            .found()
            .and_then(|(Line(path), place)| parsed(path, place, reader, &codes::BAD_REPOSITORY)),
        requires: raw.requires.found().map_or_else(Requirement::default, |(Line(text), place)| {
            let requirement = Requirement::parse(text);
            report(requirement_fault(text, requirement.as_ref(), server), place, reader);
            requirement.unwrap_or_default()
        }),
    }
}

/// What is wrong with a requirement, for a server of this version.
fn requirement_fault(text: &str, requirement: Option<&Requirement>, server: &str) -> Option<Problem> {
    match requirement {
        None => {
            let message = format!("{} is not a requirement", quoted(text));
            let problem = Problem::error(&codes::BAD_REQUIREMENT, message);
            Some(problem.expected("comparisons, like `>=1.2` or `>=1.2, <2`"))
        }
        Some(requirement) if !requirement.admits(server) => {
            let message = format!("these daemons need Spellbook {}, and this is {server}", quoted(text));
            Some(
                Problem::error(&codes::NEWER_SERVER, message)
                    .help("ask the operator of this server to update it"),
            )
        }
        Some(_) => None,
    }
}

fn report(problem: Option<Problem>, place: Place, reader: &mut Reader<'_>) {
    if let Some(problem) = problem {
        reader.report(problem, place);
    }
}

fn priced(slot: &Slot<crate::raw::daemon::Price>, reader: &mut Reader<'_>) -> Price {
    let Some((raw, place)) = slot.found() else { return Price::Free };
    let (price, problem) = price(raw);
    report(problem, place, reader);
    price
}

fn publisher(raw: &raw::Publisher, reader: &mut Reader<'_>) -> Option<Publisher> {
    let https = |text: &str| {
        text.strip_prefix("https://")
            .is_some_and(|rest| rest.contains('.') && !rest.contains(char::is_whitespace))
    };
    let mail = |text: &str| {
        text.split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
            && !text.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | ','))
    };
    for (slot, right, expected) in [
        (&raw.url, &https as &dyn Fn(&str) -> bool, "an https address"),
        (&raw.support, &|text: &str| https(text) || mail(text), "an https address or an e-mail address"),
    ] {
        if let Some((Line(text), place)) = slot.found()
            && !right(text)
        {
            let problem = Problem::error(&codes::BAD_CONTACT, format!("{} is not an address", quoted(text)));
            reader.report(problem.expected(expected), place);
        }
    }
    let line = |slot: &Slot<Line>| slot.get().map(|line| line.0.clone());
    Some(Publisher { name: line(&raw.name)?, url: line(&raw.url), support: line(&raw.support) })
}

fn bundle(slot: &Slot<raw::Bundle>, reader: &mut Reader<'_>) -> Option<Bundle> {
    let (raw, place) = slot.found()?;
    let mut daemons = Vec::new();
    let mut twice = false;
    for (Line(id), place) in raw.daemons.get().into_iter().flatten().filter_map(Slot::found) {
        let Some(id) = parsed(id, place, reader, &codes::BAD_DAEMON_NAME) else { continue };
        twice |= daemons.contains(&id);
        daemons.push(id);
    }
    if raw.daemons.get().is_some_and(|list| list.len() < 2 || twice) {
        let problem = Problem::error(&codes::EMPTY_BUNDLE, "a bundle names at least two daemons, each once");
        reader.report(problem, raw.daemons.place().unwrap_or(place));
    }
    let price = priced(&raw.price, reader);
    Some(Bundle { name: raw.name.get()?.0.clone(), daemons, price })
}

fn branches(raw: &raw::Branches, reader: &mut Reader<'_>) -> Branches {
    let usual = Branches::default();
    Branches {
        deploy: globs(&raw.deploy, reader).unwrap_or(usual.deploy),
        forks: globs(&raw.forks, reader).unwrap_or(usual.forks),
        ignore: globs(&raw.ignore, reader).unwrap_or(usual.ignore),
    }
}

/// Globs that compile; `None` when nothing is written.
pub(super) fn globs(slot: &Slot<OneOrMany<Line>>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    for (Line(glob), place) in slot.get()?.0.iter().filter_map(Slot::found) {
        report(glob_fault(glob), place, reader);
    }
    Some(lines(slot))
}
