//! What a passing answer used, read from a copy of it.

use domain::stage::Tokens;
use serde_json::Value;

use crate::config::Dialect;
use crate::dialect::{anthropic, count, gemini, openai, responses};
use crate::ledger::Said;
use crate::price::Used;
use crate::sse::{Event, Parser, TooLarge};

/// How much of an answer in one piece is kept until its end, bytes. Of a longer one the end is read,
/// where the usage stands.
const WHOLE_MAX: usize = 8 << 20;

/// How much of that end is kept.
const TAIL: usize = 64 << 10;

/// Reads an answer.
pub(super) struct Meter {
    dialect: Dialect,
    form: Form,
    said: Said,
    /// Pictures that were asked for.
    pictures: Pictures,
}

/// Pictures that an answer has, and how they are charged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pictures {
    pub(super) count: u64,
    /// Tokens of all of them at most; none where each has a price of its own.
    pub(super) tokens: u64,
}

enum Form {
    /// Nothing has come yet.
    None,
    Stream {
        parser: Parser,
        events: Vec<Event>,
    },
    Whole {
        bytes: Vec<u8>,
        is_cut: bool,
    },
}

impl Meter {
    pub(super) fn new(dialect: Dialect, pictures: Pictures) -> Self {
        Self { dialect, form: Form::None, said: Said::default(), pictures }
    }

    pub(super) fn begins(&mut self, is_stream: bool) {
        self.form = if is_stream {
            Form::Stream { parser: Parser::default(), events: Vec::new() }
        } else {
            Form::Whole { bytes: Vec::new(), is_cut: false }
        };
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// When an event has no end.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        match &mut self.form {
            Form::None => {}
            Form::Stream { parser, events } => {
                parser.push(piece, events)?;
                for event in events.drain(..) {
                    read_event(self.dialect, &event, &mut self.said);
                }
            }
            Form::Whole { bytes, is_cut } => {
                bytes.extend_from_slice(piece);
                if bytes.len() > WHOLE_MAX || *is_cut && bytes.len() > 2 * TAIL {
                    *is_cut = true;
                    bytes.drain(..bytes.len() - TAIL);
                }
                self.said.written += piece.len();
            }
        }
        Ok(())
    }

    /// What the provider has said so far that was used.
    pub(super) fn used(&self) -> Option<Tokens> {
        self.said.used.map(|used| used.tokens)
    }

    /// Reads the end, or what there is of it.
    fn end(&mut self) {
        match std::mem::replace(&mut self.form, Form::None) {
            Form::None => {}
            Form::Stream { parser, .. } => {
                if let Some(event) = parser.finish() {
                    read_event(self.dialect, &event, &mut self.said);
                }
            }
            Form::Whole { bytes, is_cut: false } => {
                if let Ok(body) = serde_json::from_slice::<Value>(&bytes) {
                    read_whole(self.dialect, &body, &mut self.said);
                }
            }
            Form::Whole { bytes, is_cut: true } => read_tail(self.dialect, &bytes, &mut self.said),
        }
    }

    /// What is known at the end, whole or not.
    pub(super) fn finish(mut self) -> Said {
        let begun = !matches!(self.form, Form::None);
        // Who reads by the length of an answer does not look for its end.
        self.end();
        if self.dialect == Dialect::OpenaiImages && begun {
            self.pictures();
        }
        self.said
    }

    /// Only the request says how many there are, and all of them are charged. Where nothing is said of
    /// tokens although they are what is charged, as many as there can be are estimated.
    fn pictures(&mut self) {
        let Pictures { count, tokens } = self.pictures;
        let is_told = self.said.used.is_some();
        let used =
            self.said.used.get_or_insert_with(|| Tokens { output: tokens, ..Tokens::default() }.into());
        used.images = count;
        self.said.complete &= is_told || tokens == 0;
        self.said.written = 0;
    }
}

fn read_event(dialect: Dialect, event: &Event, said: &mut Said) {
    if event.data == "[DONE]" {
        return;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&event.data) else { return };
    match dialect {
        Dialect::OpenaiChat => chat(&body, said),
        Dialect::OpenaiResponses => responses_event(&body, said),
        Dialect::OpenaiImages => {
            if body["type"].as_str().is_some_and(|kind| kind.ends_with(".completed")) {
                said.used = Some(responses::tokens(&body["usage"]).into());
                said.complete = true;
            }
        }
        Dialect::AnthropicMessages => messages(&body, said),
        Dialect::Gemini => gemini_part(&body, said),
    }
}

