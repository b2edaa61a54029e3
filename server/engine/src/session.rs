//! Sessions: a model's conversation, kept under a key across stages and runs. A stage that asks under a key waits
//! until another that does so on this server has its answer, as people in a conversation do; where servers
//! share a store, the later of two that asked at once fails and can be tried again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use domain::id::MemoWriteId;
use domain::memo::{Expected, LONGEST_SESSION, MemoAuthor, MemoKey, MemoKind, MemoWrite, SESSION_LIFE};
use domain::name::MemoName;
use domain::run::Failure;
use manifest::expression::Template;
use ports::models::{Choice, Message, ToolCall, ToolResult};
use ports::store::memos::Kept;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::OwnedMutexGuard;

use crate::refusal::Refusal;
use crate::stages::{At, Trouble};
use crate::variables;
use crate::world::World;

/// The sessions that stages of this server are talking in.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<MemoKey, Weak<tokio::sync::Mutex<()>>>>);

impl Sessions {
    /// The turn of one session: whoever locks it may ask.
    fn turn(&self, key: &MemoKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// A name for a conversation that tells nothing of what it is about: providers see it.
pub(crate) fn named(what: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    format!("spellbook-{:016x}", hasher.finish())
}

/// A conversation under way; one that is not kept has no key.
#[derive(Debug)]
pub(crate) struct Session {
    kept: Option<Place>,
    before: Talk,
}

/// Where a conversation is kept.
#[derive(Debug)]
struct Place {
    key: MemoKey,
    expected: Expected,
    turn: OwnedMutexGuard<()>,
}

/// A conversation to be written with the stage's entry. Nobody else asks in it until then.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) write: MemoWrite,
    _turn: OwnedMutexGuard<()>,
}

/// What is stored of a conversation.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Talk {
    /// Which target answered last.
    target: Option<String>,
    /// Each from a question to its answer.
    turns: Vec<Vec<Line>>,
}

/// A message, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
enum Line {
    User {
        text: String,
    },
    Assistant {
        text: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Call>,
    },
    Results {
        results: Vec<Outcome>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Call {
    name: String,
    arguments: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opaque: Option<Json>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
}

/// Whether the next question can be answered with tools. Providers refuse a history with calls of tools where
/// there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Tools,
    Words,
}

impl Session {
    /// The conversation that a stage goes on with, once it is its turn; an empty one for a stage that keeps none.
    pub(crate) async fn begin(template: Option<&Template>, at: &At<'_>) -> Result<Self, Trouble> {
        let Some((name, _)) = at.text(template)? else {
            return Ok(Self { kept: None, before: Talk::default() });
        };
        let name = MemoName::parse(name.trim()).map_err(|error| {
            Failure::new("session_invalid", format!("the `session` of the stage cannot be a key: {error}"))
        })?;
        let world = at.run.world;
        let key = MemoKey { owner: variables::owner(at.run.run), kind: MemoKind::Session, name };
        let turn = tokio::select! {
            turn = world.sessions.turn(&key).lock_owned() => turn,
            () = at.cancel.cancelled() => return Err(Failure::new("cancelled", "was cancelled").into()),
        };
        let memo = world.store.memo_get(&key).await.map_err(|error| {
            Failure::new("state_unavailable", format!("the session `{}` cannot be read: {error}", key.name))
        })?;
        let expected = Expected::found(memo.as_ref().map(|memo| memo.written));
        let alive = memo.filter(|memo| world.clock.now().since(memo.at) < SESSION_LIFE);
        let before = match alive {
            None => Talk::default(),
            Some(memo) => {
                let unreadable = |why: String| {
                    Failure::new("state_unreadable", format!("the session `{}`: {why}", key.name))
                };
                let plain = world.vault.open(&key.bound(), &memo.sealed).await;
                let plain = plain.map_err(|error| unreadable(error.to_string()))?;
                serde_json::from_slice(&plain).map_err(|error| unreadable(error.to_string()))?
            }
        };
        Ok(Self { kept: Some(Place { key, expected, turn }), before })
    }

    /// What was said before, in the words of the port.
    pub(crate) fn before(&self, with: With) -> Vec<Message> {
        match with {
            With::Tools => self.before.turns.iter().flatten().cloned().map(Message::from).collect(),
            With::Words => self.before.turns.iter().flat_map(|turn| words(turn)).map(Message::from).collect(),
        }
    }

    /// A name for the conversation, where it is kept.
    pub(crate) fn name(&self) -> Option<String> {
        self.kept.as_ref().map(|place| named(&place.key))
    }

