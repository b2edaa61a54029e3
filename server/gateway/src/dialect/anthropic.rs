//! Anthropic's messages: `POST /v1/messages`.
//!
//! Written after Anthropic's API reference ("Messages", "Streaming messages", "Errors").

use domain::stage::Tokens;
use serde_json::{Value, json};

use super::{Draft, Prompt, Stop, UNSAID_MAX, count};
use crate::catalogue::{Capability, Facts};
use crate::class::Fault;

/// The name of the tool by which a model answers in JSON.
const TOOL: &str = "answer";

/// What the block is that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Block {
    /// Thoughts, or something else that is not shown.
    #[default]
    Other,
    /// Text.
    Text,
    /// The arguments of the tool.
    Call,
}

/// The body of a question.
pub(crate) fn body(facts: &Facts, prompt: &Prompt) -> Value {
    // The dialect insists on a limit.
    let limit = prompt.max_tokens.map_or(UNSAID_MAX, u64::from);
    let turns: Vec<Value> =
        prompt.turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.text })).collect();
    let mut body = json!({ "model": facts.id, "max_tokens": limit, "messages": turns, "stream": true });
    let mut system: Vec<&str> = prompt.system.as_deref().into_iter().collect();
    if let Some(shape) = &prompt.shape {
        let description = "Gives the answer. Call it once, with the whole answer.";
        body["tools"] = json!([{ "name": TOOL, "description": description, "input_schema": shape.schema }]);
        if facts.has(Capability::NoForcedTool) {
            system.push("Answer only by calling the tool `answer`, once, with the whole answer.");
            body["tool_choice"] = json!({ "type": "auto", "disable_parallel_tool_use": true });
        } else {
            body["tool_choice"] = json!({ "type": "tool", "name": TOOL, "disable_parallel_tool_use": true });
        }
    }
    if !system.is_empty() {
        body["system"] = system.join("\n\n").into();
    }
    // Here it ends at 1; the question's goes to 2.
    if let Some(temperature) = prompt.temperature
        && !facts.has(Capability::NoTemperature)
    {
        body["temperature"] = temperature.clamp(0.0, 1.0).into();
    }
    body
}

/// Reads an event of a stream. Kinds that are not known are ignored, as the reference asks.
pub(crate) fn read_event(event: &Value, draft: &mut Draft) -> Result<(), Fault> {
    match event.get("type").and_then(Value::as_str).unwrap_or_default() {
        "message_start" => {
            let message = &event["message"];
            draft.serve(message);
            draft.tokens = Some(tokens(&message["usage"], Tokens::default()));
        }
        "content_block_start" => begin_block(&event["content_block"], draft)?,
        "content_block_delta" => {
            let delta = &event["delta"];
            let piece = match (draft.block, delta["type"].as_str().unwrap_or_default()) {
                (Block::Text, "text_delta") if !draft.called => delta["text"].as_str(),
                (Block::Call, "input_json_delta") => delta["partial_json"].as_str(),
                _ => None,
            };
            draft.add(piece.unwrap_or_default())?;
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
    draft.serve(message);
    if message["usage"].is_object() {
        draft.tokens = Some(tokens(&message["usage"], Tokens::default()));
    }
    for block in message["content"].as_array().into_iter().flatten() {
        begin_block(block, draft)?;
        if draft.block == Block::Call && draft.text.is_empty() {
            draft.add(&block["input"].to_string())?;
        }
    }
    stop(message, draft);
    Ok(())
}

fn begin_block(block: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.block = match block["type"].as_str().unwrap_or_default() {
        "text" => Block::Text,
        // A second call is no part of the first.
        "tool_use" if block["name"] == TOOL && !draft.called => Block::Call,
        _ => Block::Other,
    };
    match draft.block {
        Block::Text if !draft.called => draft.add(block["text"].as_str().unwrap_or_default())?,
        Block::Call => {
            // Words before the call ("Let me answer:") are no part of the answer.
            draft.called = true;
            draft.text.clear();
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
