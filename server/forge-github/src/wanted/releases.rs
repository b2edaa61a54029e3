//! Publishing a release.

use domain::effect::{EffectKind, Receipt};
use domain::name::{Commit, Tag};
use serde_json::{Value, json};

use super::{Ours, Wanted, said};
use crate::client::escaped_path;
use crate::failure::Failure;
use crate::shape::text;

impl Wanted<'_> {
    /// Publishes a release; GitHub makes the tag when it is not there. A tag is never moved.
    pub(super) async fn release(&self) -> Result<Receipt, Failure> {
        let EffectKind::CreateRelease { tag, commit, name, body, draft, prerelease } = &self.effect.kind
        else {
            return Err(Failure::Refused("it is not a release".to_owned()));
        };
        if let Some(there) = self.release_of(tag).await? {
            return self.receipt_of(&there, tag, commit).await;
        }
        if let Some(at) = self.tag_at(tag).await?.filter(|at| at != commit) {
            return Err(Failure::Refused(format!(
                "the tag {tag} is at {} already, not at {}",
                &at.as_str()[..12],
                &commit.as_str()[..12]
            )));
        }
        let wanted = json!({
            "tag_name": tag.as_str(), "target_commitish": commit.as_str(), "name": name,
            "body": self.signed(body), "draft": draft, "prerelease": prerelease,
        });
        self.visit.post("/releases", &wanted).await?;
        match self.release_of(tag).await? {
            Some(there) => self.receipt_of(&there, tag, commit).await,
            None => Err(Failure::later("the release is not there")),
        }
    }

    /// The release of a tag; of drafts GitHub knows by tag only in its list.
    async fn release_of(&self, tag: &Tag) -> Result<Option<Value>, Failure> {
        let list = self.visit.list("/releases?per_page=100").await?;
        let mut of_tag: Vec<Value> =
            list.into_iter().filter(|release| said(release, "/tag_name") == tag.as_str()).collect();
        of_tag.sort_by_key(|release| release.get("id").and_then(Value::as_u64));
        Ok(of_tag.into_iter().next())
    }

    async fn receipt_of(&self, there: &Value, tag: &Tag, commit: &Commit) -> Result<Receipt, Failure> {
        let ours: Option<Ours> = self.ours(vec![there.clone()]).pop();
        if !ours.is_some_and(|ours| self.is_same(&ours.marker, &self.effect.key, false)) {
            return Err(Failure::Refused(format!("there is a release {tag} already")));
        }
        let is_draft = there.get("draft").and_then(Value::as_bool).unwrap_or(false);
        if !is_draft && self.tag_at(tag).await?.as_ref() != Some(commit) {
            return Err(Failure::later(format!("the tag {tag} is not where the release has it")));
        }
        let summary = format!("{} {tag}", if is_draft { "drafted" } else { "released" });
        Ok(Receipt { url: text(there, "/html_url").map(str::to_owned), summary })
    }

    /// The commit that a tag leads to; one with a message of its own leads there by a second step.
    async fn tag_at(&self, tag: &Tag) -> Result<Option<Commit>, Failure> {
        let path = format!("/git/ref/tags/{}", escaped_path(tag.as_str()));
        let Some(found) = self.visit.find(&path).await? else { return Ok(None) };
        let found = match said(&found, "/object/type") {
            "tag" => self.visit.get(&format!("/git/tags/{}", said(&found, "/object/sha"))).await?,
            _ => found,
        };
        Ok(Commit::parse(said(&found, "/object/sha")).ok())
    }
}
