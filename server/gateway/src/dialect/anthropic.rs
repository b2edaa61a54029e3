//! Anthropic's messages: `POST /v1/messages`.
//!
//! Written after Anthropic's API reference ("Messages", "Streaming messages", "Errors").

use domain::stage::Tokens;
use ports::models::{Message, Tool};
use serde_json::{Value, json};

use super::{Called, Draft, Prompt, Stop, UNSAID_MAX, arguments, call_names, count, encoded};
use crate::catalogue::{Capability, Facts};
use crate::class::Fault;

/// The name of the tool by which a model answers in JSON.
const TOOL: &str = "answer";

/// What a model is told before is kept from so many bytes on, also for a single question: other runs, and
/// the items of a `foreach`, begin with the same. Anthropic keeps nothing below 1,024 tokens (some models:
/// 4,096), and charges a quarter more for what it writes down and a tenth for what it reads there.
const KEPT: usize = 4_096;

/// What the block is that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Block {
    /// Thoughts, or something else that is not shown.
    #[default]
    Other,
    /// Text.
    Text,
    /// The answer, as the arguments of a tool.
    Answer,
    /// A call of another tool.
    Call,
}

/// The body of a question.
pub(crate) fn body(facts: &Facts, prompt: &Prompt) -> Value {
    // The dialect insists on a limit.
    let limit = prompt.max_tokens.map_or(UNSAID_MAX, u64::from);
    let mut body =
        json!({ "model": facts.id, "max_tokens": limit, "messages": messages(prompt), "stream": true });
    let mut system: Vec<&str> = prompt.system.as_deref().into_iter().collect();
    let mut tools: Vec<Value> = prompt.tools.iter().map(tool).collect();
    if let Some(shape) = &prompt.shape {
        let description = "Gives the answer. Call it once, with the whole answer.";
        tools.push(json!({ "name": TOOL, "description": description, "input_schema": shape.schema }));
        if facts.has(Capability::NoForcedTool) {
            system.push(match prompt.tools.is_empty() {
                true => "Answer only by calling the tool `answer`, once, with the whole answer.",
                false => "When you are done, answer only by calling the tool `answer`, once, with the whole answer.",
            });
        }
        body["tool_choice"] = choice(facts, prompt);
    }
    if !tools.is_empty() {
        body["tools"] = tools.into();
    }
    if !system.is_empty() {
        body["system"] = system.join("\n\n").into();
    }
    if prompt.goes_on() {
        keep(&mut body);
    } else if body["system"].as_str().is_some_and(|system| system.len() >= KEPT) {
        keep_system(&mut body);
    }
    // Here it ends at 1; the question's goes to 2.
    if let Some(temperature) = prompt.temperature
        && !facts.has(Capability::NoTemperature)
    {
        body["temperature"] = temperature.clamp(0.0, 1.0).into();
    }
    body
}

fn tool(tool: &Tool) -> Value {
    json!({ "name": tool.name, "description": tool.description, "input_schema": tool.parameters })
}

/// How a model is held to answering by its tool.
fn choice(facts: &Facts, prompt: &Prompt) -> Value {
    match (prompt.tools.is_empty(), facts.has(Capability::NoForcedTool)) {
        (true, false) => json!({ "type": "tool", "name": TOOL, "disable_parallel_tool_use": true }),
        (true, true) => json!({ "type": "auto", "disable_parallel_tool_use": true }),
        (false, false) => json!({ "type": "any" }),
        (false, true) => json!({ "type": "auto" }),
    }
}

fn messages(prompt: &Prompt) -> Vec<Value> {
    let (mut names, mut open) = (call_names(), Vec::new());
    let written = prompt.messages.iter().map(|message| match message {
        Message::User { text, pictures } if pictures.is_empty() => json!({ "role": "user", "content": text }),
        // It reads pictures best before the words about them.
        Message::User { text, pictures } => {
            let shown = pictures.iter().map(|picture| {
                let (media_type, data) = (picture.kind().media_type(), encoded(picture));
                json!({ "type": "image", "source": { "type": "base64", "media_type": media_type, "data": data } })
            });
            let blocks = shown.chain([json!({ "type": "text", "text": text })]);
            json!({ "role": "user", "content": blocks.collect::<Vec<_>>() })
        }
        Message::Assistant { text, calls } if calls.is_empty() => {
            json!({ "role": "assistant", "content": text })
        }
        Message::Assistant { text, calls } => {
            open = names.by_ref().take(calls.len()).collect();
            // It refuses a text that is empty.
            let words = Some(text).filter(|text| !text.trim().is_empty());
            let words = words.map(|text| json!({ "type": "text", "text": text }));
            let calls = calls.iter().zip(&open).map(
                |(call, id)| json!({ "type": "tool_use", "id": id, "name": call.name, "input": arguments(call) }),
            );
            json!({ "role": "assistant", "content": words.into_iter().chain(calls).collect::<Vec<_>>() })
        }
        Message::Results(results) => {
            let results = results.iter().zip(&open).map(|(result, id)| {
                json!({ "type": "tool_result", "tool_use_id": id, "content": result.text, "is_error": result.failed })
            });
            json!({ "role": "user", "content": results.collect::<Vec<_>>() })
        }
    });
    written.collect()
}

