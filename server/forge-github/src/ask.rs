//! What only GitHub knows at this moment: what people may do, and where a pull request stands.

use domain::name::{Branch, Commit};
use forge_remote::{Failure, escaped, offer};
use ports::forge::{Offer, PullRequest};
use serde_json::Value;

use crate::shape::{flag, is_from_fork, number, pull_payload, text};
use crate::tokens::odd;
use crate::visit::Visit;

impl Visit<'_> {
    /// What an account may do here.
    pub(crate) async fn role(&self, account: &str) -> Result<Option<String>, Failure> {
        let found = self.find(&format!("/collaborators/{}/permission", escaped(account))).await?;
        let Some(found) = found else { return Ok(None) };
        let role = text(&found, "/role_name").or_else(|| text(&found, "/permission")).unwrap_or("none");
        let everybody_reads = flag(&self.described, "/private") == Some(false);
        Ok(match role {
            "none" | "" => None,
            "read" | "pull" if everybody_reads => None,
            // The words of older servers.
            "pull" => Some("read".to_owned()),
            "push" => Some("write".to_owned()),
            role => Some(role.to_owned()),
        })
    }

    /// A pull request as it is now.
    pub(crate) async fn pull_request(&self, number: u64) -> Result<Option<PullRequest>, Failure> {
        match self.find(&format!("/pulls/{number}")).await? {
            Some(pull) => Ok(Some(pull_request(number, &pull).ok_or_else(|| odd("a pull request"))?)),
            None => Ok(None),
        }
    }

    /// The open pull requests of our own account. One whose marker somebody took away is one all the same.
    pub(crate) async fn offers(&self) -> Result<Vec<Offer>, Failure> {
        let Some(own) = self.own() else { return Ok(Vec::new()) };
        let open = self.list("/pulls?state=open&per_page=100").await?;
        Ok(open.iter().filter_map(|pull| offer(pull, own.id)).collect())
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
