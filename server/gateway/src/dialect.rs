//! The languages that providers speak: how a question is written, and how an answer is read.

pub(crate) mod anthropic;
pub(crate) mod openai;

use domain::stage::Tokens;
use serde_json::Value;

use crate::class::{Class, Complaint, Fault, classify_in_stream};
use crate::config::Dialect;
use crate::provider::Provider;
use crate::sse::Event;
use crate::structured::Shape;

/// The longest answer, bytes.
pub(crate) const ANSWER_MAX: usize = 8 << 20;

/// The longest answer when a question says nothing and a limit is needed, tokens.
pub(crate) const UNSAID_MAX: u64 = 8_192;

/// The languages in which questions are asked here; the others are for programs with their own client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// OpenAI's chat.
    Chat,
    /// Anthropic's messages.
    Messages,
}

impl Spoken {
    /// The first of them that a provider speaks, its own before others.
    pub(crate) fn of(provider: &Provider) -> Option<Self> {
        let all = [Self::Chat, Self::Messages];
        let own = all.into_iter().find(|spoken| spoken.dialect() == provider.dialect);
        own.or_else(|| all.into_iter().find(|spoken| provider.speaks(spoken.dialect())))
    }

    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Chat => Dialect::OpenaiChat,
            Self::Messages => Dialect::AnthropicMessages,
        }
    }

    /// Where a question goes, below the base URL.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "chat/completions",
            Self::Messages => "messages",
        }
    }
}

/// What a model is asked, in no particular language.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) system: Option<String>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) shape: Option<Shape>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
}

/// One side's words.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// `user` or `assistant`: the word is the same in both dialects.
    pub(crate) role: &'static str,
    pub(crate) text: String,
}

impl Prompt {
    /// Its size for an estimate of tokens, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let turns: usize = self.turns.iter().map(|turn| turn.text.len()).sum();
        turns + self.system.as_ref().map_or(0, String::len) + self.shape.as_ref().map_or(0, Shape::bytes)
    }
}

/// What has come of an answer so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// The text, or the arguments of the call that was asked for.
    pub(crate) text: String,
    /// What was used so far, as the provider says.
    pub(crate) tokens: Option<Tokens>,
    /// Which model says that it answers.
    pub(crate) served: Option<String>,
    /// Why it stopped, once it has.
    pub(crate) stop: Option<Stop>,
    /// Whether the provider has said that this is all.
    pub(crate) done: bool,
    /// Anthropic: whether the block that is being read is one of ours.
    block: anthropic::Block,
    /// Anthropic: whether a call of the tool has begun; text around it does not count then.
    called: bool,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It was done.
    End,
    /// At the limit of tokens.
    Length,
    /// A filter, or the model itself, refused.
    Refusal,
}

impl Draft {
    /// Adds text; says how much was added.
    ///
    /// # Errors
    /// When the answer is longer than [`ANSWER_MAX`].
    fn add(&mut self, text: &str) -> Result<(), Fault> {
        if self.text.len() + text.len() > ANSWER_MAX {
            return Err(Fault::new(
                Class::Request,
                format!("its answer is longer than {} MiB", ANSWER_MAX >> 20),
            ));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn serve(&mut self, body: &Value) {
        if self.served.is_none()
            && let Some(model) = body.get("model").and_then(Value::as_str)
        {
            self.served = Some(model.chars().filter(|c| !c.is_control()).take(200).collect());
        }
    }
}

/// Reads one event of a stream into the draft.
///
/// # Errors
/// When the event is no JSON, or says that something went wrong.
pub(crate) fn read_event(dialect: Spoken, event: &Event, draft: &mut Draft) -> Result<(), Fault> {
    if event.data == "[DONE]" {
        draft.done = true;
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&event.data)
        .map_err(|_| Fault::new(Class::StreamBroken, "sent a piece of its answer that is no JSON"))?;
    if is_error(&body) {
        let complaint = Complaint::of(&body);
        let words = if complaint.message.is_empty() { &complaint.kind } else { &complaint.message };
        return Err(Fault::new(classify_in_stream(&complaint), format!("broke off its answer: {words}")));
    }
    match dialect {
        Spoken::Chat => openai::read_chunk(&body, draft),
        Spoken::Messages => anthropic::read_event(&body, draft),
    }
}

/// Reads a whole answer from a server that does not stream although it was asked to.
///
/// # Errors
/// When it is no answer.
pub(crate) fn read_whole(dialect: Spoken, body: &[u8], draft: &mut Draft) -> Result<(), Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|_| Fault::new(Class::StreamBroken, "sent an answer that is no JSON"))?;
    if is_error(&value) {
        let complaint = Complaint::of(&value);
        return Err(Fault::new(classify_in_stream(&complaint), complaint.message));
    }
    draft.done = true;
    match dialect {
        Spoken::Chat => openai::read_chunk(&value, draft),
        Spoken::Messages => anthropic::read_message(&value, draft),
    }
}

fn is_error(body: &Value) -> bool {
    body.get("error").is_some_and(|error| !error.is_null())
}

/// A number of tokens; what is no number is none, and what is absurd is cut, so that sums hold.
pub(crate) fn count(usage: &Value, path: &str) -> u64 {
    usage.pointer(path).and_then(Value::as_u64).unwrap_or(0).min(1 << 40)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Parser;
    use proptest::prelude::*;

    const STREAMS: [(Spoken, &str); 3] = [
        (Spoken::Chat, include_str!("tests/wire/openai_text.sse")),
        (Spoken::Messages, include_str!("tests/wire/anthropic_text.sse")),
        (Spoken::Messages, include_str!("tests/wire/anthropic_tool.sse")),
    ];

    fn read(dialect: Spoken, stream: &[u8]) -> Draft {
        let (mut parser, mut events, mut draft) = (Parser::default(), Vec::new(), Draft::default());
        parser.push(stream, &mut events).unwrap();
        for event in &events {
            let _ = read_event(dialect, event, &mut draft);
            let _ = read_whole(dialect, &event.data, &mut draft);
        }
        draft
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn no_stream_makes_it_panic(
            which in 0..STREAMS.len(),
            swaps in prop::collection::vec((any::<prop::sample::Index>(), r#"null|0|-1|1e400|""|\[\]|\{\}|"x"|true|[ -~]"#), 1..6),
        ) {
            let (dialect, stream) = STREAMS[which];
            let mut stream = stream.to_owned();
            for (at, with) in swaps {
                // In the place of a value, or of any one character.
                let at = stream.floor_char_boundary(at.index(stream.len()));
                let end = stream[at..].find([',', '}', '\n']).map_or(stream.len(), |end| at + end);
                let begin = stream[..at].rfind(':').map_or(at, |colon| colon + 1);
                stream.replace_range(begin..end.max(begin), &with);
            }
            let draft = read(dialect, stream.as_bytes());
            prop_assert!(draft.tokens.unwrap_or_default().total() < 1 << 43);
        }
    }
}
