//! Against real git: the branches are the half of the matter that a fake would get wrong.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::effect::{CheckConclusion, CommentTarget, Effect, EffectKind, Receipt};
use domain::name::{Branch, Commit};
use domain::proposal::{Proposal, ProposalStatus};
use domain::repository::Repository;
use domain::run::Run;
use git::{Config, Git};
use ports::Retry;
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError};
use ports::source::{Moved, Source};
use ports::store::{Discussions, Page, Repositories};
use testkit::conformance::forge::{Interruptible, Stand, suite};
use testkit::{FixedClock, MemoryStore, build};

use crate::HostedForge;

/// A hosted repository with one commit on `main`, and the forge in front of it.
struct Host {
    forge: HostedForge,
    store: Arc<MemoryStore>,
    source: Arc<Git>,
    clock: Arc<FixedClock>,
    repository: Repository,
    _directory: tempfile::TempDir,
}

impl Host {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(FixedClock::new()));
        let source = Arc::new(Git::open(Config::new(directory.path())).unwrap());
        let repository = build::repository(&*clock, "ada/book");
        store.repository_create(&repository).await.unwrap();
        source.create(repository.id, &repository.default_branch).await.unwrap();
        let forge = HostedForge { store: store.clone(), source: source.clone(), clock: clock.clone() };
        let host = Self { forge, store, source, clock, repository, _directory: directory };
        let first = host.commit("first", None);
        host.move_branch("main", None, Some(&first)).await;
        host
    }

    fn git(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write;
        let path: PathBuf = self.source.path(self.repository.id);
        #[expect(clippy::disallowed_methods, reason = "a test makes its commits with the real program")]
        let mut command = Command::new("git");
        let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        command.arg("--git-dir").arg(path).args(arguments).envs(who.map(|name| (name, "test@localhost")));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?} failed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A commit whose one file holds `text`.
    fn commit(&self, text: &str, parent: Option<&Commit>) -> Commit {
        let blob = self.git(&["hash-object", "-w", "--stdin"], text);
        let tree = self.git(&["mktree"], &format!("100644 blob {blob}\ttext\n"));
        let mut arguments = vec!["commit-tree", &tree, "-m", text];
        if let Some(parent) = parent {
            arguments.extend(["-p", parent.as_str()]);
        }
        build::name(&self.git(&arguments, ""))
    }

    async fn tip(&self, branch: &str) -> Option<Commit> {
        let branches = self.source.branches(self.repository.id).await.unwrap();
        branches.into_iter().find(|(name, _)| name.as_str() == branch).map(|(_, commit)| commit)
    }

    async fn move_branch(&self, branch: &str, from: Option<&Commit>, to: Option<&Commit>) {
        let branch = build::name::<Branch>(branch);
        let moved = self.source.move_branch(self.repository.id, &branch, from, to).await.unwrap();
        assert_eq!(moved, Moved::Moved);
    }

    fn run(&self) -> Run {
        build::run(&*self.clock, &self.repository, "review")
    }

    /// What a run wants that changed the text.
    async fn offer(&self, run: &Run, text: &str) -> (Effect, Commit) {
        let commit = self.commit(text, self.tip("main").await.as_ref());
        let kind = EffectKind::CreatePullRequest {
            title: format!("Fixes: {text}"),
            body: "Look.".to_owned(),
            base: build::name("main"),
            branch: build::name("spellbook/review/1"),
            commit: commit.clone(),
            draft: true,
            labels: vec!["spellbook".to_owned()],
            reviewers: vec!["bob".to_owned()],
        };
        (build::effect(&*self.clock, run, "review/create-pull-request/1", kind), commit)
    }

    async fn perform(&self, effect: &Effect) -> Result<Receipt, ForgeError> {
        self.forge.perform(&self.repository, effect).await
    }

    async fn refusal(&self, effect: &Effect) -> String {
        let error = self.perform(effect).await.expect_err("it is to be refused");
        assert_eq!(error.retry, Retry::Never, "{error}");
        error.message
    }

    async fn proposals(&self) -> Vec<Proposal> {
        self.store.proposal_list(self.repository.id, None, &Page::first(9)).await.unwrap()
    }

    async fn settle(&self, proposal: &Proposal, status: ProposalStatus) {
        assert!(self.store.proposal_settle(proposal.id, &status, self.clock.now()).await.unwrap());
    }
}