    /// The models that may be asked: the conversation stays with the one that it is with.
    pub(crate) fn staying(&self, choice: Choice) -> Choice {
        Choice { stays_with: self.before.target.clone().or(choice.stays_with.clone()), ..choice }
    }

    /// What is to be kept, once a turn has its answer: `said` is what was said before and since.
    pub(crate) async fn end(
        self,
        said: &[Message],
        answer: &str,
        target: String,
        at: &At<'_>,
    ) -> Result<Option<Said>, Trouble> {
        let Some(Place { key, expected, turn }) = self.kept else { return Ok(None) };
        let mut turns = self.before.turns;
        let asked = said.iter().rposition(|message| matches!(message, Message::User { .. })).unwrap_or(0);
        let mut lines: Vec<Line> = said[asked..].iter().map(Line::from).collect();
        // A model that only worked has said nothing, and no provider takes an answer without words.
        let answer = if answer.trim().is_empty() { "(done)" } else { answer };
        lines.push(Line::Assistant { text: answer.to_owned(), calls: Vec::new() });
        turns.push(lines);
        if shorten(&mut turns) == Shortened::Emptied {
            at.note(format!("the conversation is too long to be kept as `{}`; it begins anew", key.name));
        }
        let world = at.run.world;
        let plain = serde_json::to_vec(&Talk { target: Some(target), turns })
            .map_err(|error| Failure::new("session_invalid", error.to_string()))?;
        let sealed = world.vault.seal(&key.bound(), &plain).await.map_err(|error| {
            Failure::new("state_unreadable", format!("the session `{}` cannot be sealed: {error}", key.name))
        })?;
        let write = MemoWrite {
            key,
            expected,
            written: MemoWriteId::new(world.clock.unique()),
            sealed,
            size: plain.len(),
            by: MemoAuthor::Run(at.run.run.id),
            at: world.clock.now(),
        };
        Ok(Some(Said { write, _turn: turn }))
    }
}

/// Puts a conversation there as if it had been held: questions, each with its answer. For rehearsals.
pub(crate) async fn suppose(
    world: &World,
    key: &MemoKey,
    turns: Vec<(String, String)>,
) -> Result<(), Refusal> {
    let invalid = |error: String| Refusal::invalid("session_invalid", format!("`{}`: {error}", key.name));
    let turn = |(user, assistant)| {
        vec![Line::User { text: user }, Line::Assistant { text: assistant, calls: Vec::new() }]
    };
    let talk = Talk { target: None, turns: turns.into_iter().map(turn).collect() };
    let plain = serde_json::to_vec(&talk).map_err(|error| invalid(error.to_string()))?;
    if plain.len() > LONGEST_SESSION {
        return Err(invalid(format!("a conversation has at most {} KiB", LONGEST_SESSION >> 10)));
    }
    let sealed = world.vault.seal(&key.bound(), &plain).await.map_err(|error| invalid(error.to_string()))?;
    let write = MemoWrite {
        key: key.clone(),
        expected: Expected::Anything,
        written: MemoWriteId::new(world.clock.unique()),
        sealed,
        size: plain.len(),
        by: MemoAuthor::Person("test".to_owned()),
        at: world.clock.now(),
    };
    match world.store.memo_put(&write).await? {
        Kept::Written => Ok(()),
        kept => Err(invalid(format!("it was not kept: {kept:?}"))),
    }
}

/// A turn without the work that was done for it: the question and the last words.
fn words(turn: &[Line]) -> Vec<Line> {
    let question = turn.iter().find(|line| matches!(line, Line::User { .. })).cloned();
    let answer = turn.iter().rev().find_map(|line| match line {
        Line::Assistant { text, .. } => Some(Line::Assistant { text: text.clone(), calls: Vec::new() }),
        Line::User { .. } | Line::Results { .. } => None,
    });
    question.into_iter().chain(answer).collect()
}

/// Whether anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortened {
    /// The newest turn, at least in words.
    Bearable,
    /// Nothing: the newest turn alone is too long.
    Emptied,
}

