//! What people see at an address, in the shape of all things.

use domain::marker::Marker;
use domain::name::Commit;
use ports::forge::{Offer, Thing, ThingKind};
use serde_json::Value;

use crate::shape::{number, text};

/// Something that bears words of the server, perhaps; `own` is the number of its account, where it is known.
pub fn thing(kind: ThingKind, found: &Value, own: Option<u64>) -> Option<Thing> {
    let (says, whose, at) = match kind {
        ThingKind::Comment | ThingKind::Issue => ("/body", "/user/id", None),
        ThingKind::PullRequest => ("/body", "/user/id", Some("/head/sha")),
        ThingKind::Release => ("/body", "/author/id", None),
        ThingKind::Check => ("/output/summary", "/app/id", Some("/head_sha")),
        ThingKind::Commit => ("/commit/message", "", Some("/sha")),
    };
    // Anybody may write any name into a commit.
    let whose = if kind == ThingKind::Commit { None } else { number(found, whose) };
    Some(Thing {
        kind,
        url: text(found, "/html_url")?.to_owned(),
        text: text(found, says).unwrap_or_default().to_owned(),
        own: own.zip(whose).map(|(own, whose)| own == whose),
        commit: at.and_then(|at| text(found, at)).and_then(|commit| Commit::parse(commit).ok()),
    })
}

/// What an address says behind that of the forge: its path and its fragment.
pub fn below<'u>(web_url: &str, url: &'u str) -> Option<(&'u str, &'u str)> {
    let below = url.strip_prefix(web_url.trim_end_matches('/'))?.strip_prefix('/')?;
    let (path, fragment) = below.split_once('#').unwrap_or((below, ""));
    Some((path.split('?').next().unwrap_or(path).trim_end_matches('/'), fragment))
}

/// The pull request as one of the account's own; `None` when somebody else made it.
pub fn offer(pull: &Value, own: u64) -> Option<Offer> {
    let number_of = |at| number(pull, at);
    let number = number_of("/number").filter(|_| number_of("/user/id") == Some(own))?;
    let marker = text(pull, "/body").and_then(Marker::find);
    Some(Offer { number, key: marker.map(|marker| marker.key) })
}
