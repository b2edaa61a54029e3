//! Effects that are being performed; each kind has its own file.
//!
//! All go the same way: look for what an earlier try left, by our own marker on things of our own account;
//! make what is missing; look again. A try that broke off anywhere is simply made again, also one whose
//! request was carried out and whose answer was lost. And each may break off: at GitHub's pace a second
//! write has to wait, and the next try goes on from there.

use domain::effect::{Author, Effect, EffectKind, Receipt};
use domain::marker::Marker;
use domain::split::shorten;
use domain::time::Timestamp;
use serde_json::Value;

use crate::failure::Failure;
use crate::shape::{moment, number, text};
use crate::site::Site;

mod branches;
mod comments;
mod issues;
mod labels;
mod pulls;
mod releases;
mod statuses;

pub(crate) use comments::Said;
pub(crate) use statuses::status;

/// What GitHub takes at most of a text is 65,536 characters, and no other forge takes less; this leaves room for
/// the line below it.
const LONGEST: usize = 60_000;
const REST: &str = "… the rest is on the page of the run.";
/// What is looked for was made after the effect was wanted, by clocks that differ by less than this.
const CLOCKS_DIFFER: i64 = 3_600_000;
/// Forges tell whole seconds.
const A_MOMENT: i64 = 5_000;

/// An effect, and the repository that it is wanted in.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The repository.
    pub site: &'a dyn Site,
    /// The effect.
    pub effect: &'a Effect,
}

/// Performs an effect.
///
/// # Errors
/// Says whether trying again may help.
pub async fn perform(site: &dyn Site, effect: &Effect) -> Result<Receipt, Failure> {
    let wanted = Wanted { site, effect };
    match &effect.kind {
        EffectKind::CreatePullRequest { .. } => wanted.pull_request().await,
        EffectKind::AddComment { target, body, sticky } => wanted.comment(target, body, *sticky).await,
        EffectKind::CreateCheck { .. } => site.check(&wanted).await,
        EffectKind::PushToPullRequestBranch { .. } => wanted.push().await,
        EffectKind::CreateIssue { .. } => wanted.issue().await,
        EffectKind::UpdateIssue { .. } => wanted.issue_change().await,
        EffectKind::CloseIssue { body } => wanted.issue_close(body).await,
        EffectKind::AddLabels { number, labels } => wanted.labels(*number, labels).await,
        EffectKind::RemoveLabels { number, labels } => wanted.labels_off(*number, labels).await,
        EffectKind::AddReviewers { number, reviewers } => wanted.reviewers(*number, reviewers).await,
        EffectKind::SetStatus { .. } => wanted.status().await,
        EffectKind::CreateRelease { .. } => wanted.release().await,
        EffectKind::React { comment, reaction } => {
            site.react(comment, *reaction).await?;
            Ok(Receipt::new(None, format!("reacted to a comment on {}", site.called(comment.thread))))
        }
        EffectKind::Noop { reason } => Ok(Receipt::new(None, reason.clone())),
        EffectKind::CallWebhook { .. } | EffectKind::UploadArtifact { .. } => {
            let kind = effect.kind.as_str();
            Err(Failure::Refused(format!("`{kind}` has nothing to do with {}", site.service())))
        }
    }
}

/// Something that this server wrote on a forge.
#[derive(Debug, Clone)]
struct Ours {
    marker: Marker,
    thing: Value,
}

impl Ours {
    /// The number by which it is changed.
    fn id(&self) -> u64 {
        number(&self.thing, "/id").unwrap_or_default()
    }

    /// The number by which people know it.
    fn number(&self) -> u64 {
        number(&self.thing, "/number").unwrap_or_default()
    }

    fn url(&self) -> Option<String> {
        text(&self.thing, "/html_url").map(str::to_owned)
    }
}

impl Wanted<'_> {
    /// Those of a list that our account wrote and that bear our marker for this repository, oldest first.
    /// A marker that others copied counts for nothing.
    fn ours(&self, list: Vec<Value>) -> Vec<Ours> {
        let mut ours: Vec<Ours> = list.into_iter().filter_map(|thing| self.one_of_ours(thing)).collect();
        ours.sort_by_key(Ours::id);
        ours
    }

    fn one_of_ours(&self, thing: Value) -> Option<Ours> {
        let own = self.site.own()?;
        if number(&thing, "/user/id").or_else(|| number(&thing, "/author/id")) != Some(own) {
            return None;
        }
        let marker = Marker::find(text(&thing, "/body")?)?;
        (marker.repository == self.site.repository().path.to_string()).then_some(Ours { marker, thing })
    }

    /// Whether a marker is of this effect's key and, for what is not edited in place, of its author.
    fn is_same(&self, marker: &Marker, key: &str, sticky: bool) -> bool {
        marker.key == key && (sticky || self.is_by_author(marker))
    }

    fn is_by_author(&self, marker: &Marker) -> bool {
        match &self.effect.author {
            Author::Run(there) => marker.run == Some(there.run),
            Author::Server { act } => marker.run.is_none() && marker.act == Some(*act),
        }
    }

    /// Whether this effect itself made something that bears its marker, or only brought it up to date.
    fn is_made_by(&self, ours: &Ours) -> bool {
        let wanted = Timestamp::from_millis(self.effect.created_at.millis().saturating_sub(A_MOMENT));
        self.is_by_author(&ours.marker) && is_since(&ours.thing, "/created_at", wanted)
    }

    /// From when on this effect may have left something.
    fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.effect.created_at.millis().saturating_sub(CLOCKS_DIFFER))
    }

    /// The text with the line below it, as long as forges take it.
    pub fn signed(&self, body: &str) -> String {
        // The marker's own rule about comments makes a text longer: before it is measured, not after.
        let body = shorten(&body.replace("<!--", "&lt;!--"), LONGEST, REST);
        domain::marker::signed(&body, self.effect, &self.site.repository().path)
    }
}

/// Whether two texts are the same but for what forges do to the ends of lines and of the whole.
fn is_same_text(one: &str, other: &str) -> bool {
    let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    lines(one) == lines(other)
}

/// `text` at a pointer, or nothing.
pub fn said<'a>(thing: &'a Value, pointer: &str) -> &'a str {
    text(thing, pointer).unwrap_or_default()
}

/// Whether a thing was made at or after a moment.
pub fn is_since(thing: &Value, pointer: &str, since: Timestamp) -> bool {
    moment(thing, pointer).is_some_and(|at| at >= since)
}
