//! What every forge that is elsewhere promises about each kind of effect: one after another its requests and its
//! answers are lost, and what is there in the end is what one try would have left.

use domain::effect::{
    Annotation, AnnotationLevel, CheckConclusion, CommentRef, CommentTarget, Effect, EffectKind, IssueState,
    Reaction, StatusState,
};
use ports::Retry;

use crate::build;
use crate::conformance::forge::{Stand, perform};
use crate::gate::Trouble;

/// A forge behind a gate. Its repository has the branches `main` at the first commit of [`build::commit`] and
/// `topic` at the second, an issue, and a pull request from `topic` to `main`.
pub trait Far: Stand {
    /// What people see there, without numbers, times and the names of runs.
    fn shown(&self) -> String;
    /// The requests since the last look.
    fn requests(&self) -> Vec<String>;
    /// The request of this number meets trouble.
    fn trouble(&self, trouble: Option<(usize, Trouble)>);
    /// Whether it has not come yet.
    fn is_still_to_come(&self) -> bool;
    /// The number of the pull request.
    fn pull(&self) -> u64;
    /// Somebody writes a comment under the issue.
    fn written(&self) -> CommentRef;
    /// Who is asked to look at a change.
    fn reviewers(&self) -> &'static [&'static str] {
        &["bob"]
    }
}

/// The kinds of effects that are tried; what a forge does not offer is left out by its tests.
pub const KINDS: [&str; 19] = [
    "pull request",
    "pull request again",
    "comment",
    "long comment again",
    "comment on a commit",
    "check",
    "check again",
    "issue",
    "issue again",
    "end of an issue",
    "change of an issue",
    "change of a pull request",
    "labels",
    "labels off",
    "reviewers",
    "status",
    "release",
    "reaction",
    "push",
];

/// Loses each request of an effect of these kinds, one after another, and each answer. Of what only asks, losing
/// one or the other is the same.
///
/// # Panics
/// When a promise is not kept.
pub async fn done_once<F: Far>(new: impl AsyncFn() -> F, kinds: &[&str]) {
    for kind in kinds {
        let far = new().await;
        let wanted = wanted(&far, kind).await;
        far.requests();
        done(&far, &effect(&far, kind, wanted)).await;
        let (asked, expect) = (far.requests(), far.shown());
        assert!(asked.len() > 2, "{kind}: {asked:?}");
        for (request, line) in asked.iter().enumerate() {
            lose(&new().await, kind, (request, Trouble::LostAnswer), &expect).await;
            if !line.starts_with("GET") {
                lose(&new().await, kind, (request, Trouble::LostRequest), &expect).await;
            }
        }
    }
}

async fn lose(far: &dyn Far, kind: &str, trouble: (usize, Trouble), expect: &str) {
    let wanted = wanted(far, kind).await;
    let effect = effect(far, kind, wanted);
    far.trouble(Some(trouble));
    let error = perform(far, &effect).await.expect_err("something was lost");
    assert_eq!(error.retry, Retry::Later, "{error}");
    assert!(!far.is_still_to_come(), "nothing was lost");
    done(far, &effect).await;
    assert_eq!(far.shown(), expect, "{kind} {trouble:?}");
}

/// What a new run wants, under a key that follows from the kind.
pub fn effect(far: &dyn Far, kind: &str, wanted: EffectKind) -> Effect {
    far.clock().advance(std::time::Duration::from_secs(1));
    let run = build::run(far.clock(), far.repository(), "review");
    let key = format!("review/{}", kind.trim_end_matches(" again").replace(' ', "-"));
    build::effect(far.clock(), &run, &key, wanted)
}

/// Performs an effect that has no reason to fail.
///
/// # Panics
/// When it does.
pub async fn done(far: &dyn Far, effect: &Effect) -> domain::effect::Receipt {
    perform(far, effect).await.unwrap_or_else(|error| panic!("{}: {error}", effect.key))
}

