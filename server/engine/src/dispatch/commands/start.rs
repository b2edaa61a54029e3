//! Commands that start runs: `run`, a daemon's own word, and `approve`.

use domain::event::Event;
use domain::name::DaemonId;
use domain::run::{ConcurrencyBehavior, Standing};
use domain::suggest::code;
use ports::store::runs::{NewRun, Priority};
use serde_json::{Map, Value as Json};

use super::{Heard, Hearing};
use crate::dispatch::answers;
use crate::dispatch::consider::{Consent, Considered, consider};
use crate::dispatch::ordered::Ordered;
use crate::dispatch::subject::{About, Scene, Undecided};
use crate::dispatch::waiting::waiting;
use crate::dispatch::{Candidate, candidates};
use crate::group;

/// How many events of a pull request are looked through for what waits for approval.
const LOOKED: u32 = 50;

impl Hearing<'_, '_> {
    /// `run ID [input=value …]`
    pub(super) async fn run(
        &mut self,
        daemon: &DaemonId,
        given: &Map<String, Json>,
    ) -> Result<Heard, Undecided> {
        let Some(candidate) = self.candidate(daemon, given) else {
            return Ok(Heard::Refused(format!("There is no daemon `{daemon}` on `{}`.", self.home.branch)));
        };
        let new = match self.ordered(&candidate).await? {
            Ok(new) => new,
            Err(reason) => {
                self.decision.record(&candidate, None, reason.clone());
                return Ok(Heard::Refused(format!("`{daemon}` does not run: {reason}.")));
            }
        };
        let said = self.place(&new).await?;
        let matched = format!("{} commands it", self.scene.event.actor.name);
        self.decision.add(&candidate, Considered::Run(Box::new(new)), &matched);
        Ok(Heard::Done(said))
    }

