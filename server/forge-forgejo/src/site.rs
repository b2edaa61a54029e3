//! A repository of Forgejo, as effects need it.

use async_trait::async_trait;
use domain::effect::{CommentRef, CommentTarget, Reaction, Receipt};
use domain::name::{Branch, Commit, Tag};
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::wanted::said;
use forge_remote::{Failure, People, Site, Verb, Wanted, Which, escaped, escaped_path};
use ports::source::{Remote, Source};
use serde_json::{Map, Value, json};

use crate::shape::{number, text};
use crate::thing::{DRAFTS, status};
use crate::visit::Visit;

/// What a label looks like until somebody chooses.
const GREY: &str = "#ededed";

#[async_trait]
impl Site for Visit<'_> {
    fn service(&self) -> &'static str {
        self.forgejo.account.service()
    }

    fn repository(&self) -> &Repository {
        self.repository
    }

    fn own(&self) -> Option<u64> {
        Some(self.own.id)
    }

    fn remote(&self) -> Remote {
        self.forgejo.account.remote(&self.path)
    }

    fn source(&self) -> &dyn Source {
        &*self.forgejo.account.source
    }

    fn may_write(&self) -> Result<(), Failure> {
        self.forgejo.account.may_write(self.place.id)
    }

    async fn comments(
        &self,
        target: &CommentTarget,
        since: Option<Timestamp>,
    ) -> Result<Vec<Value>, Failure> {
        let since = since.map_or_else(String::new, |since| format!("?since={since}"));
        self.list(&format!("/issues/{}/comments{since}", thread_of(target)?)).await
    }

    async fn comment_add(&self, target: &CommentTarget, body: &str) -> Result<(), Failure> {
        let path = format!("/issues/{}/comments", thread_of(target)?);
        self.post(&path, &json!({ "body": body })).await.map(drop)
    }

    async fn comment_edit(&self, _: &CommentTarget, comment: &Value, body: &str) -> Result<(), Failure> {
        let path = format!("/issues/comments/{}", comment["id"]);
        self.patch(&path, &json!({ "body": body })).await.map(drop)
    }

    async fn comment_remove(&self, _: &CommentTarget, comment: &Value) -> Result<(), Failure> {
        self.write(Verb::Delete, &format!("/issues/comments/{}", comment["id"]), None).await.map(drop)
    }

    async fn issues(&self, which: Which) -> Result<Vec<Value>, Failure> {
        let which = match which {
            Which::Open => "state=open".to_owned(),
            Which::Since(since) => format!("state=all&since={since}"),
        };
        let own = escaped(&self.own.login);
        self.list(&format!("/issues?type=issues&{which}&created_by={own}&limit=50")).await
    }

    async fn issue_open(&self, issue: &Value) -> Result<(), Failure> {
        let mut issue = issue.clone();
        if let Some(labels) = issue.get("labels").and_then(Value::as_array) {
            let labels: Vec<String> = labels.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            issue["labels"] = json!(self.label_numbers(&labels).await?);
        }
        self.post("/issues", &issue).await.map(drop)
    }

    async fn issue_drop(&self, number: u64) -> Result<(), Failure> {
        self.patch(&format!("/issues/{number}"), &json!({ "state": "closed" })).await.map(drop)
    }

    async fn thread(&self, number: u64) -> Result<Value, Failure> {
        Ok(DRAFTS.bare(self.get(&format!("/issues/{number}")).await?))
    }

    async fn thread_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        self.change(&format!("/issues/{number}"), change).await
    }

    async fn labels(&self, number: u64) -> Result<Vec<String>, Failure> {
        let list = self.list(&format!("/issues/{number}/labels")).await?;
        Ok(list.iter().filter_map(|label| text(label, "/name")).map(str::to_owned).collect())
    }

    async fn labels_add(&self, number: u64, labels: &[String]) -> Result<(), Failure> {
        let numbers = self.label_numbers(labels).await?;
        self.post(&format!("/issues/{number}/labels"), &json!({ "labels": numbers })).await.map(drop)
    }

    async fn label_remove(&self, thread: u64, label: &str) -> Result<(), Failure> {
        let list = self.list(&format!("/issues/{thread}/labels")).await?;
        let is_it = |there: &&Value| is_called(there, label);
        let Some(id) = list.iter().find(is_it).and_then(|label| number(label, "/id")) else { return Ok(()) };
        self.write(Verb::Delete, &format!("/issues/{thread}/labels/{id}"), None).await.map(drop)
    }

    async fn pulls_from(&self, branch: &Branch) -> Result<Vec<Value>, Failure> {
        let poster = escaped(&self.own.login);
        let mut list = self.list(&format!("/pulls?state=all&poster={poster}&limit=50")).await?;
        list.retain(|pull| said(pull, "/head/ref") == branch.as_str());
        Ok(list.into_iter().map(|pull| DRAFTS.bare(pull)).collect())
    }

    async fn pull(&self, number: u64) -> Result<Value, Failure> {
        Ok(DRAFTS.bare(self.get(&format!("/pulls/{number}")).await?))
    }

    /// A draft is one whose title says so.
    async fn pull_open(&self, pull: &Value) -> Result<Value, Failure> {
        let title = said(pull, "/title");
        let title = if pull["draft"] == true { DRAFTS.marked(title) } else { title.to_owned() };
        let pull =
            json!({ "title": title, "body": pull["body"], "head": pull["head"], "base": pull["base"] });
        self.post("/pulls", &pull).await
    }

    async fn pull_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        self.change(&format!("/pulls/{number}"), change).await
    }

    async fn reviewers(&self, number: u64) -> Result<People, Failure> {
        let pull = self.pull(number).await?;
        let reviews = self.list(&format!("/pulls/{number}/reviews?limit=50")).await?;
        let listed = |at: &str| pull.pointer(at).and_then(Value::as_array).into_iter().flatten();
        let asked = listed("/requested_reviewers").map(|person| said(person, "/login").to_owned());
        let reviewed = reviews.iter().filter_map(|review| text(review, "/user/login")).map(str::to_owned);
        let teams = listed("/requested_reviewers_teams").map(|team| said(team, "/name").to_owned());
        Ok(People { people: asked.chain(reviewed).collect(), teams: teams.collect() })
    }

    async fn reviewers_ask(&self, number: u64, people: &People) -> Result<(), Failure> {
        let mut wanted = Map::new();
        for (key, names) in [("reviewers", &people.people), ("team_reviewers", &people.teams)] {
            if !names.is_empty() {
                wanted.insert(key.to_owned(), json!(names));
            }
        }
        let path = format!("/pulls/{number}/requested_reviewers");
        self.post(&path, &Value::Object(wanted)).await.map(drop)
    }

    async fn branch_at(&self, branch: &Branch) -> Result<Option<Commit>, Failure> {
        let found = self.find(&format!("/branches/{}", escaped_path(branch.as_str()))).await?;
        Ok(found.and_then(|found| Commit::parse(said(&found, "/commit/id")).ok()))
    }

    async fn tag_at(&self, tag: &Tag) -> Result<Option<Commit>, Failure> {
        let found = self.find(&format!("/tags/{}", escaped_path(tag.as_str()))).await?;
        Ok(found.and_then(|found| Commit::parse(said(&found, "/commit/sha")).ok()))
    }

    async fn statuses(&self, commit: &Commit) -> Result<Vec<Value>, Failure> {
        let list = self.list(&format!("/commits/{commit}/statuses?sort=highestindex&limit=50")).await?;
        Ok(list.into_iter().map(status).collect())
    }

    async fn status_set(&self, commit: &Commit, status: &Value) -> Result<(), Failure> {
        self.post(&format!("/statuses/{commit}"), status).await.map(drop)
    }

    /// Drafts are in the list only.
    async fn releases_of(&self, tag: &Tag) -> Result<Vec<Value>, Failure> {
        let mut list = self.list("/releases?limit=50").await?;
        list.retain(|release| said(release, "/tag_name") == tag.as_str());
        Ok(list)
    }

    async fn release_open(&self, release: &Value) -> Result<(), Failure> {
        self.post("/releases", release).await.map(drop)
    }

    /// Forgejo itself keeps an account from reacting twice; comments at a line are among the others.
    async fn react(&self, comment: &CommentRef, reaction: Reaction) -> Result<(), Failure> {
        let path = format!("/issues/comments/{}/reactions", comment.id);
        let made = self.post(&path, &json!({ "content": reaction.as_str() })).await?;
        if said(&made, "/content") != reaction.as_str() {
            return Err(Failure::later("the reaction is not there"));
        }
        Ok(())
    }

    async fn check(&self, wanted: &Wanted<'_>) -> Result<Receipt, Failure> {
        let domain::effect::EffectKind::CreateCheck { commit, .. } = &wanted.effect.kind else {
            return Err(Failure::Refused("it is not a check".to_owned()));
        };
        let open = self.list("/pulls?state=open&limit=50").await?;
        let pull = open.iter().find(|pull| said(pull, "/head/sha") == commit.as_str());
        forge_remote::report(wanted, pull.and_then(|pull| number(pull, "/number"))).await
    }
}

