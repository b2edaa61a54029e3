//! The languages that providers speak: how a question is written, and how an answer is read.

pub(crate) mod anthropic;
pub(crate) mod gemini;
pub(crate) mod images;
pub(crate) mod openai;
pub(crate) mod responses;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::stage::Tokens;
use ports::models::{Message, Tool, ToolCall};
use ports::picture::Picture;
use serde_json::Value;
use tokio::time::Instant;

use self::images::Form;
use crate::class::{Class, Complaint, Fault, classify_in_stream};
use crate::config::Dialect;
use crate::gateway::Target;
use crate::sse::Event;
use crate::structured::Shape;

/// The longest answer, bytes.
pub(crate) const ANSWER_MAX: usize = 8 << 20;

/// The longest answer when a question says nothing and a limit is needed, tokens.
pub(crate) const UNSAID_MAX: u64 = 8_192;

/// The languages in which questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// OpenAI's chat.
    Chat,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
    /// Google's Gemini.
    Gemini,
    /// OpenAI's pictures.
    Images,
}

impl Spoken {
    /// How a target is asked this: as the catalogue says of a model that is asked in one language only, else
    /// as its provider speaks, its own language before others.
    pub(crate) fn of(target: &Target, prompt: &Prompt) -> Option<Self> {
        let Target { provider, facts, .. } = target;
        let all = match prompt.draws {
            true => &[Self::Images, Self::Gemini, Self::Chat][..],
            false => &[Self::Chat, Self::Messages, Self::Responses, Self::Gemini],
        };
        if !prompt.draws && facts.is_listed() && facts.dialect == Dialect::OpenaiImages {
            return None;
        }
        let usual = [Dialect::OpenaiChat, Dialect::AnthropicMessages].contains(&facts.dialect);
        let said = (facts.is_listed() && !usual).then_some(facts.dialect);
        let wanted = [said, Some(provider.dialect)].into_iter().flatten();
        let mut wanted = wanted.filter(|dialect| provider.speaks(*dialect));
        let first = wanted.find_map(|dialect| all.iter().find(|spoken| spoken.dialect() == dialect));
        // For a picture its language of chat is the last resort of a provider.
        let first = first.filter(|spoken| !(prompt.draws && **spoken == Self::Chat));
        first.or_else(|| all.iter().find(|spoken| provider.speaks(spoken.dialect()))).copied()
    }

    /// How questions are asked in a language.
    pub(crate) const fn in_dialect(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenaiChat => Self::Chat,
            Dialect::OpenaiResponses => Self::Responses,
            Dialect::OpenaiImages => Self::Images,
            Dialect::AnthropicMessages => Self::Messages,
            Dialect::Gemini => Self::Gemini,
        }
    }

    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Chat => Dialect::OpenaiChat,
            Self::Messages => Dialect::AnthropicMessages,
            Self::Responses => Dialect::OpenaiResponses,
            Self::Gemini => Dialect::Gemini,
            Self::Images => Dialect::OpenaiImages,
        }
    }

    /// Where a question goes to the model with this id, below the base URL.
    ///
    /// # Errors
    /// When the id would lead elsewhere.
    pub(crate) fn path(self, id: &str, prompt: &Prompt) -> Result<String, Fault> {
        Ok(match self {
            Self::Chat => "chat/completions".to_owned(),
            Self::Messages => "messages".to_owned(),
            Self::Responses => "responses".to_owned(),
            Self::Images if prompt.has_pictures() => "images/edits".to_owned(),
            Self::Images => "images/generations".to_owned(),
            Self::Gemini => {
                let plain = |part: &str| {
                    !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@".contains(&b))
                };
                if !id.split('/').all(|part| plain(part) && !part.starts_with('.')) {
                    return Err(Fault::new(Class::Unavailable, "is no name of a model there"));
                }
                let below = if id.contains('/') { "" } else { "models/" };
                let verb = if prompt.draws { "generateContent" } else { "streamGenerateContent" };
                format!("{below}{id}:{verb}")
            }
        })
    }

    /// What is said besides, in the address.
    pub(crate) const fn query(self, prompt: &Prompt) -> Option<&'static str> {
        match self {
            Self::Gemini if !prompt.draws => Some("alt=sse"),
            Self::Chat | Self::Messages | Self::Responses | Self::Gemini | Self::Images => None,
        }
    }

    /// The form of a question, where it is one.
    pub(crate) fn form(self, target: &Target, prompt: &Prompt) -> Option<Form> {
        (self == Self::Images && prompt.has_pictures()).then(|| images::form(&target.facts, prompt))
    }

    /// The body of a question.
    pub(crate) fn body(self, target: &Target, prompt: &Prompt) -> Value {
        let facts = &target.facts;
        match self {
            Self::Chat => openai::body(&target.provider, facts, prompt),
            Self::Messages => anthropic::body(facts, prompt),
            Self::Responses => responses::body(&target.provider, facts, prompt),
            Self::Gemini => gemini::body(facts, prompt),
            Self::Images => images::body(facts, prompt),
        }
    }
}

