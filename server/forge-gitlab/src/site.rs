//! A repository of GitLab, as effects need it.

use async_trait::async_trait;
use domain::effect::{CommentRef, CommentTarget, EffectKind, Reaction, Receipt, StatusState};
use domain::name::{Branch, Commit, Tag};
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::wanted::{is_since, said};
use forge_remote::{Drafts, Failure, People, Site, Verb, Wanted, Which, escaped};
use ports::source::{Remote, Source};
use serde_json::{Map, Value, json};

use crate::quick::{as_meant, harmless};
use crate::shape::{number, text};
use crate::thing;
use crate::thread::Thread;
use crate::visit::Visit;

/// What a title begins with while a merge request is a draft.
const DRAFTS: Drafts = Drafts { mark: "Draft: ", marks: &["draft:", "[draft]", "(draft)"] };
/// So many pages of comments are looked through for one that was just written.
const MOST_PAGES: usize = 20;

#[async_trait]
impl Site for Visit<'_> {
    fn service(&self) -> &'static str {
        self.gitlab.account.service()
    }

    fn repository(&self) -> &Repository {
        self.repository
    }

    fn own(&self) -> Option<u64> {
        Some(self.own.id)
    }

    fn remote(&self) -> Remote {
        self.gitlab.account.remote(&self.path)
    }

    fn source(&self) -> &dyn Source {
        &*self.gitlab.account.source
    }

    fn may_write(&self) -> Result<(), Failure> {
        self.gitlab.account.may_write(self.place.id)
    }

    fn called(&self, number: u64) -> String {
        Thread::of(number).to_string()
    }

    /// There is no `error`.
    fn state_word(&self, state: StatusState) -> &'static str {
        match state {
            StatusState::Error => StatusState::Failure.as_str(),
            state => state.as_str(),
        }
    }

    async fn comments(
        &self,
        target: &CommentTarget,
        since: Option<Timestamp>,
    ) -> Result<Vec<Value>, Failure> {
        let notes = match target {
            CommentTarget::Thread { number } => {
                let path = format!("{}/notes?order_by=created_at&sort=desc&per_page=100", thread(*number));
                let wanted = |note: &Value| {
                    since.is_none_or(|since| is_since(&thing::comment(note), "/created_at", since))
                };
                match since {
                    Some(_) => self.list_while(&path, MOST_PAGES, wanted).await?,
                    None => self.list(&path).await?,
                }
            }
            CommentTarget::Commit { commit } => self.commit_notes(commit).await?,
        };
        let at = match target {
            CommentTarget::Thread { number } => thread(*number),
            CommentTarget::Commit { commit } => format!("/commit/{commit}"),
        };
        Ok(notes.iter().map(|note| self.comment(&at, note)).collect())
    }

    async fn comment_add(&self, target: &CommentTarget, body: &str) -> Result<(), Failure> {
        let path = match target {
            CommentTarget::Thread { number } => format!("{}/notes", thread(*number)),
            CommentTarget::Commit { commit } => format!("/repository/commits/{commit}/discussions"),
        };
        self.post(&path, &json!({ "body": harmless(body) })).await.map(drop)
    }

    async fn comment_edit(&self, target: &CommentTarget, comment: &Value, body: &str) -> Result<(), Failure> {
        self.put(&one_comment(target, comment), &json!({ "body": harmless(body) })).await.map(drop)
    }

    async fn comment_remove(&self, target: &CommentTarget, comment: &Value) -> Result<(), Failure> {
        self.write(Verb::Delete, &one_comment(target, comment), None).await.map(drop)
    }

    async fn issues(&self, which: Which) -> Result<Vec<Value>, Failure> {
        let which = match which {
            Which::Open => "state=opened".to_owned(),
            Which::Since(since) => format!("updated_after={since}"),
        };
        let list = self.list(&format!("/issues?{which}&author_id={}&per_page=100", self.own.id)).await?;
        Ok(list.iter().filter_map(thing::issue).map(meant).collect())
    }

    async fn issue_open(&self, issue: &Value) -> Result<(), Failure> {
        let names = |key: &str| -> Vec<String> {
            let list = issue.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (labels, assignees) = (names("labels"), names("assignees"));
        let mut wanted = words(issue);
        if !labels.is_empty() {
            wanted.insert("labels".to_owned(), json!(labels.join(",")));
        }
        if !assignees.is_empty() {
            wanted.insert("assignee_ids".to_owned(), json!(self.account_numbers(&assignees).await?));
        }
        self.post("/issues", &Value::Object(wanted)).await.map(drop)
    }

    async fn issue_drop(&self, number: u64) -> Result<(), Failure> {
        self.thread_change(number, &json!({ "state": "closed" })).await
    }

    async fn thread(&self, number: u64) -> Result<Value, Failure> {
        let found = self.get(&thread(number)).await?;
        let read = match Thread::of(number) {
            Thread::Issue(_) => thing::issue(&found),
            Thread::MergeRequest(_) => thing::merge_request(&found).map(thing::as_thread),
        };
        let read = read.ok_or_else(|| self.gitlab.account.odd("an issue or a merge request"))?;
        Ok(DRAFTS.bare(meant(read)))
    }

    async fn thread_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        let path = thread(number);
        let mut wanted = words(change);
        if let Some(title) = text(change, "/title") {
            wanted.insert("title".to_owned(), json!(DRAFTS.marked_as(&self.get(&path).await?, title)));
        }
        match text(change, "/state") {
            Some("open") => wanted.insert("state_event".to_owned(), json!("reopen")),
            Some(_) => wanted.insert("state_event".to_owned(), json!("close")),
            None => None,
        };
        self.put(&path, &Value::Object(wanted)).await.map(drop)
    }

    async fn labels(&self, number: u64) -> Result<Vec<String>, Failure> {
        let thread = self.get(&thread(number)).await?;
        let labels = thread.get("labels").and_then(Value::as_array).into_iter().flatten();
        Ok(labels.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// A comma parts labels here, and no label has one.
    async fn labels_add(&self, number: u64, labels: &[String]) -> Result<(), Failure> {
        self.put(&thread(number), &json!({ "add_labels": labels.join(",") })).await.map(drop)
    }

    async fn label_remove(&self, number: u64, label: &str) -> Result<(), Failure> {
        self.put(&thread(number), &json!({ "remove_labels": label })).await.map(drop)
    }

    async fn pulls_from(&self, branch: &Branch) -> Result<Vec<Value>, Failure> {
        let (branch, own) = (escaped(branch.as_str()), self.own.id);
        let path = format!("/merge_requests?state=all&source_branch={branch}&author_id={own}&per_page=100");
        let list = self.list(&path).await?;
        Ok(list.iter().filter_map(thing::merge_request).map(meant).map(|pull| DRAFTS.bare(pull)).collect())
    }

    async fn pull(&self, number: u64) -> Result<Value, Failure> {
        merge_request(number)?;
        Site::thread(self, number).await
    }

    /// A draft is one whose title says so.
    async fn pull_open(&self, pull: &Value) -> Result<Value, Failure> {
        let mut wanted = words(pull);
        if pull["draft"] == true {
            wanted.insert("title".to_owned(), json!(DRAFTS.marked(said(pull, "/title"))));
        }
        wanted.insert("source_branch".to_owned(), pull["head"].clone());
        wanted.insert("target_branch".to_owned(), pull["base"].clone());
        let made = self.post("/merge_requests", &Value::Object(wanted)).await?;
        thing::merge_request(&made).ok_or_else(|| self.gitlab.account.odd("the merge request that it made"))
    }

    async fn pull_change(&self, number: u64, change: &Value) -> Result<(), Failure> {
        self.thread_change(number, change).await
    }

    async fn reviewers(&self, number: u64) -> Result<People, Failure> {
        let request = self.get(&merge_request(number)?).await?;
        let asked = request.get("reviewers").and_then(Value::as_array).into_iter().flatten();
        let people = asked.filter_map(|person| text(person, "/username")).map(str::to_owned).collect();
        Ok(People { people, teams: Vec::new() })
    }

    /// GitLab takes all reviewers at once, and leaves out in silence whom it does not take.
    async fn reviewers_ask(&self, thread: u64, people: &People) -> Result<(), Failure> {
        if let Some(team) = people.teams.first() {
            return Err(Failure::Unfit(format!("GitLab asks people for a review, not teams such as {team}")));
        }
        let path = merge_request(thread)?;
        let there = self.get(&path).await?;
        let there = there.get("reviewers").and_then(Value::as_array).into_iter().flatten();
        let mut ids: Vec<u64> = there.filter_map(|person| number(person, "/id")).collect();
        ids.extend(self.account_numbers(&people.people).await?);
        let made = self.put(&path, &json!({ "reviewer_ids": ids })).await?;
        let taken = made.get("reviewers").and_then(Value::as_array).map_or(0, Vec::len);
        if taken < ids.len() {
            return Err(Failure::Unfit(format!("GitLab took {taken} of {} reviewers", ids.len())));
        }
        Ok(())
    }

    async fn branch_at(&self, branch: &Branch) -> Result<Option<Commit>, Failure> {
        let found = self.find(&format!("/repository/branches/{}", escaped(branch.as_str()))).await?;
        Ok(found.and_then(|found| Commit::parse(said(&found, "/commit/id")).ok()))
    }

    async fn tag_at(&self, tag: &Tag) -> Result<Option<Commit>, Failure> {
        let found = self.find(&format!("/repository/tags/{}", escaped(tag.as_str()))).await?;
        Ok(found.and_then(|found| Commit::parse(said(&found, "/commit/id")).ok()))
    }

    /// GitLab tells of each name the newest one only, and those of its own pipelines among them.
    async fn statuses(&self, commit: &Commit) -> Result<Vec<Value>, Failure> {
        let list = self.list(&format!("/repository/commits/{commit}/statuses?per_page=100")).await?;
        Ok(list.iter().map(thing::status).collect())
    }

    async fn status_set(&self, commit: &Commit, status: &Value) -> Result<(), Failure> {
        let state = match said(status, "/state") {
            "failure" => "failed",
            state => state,
        };
        let mut wanted = json!({
            "state": state, "name": status["context"], "description": status["description"],
        });
        if let Some(url) = status.get("target_url") {
            wanted["target_url"] = url.clone();
        }
        self.post(&format!("/statuses/{commit}"), &wanted).await.map(drop)
    }

    async fn releases_of(&self, tag: &Tag) -> Result<Vec<Value>, Failure> {
        let found = self.find(&format!("/releases/{}", escaped(tag.as_str()))).await?;
        Ok(found.iter().map(thing::release).map(meant).collect())
    }

    async fn release_open(&self, release: &Value) -> Result<(), Failure> {
        if release["draft"] == true {
            return Err(Failure::Refused("GitLab has no drafts of releases".to_owned()));
        }
        let wanted = json!({
            "tag_name": release["tag_name"], "ref": release["target_commitish"], "name": release["name"],
            "description": harmless(said(release, "/body")),
        });
        self.post("/releases", &wanted).await.map(drop)
    }

    /// A second sign of the same kind would be a failure.
    async fn react(&self, comment: &CommentRef, reaction: Reaction) -> Result<(), Failure> {
        let path = format!("{}/notes/{}/award_emoji", thread(comment.thread), comment.id);
        let there = self.list(&format!("{path}?per_page=100")).await?;
        let is_it = |award: &Value| {
            said(award, "/name") == reaction.as_str() && number(award, "/user/id") == Some(self.own.id)
        };
        if there.iter().any(is_it) {
            return Ok(());
        }
        let made = self.post(&path, &json!({ "name": reaction.as_str() })).await?;
        if is_it(&made) { Ok(()) } else { Err(Failure::later("the reaction is not there")) }
    }

    async fn check(&self, wanted: &Wanted<'_>) -> Result<Receipt, Failure> {
        let EffectKind::CreateCheck { commit, .. } = &wanted.effect.kind else {
            return Err(Failure::Refused("it is not a check".to_owned()));
        };
        let path = format!("/repository/commits/{commit}/merge_requests?state=opened&per_page=100");
        let open = self.list_while(&path, MOST_PAGES, |_| true).await?;
        let here = |request: &&Value| {
            said(request, "/sha") == commit.as_str()
                && number(request, "/project_id").is_none_or(|id| id == self.place.id)
        };
        let iid = open.iter().find(here).and_then(|request| number(request, "/iid"));
        forge_remote::report(wanted, iid.map(|iid| Thread::MergeRequest(iid).number())).await
    }
}

impl Visit<'_> {
    /// A comment as it was meant, with its address, which GitLab does not say: `at` is what it stands under, below
    /// its project. What GitLab itself notes in a conversation is by nobody.
    pub(crate) fn comment(&self, at: &str, note: &Value) -> Value {
        let mut shown = meant(thing::comment(note));
        if note["system"] == true {
            shown["user"] = Value::Null;
        }
        shown["discussion"] = note["discussion"].clone();
        let web = self.gitlab.account.config.web_url.trim_end_matches('/');
        shown["html_url"] = json!(format!("{web}/{}/-{at}#note_{}", self.path, note["id"]));
        shown
    }

    /// The comments on a commit, each with the discussion that it is in: only so may it be changed.
    pub(crate) async fn commit_notes(&self, commit: &Commit) -> Result<Vec<Value>, Failure> {
        let path = format!("/repository/commits/{commit}/discussions?per_page=100");
        let mut notes = Vec::new();
        for discussion in self.list(&path).await? {
            for note in discussion.get("notes").and_then(Value::as_array).into_iter().flatten() {
                let mut note = note.clone();
                note["discussion"] = discussion["id"].clone();
                notes.push(note);
            }
        }
        Ok(notes)
    }
}