impl Visit<'_> {
    /// Changes a thread or a pull request; the title of a draft goes on saying that it is one.
    async fn change(&self, path: &str, change: &Value) -> Result<(), Failure> {
        let mut change = change.clone();
        if let Some(title) = text(&change, "/title") {
            let title = DRAFTS.marked_as(&self.get(path).await?, title);
            change["title"] = json!(title);
        }
        self.patch(path, &change).await.map(drop)
    }

    /// The numbers of labels, of the repository or its organisation; those that neither has are made.
    async fn label_numbers(&self, labels: &[String]) -> Result<Vec<u64>, Failure> {
        let mut there = self.list("/labels?limit=50").await?;
        if labels.iter().any(|label| !there.iter().any(|there| is_called(there, label))) {
            let owner = self.path.split_once('/').map_or("", |(owner, _)| owner);
            let path = format!("/orgs/{}/labels?limit=50", escaped(owner));
            match self.forgejo.account.list(&path).await {
                Ok(list) => there.extend(list),
                // A person's repository, or an organisation that shows us nothing.
                Err(Failure::Missing(_) | Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let mut numbers = Vec::new();
        for label in labels {
            let found = there.iter().find(|there| is_called(there, label)).cloned();
            let found = match found {
                Some(found) => found,
                None => self.post("/labels", &json!({ "name": label, "color": GREY })).await?,
            };
            numbers.push(number(&found, "/id").ok_or_else(|| self.forgejo.account.odd("a label"))?);
        }
        Ok(numbers)
    }
}

fn is_called(label: &Value, name: &str) -> bool {
    said(label, "/name").to_lowercase() == name.to_lowercase()
}

fn thread_of(target: &CommentTarget) -> Result<u64, Failure> {
    match target {
        CommentTarget::Thread { number } => Ok(*number),
        CommentTarget::Commit { .. } => Err(Failure::Refused(
            "Forgejo has no comments on commits; comment on a pull request or an issue".to_owned(),
        )),
    }
}
