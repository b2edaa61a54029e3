//! What every forge promises about effects, shown with comments, which all forges have: performed twice is
//! performed once, wherever the first try broke off; what is edited in place stays one; an older word never
//! takes a newer one back; and nobody else's words are taken for the server's.

use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{CommentTarget, Effect, EffectKind, Receipt};
use domain::marker::Marker;
use domain::repository::Repository;
use domain::run::Run;
use ports::Retry;
use ports::forge::{Forge, ForgeError, ThingKind};

use crate::{FixedClock, build};

/// A forge with a repository in it, and somebody who sees what is there.
#[async_trait]
pub trait Stand: Send + Sync {
    /// The forge.
    fn forge(&self) -> &dyn Forge;
    /// The clock by which it works.
    fn clock(&self) -> &FixedClock;
    /// A repository on it.
    fn repository(&self) -> &Repository;
    /// A thread of that repository, without comments.
    fn thread(&self) -> u64;
    /// What is said there, oldest first.
    async fn comments(&self) -> Vec<String>;
    /// Somebody else says something there; `None` where nobody else can.
    async fn stranger_says(&self, text: &str) -> Option<()>;
    /// From now on the request of this number, counted from zero, is carried out and not answered; `None`
    /// ends that. Says whether there is such a thing as requests here.
    fn lose_answer(&self, request: Option<usize>) -> Interruptible;
}

/// Whether performing an effect takes several steps, between which it may break off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruptible {
    /// It does.
    Yes,
    /// It happens at once.
    No,
}

/// More requests than any effect of the suite needs.
const MOST_REQUESTS: usize = 60;

/// All of it.
///
/// # Panics
/// When a promise is not kept.
pub async fn suite(stand: &dyn Stand) {
    twice_is_once(stand).await;
    in_place(stand).await;
    never_back(stand).await;
    wherever_it_breaks_off(stand).await;
    only_our_own_words(stand).await;
    what_was_written_can_be_looked_at(stand).await;
}

async fn twice_is_once(stand: &dyn Stand) {
    let before = stand.comments().await.len();
    let effect = comment(stand, &run(stand), "twice", "Said once.", false);
    let first = perform(stand, &effect).await.expect("performed");
    let second = perform(stand, &effect).await.expect("found again");
    assert_eq!(first, second, "the same receipt");
    assert_eq!(stand.comments().await.len(), before + 1, "one comment");
}

async fn in_place(stand: &dyn Stand) {
    let before = stand.comments().await.len();
    for text in ["The first word.", "The second word.", "The third word."] {
        let effect = comment(stand, &run(stand), "place", text, true);
        perform(stand, &effect).await.expect("performed");
        assert_eq!(stand.comments().await.len(), before + 1, "one comment");
        assert_eq!(saying(stand, text).await, 1, "it says {text:?}");
    }
}

async fn never_back(stand: &dyn Stand) {
    let (older, newer) = (run(stand), run(stand));
    let older = comment(stand, &older, "back", "An old word.", true);
    let newer = comment(stand, &newer, "back", "A new word.", true);
    perform(stand, &newer).await.expect("performed");
    perform(stand, &older).await.expect("left as it is");
    assert_eq!((saying(stand, "A new word.").await, saying(stand, "An old word.").await), (1, 0));
}

async fn wherever_it_breaks_off(stand: &dyn Stand) {
    for sticky in [false, true] {
        for request in 0..MOST_REQUESTS {
            if stand.lose_answer(Some(request)) == Interruptible::No {
                return;
            }
            let text = format!("Said although answer {request} was lost, {sticky}.");
            let effect = comment(stand, &run(stand), &format!("lost-{request}-{sticky}"), &text, sticky);
            let broken = perform(stand, &effect).await;
            stand.lose_answer(None);
            let done = broken.is_ok();
            if let Err(error) = broken {
                assert_eq!(error.retry, Retry::Later, "{error}");
                perform(stand, &effect).await.expect("the next try goes on");
            }
            assert_eq!(saying(stand, &text).await, 1, "after request {request}");
            if done {
                assert!(request > 2, "nothing was lost before it was done");
                break;
            }
            assert!(request + 1 < MOST_REQUESTS, "it takes too many requests");
        }
    }
}

async fn only_our_own_words(stand: &dyn Stand) {
    let run = run(stand);
    let effect = comment(stand, &run, "copied", "Our own word.", true);
    let copied = domain::marker::signed("Not our word.", &effect, &stand.repository().path);
    if stand.stranger_says(&copied).await.is_none() {
        return;
    }
    perform(stand, &effect).await.expect("performed");
    assert_eq!((saying(stand, "Our own word.").await, saying(stand, "Not our word.").await), (1, 1));
}

async fn what_was_written_can_be_looked_at(stand: &dyn Stand) {
    let look = async |url: &str| stand.forge().look(stand.repository(), url).await.expect("it answers");
    for sticky in [false, true] {
        let mut seen = Vec::new();
        for text in ["Seen once.", "Seen twice."] {
            let effect = comment(stand, &run(stand), "seen", text, sticky);
            let receipt = perform(stand, &effect).await.expect("performed");
            let [written] = &receipt.written[..] else { panic!("one text: {receipt:?}") };
            assert_eq!(Some(&written.url), receipt.url.as_ref(), "it stands where the receipt says");
            let thing = look(&written.url).await.expect("it is there");
            assert_eq!((thing.kind, &thing.url, thing.own), (ThingKind::Comment, &written.url, Some(true)));
            assert_eq!(domain::effect::print(&thing.text), written.print, "{}", thing.text);
            assert_eq!(Marker::find(&thing.text), Some(Marker::of(&effect, &stand.repository().path)));
            seen.push(written.clone());
        }
        assert_eq!(seen[0].url == seen[1].url, sticky);
    }
    assert_eq!(look(&format!("/{}/nothing", stand.repository().path)).await, None);
}

/// Performs an effect as the outbox does: not before the moment that the forge names.
///
/// # Errors
/// What the forge says, other than to wait.
///
/// # Panics
/// When there is no end of waiting.
pub async fn perform(stand: &dyn Stand, effect: &Effect) -> Result<Receipt, ForgeError> {
    for _ in 0..200 {
        match stand.forge().perform(stand.repository(), effect).await {
            Err(ForgeError { not_before: Some(from), .. }) => stand.clock().set(from),
            other => return other,
        }
    }
    panic!("{} was put off for ever", effect.key);
}

fn run(stand: &dyn Stand) -> Run {
    stand.clock().advance(Duration::from_secs(1));
    build::run(stand.clock(), stand.repository(), "review")
}

fn comment(stand: &dyn Stand, run: &Run, key: &str, body: &str, sticky: bool) -> Effect {
    let target = CommentTarget::Thread { number: stand.thread() };
    let kind = EffectKind::AddComment { target, body: body.to_owned(), sticky };
    build::effect(stand.clock(), run, &format!("review/{key}"), kind)
}

async fn saying(stand: &dyn Stand, text: &str) -> usize {
    stand.comments().await.iter().filter(|comment| comment.contains(text)).count()
}
