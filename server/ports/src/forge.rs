//! Services that host repositories: what happens there, and what can be done there.

use async_trait::async_trait;
use domain::effect::{Effect, Receipt};
use domain::event::{Actor, EventKind};
use domain::name::{Branch, Commit};
use domain::repository::{Place, Repository};
use domain::time::Timestamp;
use secrecy::SecretString;

/// Performs effects on forges, and answers what only they know.
#[async_trait]
pub trait Forge: std::fmt::Debug + Send + Sync {
    /// Performs an effect and looks whether it is there. Performing the same effect again finds what
    /// the first time made: after a crash it is simply called again.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError>;

    /// What an account may do in a repository at this moment, one of [`domain::trigger::ROLES`] or a role
    /// of the forge's own making; `None` when nothing, or nothing more than everybody.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn role(&self, repository: &Repository, account: &str) -> Result<Option<String>, ForgeError>;

    /// The account by which the server does what it does where a repository is, asked once; `None` where it has
    /// none, as on the built-in host.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn own_account(&self, repository: &Repository) -> Result<Option<Account>, ForgeError>;

    /// What is at an address of the forge, in a repository of it, as it is at this moment; `None` when there is
    /// nothing there that bears words of this server.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn look(&self, repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError>;

    /// The pull requests that this server made and that are open at this moment.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError>;

    /// A pull request as it is at this moment; `None` when there is none of this number.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn pull_request(
        &self,
        repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, ForgeError>;

    /// What opens a repository for git, when the forge gives it out: good for some minutes, for reading
    /// and, where the server may write, for writing.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn credential(&self, repository: &Repository) -> Result<Option<SecretString>, ForgeError>;

    /// What happened in a repository since a moment, as far as the forge tells it to those who ask: the
    /// same facts, under the same keys, that its webhooks bring. Oldest first.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn recent(&self, repository: &Repository, since: Timestamp) -> Result<Vec<Fact>, ForgeError>;
}

/// One forge's own side: its webhooks, and the repositories in which this server is at home.
#[async_trait]
pub trait Host: std::fmt::Debug + Send + Sync {
    /// Checks the signature of a webhook over its body as it came, in constant time. Without a secret
    /// nothing is let in.
    ///
    /// # Errors
    /// When it does not hold.
    fn verify(&self, headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned>;

    /// What a webhook says. Pure: nobody is asked, and no body makes it panic.
    fn understand(&self, name: &str, body: &[u8], received_at: Timestamp) -> Understood;

    /// The number by which this server knows an issue; it is the forge's own, where issues and pull requests are
    /// counted together.
    fn issue_number(&self, number: u64) -> u64 {
        number
    }

    /// The repositories in which the server is at home; `None` when the forge does not say, as with a token.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn places(&self) -> Result<Option<Vec<Found>>, ForgeError>;

    /// The place of a repository by its address, when it is on this forge.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn place(&self, url: &str) -> Result<Option<Found>, ForgeError>;

    /// Asks the forge to deliver again what failed to arrive since a moment; how many that were.
    ///
    /// # Errors
    /// Says whether trying again may help.
    async fn redeliver(&self, since: Timestamp) -> Result<usize, ForgeError>;
}

/// The headers of a request.
pub trait Headers {
    /// The value of a header that is there once; names are in lower case.
    fn one(&self, name: &str) -> Option<&str>;
}

/// A webhook whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it is about, in the forge's words: `issue_comment`. Not covered by the signature.
    pub name: String,
    /// The forge's id for the delivery. Not covered by the signature, so that it only ever finds duplicates.
    pub id: Option<String>,
}

/// A webhook that is not let in; why is for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// The server has no secret for it.
    #[error("no secret is configured")]
    NoSecret,
    /// There is no signature, or not one of the right form.
    #[error("there is no signature")]
    Missing,
    /// It is not the signature of this body.
    #[error("the signature does not hold")]
    Wrong,
    /// The forge's own headers are missing or malformed.
    #[error("its headers are not those of the forge")]
    Headers,
}

