//! A repository of GitHub, as effects need it.

use async_trait::async_trait;
use domain::effect::{CommentKind, CommentRef, CommentTarget, Reaction, Receipt};
use domain::name::{Branch, Commit, Tag};
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::wanted::said;
use forge_remote::{Failure, People, Site, Wanted, Which, escaped, escaped_path};
use ports::source::{Remote, Source};
use serde_json::{Value, json};

use crate::checks;
use crate::shape::text;
use crate::visit::Visit;

/// Where comments are at GitHub.
struct Shelf {
    list: String,
    /// What an id is appended to.
    item: &'static str,
}

fn shelf(target: &CommentTarget) -> Shelf {
    match target {
        CommentTarget::Thread { number } => {
            Shelf { list: format!("/issues/{number}/comments"), item: "/issues/comments/" }
        }
        CommentTarget::Commit { commit } => {
            Shelf { list: format!("/commits/{commit}/comments"), item: "/comments/" }
        }
    }
}

#[async_trait]
impl Site for Visit<'_> {
    fn service(&self) -> &'static str {
        "GitHub"
    }

    fn repository(&self) -> &Repository {
        self.repository
    }

    fn own(&self) -> Option<u64> {
        Self::own(self).map(|own| own.id)
    }

    fn remote(&self) -> Remote {
        let config = &self.github.config;
        Remote {
            url: format!("{}/{}.git", config.web_url.trim_end_matches('/'), self.path),
            credential: Some(self.token.secret.clone()),
            policy: config.allow,
            timeout: config.push_timeout,
        }
    }

    fn source(&self) -> &dyn Source {
        &*self.github.source
    }

    fn may_write(&self) -> Result<(), Failure> {
        self.github.may_write(&self.token, self.place.id)
    }

    async fn comments(
        &self,
        target: &CommentTarget,
        since: Option<Timestamp>,
    ) -> Result<Vec<Value>, Failure> {
        let since = match (target, since) {
            (CommentTarget::Thread { .. }, Some(since)) => format!("&since={since}"),
            // Comments on commits cannot be asked for so.
            (CommentTarget::Thread { .. } | CommentTarget::Commit { .. }, _) => String::new(),
        };
        self.list(&format!("{}?per_page=100{since}", shelf(target).list)).await
    }

    async fn comment_add(&self, target: &CommentTarget, body: &str) -> Result<(), Failure> {
        self.post(&shelf(target).list, &json!({ "body": body })).await.map(drop)
    }

    async fn comment_edit(&self, target: &CommentTarget, comment: &Value, body: &str) -> Result<(), Failure> {
        let path = format!("{}{}", shelf(target).item, comment["id"]);
        self.patch(&path, &json!({ "body": body })).await.map(drop)
    }

    async fn comment_remove(&self, target: &CommentTarget, comment: &Value) -> Result<(), Failure> {
        self.delete(&format!("{}{}", shelf(target).item, comment["id"])).await
    }

    async fn issues(&self, which: Which) -> Result<Vec<Value>, Failure> {
        let Some(own) = Self::own(self) else { return Ok(Vec::new()) };
        let which = match which {
            Which::Open => "state=open".to_owned(),
            Which::Since(since) => format!("state=all&since={since}"),
        };
        let path = format!("/issues?{which}&creator={}&per_page=100", escaped(&own.login));
        let mut list = self.list(&path).await?;
        list.retain(|thing| thing.get("pull_request").is_none_or(Value::is_null));
        Ok(list)
    }

    async fn issue_open(&self, issue: &Value) -> Result<(), Failure> {
        self.post("/issues", issue).await.map(drop)
    }

    async fn issue_drop(&self, number: u64) -> Result<(), Failure> {
        let change = json!({ "state": "closed", "state_reason": "not_planned" });
        self.thread_change(number, &change).await
    }

    async fn thread(&self, number: u64) -> Result<Value, Failure> {
        self.get(&format!("/issues/{number}")).await
    }

    async fn thread_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        self.patch(&format!("/issues/{number}"), change).await.map(drop)
    }

    async fn labels(&self, number: u64) -> Result<Vec<String>, Failure> {
        let list = self.list(&format!("/issues/{number}/labels?per_page=100")).await?;
        Ok(list.iter().filter_map(|label| text(label, "/name")).map(str::to_owned).collect())
    }

    async fn labels_add(&self, number: u64, labels: &[String]) -> Result<(), Failure> {
        self.post(&format!("/issues/{number}/labels"), &json!({ "labels": labels })).await.map(drop)
    }

    async fn label_remove(&self, number: u64, label: &str) -> Result<(), Failure> {
        self.delete(&format!("/issues/{number}/labels/{}", escaped(label))).await
    }

    async fn pulls_from(&self, branch: &Branch) -> Result<Vec<Value>, Failure> {
        let owner = self.path.split_once('/').map_or("", |(owner, _)| owner);
        let head = escaped(&format!("{owner}:{branch}"));
        self.list(&format!("/pulls?state=all&head={head}&per_page=100")).await
    }

    async fn pull(&self, number: u64) -> Result<Value, Failure> {
        self.get(&format!("/pulls/{number}")).await
    }

    async fn pull_open(&self, pull: &Value) -> Result<Value, Failure> {
        self.post("/pulls", pull).await
    }

    async fn pull_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        self.patch(&format!("/pulls/{number}"), change).await.map(drop)
    }

    async fn reviewers(&self, number: u64) -> Result<People, Failure> {
        let pull = self.pull(number).await?;
        let reviews = self.list(&format!("/pulls/{number}/reviews?per_page=100")).await?;
        let listed = |at: &str| pull.pointer(at).and_then(Value::as_array).into_iter().flatten();
        let asked = listed("/requested_reviewers").map(|person| said(person, "/login").to_owned());
        let reviewed = reviews.iter().filter_map(|review| text(review, "/user/login")).map(str::to_owned);
        let teams = listed("/requested_teams").map(|team| said(team, "/slug").to_owned());
        Ok(People { people: asked.chain(reviewed).collect(), teams: teams.collect() })
    }

    async fn reviewers_ask(&self, number: u64, people: &People) -> Result<(), Failure> {
        let wanted = json!({ "reviewers": people.people, "team_reviewers": people.teams });
        self.post(&format!("/pulls/{number}/requested_reviewers"), &wanted).await.map(drop)
    }

    async fn branch_at(&self, branch: &Branch) -> Result<Option<Commit>, Failure> {
        let found = self.find(&format!("/git/ref/heads/{}", escaped_path(branch.as_str()))).await?;
        let sha = found.as_ref().and_then(|found| text(found, "/object/sha"));
        Ok(sha.and_then(|sha| Commit::parse(sha).ok()))
    }

    /// A tag with a message of its own leads to its commit by a second step.
    async fn tag_at(&self, tag: &Tag) -> Result<Option<Commit>, Failure> {
        let path = format!("/git/ref/tags/{}", escaped_path(tag.as_str()));
        let Some(found) = self.find(&path).await? else { return Ok(None) };
        let found = match said(&found, "/object/type") {
            "tag" => self.get(&format!("/git/tags/{}", said(&found, "/object/sha"))).await?,
            _ => found,
        };
        Ok(Commit::parse(said(&found, "/object/sha")).ok())
    }

    async fn statuses(&self, commit: &Commit) -> Result<Vec<Value>, Failure> {
        self.list(&format!("/commits/{commit}/statuses?per_page=100")).await
    }

    async fn status_set(&self, commit: &Commit, status: &Value) -> Result<(), Failure> {
        self.post(&format!("/statuses/{commit}"), status).await.map(drop)
    }

    /// Of drafts GitHub knows by tag only in its list.
    async fn releases_of(&self, tag: &Tag) -> Result<Vec<Value>, Failure> {
        let mut list = self.list("/releases?per_page=100").await?;
        list.retain(|release| said(release, "/tag_name") == tag.as_str());
        Ok(list)
    }

    async fn release_open(&self, release: &Value) -> Result<(), Failure> {
        self.post("/releases", release).await.map(drop)
    }

    /// GitHub itself keeps an account from reacting twice.
    async fn react(&self, comment: &CommentRef, reaction: Reaction) -> Result<(), Failure> {
        let list = match comment.kind {
            CommentKind::Issue => "issues",
            CommentKind::Review => "pulls",
        };
        let path = format!("/{list}/comments/{}/reactions", comment.id);
        let made = self.post(&path, &json!({ "content": reaction.as_str() })).await?;
        if said(&made, "/content") != reaction.as_str() {
            return Err(Failure::later("the reaction is not there"));
        }
        Ok(())
    }

    async fn check(&self, wanted: &Wanted<'_>) -> Result<Receipt, Failure> {
        checks::report(self, wanted).await
    }
}
