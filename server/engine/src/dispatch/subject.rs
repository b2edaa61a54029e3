//! What an event is about, as far as only its forge knows: what the one who made it happen may do, and the pull
//! request as it is now, with its commits at hand.
//!
//! Whose work a pull request is decides what a run for it may do: a member's is the repository's own; with a
//! stranger's, secrets stay away, nothing is written but comments and checks, and somebody who may write has to
//! say that it may run at all.

use std::collections::BTreeMap;

use domain::effect::{Act, Effect, EffectKind};
use domain::event::{Event, EventKind};
use domain::name::{Branch, Commit};
use domain::repository::{BranchHead, BranchRole, Repository};
use domain::run::{Run, Standing, Subject};
use domain::time::Timestamp;
use domain::trigger::{WRITE, reaches};
use domain::value::Taint;
use ports::Retry;
use ports::forge::{Account, ForgeError, PullRequest};
use ports::source::{SourceError, View};
use ports::store::StoreError;
use serde_json::{Value as Json, json};

use crate::effects;
use crate::refusal::Refusal;
use crate::watch::remote;
use crate::world::World;

/// The longest diff that a daemon is shown, bytes.
const LONGEST_DIFF: usize = 200 << 10;
/// What stands where it is cut.
const CUT: &str = "… the diff is cut here: it is longer than 200 KiB";

/// An event cannot be decided now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A forge, or a remote, does not.
    #[error("{message}")]
    Away {
        /// What it says.
        message: String,
        /// When it may be asked again, where it says so.
        not_before: Option<Timestamp>,
    },
}

/// An event, with what was asked about it.
#[derive(Debug)]
pub(crate) struct Scene<'w> {
    pub(crate) world: &'w World,
    pub(crate) repository: Repository,
    /// The event, with what is known by now.
    pub(crate) event: Event,
    pub(crate) about: About,
    roles: BTreeMap<String, Option<String>>,
    own: Option<Account>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum About {
    /// No pull request, or one that nobody asked about yet.
    Nothing,
    /// A pull request whose commits are here.
    Pull(Box<Pull>),
    /// A pull request that cannot be worked on, and why.
    Lost(String),
}

/// A pull request as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pull {
    pub(crate) now: PullRequest,
    pub(crate) subject: Subject,
}

impl<'w> Scene<'w> {
    pub(crate) fn new(world: &'w World, repository: Repository, event: Event) -> Self {
        Self { world, repository, event, about: About::Nothing, roles: BTreeMap::new(), own: None }
    }

    /// The pull request.
    pub(crate) fn pull(&self) -> Option<&Pull> {
        match &self.about {
            About::Pull(pull) => Some(pull),
            About::Nothing | About::Lost(_) => None,
        }
    }

    /// Something that the server wants here.
    pub(crate) fn wish(&self, act: Act, key: String, kind: EffectKind) -> Effect {
        effects::own(self.world, self.repository.id, act, key, kind)
    }

    /// What an account may do here, asked of the forge once for each event.
    pub(crate) async fn role(&mut self, account: &str) -> Result<Option<String>, Undecided> {
        if let Some(known) = self.roles.get(account) {
            return Ok(known.clone());
        }
        let role = match self.world.forge.role(&self.repository, account).await {
            Ok(role) => role,
            Err(error) => {
                later(error).map(|message| tracing::warn!(account, "no role is known: {message}"))?;
                None
            }
        };
        self.roles.insert(account.to_owned(), role.clone());
        Ok(role)
    }

    /// The server's own account here, as far as it is known.
    pub(crate) const fn own(&self) -> Option<&Account> {
        self.own.as_ref()
    }

    /// Learns which account here is the server's own. What that does is a program's doing, also where its forge
    /// takes it for a person, and where nobody knew yet when the event came.
    pub(crate) async fn meet_own(&mut self) -> Result<(), Undecided> {
        if self.own.is_some() {
            return Ok(());
        }
        self.own = match self.world.forge.own_account(&self.repository).await {
            Ok(own) => own,
            Err(error) => {
                later(error).map(|message| tracing::warn!("the own account is not known: {message}"))?;
                None
            }
        };
        let sender = self.event.payload.pointer("/sender/id").and_then(Json::as_u64);
        if self.own.as_ref().is_some_and(|own| own.is(sender, &self.event.actor.name)) {
            self.event.actor.bot = true;
        }
        Ok(())
    }

