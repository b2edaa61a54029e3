//! Comments: what is asked for in them, by whom, and what comes of it. Everything that a comment starts or changes,
//! the sign that it was seen, and the one answer to it are stored in one transaction with its dispatch; what cannot
//! be (a cancellation) may be done twice.

mod ask;
mod start;
mod steer;

use domain::command::{self, Command, Language};
use domain::effect::{Act, CommentKind, CommentRef, CommentTarget, EffectKind, Reaction};
use domain::event::EventKind;
use domain::name::{Branch, DaemonId};
use domain::repository::{BranchHead, BranchRole};
use domain::revision::{Revision, RevisionContent};
use domain::trigger::{TriggerKind, WRITE, reaches};
use ports::forge::Account;
use ports::store::StoreError;
use serde_json::{Map, Value as Json};

use crate::dispatch::answers;
use crate::dispatch::subject::{Scene, Undecided, is_about_pull};
use crate::dispatch::{Candidate, Decision, by_triggers, candidates};

/// The role of those who may ask how things are.
const READ: &str = "read";

/// What a comment leads to.
pub(crate) async fn decide(scene: &mut Scene<'_>) -> Result<Decision, Undecided> {
    let Some(comment) = Comment::of(scene) else { return Ok(Decision::default()) };
    scene.meet_own().await?;
    // Answers of programs, ours among them, would be heard without end.
    let deaf = if scene.event.actor.bot {
        Some("what programs say starts nothing")
    } else if scene.event.action.as_deref().is_some_and(|action| action != "created") {
        Some("only a new comment starts something")
    } else {
        None
    };
    if let Some(reason) = deaf {
        let mut decision = Decision::default();
        for candidate in candidates(scene).await? {
            decision.record(&candidate, None, reason.to_owned());
        }
        return Ok(decision);
    }
    let commands = !Vocabulary::of(scene, None).await?.read(scene, &comment.body).is_empty();
    if !commands && candidates(scene).await?.is_empty() {
        return Ok(Decision::default());
    }
    scene.meet_actor().await?;
    if is_about_pull(&scene.event) {
        scene.meet_pull().await?;
    }
    let Some(home) = scene.home().await? else { return Ok(Decision::default()) };
    scene.event.branch = Some(home.branch.clone());
    if !commands {
        return by_triggers(scene).await;
    }
    let vocabulary = Vocabulary::of(scene, Some(home.branch.clone())).await?;
    let lines = vocabulary.read(scene, &comment.body);
    let mut hearing =
        Hearing { scene, comment, home, vocabulary, decision: Decision::default(), taken: false };
    if hearing.scene.event.actor.role.as_deref().is_some_and(|role| reaches(role, READ)) {
        hearing.obey(lines).await?;
    } else {
        hearing.refuse(&lines);
    }
    Ok(hearing.decision)
}

/// A comment that may hold commands.
#[derive(Debug)]
struct Comment {
    reference: CommentRef,
    body: String,
}

impl Comment {
    fn of(scene: &Scene<'_>) -> Option<Self> {
        let body = scene.event.payload.pointer("/comment/body").and_then(Json::as_str).unwrap_or_default();
        Some(Self { reference: comment_of(&scene.event)?, body: body.to_owned() })
    }

    /// What tells it from all others of its repository.
    fn key(&self) -> String {
        let kind = match self.reference.kind {
            CommentKind::Issue => "issue",
            CommentKind::Review => "review",
        };
        format!("{kind}/{}", self.reference.id)
    }
}

/// The words of a repository's daemons.
#[derive(Debug)]
struct Vocabulary {
    revisions: Vec<Revision>,
    daemons: Vec<DaemonId>,
    words: Vec<String>,
}

