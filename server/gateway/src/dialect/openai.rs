//! OpenAI's chat completions, and everyone compatible: `POST /chat/completions`.
//!
//! Written after OpenAI's API reference ("Create chat completion", "The chat completion chunk
//! object"), with the habits of compatible servers noted where they differ.

use domain::stage::Tokens;
use serde_json::{Value, json};

use super::{Draft, Prompt, Stop, count};
use crate::catalogue::{Capability, Facts};
use crate::class::Fault;
use crate::config::{LimitField, StreamUsage};
use crate::provider::Provider;

/// The body of a question.
pub(crate) fn body(provider: &Provider, facts: &Facts, prompt: &Prompt) -> Value {
    let mut body = json!({ "model": facts.id, "messages": messages(facts, prompt), "stream": true });
    if provider.stream_usage == StreamUsage::Asked {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(limit) = prompt.max_tokens {
        let field = match provider.limit_field {
            LimitField::MaxTokens => "max_tokens",
            LimitField::MaxCompletionTokens => "max_completion_tokens",
        };
        body[field] = limit.into();
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
    body
}

fn messages(facts: &Facts, prompt: &Prompt) -> Vec<Value> {
    let spoken = prompt.shape.as_ref().filter(|_| !facts.takes_schema()).map(|shape| shape.in_words());
    let system: Vec<&str> = prompt.system.as_deref().into_iter().chain(spoken.as_deref()).collect();
    let mut messages = Vec::with_capacity(prompt.turns.len() + 1);
    if !system.is_empty() {
        messages.push(json!({ "role": "system", "content": system.join("\n\n") }));
    }
    messages.extend(prompt.turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.text })));
    messages
}

/// Reads a chunk of a stream; a whole answer has `message` where a chunk has `delta`.
pub(crate) fn read_chunk(chunk: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(chunk);
    // Groq puts the usage of a stream into a drawer of its own.
    let usage = [chunk.get("usage"), chunk.pointer("/x_groq/usage")];
    if let Some(usage) = usage.into_iter().flatten().find(|usage| usage.is_object()) {
        draft.tokens = Some(tokens(usage));
    }
    // The last chunk, which carries the usage, has no choices.
    let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
    if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
        if let Some(text) = delta.get("content").and_then(Value::as_str) {
            draft.add(text)?;
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