    /// Learns what the one who made it happen may do; of events that forges tell nobody knows before.
    pub(crate) async fn meet_actor(&mut self) -> Result<(), Undecided> {
        let asks = match self.event.kind {
            EventKind::Comment
            | EventKind::PullRequest
            | EventKind::Issues
            | EventKind::Label
            | EventKind::Release
            | EventKind::CheckSuite => true,
            EventKind::Push
            | EventKind::Schedule
            | EventKind::Webhook
            | EventKind::Daemon
            | EventKind::Manual => false,
        };
        if asks {
            self.meet_own().await?;
        }
        if asks && self.event.actor.role.is_none() && !self.event.actor.bot {
            let name = self.event.actor.name.clone();
            self.event.actor.role = self.role(&name).await?;
        }
        Ok(())
    }

    /// Whether the one who made it happen may write here.
    pub(crate) fn is_by_writer(&self) -> bool {
        self.event.actor.role.as_deref().is_some_and(|role| reaches(role, WRITE))
    }

    /// Learns about the pull request that the event is about, and brings its commits here.
    pub(crate) async fn meet_pull(&mut self) -> Result<(), Undecided> {
        if self.event.kind == EventKind::Daemon {
            return self.inherit().await;
        }
        let Some(number) = self.event.thread().filter(|_| is_about_pull(&self.event)) else { return Ok(()) };
        let on_forge = self.repository.origin.place().is_some();
        let now = match self.world.forge.pull_request(&self.repository, number).await {
            Ok(Some(now)) => now,
            Ok(None) if !on_forge => return Ok(()),
            Ok(None) => {
                self.about = About::Lost(format!("there is no pull request #{number} any more"));
                return Ok(());
            }
            Err(error) => {
                self.about = About::Lost(later(error)?);
                return Ok(());
            }
        };
        self.about = match self.bring(&now).await? {
            Err(reason) => About::Lost(reason),
            Ok(commit) => {
                let standing = self.standing(&now).await?;
                self.learn(&now);
                let (branch, base) = (now.branch.clone(), now.base.clone());
                let subject = Subject { number, commit, branch, base, standing };
                About::Pull(Box::new(Pull { now, subject }))
            }
        };
        Ok(())
    }

    /// What a daemon begins that waited for another works on the same as that one.
    async fn inherit(&mut self) -> Result<(), Undecided> {
        let run = self.event.payload.pointer("/run/id").and_then(Json::as_str);
        let Some(run) = run.and_then(|id| id.parse().ok()) else { return Ok(()) };
        let subject = self.world.store.run_get(run).await?.and_then(|run| run.subject);
        if let Some(subject) = subject {
            let now = PullRequest {
                number: subject.number,
                head: subject.commit.clone(),
                branch: subject.branch.clone(),
                base: subject.base.clone(),
                from_fork: subject.standing == Standing::Stranger,
                author: String::new(),
                author_id: None,
                open: true,
                reference: String::new(),
                payload: Json::Null,
            };
            self.about = About::Pull(Box::new(Pull { now, subject }));
        }
        Ok(())
    }

    /// Brings the commits of a pull request here; its newest one, or why they cannot be had.
    async fn bring(&self, pull: &PullRequest) -> Result<Result<Commit, String>, Undecided> {
        let remote = match remote::of(self.world, &self.repository).await {
            Ok(Some(remote)) => remote,
            Ok(None) => return Ok(Ok(pull.head.clone())),
            Err(error) => return unreached(&error).map(Err),
        };
        match self.world.source.bring(self.repository.id, &remote, &pull.reference).await {
            Ok(commit) => Ok(Ok(commit)),
            Err(error) => unreached(&error).map(Err),
        }
    }

    /// Whose work a pull request is.
    async fn standing(&mut self, pull: &PullRequest) -> Result<Standing, Undecided> {
        if pull.from_fork {
            return Ok(Standing::Stranger);
        }
        self.meet_own().await?;
        if self.own.as_ref().is_some_and(|own| own.is(pull.author_id, &pull.author)) {
            return Ok(Standing::Member);
        }
        let role = self.role(&pull.author).await?;
        let writes = role.is_some_and(|role| reaches(&role, WRITE));
        Ok(if writes { Standing::Member } else { Standing::Stranger })
    }

