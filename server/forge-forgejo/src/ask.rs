//! What only the forge knows at this moment: what people may do, and where a pull request stands.

use domain::name::{Branch, Commit};
use forge_remote::{Failure, escaped, offer};
use ports::forge::{Offer, PullRequest};
use serde_json::Value;

use crate::shape::{flag, is_from_fork, number, pull_payload, text};
use crate::visit::Visit;

impl Visit<'_> {
    /// What an account may do here. Only an administrator of the repository may ask.
    pub(crate) async fn role(&self, account: &str) -> Result<Option<String>, Failure> {
        let path = format!("/collaborators/{}/permission", escaped(account));
        let found = self.find(&path).await.map_err(|failure| match failure {
            Failure::Refused(why) => Failure::Refused(format!(
                "{why}; who may do what is told to administrators of {} only: make {} one",
                self.path, self.own.login
            )),
            other => other,
        })?;
        let Some(found) = found else { return Ok(None) };
        let everybody_reads = flag(&self.described, "/private") == Some(false);
        Ok(match text(&found, "/permission").unwrap_or("none") {
            "none" | "" => None,
            "read" if everybody_reads => None,
            "owner" => Some("admin".to_owned()),
            role => Some(role.to_owned()),
        })
    }

    /// A pull request as it is now.
    pub(crate) async fn pull_request(&self, number: u64) -> Result<Option<PullRequest>, Failure> {
        match self.find(&format!("/pulls/{number}")).await? {
            Some(pull) => {
                let read = pull_request(number, &pull);
                Ok(Some(read.ok_or_else(|| self.forgejo.account.odd("a pull request"))?))
            }
            None => Ok(None),
        }
    }

    /// The open pull requests of the server's own account.
    pub(crate) async fn offers(&self) -> Result<Vec<Offer>, Failure> {
        let poster = escaped(&self.own.login);
        let open = self.list(&format!("/pulls?state=open&poster={poster}&limit=50")).await?;
        Ok(open.iter().filter_map(|pull| offer(pull, self.own.id)).collect())
    }
}

fn pull_request(nth: u64, pull: &Value) -> Option<PullRequest> {
    Some(PullRequest {
        number: nth,
        head: Commit::parse(text(pull, "/head/sha")?).ok()?,
        branch: Branch::parse(text(pull, "/head/ref")?).ok()?,
        base: Branch::parse(text(pull, "/base/ref")?).ok()?,
        from_fork: is_from_fork(pull),
        author: text(pull, "/user/login").unwrap_or("ghost").to_owned(),
        author_id: number(pull, "/user/id"),
        open: text(pull, "/state") == Some("open"),
        reference: format!("refs/pull/{nth}/head"),
        payload: pull_payload(pull),
    })
}