/// What a model is asked, in no particular language.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) conversation: Option<String>,
    pub(crate) system: Option<String>,
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) shape: Option<Shape>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    /// Whether a picture is to be made.
    pub(crate) draws: bool,
}

impl Prompt {
    /// Its size for an estimate of tokens, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let said: usize = self.messages.iter().map(spoken_bytes).sum();
        let tools = self.tools.iter();
        let tools: usize = tools
            .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
            .sum();
        let system = self.system.as_ref().map_or(0, String::len);
        said + tools + system + self.shape.as_ref().map_or(0, Shape::bytes)
    }

    /// The pictures in it.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.messages.iter().flat_map(|message| match message {
            Message::User { pictures, .. } => &pictures[..],
            Message::Assistant { .. } | Message::Results(_) => &[],
        })
    }

    /// Whether there are pictures in it.
    pub(crate) fn has_pictures(&self) -> bool {
        self.pictures().next().is_some()
    }

    /// What was said last to the model.
    fn words(&self) -> &str {
        let last = self.messages.iter().rev().find_map(|message| match message {
            Message::User { text, .. } => Some(text.as_str()),
            Message::Assistant { .. } | Message::Results(_) => None,
        });
        last.unwrap_or_default()
    }

    /// Whether it will be asked again with more at its end, so that a provider does well to keep it.
    fn goes_on(&self) -> bool {
        !self.tools.is_empty() || self.conversation.is_some()
    }
}

fn spoken_bytes(message: &Message) -> usize {
    match message {
        Message::User { text, pictures } => text.len() + pictures.iter().map(bytes_of).sum::<usize>(),
        Message::Assistant { text, calls } => {
            text.len() + calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>()
        }
        Message::Results(results) => results.iter().map(|result| result.text.len()).sum(),
    }
}

/// Tokens of a picture or page that is read, at most, besides what its size tells.
pub(crate) const PICTURE_READ: u64 = 5_000;

/// Encoded bytes of a picture for one more token.
pub(crate) const PICTURE_BYTES: u64 = 200;

/// Tokens of pictures, or of other things that are no text, at most.
pub(crate) fn tokens_of_pictures(count: usize, encoded: usize) -> u64 {
    PICTURE_READ.saturating_mul(count as u64).saturating_add(encoded as u64 / PICTURE_BYTES)
}

/// A picture as so many bytes of text as have as many tokens at most. Providers count its parts and not its
/// bytes: its bytes say how many parts there can be.
fn bytes_of(picture: &Picture) -> usize {
    let tokens = tokens_of_pictures(1, picture.bytes().len().div_ceil(3) * 4);
    usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(2)
}

/// A picture as text.
fn encoded(picture: &Picture) -> String {
    STANDARD.encode(picture.bytes())
}

/// A picture as an address that holds it.
fn data_url(picture: &Picture) -> String {
    format!("data:{};base64,{}", picture.kind().media_type(), encoded(picture))
}