    /// The run that somebody asks for by name, whatever the daemon's triggers say.
    async fn ordered(&self, candidate: &Candidate) -> Result<Result<NewRun, String>, Undecided> {
        if let About::Lost(reason) = &self.scene.about {
            return Ok(Err(reason.clone()));
        }
        let Candidate { head, revision, given } = candidate;
        let ordered = Ordered { scene: self.scene, head, revision, given };
        let (run, manifest) = match ordered.run(std::time::Duration::ZERO).await? {
            Ok(ordered) => ordered,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some((stage, what)) = manifest::unsupported_stages(&manifest).first() {
            return Ok(Err(format!("this version cannot run stage `{stage}`: it cannot run {what} yet")));
        }
        match group::of(&manifest, &run, Some(&self.scene.event)) {
            Err(error) => Ok(Err(format!("`concurrency`: {error}"))),
            Ok(concurrency) => {
                Ok(Ok(NewRun { run, concurrency, replaces: None, priority: Priority::Interactive }))
            }
        }
    }

    /// A daemon's own word: what its trigger says holds.
    pub(super) async fn own(&mut self, word: &str, given: &Map<String, Json>) -> Result<Heard, Undecided> {
        let heard = self.scene.event.clone();
        if let Json::Object(payload) = &mut self.scene.event.payload {
            payload.insert("command".to_owned(), Json::from(word));
        }
        let (mut said, mut refused, mut started) = (Vec::new(), Vec::new(), false);
        for daemon in self.with_word(word) {
            let Some(candidate) = self.candidate(&daemon, given) else { continue };
            let considered = consider(self.scene, &candidate, Consent::OfActor).await?;
            match &considered {
                Considered::Run(new) => {
                    started = true;
                    said.extend(self.place(new).await?);
                }
                Considered::Waits(_) => refused.push(format!(
                    "`{daemon}` does not run: the pull request is a stranger's, and only who may write lets it."
                )),
                Considered::No(reason) => refused.push(format!("`{daemon}` does not run: {reason}.")),
            }
            let matched = format!("{} commands it", self.scene.event.actor.name);
            self.decision.add(&candidate, considered, &matched);
        }
        // Two words in one comment are two commands.
        self.scene.event = heard;
        said.extend(refused);
        let said = (!said.is_empty()).then(|| said.join("\n"));
        Ok(if started { Heard::Done(said) } else { Heard::Refused(said.unwrap_or_default()) })
    }

    /// `approve SHA`: starts what waits for it, for just this commit.
    pub(super) async fn approve(&mut self, commit: &str) -> Result<Heard, Undecided> {
        let refused = |reason: String| Ok(Heard::Refused(reason));
        let pull = match &self.scene.about {
            About::Pull(pull) => pull.clone(),
            About::Nothing => return refused("There is no pull request here to approve.".to_owned()),
            About::Lost(reason) => return refused(format!("Nothing is approved: {reason}.")),
        };
        let head = pull.subject.commit.as_str();
        if !head.starts_with(commit) {
            let short = &head[..12];
            return refused(format!(
                "{} is not the newest commit: it has moved since. Look at `{short}`, and approve that.",
                code(commit)
            ));
        }
        if !pull.now.open {
            return refused("The pull request is closed.".to_owned());
        }
        if pull.subject.standing == Standing::Member {
            return refused("This pull request needs no approval: it is the work of a member.".to_owned());
        }
        let mut said = Vec::new();
        let (repository, number) = (self.scene.repository.id, pull.subject.number);
        for (event, daemon) in waiting(self.scene.world, repository, Some(number), LOOKED).await? {
            said.extend(self.approved(&event, &daemon).await?);
        }
        if self.decision.runs.is_empty() && said.is_empty() {
            return refused(format!("Nothing waits for `{}`.", &head[..12]));
        }
        let approved = answers::approved(self.scene, &pull);
        self.decision.effects.push(approved);
        Ok(Heard::Done((!said.is_empty()).then(|| said.join("\n"))))
    }

    /// Starts a daemon for the event that it waits with.
    async fn approved(&mut self, event: &Event, daemon: &DaemonId) -> Result<Option<String>, Undecided> {
        let mut then = Scene::new(self.scene.world, self.scene.repository.clone(), event.clone());
        then.about = self.scene.about.clone();
        // The files that it changes now are those that count.
        then.event.paths.clear();
        then.meet_paths().await?;
        let found =
            candidates(&then).await?.into_iter().find(|candidate| candidate.revision.daemon == *daemon);
        let Some(candidate) = found else { return Ok(None) };
        match consider(&then, &candidate, Consent::Given).await? {
            Considered::Run(new) => {
                let said = self.place(&new).await?;
                let matched = format!("{} approves it", self.scene.event.actor.name);
                self.decision.add(&candidate, Considered::Run(new), &matched);
                Ok(said)
            }
            Considered::Waits(reason) | Considered::No(reason) => {
                Ok(Some(format!("`{daemon}` does not run: {reason}.")))
            }
        }
    }

    /// Where a run stands in the line of its group, when it does not begin at once.
    pub(super) async fn place(&self, new: &NewRun) -> Result<Option<String>, Undecided> {
        let Some(group) = &new.concurrency else { return Ok(None) };
        let stored = self.scene.world.store.run_group(new.run.repository, &group.key).await?;
        let same = |other: &&NewRun| other.concurrency.as_ref().is_some_and(|other| other.key == group.key);
        let ours = u32::try_from(self.decision.runs.iter().filter(same).count()).unwrap_or(u32::MAX);
        let active = stored.saturating_add(ours);
        if active < group.limit {
            return Ok(None);
        }
        Ok(match group.behavior {
            ConcurrencyBehavior::Queue => Some(answers::queued(&new.run, active - group.limit + 1)),
            ConcurrencyBehavior::Fail => Some(answers::full(&new.run, group.limit)),
            ConcurrencyBehavior::Cancel => None,
        })
    }
}
