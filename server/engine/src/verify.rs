//! Proof of what the server is said to have written: whether something on a forge is what the server's own record has
//! there. A marker is only a claim, which anybody can copy; the record knows at which address it wrote what.

use std::fmt;

use domain::effect::{Author, Effect, EffectKind, EffectStatus, Provenance, Written, print};
use domain::id::RunId;
use domain::marker::{Marker, Trailers};
use domain::name::Commit;
use domain::repository::{Origin, Repository};
use ports::Retry;
use ports::forge::{Thing, ThingKind};
use ports::store::StoreError;

use crate::refusal::{Refusal, RefusalKind};
use crate::why;
use crate::world::World;

/// So many effects of one key are looked through: later ones have written over the earlier.
const LOOKED: u32 = 50;

/// What came of looking.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// What is there.
    pub thing: Thing,
    /// The repository.
    pub repository: Repository,
    /// What it says of itself.
    pub claim: Option<Claim>,
    /// What the record has for it.
    pub effect: Option<Effect>,
    /// Why it is not proved; nothing when it is.
    pub doubts: Vec<Doubt>,
}

impl Proof {
    /// Whether it is what the server wrote, as it wrote it.
    pub const fn is_proved(&self) -> bool {
        self.doubts.is_empty()
    }
}

/// What something says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The run.
    pub run: Option<RunId>,
    /// The daemon.
    pub daemon: Option<String>,
    /// The commit that it ran.
    pub commit: Option<String>,
    /// The tree of its directory.
    pub digest: Option<String>,
}

impl From<&Marker> for Claim {
    fn from(marker: &Marker) -> Self {
        let Marker { run, daemon, commit, digest, .. } = marker.clone();
        Self { run, daemon, commit, digest }
    }
}

impl From<&Trailers> for Claim {
    fn from(trailers: &Trailers) -> Self {
        let Trailers { run, daemon, commit, digest } = trailers.clone();
        Self { run: Some(run), daemon: Some(daemon), commit: Some(commit), digest: Some(digest) }
    }
}

/// Why something is not proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It does not say that it is the server's.
    Unmarked,
    /// It is for another repository than the one that it is in.
    OtherRepository(String),
    /// The server never had the run.
    UnknownRun(RunId),
    /// The server never wanted such a thing.
    UnknownEffect(String),
    /// The server wanted it and did not do it, as far as it knows.
    NotPerformed(&'static str),
    /// The server wrote it elsewhere: this is a copy.
    Copied {
        /// Where.
        from: String,
        /// By whose account.
        own: Option<bool>,
    },
    /// It does not say any more what the server wrote.
    Edited,
    /// The server has written something else over it since, and somebody put it back.
    PutBack,
    /// The server made no such commit for the run.
    OtherCommit(RunId),
    /// Commits that the server did not make came to the pull request.
    Moved(Commit),
    /// It names something else than the record does.
    Differs {
        /// What: `daemon`.
        what: &'static str,
        /// By its own words.
        claimed: String,
        /// By the record.
        recorded: String,
    },
}

impl Doubt {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unmarked => "unmarked",
            Self::OtherRepository(_) => "other_repository",
            Self::UnknownRun(_) => "unknown_run",
            Self::UnknownEffect(_) => "unknown_effect",
            Self::NotPerformed(_) => "not_performed",
            Self::Copied { .. } => "copied",
            Self::Edited => "edited",
            Self::PutBack => "put_back",
            Self::OtherCommit(_) => "other_commit",
            Self::Moved(_) => "moved",
            Self::Differs { .. } => "differs",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmarked => f.write_str("it does not say that this server wrote it"),
            Self::OtherRepository(named) => {
                write!(f, "it is for the repository {}, and stands in another", quoted(named))
            }
            Self::UnknownRun(run) => write!(f, "this server never had a run {run}"),
            Self::UnknownEffect(key) => {
                write!(f, "this server's record has nothing under the key {} that it names", quoted(key))
            }
            Self::NotPerformed(status) => {
                write!(f, "this server wanted to write it and has not done so: it is {status}")
            }
            Self::Copied { from, own: Some(false) } => {
                write!(f, "another account wrote it, with the words that this server wrote at {from}")
            }
            Self::Copied { from, .. } => write!(f, "it is a copy of what this server wrote at {from}"),
            Self::Edited => f.write_str("it was edited since this server wrote it"),
            Self::PutBack => {
                f.write_str("this server has written something newer in its place; somebody put it back")
            }
            Self::OtherCommit(run) => write!(
                f,
                "this server made no such commit for {run}: it was rebased, amended, squashed or made by somebody else"
            ),
            Self::Moved(head) => write!(
                f,
                "its newest commit, {}, is not this server's: somebody pushed since",
                &head.as_str()[..12]
            ),
            Self::Differs { what, claimed, recorded } => {
                write!(f, "it names the {what} {}, and the record has {recorded}", quoted(claimed))
            }
        }
    }
}