/// What a webhook says.
#[derive(Debug, Clone, PartialEq)]
pub enum Understood {
    /// Something about a repository.
    About {
        /// Which.
        place: Place,
        /// Whether its commits may have moved.
        moved: Moved,
        /// What happened there.
        facts: Vec<Fact>,
    },
    /// The server is at home in other repositories than before.
    Installed {
        /// It is, now, in these.
        added: Vec<Found>,
        /// And no longer in these.
        removed: Vec<Place>,
    },
    /// Nothing that matters here, and why.
    Ignored(String),
}

/// Whether a repository's commits may have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// They may: look soon.
    Perhaps,
    /// It says nothing of them.
    No,
}

/// A repository on a forge, as the forge describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub place: Place,
    /// Where git finds it.
    pub url: String,
    /// The branch that `HEAD` names, where it is said.
    pub default_branch: Option<Branch>,
}

/// A fact about a repository, before it is an event. Pushes are none: git says them.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The same fact has the same key, whoever brings it and how often.
    pub key: String,
    /// What happened.
    pub kind: EventKind,
    /// The finer kind, in the forge's words.
    pub action: Option<String>,
    /// The branch it is about; of a pull request the one that it wants to change.
    pub branch: Option<Branch>,
    /// At which commit.
    pub commit: Option<Commit>,
    /// Who did it. Their role is not known yet.
    pub actor: Actor,
    /// The labels on the thing.
    pub labels: Vec<String>,
    /// Whether it is a draft.
    pub draft: bool,
    /// The whole of it, as `${event…}` shows it.
    pub payload: serde_json::Value,
    /// When.
    pub occurred_at: Timestamp,
}

/// An account on a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The forge's own number for it, which is nobody else's.
    pub id: u64,
    /// Its name, as `spellbook[bot]`.
    pub name: String,
}

impl Account {
    /// What people write behind an `@` when they mean it.
    pub fn handle(&self) -> &str {
        self.name.strip_suffix("[bot]").unwrap_or(&self.name)
    }

    /// Whether somebody is this account: by the number, and by the name only where no number is told.
    pub fn is(&self, id: Option<u64>, name: &str) -> bool {
        id.map_or_else(|| self.name.eq_ignore_ascii_case(name), |id| id == self.id)
    }
}

/// Something on a forge, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// Its address, as receipts have it.
    pub url: String,
    /// What it says: its body, of a commit the message, of a check the summary.
    pub text: String,
    /// Whether the server's own account made it; `None` where nobody can tell, as of commits.
    pub own: Option<bool>,
    /// Its commit: of a pull request the newest, of a check the one that it reports on.
    pub commit: Option<Commit>,
}

/// The kinds of things that bear words of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThingKind {
    /// A comment, wherever it stands.
    Comment,
    /// A pull request, or a proposal of the built-in host.
    PullRequest,
    /// An issue.
    Issue,
    /// A check.
    Check,
    /// A release.
    Release,
    /// A commit.
    Commit,
}

impl ThingKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::PullRequest => "pull request",
            Self::Issue => "issue",
            Self::Check => "check",
            Self::Release => "release",
            Self::Commit => "commit",
        }
    }
}

/// An open pull request of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its number.
    pub number: u64,
    /// The key of the effect that made it; `None` when it does not say so any more.
    pub key: Option<String>,
}

/// A pull request at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Its newest commit.
    pub head: Commit,
    /// Its branch.
    pub branch: Branch,
    /// The branch that it wants to change.
    pub base: Branch,
    /// Whether its branch is in another repository.
    pub from_fork: bool,
    /// Who opened it.
    pub author: String,
    /// That account's number, where the forge tells it.
    pub author_id: Option<u64>,
    /// Whether it is open.
    pub open: bool,
    /// The ref of the repository that holds its commits, for those whose branch is elsewhere too.
    pub reference: String,
    /// The same object that `event.pull_request` of its own events shows.
    pub payload: serde_json::Value,
}

/// An effect was not performed, or a question not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ForgeError {
    /// What happened, for people.
    pub message: String,
    /// Whether trying again may help.
    pub retry: crate::Retry,
    /// Not before this moment, where the forge says so; it does not count as an attempt then.
    pub not_before: Option<Timestamp>,
}

impl ForgeError {
    /// It is not allowed, and trying again will not help.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: crate::Retry::Never, not_before: None }
    }

    /// It may go better another time.
    pub fn later(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: crate::Retry::Later, not_before: None }
    }
}
