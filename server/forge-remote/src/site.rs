//! One repository on a forge, as effects need it.

use async_trait::async_trait;
use domain::effect::{CommentRef, CommentTarget, Reaction, Receipt, StatusState};
use domain::name::{Branch, Commit, Tag};
use domain::repository::Repository;
use domain::time::Timestamp;
use ports::source::{Remote, Source};
use serde_json::Value;

use crate::failure::Failure;
use crate::wanted::Wanted;

/// One repository on a forge, opened for one effect.
///
/// Things go in and come out as [`crate::shape`] has them. Each method is one thing asked or done, and nothing
/// else: that it is done once is [`crate::wanted`]'s affair. Each may break off with a [`Failure::Later`] before
/// it writes, when the forge has to be given time.
#[async_trait]
pub trait Site: std::fmt::Debug + Send + Sync {
    /// What people call the forge: `GitHub`.
    fn service(&self) -> &'static str;
    /// What people call a thread of a number.
    fn called(&self, number: u64) -> String {
        format!("#{number}")
    }
    /// The state that a status has on the forge once it was put on in this one.
    fn state_word(&self, state: StatusState) -> &'static str {
        state.as_str()
    }
    /// The repository, as this server knows it.
    fn repository(&self) -> &Repository;
    /// The number of the account by which this server does what it does; some have none before they did
    /// anything.
    fn own(&self) -> Option<u64>;
    /// Where git finds the repository, and what opens it for writing.
    fn remote(&self) -> Remote;
    /// What pushes.
    fn source(&self) -> &dyn Source;
    /// Whether the repository may be written to at this moment.
    ///
    /// # Errors
    /// Says from when on.
    fn may_write(&self) -> Result<(), Failure>;

    /// The comments under something, those since a moment or all.
    async fn comments(&self, target: &CommentTarget, since: Option<Timestamp>)
    -> Result<Vec<Value>, Failure>;
    /// Writes one.
    async fn comment_add(&self, target: &CommentTarget, body: &str) -> Result<(), Failure>;
    /// Writes one anew; `comment` is as it was listed.
    async fn comment_edit(&self, target: &CommentTarget, comment: &Value, body: &str) -> Result<(), Failure>;
    /// Takes one away; one that is gone is as good.
    async fn comment_remove(&self, target: &CommentTarget, comment: &Value) -> Result<(), Failure>;

    /// The issues, without pull requests, that the server's own account opened.
    async fn issues(&self, which: Which) -> Result<Vec<Value>, Failure>;
    /// Opens one, of `title`, `body`, and names of `labels` and `assignees` where there are any.
    async fn issue_open(&self, issue: &Value) -> Result<(), Failure>;
    /// Closes one that is one too many.
    async fn issue_drop(&self, number: u64) -> Result<(), Failure>;
    /// An issue or a pull request.
    async fn thread(&self, number: u64) -> Result<Value, Failure>;
    /// Changes one: `title`, `body` and `state`, those that are there.
    async fn thread_change(&self, number: u64, change: &Value) -> Result<(), Failure>;

    /// The labels on an issue or a pull request.
    async fn labels(&self, number: u64) -> Result<Vec<String>, Failure>;
    /// Puts labels on; those that the repository does not have are made.
    async fn labels_add(&self, number: u64, labels: &[String]) -> Result<(), Failure>;
    /// Takes one off that is there.
    async fn label_remove(&self, number: u64, label: &str) -> Result<(), Failure>;

    /// The pull requests, open and closed ones, whose branch this is.
    async fn pulls_from(&self, branch: &Branch) -> Result<Vec<Value>, Failure>;
    /// A pull request.
    async fn pull(&self, number: u64) -> Result<Value, Failure>;
    /// Opens one, of `title`, `body`, `draft` and the names of the branches `head` and `base`.
    async fn pull_open(&self, pull: &Value) -> Result<Value, Failure>;
    /// Changes one: `title` and `body`.
    async fn pull_change(&self, number: u64, change: &Value) -> Result<(), Failure>;
    /// Who was asked to review a pull request, or reviewed it.
    async fn reviewers(&self, number: u64) -> Result<People, Failure>;
    /// Asks for a review.
    async fn reviewers_ask(&self, number: u64, people: &People) -> Result<(), Failure>;

    /// Where a branch is.
    async fn branch_at(&self, branch: &Branch) -> Result<Option<Commit>, Failure>;
    /// The commit that a tag leads to.
    async fn tag_at(&self, tag: &Tag) -> Result<Option<Commit>, Failure>;

    /// The statuses of a commit, newest first.
    async fn statuses(&self, commit: &Commit) -> Result<Vec<Value>, Failure>;
    /// Puts one on: `context`, `state`, `description`, and `target_url` where there is one.
    async fn status_set(&self, commit: &Commit, status: &Value) -> Result<(), Failure>;

    /// The releases of a tag.
    async fn releases_of(&self, tag: &Tag) -> Result<Vec<Value>, Failure>;
    /// Publishes one: `tag_name`, `target_commitish`, `name`, `body`, `draft`, `prerelease`. The tag is made when it
    /// is not there.
    async fn release_open(&self, release: &Value) -> Result<(), Failure>;

    /// Puts a sign on a comment, unless it is there.
    async fn react(&self, comment: &CommentRef, reaction: Reaction) -> Result<(), Failure>;

    /// Reports on a commit, with remarks on lines.
    async fn check(&self, wanted: &Wanted<'_>) -> Result<Receipt, Failure>;
}

/// Which issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are open.
    Open,
    /// Those that changed since a moment, open or not.
    Since(Timestamp),
}

/// People and teams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// Names of accounts.
    pub people: Vec<String>,
    /// Names of teams, without their organisation's.
    pub teams: Vec<String>,
}