/// Looks whether what is at an address is what this server wrote there. Addresses of the built-in host are paths.
///
/// # Errors
/// When there is no such address, or the forge or the store do not answer.
pub async fn verify(world: &World, url: &str) -> Result<Proof, Refusal> {
    let repository = repository(world, url).await?;
    let thing = world.forge.look(&repository, url).await.map_err(|error| {
        let kind = match error.retry {
            Retry::Later => RefusalKind::Unavailable,
            Retry::Never => RefusalKind::Conflict,
        };
        let message = format!("the forge does not say what is there: {}", error.message);
        Refusal { kind, code: "forge_unavailable", message }
    })?;
    let thing = thing.ok_or_else(|| {
        let message =
            "there is no comment, pull request, check, issue, release or commit at this address, or this server may not see it";
        Refusal::not_found("nothing_there", message)
    })?;
    let mut proof = Proof { thing, repository, claim: None, effect: None, doubts: Vec::new() };
    match proof.thing.kind {
        ThingKind::Commit => proof.compare_commit(world).await?,
        _ => proof.compare_text(world).await?,
    }
    Ok(proof)
}

/// The repository that an address is in: with a host, the one that is there; else by its name here.
async fn repository(world: &World, url: &str) -> Result<Repository, Refusal> {
    let (host, path) = match url.split_once("://") {
        Some((_, address)) => {
            let (host, path) = address.split_once('/').unwrap_or((address, ""));
            (Some(host.rsplit('@').next().unwrap_or(host).to_lowercase()), path)
        }
        None => (None, url),
    };
    let path = path.split(['#', '?']).next().unwrap_or(path);
    let Some((path, _)) = why::in_repository(path) else {
        return Err(Refusal::invalid("url_invalid", "it is not the address of something in a repository"));
    };
    let thread = why::Thread { host, path, number: 0, is_issue: false };
    let found = why::repository(world, &thread).await?;
    let is_here = thread.host.is_some() || found.origin == Origin::Hosted || found.origin.place().is_none();
    if is_here {
        return Ok(found);
    }
    let message = format!("{} is on another forge: give the whole address", found.path);
    Err(Refusal::invalid("url_invalid", message))
}

impl Proof {
    /// Compares a text with the one that was written there.
    async fn compare_text(&mut self, world: &World) -> Result<(), StoreError> {
        let Some(marker) = Marker::find(&self.thing.text) else {
            self.doubts.push(Doubt::Unmarked);
            return Ok(());
        };
        self.claim = Some(Claim::from(&marker));
        if marker.repository != self.repository.path.to_string() {
            self.doubts.push(Doubt::OtherRepository(marker.repository));
            return Ok(());
        }
        let found = match self.recorded(world, &marker).await? {
            Err(doubt) => {
                self.doubts.push(doubt);
                return Ok(());
            }
            Ok(effects) => effects,
        };
        match found.iter().find_map(|effect| Some((effect, self.written_here(effect)?))) {
            Some((effect, written)) => {
                if written.print != print(&self.thing.text) {
                    self.doubts.push(Doubt::Edited);
                }
                let same_key = world.store.effect_keyed(self.repository.id, &effect.key, LOOKED).await?;
                let last = same_key.iter().find(|effect| self.written_here(effect).is_some());
                if last.is_some_and(|last| last.id != effect.id) {
                    self.doubts.push(Doubt::PutBack);
                }
                self.effect = Some(effect.clone());
                self.compare_provenance(effect.author.provenance().cloned().as_ref());
                self.compare_head();
            }
            None => self.doubts.push(self.elsewhere(&found)),
        }
        Ok(())
    }

