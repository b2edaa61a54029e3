//! Reporting on a commit.

use domain::effect::{EffectKind, Receipt};
use domain::id::CheckId;
use domain::marker::signed;
use domain::proposal::Check;
use ports::forge::ForgeError;

use crate::failure::store_failed;
use crate::forge::Wanted;

impl Wanted<'_> {
    /// Reports, in place of an earlier report of the same name on the commit.
    pub(crate) async fn check(&self) -> Result<Receipt, ForgeError> {
        let EffectKind::CreateCheck { commit, name, conclusion, summary, annotations } = &self.effect.kind
        else {
            return Err(ForgeError::refused("it is not a check"));
        };
        self.require_commit(commit).await?;
        let check = Check {
            id: CheckId::new(self.forge.clock.unique()),
            repository: self.repository.id,
            commit: commit.clone(),
            name: name.clone(),
            author: self.effect.author.clone(),
            conclusion: *conclusion,
            summary: signed(summary, self.effect, &self.repository.path),
            annotations: annotations.clone(),
            created_at: self.forge.clock.now(),
        };
        match self.find_check(&check).await? {
            Some(there) if self.is_outdated_by(&there.author) => {
                return Ok(self.check_receipt(&there, "a later run has reported already on"));
            }
            // Performed before a crash: it keeps its id and its time.
            Some(there) if is_same(&there, &check) => {
                return Ok(self.check_receipt(&there, "reported on").says(&check.summary));
            }
            Some(_) | None => {}
        }
        self.forge.store.check_put(&check).await.map_err(|error| store_failed(&error))?;
        match self.find_check(&check).await? {
            Some(stored) if is_same(&stored, &check) => {
                Ok(self.check_receipt(&stored, "reported on").says(&check.summary))
            }
            _ => Err(ForgeError::later("the check is not there")),
        }
    }

    async fn find_check(&self, check: &Check) -> Result<Option<Check>, ForgeError> {
        let checks = self.forge.store.check_list(self.repository.id, &check.commit).await;
        let checks = checks.map_err(|error| store_failed(&error))?;
        Ok(checks.into_iter().find(|there| there.name == check.name))
    }

    fn check_receipt(&self, check: &Check, verb: &str) -> Receipt {
        let url = format!("/{}/commits/{}#{}", self.repository.path, check.commit, check.id);
        Receipt::new(Some(url), format!("{verb} {}: {}", &check.commit.as_str()[..12], check.name))
    }
}

/// Whether two checks say the same, whenever they said it.
fn is_same(one: &Check, other: &Check) -> bool {
    *one == Check { id: one.id, created_at: one.created_at, ..other.clone() }
}
