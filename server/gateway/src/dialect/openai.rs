//! OpenAI's chat completions, and everyone compatible: `POST /chat/completions`.
//!
//! Written after OpenAI's API reference ("Create chat completion", "The chat completion chunk
//! object"), with the habits of compatible servers noted where they differ.

use domain::stage::Tokens;
use ports::models::{Message, Tool, ToolCall};
use ports::picture::Picture;
use serde_json::{Value, json};

use super::{Called, Draft, Prompt, Stop, arguments, call_names, count, data_url};
use crate::catalogue::{Capability, Facts};
use crate::class::Fault;
use crate::config::{CacheKey, LimitField, StreamUsage};
use crate::provider::Provider;

/// The body of a question.
pub(crate) fn body(provider: &Provider, facts: &Facts, prompt: &Prompt) -> Value {
    let mut body = json!({ "model": facts.id, "messages": messages(facts, prompt), "stream": true });
    if prompt.draws {
        // As OpenRouter has it, and who does as it does. Nobody watches a picture come.
        body["modalities"] = json!(["image", "text"]);
        body["stream"] = false.into();
    } else if provider.stream_usage == StreamUsage::Asked {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(limit) = prompt.max_tokens {
        let field = match provider.limit_field {
            LimitField::MaxTokens => "max_tokens",
            LimitField::MaxCompletionTokens => "max_completion_tokens",
        };
        body[field] = limit.into();
    }
    if let Some(conversation) = prompt.conversation.as_ref().filter(|_| provider.cache_key == CacheKey::Sent)
    {
        body["prompt_cache_key"] = conversation.as_str().into();
    }
    if let Some(temperature) = prompt.temperature
        && !facts.has(Capability::NoTemperature)
    {
        body["temperature"] = temperature.into();
    }
    if let Some(shape) = &prompt.shape
        && facts.takes_schema()
    {
        let schema = json!({ "name": "answer", "strict": shape.strict, "schema": shape.schema });
        body["response_format"] = json!({ "type": "json_schema", "json_schema": schema });
    }
    if !prompt.tools.is_empty() {
        body["tools"] = prompt.tools.iter().map(tool).collect();
    }
    body
}

fn tool(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
}

fn messages(facts: &Facts, prompt: &Prompt) -> Vec<Value> {
    let spoken = prompt.shape.as_ref().filter(|_| !facts.takes_schema()).map(|shape| shape.in_words());
    let system: Vec<&str> = prompt.system.as_deref().into_iter().chain(spoken.as_deref()).collect();
    let mut messages = Vec::with_capacity(prompt.messages.len() + 1);
    if !system.is_empty() {
        messages.push(json!({ "role": "system", "content": system.join("\n\n") }));
    }
    let (mut names, mut open) = (call_names(), Vec::new());
    for message in &prompt.messages {
        match message {
            Message::User { text, pictures } => messages.push(user(text, pictures)),
            Message::Assistant { text, calls } => {
                open = names.by_ref().take(calls.len()).collect();
                messages.push(assistant(text, calls, &open));
            }
            // A result is a message of its own.
            Message::Results(results) => {
                let results = results.iter().zip(&open);
                messages.extend(results.map(
                    |(result, id)| json!({ "role": "tool", "tool_call_id": id, "content": result.text }),
                ));
            }
        }
    }
    messages
}

fn user(text: &str, pictures: &[Picture]) -> Value {
    if pictures.is_empty() {
        return json!({ "role": "user", "content": text });
    }
    let shown = |picture| json!({ "type": "image_url", "image_url": { "url": data_url(picture) } });
    let parts = [json!({ "type": "text", "text": text })].into_iter().chain(pictures.iter().map(shown));
    json!({ "role": "user", "content": parts.collect::<Vec<_>>() })
}

fn assistant(text: &str, calls: &[ToolCall], ids: &[String]) -> Value {
    let mut message = json!({ "role": "assistant", "content": text });
    if calls.is_empty() {
        return message;
    }
    if text.is_empty() {
        message["content"] = Value::Null;
    }
    let calls = calls.iter().zip(ids).map(|(call, id)| {
        let function = json!({ "name": call.name, "arguments": arguments(call).to_string() });
        let mut written = json!({ "id": id, "type": "function", "function": function });
        if let Some(opaque) = &call.opaque {
            written["extra_content"] = opaque.clone();
        }
        written
    });
    message["tool_calls"] = calls.collect();
    message
}

/// Reads a chunk of a stream; a whole answer has `message` where a chunk has `delta`.
pub(crate) fn read_chunk(chunk: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(chunk, "model");
    // Groq puts the usage of a stream into a drawer of its own.
    let usage = [chunk.get("usage"), chunk.pointer("/x_groq/usage")];
    if let Some(usage) = usage.into_iter().flatten().find(|usage| usage.is_object()) {
        draft.tokens = Some(tokens(usage));
    }
    // Perplexity says with each piece what it has found.
    for source in chunk.get("citations").and_then(Value::as_array).into_iter().flatten() {
        draft.cite(source.as_str().unwrap_or_default());
    }
    // The last chunk, which carries the usage, has no choices.
    let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
    if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
        if let Some(text) = delta.get("content").and_then(Value::as_str) {
            draft.add(text)?;
        }
        for picture in delta.get("images").and_then(Value::as_array).into_iter().flatten() {
            let url = picture.pointer("/image_url/url").and_then(Value::as_str).unwrap_or_default();
            draft.draw(url.split_once(";base64,").map_or("", |(_, data)| data))?;
        }
        // As OpenAI's models with a search of their own have it, and OpenRouter for all.
        for note in delta.get("annotations").and_then(Value::as_array).into_iter().flatten() {
            draft.cite(note.pointer("/url_citation/url").and_then(Value::as_str).unwrap_or_default());
        }
        for piece in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            read_call(piece, draft)?;
        }
        if delta.get("refusal").and_then(Value::as_str).is_some_and(|words| !words.is_empty()) {
            draft.stop = Some(Stop::Refusal);
        }
    }
    if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str)
        && draft.stop != Some(Stop::Refusal)
    {
        draft.stop = Some(match reason {
            "length" => Stop::Length,
            "content_filter" => Stop::Refusal,
            _ => Stop::End,
        });
    }
    Ok(())
}