fn comment(host: &Host, run: &Run, body: &str, sticky: bool) -> Effect {
    let target = CommentTarget::Thread { number: 1 };
    let kind = EffectKind::AddComment { target, body: body.to_owned(), sticky };
    build::effect(&*host.clock, run, "review/comment", kind)
}

#[tokio::test]
async fn a_change_is_offered_on_its_own_branch() {
    let host = Host::new().await;
    let main = host.tip("main").await;
    let run = host.run();
    let (effect, commit) = host.offer(&run, "one").await;
    let receipt = host.perform(&effect).await.unwrap();
    assert_eq!(receipt.summary, "opened proposal #1");
    assert_eq!(receipt.url.as_deref(), Some("/ada/book/proposals/1"));
    assert_eq!(host.tip("spellbook/review/1").await, Some(commit.clone()));
    assert_eq!(host.tip("main").await, main);
    let [proposal] = &host.proposals().await[..] else { panic!("there is one") };
    assert_eq!(
        (&proposal.head, proposal.draft, &proposal.labels[..]),
        (&commit, true, &["spellbook".to_owned()][..])
    );
    assert_eq!(proposal.provenance, Some(build::provenance(&run)));
    assert!(proposal.body.starts_with("Look.\n\nAsked for a review: bob\n\n---\n"), "{}", proposal.body);
    assert!(proposal.body.contains(&run.id.to_string()));
}

#[tokio::test]
async fn performing_again_finds_what_is_there() {
    let host = Host::new().await;
    let (effect, commit) = host.offer(&host.run(), "one").await;
    // A crash after the branch was made.
    host.move_branch("spellbook/review/1", None, Some(&commit)).await;
    host.perform(&effect).await.unwrap();
    let made = host.proposals().await;
    // A crash after the proposal was made.
    host.clock.advance(Duration::from_secs(60));
    assert_eq!(host.perform(&effect).await.unwrap().summary, "offered proposal #1");
    assert_eq!(host.proposals().await, made);
    // And somebody merged it before the second try.
    host.settle(&made[0], ProposalStatus::Merged { commit: commit.clone(), by: "ada".to_owned() }).await;
    host.move_branch("spellbook/review/1", Some(&commit), None).await;
    assert_eq!(host.perform(&effect).await.unwrap().summary, "offered proposal #1");
    assert_eq!(host.proposals().await.len(), 1);
    assert_eq!(host.tip("spellbook/review/1").await, None);
}

#[tokio::test]
async fn a_later_run_brings_the_proposal_up_to_date() {
    let host = Host::new().await;
    let (first_run, second_run) = (host.run(), host.run());
    let (first, _) = host.offer(&first_run, "one").await;
    let (second, commit) = host.offer(&second_run, "two").await;
    host.perform(&first).await.unwrap();
    assert_eq!(host.perform(&second).await.unwrap().summary, "updated proposal #1");
    assert_eq!(host.tip("spellbook/review/1").await, Some(commit.clone()));
    let [proposal] = &host.proposals().await[..] else { panic!("there is one") };
    assert_eq!((&proposal.title[..], &proposal.head), ("Fixes: two", &commit));
    // The first, put off until now, does not take the second back.
    let message = host.refusal(&first).await;
    assert!(message.contains(&second_run.id.to_string()), "{message}");
    assert_eq!(host.tip("spellbook/review/1").await, Some(commit));
}

#[tokio::test]
async fn after_a_merge_the_branch_is_used_again() {
    let host = Host::new().await;
    let (first, commit) = host.offer(&host.run(), "one").await;
    host.perform(&first).await.unwrap();
    let merged = ProposalStatus::Merged { commit, by: "ada".to_owned() };
    host.settle(&host.proposals().await[0], merged).await;
    let (second, commit) = host.offer(&host.run(), "two").await;
    assert_eq!(host.perform(&second).await.unwrap().summary, "opened proposal #2");
    assert_eq!(host.tip("spellbook/review/1").await, Some(commit));
}