impl Vocabulary {
    /// Of one branch, or of all that are deployed.
    async fn of(scene: &Scene<'_>, branch: Option<Branch>) -> Result<Self, StoreError> {
        let store = &scene.world.store;
        let branches = match branch {
            Some(branch) => vec![branch],
            None => {
                let heads = store.branch_list(scene.repository.id).await?.into_iter();
                heads.filter(|head| head.role == BranchRole::Deploy).map(|head| head.branch).collect()
            }
        };
        let mut revisions = Vec::new();
        for branch in branches {
            revisions.extend(store.revision_currents(scene.repository.id, &branch).await?);
        }
        revisions.retain(|revision| revision.content != RevisionContent::Removed);
        let mut words: Vec<String> = revisions.iter().flat_map(own_words).collect();
        words.sort();
        words.dedup();
        let daemons = revisions.iter().map(|revision| revision.daemon.clone()).collect();
        Ok(Self { revisions, daemons, words })
    }

    fn read(&self, scene: &Scene<'_>, comment: &str) -> Vec<command::Line> {
        let settings = &scene.world.settings;
        let language = Language {
            prefix: &settings.prefix,
            bot: settings.bot.as_deref().or_else(|| scene.own().map(Account::handle)),
            daemons: &self.daemons,
            words: &self.words,
        };
        command::read(comment, &language)
    }
}

/// The words that start a daemon.
fn own_words(revision: &Revision) -> Vec<String> {
    let RevisionContent::Valid { triggers, .. } = &revision.content else { return Vec::new() };
    let words = triggers.iter().filter_map(|trigger| match &trigger.on {
        TriggerKind::Comment { command } => command.clone(),
        _ => None,
    });
    words.collect()
}

/// A comment with commands, while they are obeyed.
struct Hearing<'h, 'w> {
    scene: &'h mut Scene<'w>,
    comment: Comment,
    /// The branch whose daemons are meant.
    home: BranchHead,
    vocabulary: Vocabulary,
    decision: Decision,
    /// Whether any command was understood and allowed.
    taken: bool,
}

/// What came of a command.
#[derive(Debug)]
enum Heard {
    /// It is done; there may be something to say.
    Done(Option<String>),
    /// It is not, and why.
    Refused(String),
}

impl Hearing<'_, '_> {
    async fn obey(&mut self, lines: Vec<command::Line>) -> Result<(), Undecided> {
        let several = lines.len() > 1;
        let mut answer = Vec::new();
        for line in lines {
            let said = match line.command {
                Err(mistake) => Some(mistake.to_string()),
                Ok(command) => match self.hear(command).await? {
                    Heard::Refused(reason) => Some(reason),
                    Heard::Done(said) => {
                        self.taken = true;
                        said
                    }
                },
            };
            if let Some(said) = said {
                let told = several && !line.text.is_empty();
                answer.push(if told { answers::to(&line.text, &said) } else { said });
            }
        }
        let reaction = if self.taken { Reaction::Eyes } else { Reaction::Confused };
        let receipt = self.receipt(reaction);
        self.decision.effects.push(receipt);
        if !answer.is_empty() {
            let key = format!("answer/{}", self.comment.key());
            let comment = self.says(answer.join("\n\n"));
            let answer = self.scene.wish(Act::Answer, key, comment);
            self.decision.effects.push(answer);
        }
        Ok(())
    }

    /// Does what a command asks for, if whoever asks may.
    async fn hear(&mut self, command: Command) -> Result<Heard, Undecided> {
        let role = self.scene.event.actor.role.clone().unwrap_or_default();
        if !reaches(&role, needed(&command)) {
            if let Some(daemon) = named(&command) {
                let reason = format!("{} may only read here", self.scene.event.actor.name);
                self.record(daemon, reason);
            }
            return Ok(Heard::Refused("That is for people who may write here.".to_owned()));
        }
        match command {
            Command::Run { daemon, given } => self.run(&daemon, &given).await,
            Command::Own { word, given } => self.own(&word, &given).await,
            Command::Approve { commit } => self.approve(&commit).await,
            Command::Retry { run } => self.retry(run).await,
            Command::Cancel { what } => self.cancel(what).await,
            Command::Pause { daemon } => self.pause(&daemon).await,
            Command::Resume { daemon } => self.resume(&daemon).await,
            Command::Status => self.status().await,
            Command::Why { daemon } => self.why(daemon.as_ref()).await,
            Command::Estimate { daemon, given } => self.estimate(daemon, &given).await,
            Command::Help => Ok(Heard::Done(Some(answers::help(self.scene, &self.vocabulary.words)))),
        }
    }