/// Marks the end of what does not change, of what was said so far, and of what had been said when it was asked
/// before: this question begins with that one, and the next will begin with this ("Prompt caching"). Looking
/// back from a mark it finds what it kept no more than twenty blocks before, and a turn may have more results.
/// Three marks of the four that it takes.
fn keep(body: &mut Value) {
    if body["system"].is_string() {
        keep_system(body);
    } else if let Some(last) = body["tools"].as_array_mut().and_then(|tools| tools.last_mut()) {
        last["cache_control"] = json!({ "type": "ephemeral" });
    }
    let Some(messages) = body["messages"].as_array_mut() else { return };
    messages.iter_mut().rev().filter(|message| message["role"] == "user").take(2).for_each(mark);
}

/// Marks the end of a message.
fn mark(message: &mut Value) {
    let mark = json!({ "type": "ephemeral" });
    match &mut message["content"] {
        Value::Array(blocks) => {
            if let Some(block) = blocks.last_mut() {
                block["cache_control"] = mark;
            }
        }
        content => *content = json!([{ "type": "text", "text": content, "cache_control": mark }]),
    }
}

/// Marks the end of what a model is told before, and of the tools, which stand before that.
fn keep_system(body: &mut Value) {
    if let Some(text) = body["system"].as_str() {
        let mark = json!({ "type": "ephemeral" });
        body["system"] = json!([{ "type": "text", "text": text, "cache_control": mark }]);
    }
}

/// Reads an event of a stream. Kinds that are not known are ignored, as the reference asks.
pub(crate) fn read_event(event: &Value, draft: &mut Draft) -> Result<(), Fault> {
    match event.get("type").and_then(Value::as_str).unwrap_or_default() {
        "message_start" => {
            let message = &event["message"];
            draft.serve(message, "model");
            draft.tokens = Some(tokens(&message["usage"], Tokens::default()));
        }
        "content_block_start" => begin_block(&event["content_block"], draft)?,
        "content_block_delta" => {
            let delta = &event["delta"];
            let piece = match delta["type"].as_str().unwrap_or_default() {
                "text_delta" => delta["text"].as_str(),
                "input_json_delta" => delta["partial_json"].as_str(),
                _ => None,
            };
            let piece = piece.unwrap_or_default();
            match draft.block {
                Block::Text if !draft.answered => draft.add(piece)?,
                Block::Answer => draft.add(piece)?,
                Block::Call => draft.argue(draft.calls.len().saturating_sub(1), piece)?,
                Block::Text | Block::Other => {}
            }
        }
        "content_block_stop" => draft.block = Block::Other,
        "message_delta" => {
            let so_far = draft.tokens.unwrap_or_default();
            draft.tokens = Some(tokens(&event["usage"], so_far));
            stop(&event["delta"], draft);
        }
        "message_stop" => draft.done = true,
        _ => {}
    }
    Ok(())
}

/// Reads a whole message from a server that does not stream.
pub(crate) fn read_message(message: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(message, "model");
    if message["usage"].is_object() {
        draft.tokens = Some(tokens(&message["usage"], Tokens::default()));
    }
    for block in message["content"].as_array().into_iter().flatten() {
        begin_block(block, draft)?;
        let input = block["input"].to_string();
        match draft.block {
            Block::Answer if draft.text.is_empty() => draft.add(&input)?,
            Block::Call => draft.argue(draft.calls.len().saturating_sub(1), &input)?,
            Block::Answer | Block::Text | Block::Other => {}
        }
    }
    stop(message, draft);
    Ok(())
}

fn begin_block(block: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.block = match block["type"].as_str().unwrap_or_default() {
        "text" => Block::Text,
        // A second answer is no part of the first.
        "tool_use" if block["name"] == TOOL && draft.answered => Block::Other,
        "tool_use" if block["name"] == TOOL => Block::Answer,
        "tool_use" => Block::Call,
        _ => Block::Other,
    };
    match draft.block {
        Block::Text if !draft.answered => draft.add(block["text"].as_str().unwrap_or_default())?,
        Block::Answer => {
            // Words before it ("Let me answer:") are no part of the answer.
            draft.answered = true;
            draft.text.clear();
        }
        Block::Call => {
            let name = block["name"].as_str().unwrap_or_default().chars().take(200).collect();
            draft.call(Called { name, ..Called::default() })?;
        }
        Block::Text | Block::Other => {}
    }
    Ok(())
}

fn stop(from: &Value, draft: &mut Draft) {
    if let Some(reason) = from["stop_reason"].as_str() {
        draft.stop = Some(match reason {
            "max_tokens" | "model_context_window_exceeded" => Stop::Length,
            "refusal" => Stop::Refusal,
            _ => Stop::End,
        });
    }
}

/// Usage: `input_tokens` leaves out what was read from and written to the cache. In a stream the last
/// event says everything again, or only what changed.
pub(crate) fn tokens(usage: &Value, so_far: Tokens) -> Tokens {
    let newer = |path: &str, old: u64| match usage.pointer(path) {
        Some(Value::Number(_)) => count(usage, path).max(old),
        _ => old,
    };
    Tokens {
        input: newer("/input_tokens", so_far.input),
        cache_read: newer("/cache_read_input_tokens", so_far.cache_read),
        cache_write: newer("/cache_creation_input_tokens", so_far.cache_write),
        output: newer("/output_tokens", so_far.output),
        reasoning: newer("/output_tokens_details/thinking_tokens", so_far.reasoning),
    }
}