#[tokio::test]
async fn a_branch_that_somebody_moved_stays() {
    let host = Host::new().await;
    let theirs = host.commit("theirs", None);
    host.move_branch("spellbook/review/1", None, Some(&theirs)).await;
    let (effect, _) = host.offer(&host.run(), "one").await;
    let message = host.refusal(&effect).await;
    assert!(message.contains(theirs.as_str()) && message.contains("spellbook/review/1"), "{message}");
    assert_eq!(host.tip("spellbook/review/1").await, Some(theirs.clone()));
    assert!(host.proposals().await.is_empty());
    // Also when a proposal of ours is on it.
    host.move_branch("spellbook/review/1", Some(&theirs), None).await;
    host.perform(&effect).await.unwrap();
    let ours = host.tip("spellbook/review/1").await;
    host.move_branch("spellbook/review/1", ours.as_ref(), Some(&theirs)).await;
    let (again, _) = host.offer(&host.run(), "two").await;
    host.refusal(&again).await;
    assert_eq!(host.tip("spellbook/review/1").await, Some(theirs));
}

#[tokio::test]
async fn an_offer_that_makes_no_sense_is_refused() {
    let host = Host::new().await;
    let (effect, _) = host.offer(&host.run(), "one").await;
    let changed = |change: &dyn Fn(&mut Branch, &mut Branch, &mut Commit)| {
        let mut effect = effect.clone();
        let EffectKind::CreatePullRequest { base, branch, commit, .. } = &mut effect.kind else {
            unreachable!()
        };
        change(base, branch, commit);
        effect
    };
    let cases = [
        (changed(&|_, branch, _| *branch = build::name("main")), "branch of its own"),
        (changed(&|base, branch, _| *base = branch.clone()), "branch of its own"),
        (changed(&|base, _, _| *base = build::name("nowhere")), "no branch nowhere"),
        (changed(&|_, _, commit| *commit = build::commit(7)), "no commit"),
    ];
    for (effect, words) in cases {
        let message = host.refusal(&effect).await;
        assert!(message.contains(words), "{message}");
    }
    host.perform(&effect).await.unwrap();
    let mut other = host.offer(&host.run(), "two").await.0;
    let EffectKind::CreatePullRequest { branch, .. } = &mut other.kind else { unreachable!() };
    *branch = build::name("spellbook/review/2");
    let message = host.refusal(&other).await;
    assert!(message.contains("close it before"), "{message}");
    let watched = build::watched(&*host.clock, "ada/elsewhere");
    let error = host.forge.perform(&watched, &effect).await.expect_err("it is hosted elsewhere");
    assert!(error.message.contains("hosted elsewhere"), "{error}");
    assert_eq!(host.proposals().await.len(), 1);
}