/// Names for the calls of a conversation, in order. A provider gave them others; but these are taken by
/// every provider (Mistral wants nine letters and digits), also when another one has gone on with it.
fn call_names() -> impl Iterator<Item = String> {
    (1_u32..).map(|number| format!("call{number:05}"))
}

/// The arguments of a call as an object; a model may have written anything.
fn arguments(call: &ToolCall) -> Value {
    let parsed = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
    parsed.unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

/// What has come of an answer so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// The text, or the answer that was asked for as a call.
    pub(crate) text: String,
    /// The tools that are called.
    pub(crate) calls: Vec<Called>,
    /// The pictures that were made.
    pub(crate) pictures: Vec<Picture>,
    /// The addresses that it rests on, in the order in which the text counts them: `[1]` is the first.
    sources: Vec<String>,
    /// What was used so far, as the provider says.
    pub(crate) tokens: Option<Tokens>,
    /// Which model says that it answers.
    pub(crate) served: Option<String>,
    /// Why it stopped, once it has.
    pub(crate) stop: Option<Stop>,
    /// Whether the provider has said that this is all.
    pub(crate) done: bool,
    /// When the first piece of it came.
    pub(crate) first_at: Option<Instant>,
    /// Anthropic: whether the block that is being read is one of ours.
    block: anthropic::Block,
    /// Anthropic: whether the answer has begun as a call; text around it does not count then.
    answered: bool,
}

/// A call as it comes, in pieces.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Called {
    name: String,
    arguments: String,
    opaque: Option<Value>,
    /// How the provider tells it from others.
    id: String,
    place: u64,
}

/// The most pictures in one answer.
const PICTURES_MAX: usize = 10;

/// The most addresses that an answer rests on, and the longest of them, bytes.
const SOURCES_MAX: (usize, usize) = (100, 2_000);

/// The most calls in one answer.
const CALLS_MAX: usize = 128;

impl From<Called> for ToolCall {
    fn from(called: Called) -> Self {
        let Called { name, arguments, opaque, .. } = called;
        // What takes nothing is often called with nothing at all.
        let arguments = if arguments.trim().is_empty() { "{}".to_owned() } else { arguments };
        Self { name, arguments, opaque }
    }
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
    /// Adds text.
    ///
    /// # Errors
    /// When the answer is longer than [`ANSWER_MAX`].
    fn add(&mut self, text: &str) -> Result<(), Fault> {
        self.room(text)?;
        self.text.push_str(text);
        Ok(())
    }

    /// Begins a call.
    ///
    /// # Errors
    /// When there are too many.
    fn call(&mut self, called: Called) -> Result<(), Fault> {
        if self.calls.len() >= CALLS_MAX {
            return Err(Fault::new(Class::Request, format!("calls more than {CALLS_MAX} tools at once")));
        }
        self.calls.push(called);
        Ok(())
    }

    /// Adds arguments to a call.
    ///
    /// # Errors
    /// When the answer is longer than [`ANSWER_MAX`].
    fn argue(&mut self, at: usize, text: &str) -> Result<(), Fault> {
        self.room(text)?;
        if let Some(called) = self.calls.get_mut(at) {
            called.arguments.push_str(text);
        }
        Ok(())
    }

    /// Adds a picture that was made.
    ///
    /// # Errors
    /// When it is none, or there are too many.
    fn draw(&mut self, data: &str) -> Result<(), Fault> {
        if self.pictures.len() >= PICTURES_MAX {
            return Err(Fault::new(
                Class::Request,
                format!("makes more than {PICTURES_MAX} pictures at once"),
            ));
        }
        let bytes = STANDARD.decode(data.trim_ascii()).ok();
        let picture = bytes.and_then(|bytes| Picture::read(bytes.into()));
        self.pictures.push(picture.ok_or_else(|| {
            Fault::new(Class::StreamBroken, "sent a picture that is neither PNG, JPEG, GIF nor WebP")
        })?);
        Ok(())
    }

