//! Saying something under an issue, a pull request or a commit.

use super::{LONGEST, Ours, REST, Wanted, is_same_text, said};
use crate::failure::Failure;
use domain::effect::{CommentTarget, Effect, Receipt};
use domain::marker::signed;
use domain::split::split;

/// So many comments one text may become; what is longer is on the page of the run.
const MOST_PARTS: usize = 4;

/// What came of saying something, and where to read it.
pub(crate) enum Said {
    /// It is there; its receipt says what stands where.
    There(Receipt),
    /// A later run has spoken already, and is left as it is.
    Outdated(Option<String>),
}

/// One comment as it is to be.
struct Part {
    key: String,
    body: String,
}

impl Wanted<'_> {
    /// Says something, or says it in place of what was said under the same key.
    pub(super) async fn comment(
        &self,
        target: &CommentTarget,
        body: &str,
        sticky: bool,
    ) -> Result<Receipt, Failure> {
        let called = match target {
            CommentTarget::Thread { number } => self.site.called(*number),
            CommentTarget::Commit { .. } => target.to_string(),
        };
        Ok(match self.say(target, body, sticky).await? {
            Said::There(receipt) => Receipt { summary: format!("commented on {called}"), ..receipt },
            Said::Outdated(url) => {
                Receipt::new(url, format!("a later run has commented already on {called}"))
            }
        })
    }

    /// The same, for effects that say something among other things.
    pub(crate) async fn say(
        &self,
        target: &CommentTarget,
        body: &str,
        sticky: bool,
    ) -> Result<Said, Failure> {
        let there = self.our_comments(target, sticky).await?;
        let first = there.iter().find(|ours| self.is_same(&ours.marker, &self.effect.key, sticky));
        if let Some(later) = first.filter(|ours| ours.marker.outdates(self.effect)) {
            return Ok(Said::Outdated(later.url()));
        }
        let parts = self.comment_parts(body);
        for part in &parts {
            self.bring_comment(target, &there, part, sticky).await?;
        }
        let there = self.our_comments(target, sticky).await?;
        self.remove_doubles(target, &there, &parts, sticky).await?;
        self.verify_comments(&there, &parts, sticky).map(Said::There)
    }

    /// What is not edited in place was made after it was wanted: no need to read a long conversation.
    async fn our_comments(&self, target: &CommentTarget, sticky: bool) -> Result<Vec<Ours>, Failure> {
        let since = if sticky { None } else { Some(self.since()) };
        Ok(self.ours(self.site.comments(target, since).await?))
    }

    fn comment_parts(&self, body: &str) -> Vec<Part> {
        let mut texts = split(&body.replace("<!--", "&lt;!--"), LONGEST);
        if texts.len() > MOST_PARTS {
            texts.truncate(MOST_PARTS);
            texts[MOST_PARTS - 1].push_str(&format!("\n\n{REST}"));
        }
        let part = |(number, text): (usize, String)| {
            let key = part_key(&self.effect.key, number);
            let effect = Effect { key: key.clone(), ..self.effect.clone() };
            Part { key, body: signed(&text, &effect, &self.site.repository().path) }
        };
        texts.into_iter().enumerate().map(part).collect()
    }

    async fn bring_comment(
        &self,
        target: &CommentTarget,
        there: &[Ours],
        part: &Part,
        sticky: bool,
    ) -> Result<(), Failure> {
        let oldest = there.iter().find(|ours| self.is_same(&ours.marker, &part.key, sticky));
        match oldest {
            None => self.site.comment_add(target, &part.body).await,
            Some(oldest) if sticky && !is_same_text(said(&oldest.thing, "/body"), &part.body) => {
                self.site.comment_edit(target, &oldest.thing, &part.body).await
            }
            Some(_) => Ok(()),
        }
    }

    /// Of two comments that were made at once the oldest stays; of a text that is shorter than the one
    /// before, what is too much goes.
    async fn remove_doubles(
        &self,
        target: &CommentTarget,
        there: &[Ours],
        parts: &[Part],
        sticky: bool,
    ) -> Result<(), Failure> {
        let mut doubles = Vec::new();
        for number in 0..MOST_PARTS {
            let key = part_key(&self.effect.key, number);
            let same = there.iter().filter(|ours| self.is_same(&ours.marker, &key, sticky));
            doubles.extend(same.skip(usize::from(number < parts.len())));
        }
        for double in doubles {
            self.site.comment_remove(target, &double.thing).await?;
        }
        Ok(())
    }

    fn verify_comments(&self, there: &[Ours], parts: &[Part], sticky: bool) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::new(None, "said");
        for part in parts {
            let oldest = there.iter().find(|ours| self.is_same(&ours.marker, &part.key, sticky));
            let stands =
                oldest.filter(|ours| !sticky || is_same_text(said(&ours.thing, "/body"), &part.body));
            let stands = stands.ok_or_else(|| Failure::later("the comment is not there"))?;
            receipt.url = receipt.url.or_else(|| stands.url());
            receipt = receipt.saying(stands.url(), &part.body);
        }
        Ok(receipt)
    }
}

/// Each further part is found again by a key of its own.
fn part_key(key: &str, number: usize) -> String {
    if number == 0 { key.to_owned() } else { format!("{key}#{}", number + 1) }
}