#[tokio::test]
async fn sticky_comments_are_edited_and_others_added() {
    let host = Host::new().await;
    let (offer, _) = host.offer(&host.run(), "one").await;
    let (first, second) = (host.run(), host.run());
    let early = comment(&host, &first, "early", true);
    let message = host.refusal(&early).await;
    assert!(message.contains("no proposal #1"), "{message}");
    host.perform(&offer).await.unwrap();
    let bodies = async || {
        let target = CommentTarget::Thread { number: 1 };
        let comments =
            host.store.comment_list(host.repository.id, Some(&target), &Page::first(9)).await.unwrap();
        comments
            .into_iter()
            .map(|comment| comment.body.lines().next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(host.perform(&early).await.unwrap().summary, "commented on #1");
        assert_eq!(bodies().await, ["early"]);
    }
    host.perform(&comment(&host, &second, "late", true)).await.unwrap();
    assert_eq!(bodies().await, ["late"]);
    host.perform(&early).await.unwrap();
    assert_eq!(bodies().await, ["late"], "a comment that was put off does not take a newer one back");
    for run in [&first, &second, &second] {
        host.perform(&comment(&host, run, "more", false)).await.unwrap();
    }
    assert_eq!(bodies().await, ["late", "more", "more"], "one a run");
}

#[tokio::test]
async fn checks_are_reported_once() {
    let host = Host::new().await;
    let main = host.tip("main").await.unwrap();
    let check = |run: &Run, conclusion, commit: &Commit| {
        let (name, commit) = ("review".to_owned(), commit.clone());
        let kind = EffectKind::CreateCheck {
            commit,
            name,
            conclusion,
            summary: "s".to_owned(),
            annotations: Vec::new(),
        };
        build::effect(&*host.clock, run, "review/check", kind)
    };
    let (first, second) = (host.run(), host.run());
    let failure = check(&first, CheckConclusion::Failure, &main);
    let checks = async || host.store.check_list(host.repository.id, &main).await.unwrap();
    let receipt = host.perform(&failure).await.unwrap();
    assert_eq!(receipt.summary, format!("reported on {}: review", &main.as_str()[..12]));
    let made = checks().await;
    host.clock.advance(Duration::from_secs(60));
    host.perform(&failure).await.unwrap();
    assert_eq!(checks().await, made);
    host.perform(&check(&second, CheckConclusion::Success, &main)).await.unwrap();
    host.perform(&failure).await.unwrap();
    let [only] = &checks().await[..] else { panic!("there is one") };
    assert_eq!((only.conclusion, only.author.run()), (CheckConclusion::Success, Some(second.id)));
    let message = host.refusal(&check(&first, CheckConclusion::Neutral, &build::commit(7))).await;
    assert!(message.contains("no commit"), "{message}");
}

#[tokio::test]
async fn nothing_is_done_for_a_reason() {
    let host = Host::new().await;
    let kind = EffectKind::Noop { reason: "nothing to do".to_owned() };
    let effect = build::effect(&*host.clock, &host.run(), "k", kind);
    let receipt = host.perform(&effect).await.unwrap();
    assert_eq!(receipt, Receipt::new(None, "nothing to do"));
}

#[async_trait::async_trait]
impl Stand for Host {
    fn forge(&self) -> &dyn Forge {
        &self.forge
    }

    fn clock(&self) -> &FixedClock {
        &self.clock
    }

    fn repository(&self) -> &Repository {
        &self.repository
    }

    fn thread(&self) -> u64 {
        1
    }

    async fn comments(&self) -> Vec<String> {
        let thread = CommentTarget::Thread { number: 1 };
        let page = Page::first(200);
        let list = self.store.comment_list(self.repository.id, Some(&thread), &page).await.unwrap();
        list.into_iter().map(|comment| comment.body).collect()
    }

    async fn stranger_says(&self, _text: &str) -> Option<()> {
        None
    }

    fn lose_answer(&self, _request: Option<usize>) -> Interruptible {
        Interruptible::No
    }
}

#[tokio::test]
async fn what_runs_offer_is_counted_while_it_is_open() {
    let host = Host::new().await;
    assert_eq!(host.forge.offers(&host.repository).await.unwrap(), []);
    let (offer, _) = host.offer(&host.run(), "one").await;
    host.perform(&offer).await.unwrap();
    let open = host.forge.offers(&host.repository).await.unwrap();
    assert_eq!(open, [ports::forge::Offer { number: 1, key: Some(offer.key.clone()) }]);
    let proposal = host.store.proposal_get(host.repository.id, 1).await.unwrap().unwrap();
    let closed = ProposalStatus::Closed { by: "ada".to_owned() };
    assert!(host.store.proposal_settle(proposal.id, &closed, host.clock.now()).await.unwrap());
    assert_eq!(host.forge.offers(&host.repository).await.unwrap(), []);
}

#[tokio::test]
async fn keeps_the_promises_of_a_forge() {
    let host = Host::new().await;
    let (offer, _) = host.offer(&host.run(), "one").await;
    host.perform(&offer).await.unwrap();
    suite(&host).await;
}