    /// Tells somebody whom the repository does not know, once in each thread, that nothing is done.
    fn refuse(&mut self, lines: &[command::Line]) {
        let name = self.scene.event.actor.name.clone();
        for line in lines {
            let daemons = match &line.command {
                Ok(Command::Own { word, .. }) => self.with_word(word),
                Ok(command) => named(command).into_iter().cloned().collect(),
                Err(_) => Vec::new(),
            };
            for daemon in daemons {
                self.record(&daemon, format!("{name} has no role here"));
            }
        }
        let thread = self.comment.reference.thread;
        let comment = self.says(answers::refused().to_owned());
        let answer = self.scene.wish(Act::Answer, format!("answer/{}", self.comment.key()), comment);
        let receipt = self.receipt(Reaction::Confused);
        self.decision.once.push((receipt, format!("stranger/{thread}/receipt")));
        self.decision.once.push((answer, format!("stranger/{thread}/answer")));
    }

    fn receipt(&self, reaction: Reaction) -> domain::effect::Effect {
        let kind = EffectKind::React { comment: self.comment.reference.clone(), reaction };
        self.scene.wish(Act::Receipt, format!("receipt/{}", self.comment.key()), kind)
    }

    fn says(&self, body: String) -> EffectKind {
        let target = CommentTarget::Thread { number: self.comment.reference.thread };
        EffectKind::AddComment { target, body, sticky: false }
    }

    /// The daemons that a word starts.
    fn with_word(&self, word: &str) -> Vec<DaemonId> {
        let with = self
            .vocabulary
            .revisions
            .iter()
            .filter(|revision| own_words(revision).iter().any(|own| own == word));
        with.map(|revision| revision.daemon.clone()).collect()
    }

    /// A daemon of the branch, with what it is given.
    fn candidate(&self, daemon: &DaemonId, given: &Map<String, Json>) -> Option<Candidate> {
        let revision = self.vocabulary.revisions.iter().find(|revision| revision.daemon == *daemon)?.clone();
        Some(Candidate { head: self.home.clone(), revision, given: given.clone() })
    }

    /// Records why a daemon was not started.
    fn record(&mut self, daemon: &DaemonId, reason: String) {
        if let Some(candidate) = self.candidate(daemon, &Map::new()) {
            self.decision.record(&candidate, None, reason);
        }
    }
}

/// The role that a command needs; a daemon's own word is for whom its trigger says.
const fn needed(command: &Command) -> &'static str {
    match command {
        Command::Status
        | Command::Why { .. }
        | Command::Estimate { .. }
        | Command::Help
        | Command::Own { .. } => READ,
        Command::Run { .. }
        | Command::Retry { .. }
        | Command::Cancel { .. }
        | Command::Approve { .. }
        | Command::Pause { .. }
        | Command::Resume { .. } => WRITE,
    }
}

/// The daemon that a command would start.
const fn named(command: &Command) -> Option<&DaemonId> {
    match command {
        Command::Run { daemon, .. } => Some(daemon),
        Command::Own { .. }
        | Command::Retry { .. }
        | Command::Cancel { .. }
        | Command::Approve { .. }
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Status
        | Command::Why { .. }
        | Command::Estimate { .. }
        | Command::Help => None,
    }
}

/// The comment that an event is.
pub(crate) fn comment_of(event: &domain::event::Event) -> Option<CommentRef> {
    if event.kind != EventKind::Comment {
        return None;
    }
    let comment = event.payload.get("comment")?;
    let kind = match comment.get("kind").and_then(Json::as_str) {
        Some("review") => CommentKind::Review,
        _ => CommentKind::Issue,
    };
    Some(CommentRef { id: comment.get("id")?.as_u64()?, kind, thread: event.thread()? })
}
