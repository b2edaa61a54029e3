//! Publishing a release.

use domain::effect::{EffectKind, Receipt};
use domain::name::{Commit, Tag};
use serde_json::{Value, json};

use super::{Ours, Wanted};
use crate::failure::Failure;
use crate::shape::text;

impl Wanted<'_> {
    /// Publishes a release; the tag is made when it is not there, and never moved.
    pub(super) async fn release(&self) -> Result<Receipt, Failure> {
        let EffectKind::CreateRelease { tag, commit, name, body, draft, prerelease } = &self.effect.kind
        else {
            return Err(Failure::Refused("it is not a release".to_owned()));
        };
        let signed = self.signed(body);
        if let Some(there) = self.release_of(tag).await? {
            return self.receipt_of(&there, tag, commit, &signed).await;
        }
        if let Some(at) = self.site.tag_at(tag).await?.filter(|at| at != commit) {
            return Err(Failure::Refused(format!(
                "the tag {tag} is at {} already, not at {}",
                &at.as_str()[..12],
                &commit.as_str()[..12]
            )));
        }
        let wanted = json!({
            "tag_name": tag.as_str(), "target_commitish": commit.as_str(), "name": name,
            "body": signed, "draft": draft, "prerelease": prerelease,
        });
        self.site.release_open(&wanted).await?;
        match self.release_of(tag).await? {
            Some(there) => self.receipt_of(&there, tag, commit, &signed).await,
            None => Err(Failure::later("the release is not there")),
        }
    }

    /// The release of a tag.
    async fn release_of(&self, tag: &Tag) -> Result<Option<Value>, Failure> {
        let mut of_tag = self.site.releases_of(tag).await?;
        of_tag.sort_by_key(|release| release.get("id").and_then(Value::as_u64));
        Ok(of_tag.into_iter().next())
    }

    async fn receipt_of(
        &self,
        there: &Value,
        tag: &Tag,
        commit: &Commit,
        body: &str,
    ) -> Result<Receipt, Failure> {
        let ours: Option<Ours> = self.ours(vec![there.clone()]).pop();
        if !ours.is_some_and(|ours| self.is_same(&ours.marker, &self.effect.key, false)) {
            return Err(Failure::Refused(format!("there is a release {tag} already")));
        }
        let is_draft = there.get("draft").and_then(Value::as_bool).unwrap_or(false);
        if !is_draft && self.site.tag_at(tag).await?.as_ref() != Some(commit) {
            return Err(Failure::later(format!("the tag {tag} is not where the release has it")));
        }
        let summary = format!("{} {tag}", if is_draft { "drafted" } else { "released" });
        Ok(Receipt::new(text(there, "/html_url").map(str::to_owned), summary).says(body))
    }
}