/// Leaves out the oldest turns, each as a whole, until the rest can be kept. Of a turn that is too long by itself
/// only the words are kept.
fn shorten(turns: &mut Vec<Vec<Line>>) -> Shortened {
    let length = |turn: &Vec<Line>| serde_json::to_string(turn).map_or(usize::MAX, |text| text.len() + 1);
    // The brackets around, and the target.
    let room = LONGEST_SESSION - 1024;
    if let Some(last) = turns.last_mut().filter(|last| length(last) > room) {
        *last = words(last);
    }
    let mut left = room;
    let fits = turns.iter().rev().take_while(|turn| {
        let rest = left.checked_sub(length(turn));
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    let fits = fits.count();
    turns.drain(..turns.len() - fits);
    if fits == 0 { Shortened::Emptied } else { Shortened::Bearable }
}

/// Why a conversation could not be kept: another was first.
pub(crate) fn conflict(name: &MemoName, by: Option<&MemoAuthor>) -> Failure {
    let who = by.map_or_else(|| "somebody removed".to_owned(), |by| format!("{by} has spoken in"));
    let message = format!(
        "{who} the session `{name}` while this stage waited for its answer, so that nothing was kept; `retry` lets it ask \
         again, with what was said meanwhile"
    );
    Failure::new("session_conflict", message)
}

/// The one place where messages become what is stored.
impl From<&Message> for Line {
    fn from(message: &Message) -> Self {
        match message {
            // Pictures are too large to be kept: who goes on is told that there were some.
            Message::User { text, pictures } if pictures.is_empty() => Self::User { text: text.clone() },
            Message::User { text, .. } => {
                Self::User { text: format!("{text}\n\n(Pictures that were shown here are not kept.)") }
            }
            Message::Assistant { text, calls } => {
                let call = |ToolCall { name, arguments, opaque }: &ToolCall| Call {
                    name: name.clone(),
                    arguments: arguments.clone(),
                    opaque: opaque.clone(),
                };
                Self::Assistant { text: text.clone(), calls: calls.iter().map(call).collect() }
            }
            Message::Results(results) => {
                let result =
                    |result: &ToolResult| Outcome { text: result.text.clone(), failed: result.failed };
                Self::Results { results: results.iter().map(result).collect() }
            }
        }
    }
}

/// And back.
impl From<Line> for Message {
    fn from(line: Line) -> Self {
        match line {
            Line::User { text } => Self::User { text, pictures: Vec::new() },
            Line::Assistant { text, calls } => {
                let call = |Call { name, arguments, opaque }: Call| ToolCall { name, arguments, opaque };
                Self::Assistant { text, calls: calls.into_iter().map(call).collect() }
            }
            Line::Results { results } => {
                let result = |Outcome { text, failed }: Outcome| ToolResult { text, failed };
                Self::Results(results.into_iter().map(result).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(question: &str, work: &str, answer: &str) -> Vec<Line> {
        let call = Call { name: "read".to_owned(), arguments: "{}".to_owned(), opaque: Some(Json::from(7)) };
        vec![
            Line::User { text: question.to_owned() },
            Line::Assistant { text: "I look.".to_owned(), calls: vec![call] },
            Line::Results { results: vec![Outcome { text: work.to_owned(), failed: true }] },
            Line::Assistant { text: answer.to_owned(), calls: Vec::new() },
        ]
    }

    fn questions(turns: &[Vec<Line>]) -> Vec<(String, usize)> {
        let question = |turn: &Vec<Line>| match &turn[0] {
            Line::User { text } => (text.clone(), turn.len()),
            other => panic!("{other:?}"),
        };
        turns.iter().map(question).collect()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let messages: Vec<Message> = turn("What?", "it", "That.").into_iter().map(Message::from).collect();
        let stored = serde_json::to_string(&messages.iter().map(Line::from).collect::<Vec<_>>()).unwrap();
        let back: Vec<Line> = serde_json::from_str(&stored).unwrap();
        assert_eq!(back.into_iter().map(Message::from).collect::<Vec<_>>(), messages);
    }

    #[test]
    fn the_oldest_turns_are_left_out_whole() {
        let long = "x".repeat(150 << 10);
        let mut turns: Vec<_> = ["1", "2", "3", "4"].map(|name| turn(name, &long, "ok")).to_vec();
        assert_eq!(shorten(&mut turns), Shortened::Bearable);
        assert_eq!(questions(&turns), [("3".to_owned(), 4), ("4".to_owned(), 4)]);
        assert!(serde_json::to_string(&turns).unwrap().len() <= LONGEST_SESSION);
    }

    #[test]
    fn a_turn_that_is_too_long_is_kept_in_words_or_not_at_all() {
        let long = "x".repeat(LONGEST_SESSION);
        let mut turns = vec![turn("1", "it", "ok"), turn("2", &long, "ok")];
        assert_eq!(shorten(&mut turns), Shortened::Bearable);
        assert_eq!(questions(&turns), [("1".to_owned(), 4), ("2".to_owned(), 2)]);
        turns.push(turn("3", "it", &long));
        assert_eq!(shorten(&mut turns), Shortened::Emptied);
        assert!(turns.is_empty());
    }
}
