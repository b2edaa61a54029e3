//! What only the forge knows at this moment: what people may do, who they are, and where a merge request stands.

use domain::name::{Branch, Commit};
use forge_remote::{Failure, escaped, offer};
use ports::forge::{Offer, PullRequest};
use serde_json::Value;

use crate::shape::{is_from_fork, number, pull_payload, text};
use crate::thing;
use crate::thread::Thread;
use crate::visit::Visit;

impl Visit<'_> {
    /// What an account may do here, by itself or by a group ("Roles and permissions").
    pub(crate) async fn role(&self, account: &str) -> Result<Option<String>, Failure> {
        let Some(id) = self.account_number(account).await? else { return Ok(None) };
        let Some(member) = self.find(&format!("/members/all/{id}")).await? else { return Ok(None) };
        if text(&member, "/state").is_some_and(|state| state != "active") {
            return Ok(None);
        }
        let role = match number(&member, "/access_level").unwrap_or_default() {
            50.. => "admin",
            40.. => "maintain",
            30.. => "write",
            15.. => "triage",
            10.. if !self.is_public => "read",
            _ => return Ok(None),
        };
        Ok(Some(role.to_owned()))
    }

    /// The number of an account of this name.
    pub(crate) async fn account_number(&self, account: &str) -> Result<Option<u64>, Failure> {
        let found = self.gitlab.account.list(&format!("/users?username={}", escaped(account))).await?;
        let is_it =
            |user: &&Value| text(user, "/username").is_some_and(|name| name.eq_ignore_ascii_case(account));
        Ok(found.iter().find(is_it).and_then(|user| number(user, "/id")))
    }

    /// The numbers of accounts, all of which there must be.
    pub(crate) async fn account_numbers(&self, accounts: &[String]) -> Result<Vec<u64>, Failure> {
        let mut numbers = Vec::new();
        for account in accounts {
            let number = self.account_number(account).await?;
            numbers.push(number.ok_or_else(|| Failure::Unfit(format!("GitLab knows no account {account}")))?);
        }
        Ok(numbers)
    }

    /// A merge request as it is now.
    pub(crate) async fn pull_request(&self, wanted: u64) -> Result<Option<PullRequest>, Failure> {
        let Thread::MergeRequest(iid) = Thread::of(wanted) else { return Ok(None) };
        match self.find(&format!("/merge_requests/{iid}")).await? {
            Some(request) => {
                let read = thing::merge_request(&request).and_then(|pull| pull_request(wanted, &pull));
                Ok(Some(read.ok_or_else(|| self.gitlab.account.odd("a merge request"))?))
            }
            None => Ok(None),
        }
    }

    /// The open merge requests of the server's own account.
    pub(crate) async fn offers(&self) -> Result<Vec<Offer>, Failure> {
        let own = self.own.id;
        let open = self.list(&format!("/merge_requests?state=opened&author_id={own}&per_page=100")).await?;
        Ok(open.iter().filter_map(thing::merge_request).filter_map(|pull| offer(&pull, own)).collect())
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
        reference: format!("refs/merge-requests/{nth}/head"),
        payload: pull_payload(pull),
    })
}