fn read_whole(dialect: Dialect, body: &Value, said: &mut Said) {
    match dialect {
        Dialect::OpenaiChat => {
            chat(body, said);
            said.complete = said.used.is_some();
        }
        Dialect::OpenaiResponses => responses_object(body, said),
        Dialect::OpenaiImages => {
            if body["usage"].is_object() {
                said.used = Some(responses::tokens(&body["usage"]).into());
            }
            said.complete = body["data"].is_array();
        }
        Dialect::AnthropicMessages => {
            serve(body, "model", said);
            if body["usage"].is_object() {
                said.used = Some(of_messages(&body["usage"], Used::default()));
                said.complete = true;
            }
        }
        // Without `alt=sse` a stream is one list of the same objects.
        Dialect::Gemini => match body.as_array() {
            Some(list) => list.iter().for_each(|part| gemini_part(part, said)),
            None => gemini_part(body, said),
        },
    }
}

/// The usage at the end of an answer that was too long to keep. Within a string its quotes would be
/// escaped, so this finds a field.
fn read_tail(dialect: Dialect, tail: &[u8], said: &mut Said) {
    let text = String::from_utf8_lossy(tail);
    let name = if dialect == Dialect::Gemini { "\"usageMetadata\":" } else { "\"usage\":" };
    let Some(at) = text.rfind(name) else { return };
    let usage = serde_json::Deserializer::from_str(&text[at + name.len()..]).into_iter::<Value>().next();
    let Some(Ok(usage)) = usage.filter(|usage| usage.as_ref().is_ok_and(Value::is_object)) else { return };
    said.used = Some(match dialect {
        Dialect::OpenaiChat => openai::tokens(&usage).into(),
        Dialect::OpenaiResponses | Dialect::OpenaiImages => responses::tokens(&usage).into(),
        Dialect::AnthropicMessages => of_messages(&usage, Used::default()),
        Dialect::Gemini => gemini::tokens(&usage).into(),
    });
    said.complete = true;
}

fn chat(chunk: &Value, said: &mut Said) {
    serve(chunk, "model", said);
    let usage = [chunk.get("usage"), chunk.pointer("/x_groq/usage")];
    if let Some(usage) = usage.into_iter().flatten().find(|usage| usage.is_object()) {
        said.used = Some(openai::tokens(usage).into());
    }
    for choice in chunk["choices"].as_array().into_iter().flatten() {
        said.complete |= choice["finish_reason"].is_string();
        let delta = &choice["delta"];
        said.written += ["content", "reasoning", "reasoning_content"]
            .iter()
            .filter_map(|name| delta[*name].as_str())
            .map(str::len)
            .sum::<usize>();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            said.written += call["function"]["arguments"].as_str().map_or(0, str::len);
        }
    }
}

fn responses_event(event: &Value, said: &mut Said) {
    let kind = event["type"].as_str().unwrap_or_default();
    if let Some(response) = event.get("response").filter(|response| response.is_object()) {
        serve(response, "model", said);
        if matches!(kind, "response.completed" | "response.incomplete" | "response.failed") {
            responses_object(response, said);
        }
    } else if kind.ends_with(".delta") {
        said.written += event["delta"].as_str().map_or(0, str::len);
    }
}

fn responses_object(response: &Value, said: &mut Said) {
    serve(response, "model", said);
    if response["usage"].is_object() {
        said.used = Some(responses::tokens(&response["usage"]).into());
        said.complete = true;
    }
}

fn messages(event: &Value, said: &mut Said) {
    match event["type"].as_str().unwrap_or_default() {
        "message_start" => {
            serve(&event["message"], "model", said);
            said.used = Some(of_messages(&event["message"]["usage"], Used::default()));
        }
        "content_block_delta" => {
            let delta = &event["delta"];
            let pieces = ["text", "thinking", "partial_json"].iter().filter_map(|name| delta[*name].as_str());
            said.written += pieces.map(str::len).sum::<usize>();
        }
        "message_delta" => {
            said.used = Some(of_messages(&event["usage"], said.used.unwrap_or_default()));
            said.complete |= event["delta"]["stop_reason"].is_string();
        }
        "message_stop" => said.complete = true,
        _ => {}
    }
}

fn gemini_part(part: &Value, said: &mut Said) {
    serve(part, "modelVersion", said);
    if part["usageMetadata"].is_object() {
        said.used = Some(gemini::tokens(&part["usageMetadata"]).into());
    }
    for candidate in part["candidates"].as_array().into_iter().flatten() {
        said.complete |= candidate["finishReason"].is_string();
        for piece in candidate["content"]["parts"].as_array().into_iter().flatten() {
            said.written += piece["text"].as_str().map_or(0, str::len);
        }
    }
    // A question that a filter stops has no candidates.
    said.complete |= part["promptFeedback"]["blockReason"].is_string();
}

fn serve(body: &Value, field: &str, said: &mut Said) {
    if said.served.is_none()
        && let Some(model) = body[field].as_str()
    {
        said.served = Some(model.chars().filter(|c| !c.is_control()).take(200).collect());
    }
}

fn of_messages(usage: &Value, so_far: Used) -> Used {
    let long = count(usage, "/cache_creation/ephemeral_1h_input_tokens");
    Used {
        tokens: anthropic::tokens(usage, so_far.tokens),
        long_write: long.max(so_far.long_write),
        images: 0,
    }
}