/// An effect of a kind; of what is brought up to date the first version is performed.
async fn wanted(far: &dyn Far, kind: &str) -> EffectKind {
    let thread = CommentTarget::Thread { number: far.thread() };
    let long = "Some words, and then some more.\n\n".repeat(2_000);
    let first = match kind {
        "pull request again" => Some(offer_to(far.reviewers(), "one", 8)),
        "long comment again" => Some(comment(thread.clone(), &long)),
        "check again" => Some(check(3)),
        "issue again" | "end of an issue" => Some(issue("One.", true)),
        "labels off" => Some(EffectKind::AddLabels { number: far.pull(), labels: labels() }),
        _ => None,
    };
    if let Some(first) = first {
        done(far, &effect(far, kind, first)).await;
    }
    match kind {
        "pull request" => offer_to(far.reviewers(), "one", 8),
        "pull request again" => offer_to(far.reviewers(), "two", 9),
        "comment" => new_comment(thread, "Hello."),
        "long comment again" => comment(thread, &format!("{long}End.")),
        "comment on a commit" => comment(CommentTarget::Commit { commit: build::commit(2) }, "Hello."),
        "check" | "check again" => check(120),
        "issue" => issue("One.", false),
        "issue again" => issue("Two.", true),
        "end of an issue" => EffectKind::CloseIssue { body: "It is over.".to_owned() },
        "change of an issue" => change(far.thread(), Some(IssueState::Closed)),
        "change of a pull request" => change(far.pull(), None),
        "labels" => EffectKind::AddLabels { number: far.pull(), labels: labels() },
        "labels off" => EffectKind::RemoveLabels { number: far.pull(), labels: labels() },
        "reviewers" => EffectKind::AddReviewers { number: far.pull(), reviewers: names(far.reviewers()) },
        "status" => status(StatusState::Failure),
        "release" => release(2),
        "reaction" => EffectKind::React { comment: far.written(), reaction: Reaction::Eyes },
        "push" => EffectKind::PushToPullRequestBranch {
            number: far.pull(),
            branch: build::name("topic"),
            from: build::commit(2),
            commit: build::commit(5),
        },
        _ => panic!("there is no kind {kind}"),
    }
}

/// A change that is offered at a commit, for Bob to look at.
pub fn offer(text: &str, at: u32) -> EffectKind {
    offer_to(&["bob"], text, at)
}

/// The same, for others to look at.
pub fn offer_to(reviewers: &[&str], text: &str, at: u32) -> EffectKind {
    EffectKind::CreatePullRequest {
        title: format!("Fixes: {text}"),
        body: "Look.".to_owned(),
        base: build::name("main"),
        branch: build::name("spellbook/review/1"),
        commit: build::commit(at),
        draft: true,
        labels: vec!["spellbook".to_owned()],
        reviewers: names(reviewers),
    }
}

/// A comment that is edited in place.
pub fn comment(target: CommentTarget, body: &str) -> EffectKind {
    EffectKind::AddComment { target, body: body.to_owned(), sticky: true }
}

/// A comment beside those that are there.
pub fn new_comment(target: CommentTarget, body: &str) -> EffectKind {
    EffectKind::AddComment { target, body: body.to_owned(), sticky: false }
}

/// A check of the second commit.
pub fn check(remarks: u32) -> EffectKind {
    let remark = |line| Annotation {
        path: "src/lib.rs".to_owned(),
        start_line: line,
        end_line: line,
        level: AnnotationLevel::Warning,
        message: format!("Remark {line}"),
    };
    EffectKind::CreateCheck {
        commit: build::commit(2),
        name: "review".to_owned(),
        conclusion: CheckConclusion::Failure,
        summary: "Not good.".to_owned(),
        annotations: (1..=remarks).map(remark).collect(),
    }
}

/// An issue.
pub fn issue(text: &str, sticky: bool) -> EffectKind {
    EffectKind::CreateIssue {
        title: "Report".to_owned(),
        body: text.to_owned(),
        labels: vec!["report".to_owned()],
        assignees: vec!["ada".to_owned()],
        sticky,
    }
}

/// A status of the second commit.
pub fn status(state: StatusState) -> EffectKind {
    EffectKind::SetStatus {
        commit: build::commit(2),
        context: "review".to_owned(),
        state,
        description: "Done.".to_owned(),
        url: Some("https://spellbook.example/runs/1".to_owned()),
    }
}

/// A release at a commit.
pub fn release(at: u32) -> EffectKind {
    EffectKind::CreateRelease {
        tag: build::name("v1.2.0"),
        commit: build::commit(at),
        name: "1.2".to_owned(),
        body: "What is new.".to_owned(),
        draft: false,
        prerelease: false,
    }
}

fn change(number: u64, state: Option<IssueState>) -> EffectKind {
    let (title, body) = (Some("New".to_owned()), Some("Text.".to_owned()));
    EffectKind::UpdateIssue { number, title, body, state }
}

fn labels() -> Vec<String> {
    names(&["needs review", "ünïcode/x"])
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

/// What is seen, without the names of runs, which are drawn from a clock that waits more when something was lost.
pub fn without_runs(seen: &str) -> String {
    let mut words = String::new();
    for (number, part) in seen.split("run_").enumerate() {
        words.push_str(if number == 0 { part } else { part.get(36..).unwrap_or_default() });
    }
    words
}