fn thread(number: u64) -> String {
    Thread::of(number).path()
}

/// The same, of what is a merge request.
fn merge_request(number: u64) -> Result<String, Failure> {
    match Thread::of(number) {
        thread @ Thread::MergeRequest(_) => Ok(thread.path()),
        thread @ Thread::Issue(_) => {
            Err(Failure::Missing(format!("{thread} is an issue, not a merge request")))
        }
    }
}

fn one_comment(target: &CommentTarget, comment: &Value) -> String {
    match target {
        CommentTarget::Thread { number } => format!("{}/notes/{}", thread(*number), comment["id"]),
        CommentTarget::Commit { commit } => {
            let discussion = escaped(said(comment, "/discussion"));
            format!("/repository/commits/{commit}/discussions/{discussion}/notes/{}", comment["id"])
        }
    }
}

/// A thing whose text orders nothing, as it was meant.
pub(crate) fn meant(mut thing: Value) -> Value {
    let body = as_meant(said(&thing, "/body"));
    thing["body"] = json!(body);
    thing
}

/// The title and the text of a thing, in GitLab's words.
fn words(thing: &Value) -> Map<String, Value> {
    let mut words = Map::new();
    if let Some(title) = text(thing, "/title") {
        words.insert("title".to_owned(), json!(title));
    }
    if let Some(body) = text(thing, "/body") {
        words.insert("description".to_owned(), json!(harmless(body)));
    }
    words
}