    /// What an effect wrote at the address.
    fn written_here<'e>(&self, effect: &'e Effect) -> Option<&'e Written> {
        written(effect).iter().find(|written| written.url == self.thing.url)
    }

    /// What the record has under what a marker names, the newest first.
    async fn recorded(
        &self,
        world: &World,
        marker: &Marker,
    ) -> Result<Result<Vec<Effect>, Doubt>, StoreError> {
        let (of_key, of_text) = (marker.key.as_str(), whole_key(&marker.key));
        let effects = match marker.run {
            Some(run) if world.store.run_get(run).await?.is_none() => return Ok(Err(Doubt::UnknownRun(run))),
            Some(run) => world.store.effect_list(run).await?.into_iter().rev().collect(),
            None => {
                let mut effects = world.store.effect_keyed(self.repository.id, of_key, LOOKED).await?;
                if let Some(key) = of_text {
                    effects.extend(world.store.effect_keyed(self.repository.id, key, LOOKED).await?);
                }
                effects
            }
        };
        let same = |effect: &Effect| {
            effect.repository == self.repository.id
                && (effect.key == of_key || Some(effect.key.as_str()) == of_text)
                && matches!(
                    (&effect.author, marker.run, marker.act),
                    (Author::Run(_), Some(_), None) | (Author::Server { .. }, None, Some(_))
                )
        };
        let effects: Vec<Effect> = effects.into_iter().filter(same).collect();
        Ok(if effects.is_empty() { Err(Doubt::UnknownEffect(marker.key.clone())) } else { Ok(effects) })
    }

    /// Why the record has a text of these effects, and not here.
    fn elsewhere(&self, effects: &[Effect]) -> Doubt {
        if let Some(written) = effects.iter().flat_map(written).next() {
            return Doubt::Copied { from: written.url.clone(), own: self.thing.own };
        }
        Doubt::NotPerformed(match effects.first().map(|effect| &effect.status) {
            Some(EffectStatus::Staged) => "staged, to be shown only",
            Some(EffectStatus::Pending { .. }) => "pending",
            Some(EffectStatus::Refused { .. }) => "refused",
            Some(EffectStatus::Done { .. }) | None => "done, and left no text",
        })
    }

    /// Compares a commit with those that the run made which it names.
    async fn compare_commit(&mut self, world: &World) -> Result<(), StoreError> {
        let Some(trailers) = Trailers::find(&self.thing.text) else {
            self.doubts.push(Doubt::Unmarked);
            return Ok(());
        };
        self.claim = Some(Claim::from(&trailers));
        let Some(run) = world.store.run_get(trailers.run).await? else {
            self.doubts.push(Doubt::UnknownRun(trailers.run));
            return Ok(());
        };
        if run.repository != self.repository.id {
            let named = world.store.repository_get(run.repository).await?;
            let named = named.map_or_else(|| run.repository.to_string(), |named| named.path.to_string());
            self.doubts.push(Doubt::OtherRepository(named));
            return Ok(());
        }
        let effects = world.store.effect_list(run.id).await?;
        let made = |effect: &&Effect| {
            made(&effect.kind).is_some() && made(&effect.kind) == self.thing.commit.as_ref()
        };
        self.effect = effects.iter().find(made).cloned();
        if self.effect.is_none() {
            self.doubts.push(Doubt::OtherCommit(run.id));
        }
        self.compare_provenance(Some(&crate::report::provenance(&run)));
        Ok(())
    }

    /// Compares what is named with what is recorded.
    fn compare_provenance(&mut self, recorded: Option<&Provenance>) {
        let (Some(claim), Some(run)) = (&self.claim, recorded) else { return };
        let pairs = [
            ("daemon", &claim.daemon, run.daemon.to_string()),
            ("commit", &claim.commit, run.commit.to_string()),
            ("digest", &claim.digest, run.digest.to_string()),
        ];
        for (what, claimed, recorded) in pairs {
            if claimed.as_deref() != Some(recorded.as_str()) {
                let claimed = claimed.clone().unwrap_or_default();
                self.doubts.push(Doubt::Differs { what, claimed, recorded });
            }
        }
    }

    /// Looks whether a pull request still ends with the commit that was offered.
    fn compare_head(&mut self) {
        let offered = self.effect.as_ref().and_then(|effect| made(&effect.kind));
        if let (ThingKind::PullRequest, Some(head), Some(offered)) =
            (self.thing.kind, &self.thing.commit, offered)
            && head != offered
        {
            self.doubts.push(Doubt::Moved(head.clone()));
        }
    }
}

/// The commit that an effect brings to the forge.
const fn made(kind: &EffectKind) -> Option<&Commit> {
    match kind {
        EffectKind::CreatePullRequest { commit, .. } | EffectKind::PushToPullRequestBranch { commit, .. } => {
            Some(commit)
        }
        _ => None,
    }
}

/// What an effect wrote, and where.
fn written(effect: &Effect) -> &[Written] {
    match &effect.status {
        EffectStatus::Done { receipt } => &receipt.written,
        EffectStatus::Staged | EffectStatus::Pending { .. } | EffectStatus::Refused { .. } => &[],
    }
}

/// The key of the text that a part of one bears: `key#2` is the second part of `key`.
fn whole_key(key: &str) -> Option<&str> {
    let (whole, number) = key.rsplit_once('#')?;
    number.parse::<u32>().is_ok().then_some(whole)
}

/// What somebody else may have written, so that it stays within its quotation marks.
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() && *c != '`').take(200).collect();
    format!("`{text}`")
}