    /// Notes an address that the answer rests on.
    fn cite(&mut self, url: &str) {
        let is_plain =
            url.starts_with("http") && !url.contains(|c: char| c.is_control() || c.is_whitespace());
        let has_room = self.sources.len() < SOURCES_MAX.0 && url.len() <= SOURCES_MAX.1;
        if is_plain && has_room && self.sources.iter().all(|known| known != url) {
            self.sources.push(url.to_owned());
        }
    }

    /// The text, with the addresses below it that its numbers mean. Models that search the web tell them beside
    /// their words, where nobody would find them any more.
    pub(crate) fn cited(self) -> String {
        let Self { mut text, sources, .. } = self;
        let told = sources.iter().all(|source| text.contains(source.as_str()));
        if !text.is_empty() && !told {
            text.push_str("\n\nSources:\n");
            let lines = (1..).zip(&sources).map(|(number, source)| format!("[{number}] {source}"));
            text.push_str(&lines.collect::<Vec<_>>().join("\n"));
        }
        text
    }

    /// What has been written, bytes.
    pub(crate) fn written(&self) -> usize {
        self.text.len() + self.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>()
    }

    fn room(&self, text: &str) -> Result<(), Fault> {
        if self.written() + text.len() > ANSWER_MAX {
            let why = format!("its answer is longer than {} MiB", ANSWER_MAX >> 20);
            return Err(Fault::new(Class::Request, why));
        }
        Ok(())
    }

    fn serve(&mut self, body: &Value, field: &str) {
        if self.served.is_none()
            && let Some(model) = body.get(field).and_then(Value::as_str)
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
        return Err(broke_off(&Complaint::of(&body)));
    }
    match dialect {
        Spoken::Chat => openai::read_chunk(&body, draft),
        Spoken::Messages => anthropic::read_event(&body, draft),
        Spoken::Responses => responses::read_event(&body, draft),
        Spoken::Gemini => gemini::read_part(&body, draft),
        Spoken::Images => images::read(&body, draft),
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
        Spoken::Responses => responses::read_response(&value, draft),
        Spoken::Images => images::read(&value, draft),
        // Without `alt=sse` a stream is one list of the same objects.
        Spoken::Gemini => match value.as_array() {
            Some(list) => list.iter().try_for_each(|part| gemini::read_part(part, draft)),
            None => gemini::read_part(&value, draft),
        },
    }
}

/// What an error means that came in the place of the rest of an answer.
fn broke_off(complaint: &Complaint) -> Fault {
    let words =
        [&complaint.message, &complaint.code, &complaint.kind].into_iter().find(|words| !words.is_empty());
    let words = words.map_or("it does not say why", String::as_str);
    Fault::new(classify_in_stream(complaint), format!("broke off its answer: {words}"))
}

fn is_error(body: &Value) -> bool {
    // Google wraps one in a list where an answer would be one.
    body.get(0).unwrap_or(body).get("error").is_some_and(|error| !error.is_null())
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

    const STREAMS: [(Spoken, &str); 11] = [
        (Spoken::Chat, include_str!("tests/wire/openai_text.sse")),
        (Spoken::Chat, include_str!("tests/wire/openai_calls.sse")),
        (Spoken::Messages, include_str!("tests/wire/anthropic_calls.sse")),
        (Spoken::Messages, include_str!("tests/wire/anthropic_text.sse")),
        (Spoken::Messages, include_str!("tests/wire/anthropic_tool.sse")),
        (Spoken::Responses, include_str!("tests/wire/responses_text.sse")),
        (Spoken::Responses, include_str!("tests/wire/responses_calls.sse")),
        (Spoken::Gemini, include_str!("tests/wire/gemini_text.sse")),
        (Spoken::Gemini, include_str!("tests/wire/gemini_calls.sse")),
        (Spoken::Gemini, include_str!("tests/wire/gemini_picture.sse")),
        (Spoken::Images, include_str!("tests/wire/images.sse")),
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