/// Reads a piece of a call. The place tells calls apart; servers that stream whole calls give all of them
/// the first place, or none, and then their ids do.
fn read_call(piece: &Value, draft: &mut Draft) -> Result<(), Fault> {
    let word = |path: &str| piece.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (id, name) = (word("/id"), word("/function/name"));
    let place = piece.get("index").and_then(Value::as_u64);
    let is_same = |called: &Called| match place {
        Some(place) => called.place == place && (id.is_empty() || called.id.is_empty() || called.id == id),
        None => id.is_empty() && name.is_empty() || !id.is_empty() && called.id == id,
    };
    let at = match draft.calls.iter().rposition(is_same) {
        Some(at) => at,
        None => {
            let place = place.unwrap_or(draft.calls.len() as u64);
            draft.call(Called { id: id.to_owned(), place, ..Called::default() })?;
            draft.calls.len() - 1
        }
    };
    let called = &mut draft.calls[at];
    if called.name.is_empty() {
        called.name = name.chars().take(200).collect();
    }
    // Google's signature of the thought that led to the call.
    if let Some(opaque) = piece.get("extra_content").filter(|extra| !extra.is_null()) {
        called.opaque = Some(opaque.clone());
    }
    // Some servers parse the arguments before they send them.
    match piece.pointer("/function/arguments") {
        Some(Value::String(text)) => draft.argue(at, text),
        Some(object @ Value::Object(_)) => draft.argue(at, &object.to_string()),
        _ => Ok(()),
    }
}

/// Usage, in kinds that do not overlap: `prompt_tokens` counts what was read from and written to the
/// cache, `completion_tokens` counts thoughts.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let prompt = count(usage, "/prompt_tokens");
    let cache_read = match count(usage, "/prompt_tokens_details/cached_tokens") {
        // DeepSeek's name for it.
        0 => count(usage, "/prompt_cache_hit_tokens"),
        cached => cached,
    };
    let cache_write = count(usage, "/prompt_tokens_details/cache_write_tokens");
    let reasoning = count(usage, "/completion_tokens_details/reasoning_tokens");
    let mut output = count(usage, "/completion_tokens");
    // xAI and Google leave thoughts out of the completion, and only the total tells.
    if reasoning > 0 && count(usage, "/total_tokens") == prompt + output + reasoning {
        output += reasoning;
    }
    let input = prompt.saturating_sub(cache_read).saturating_sub(cache_write);
    Tokens { input, cache_read, cache_write, output, reasoning: reasoning.min(output) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(usage: &Value, expect: [u64; 5]) {
        let tokens = tokens(usage);
        let found = [tokens.input, tokens.cache_read, tokens.cache_write, tokens.output, tokens.reasoning];
        assert_eq!(found, expect, "{usage}");
    }

    #[test]
    fn usage_is_taken_apart() {
        check(&json!({}), [0; 5]);
        check(&json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 }), [10, 0, 0, 5, 0]);
        let details = json!({ "cached_tokens": 60, "cache_write_tokens": 30 });
        check(
            &json!({ "prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": details }),
            [10, 60, 30, 5, 0],
        );
        check(
            &json!({ "prompt_tokens": 100, "prompt_cache_hit_tokens": 64, "completion_tokens": 1 }),
            [36, 64, 0, 1, 0],
        );
        let thoughts = json!({ "reasoning_tokens": 20 });
        let openai = json!({ "prompt_tokens": 7, "completion_tokens": 25, "total_tokens": 32, "completion_tokens_details": thoughts });
        check(&openai, [7, 0, 0, 25, 20]);
        let xai = json!({ "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 32, "completion_tokens_details": thoughts });
        check(&xai, [7, 0, 0, 25, 20]);
        // More cached than read, negative, fractional, absurd: no panic, no wrap.
        check(
            &json!({ "prompt_tokens": 1, "prompt_tokens_details": { "cached_tokens": 9 } }),
            [0, 9, 0, 0, 0],
        );
        check(&json!({ "prompt_tokens": -5, "completion_tokens": 1.5 }), [0; 5]);
        check(
            &json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX }),
            [1 << 40, 0, 0, 1 << 40, 0],
        );
    }
}