    /// Shows the pull request in events that do not show it themselves.
    fn learn(&mut self, pull: &PullRequest) {
        if let Json::Object(payload) = &mut self.event.payload
            && !payload.get("pull_request").is_some_and(Json::is_object)
        {
            payload.insert("pull_request".to_owned(), pull.payload.clone());
        }
    }

    /// Learns which files a pull request changes.
    pub(crate) async fn meet_paths(&mut self) -> Result<(), Undecided> {
        let Some(pull) = self.pull().filter(|_| self.event.paths.is_empty()) else { return Ok(()) };
        let subject = pull.subject.clone();
        let changed = async {
            let base = base(self.world, &self.repository, &subject).await?;
            let view = View::of(self.repository.id);
            self.world.source.changes(&view, base.as_ref(), &subject.commit).await
        };
        match changed.await {
            Ok(changes) => self.event.paths = changes.into_iter().map(|change| change.path).collect(),
            Err(error) => self.about = About::Lost(unreached(&error)?),
        }
        Ok(())
    }

    /// The deployed branch whose daemons work on what the event is about: the one that the pull request wants
    /// to change, else the default branch.
    pub(crate) async fn home(&self) -> Result<Option<BranchHead>, Undecided> {
        let mut heads = self.world.store.branch_list(self.repository.id).await?;
        heads.retain(|head| head.role == BranchRole::Deploy);
        let find = |branch: &Branch| heads.iter().find(|head| head.branch == *branch);
        let wanted = self.pull().and_then(|pull| find(&pull.subject.base));
        let home = wanted.or_else(|| find(&self.repository.default_branch)).or_else(|| heads.first());
        Ok(home.cloned())
    }
}

/// Whether an event is about a pull request: not every thread is one.
pub(crate) fn is_about_pull(event: &Event) -> bool {
    event.kind == EventKind::PullRequest
        || event.payload.get("pull_request").is_some_and(Json::is_object)
        || event.payload.pointer("/issue/pull_request").and_then(Json::as_bool) == Some(true)
        || event.payload.pointer("/comment/kind").and_then(Json::as_str) == Some("review")
}

/// Where a pull request left the branch that it wants to change.
///
/// # Errors
/// When git cannot tell.
pub(crate) async fn base(
    world: &World,
    repository: &Repository,
    subject: &Subject,
) -> Result<Option<Commit>, SourceError> {
    let branches = world.source.branches(repository.id).await?;
    let Some((_, head)) = branches.into_iter().find(|(branch, _)| *branch == subject.base) else {
        return Ok(None);
    };
    world.source.merge_base(repository.id, &head, &subject.commit).await
}

/// Shows in an event what the pull request changes: from where it left its base to its head.
///
/// # Errors
/// When git cannot tell.
pub(crate) async fn show_diff(world: &World, run: &Run, event: &mut Event) -> Result<(), Refusal> {
    let (Some(subject), Json::Object(payload)) = (&run.subject, &mut event.payload) else { return Ok(()) };
    let Some(repository) = world.store.repository_get(run.repository).await? else { return Ok(()) };
    let patch = match base(world, &repository, subject).await? {
        None => String::new(),
        Some(base) => {
            let diff = world.source.diff(repository.id, &base, &subject.commit, LONGEST_DIFF).await?;
            if diff.truncated { format!("{}\n{CUT}", diff.patch) } else { diff.patch }
        }
    };
    let pull = payload.entry("pull_request").or_insert_with(|| json!({}));
    if let Json::Object(pull) = pull {
        pull.insert("diff".to_owned(), Json::from(patch));
    }
    event.taint = Taint::External;
    Ok(())
}

/// What a forge says for good; what it may say otherwise another time is no decision.
fn later(error: ForgeError) -> Result<String, Undecided> {
    match error.retry {
        Retry::Later => Err(Undecided::Away { message: error.message, not_before: error.not_before }),
        Retry::Never => Ok(error.message),
    }
}

/// What git says for good.
fn unreached(error: &SourceError) -> Result<String, Undecided> {
    match error {
        SourceError::NotFound(_) | SourceError::Refused(_) => {
            Ok(format!("the commits of the pull request cannot be had: {error}"))
        }
        SourceError::Unreachable(_) | SourceError::Unauthorized(_) | SourceError::Broken(_) => {
            Err(Undecided::Away { message: error.to_string(), not_before: None })
        }
    }
}
