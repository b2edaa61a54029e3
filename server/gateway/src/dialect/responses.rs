//! OpenAI's responses: `POST /responses`.
//!
//! Written after OpenAI's API reference ("Create a model response", "Streaming events"). Nothing is kept
//! at the provider (`store: false`), and thoughts are not sent back: a conversation is whole in each question.

use domain::stage::Tokens;
use ports::models::{Message, Tool};
use ports::picture::Picture;
use serde_json::{Value, json};

use super::{Called, Draft, Prompt, Stop, arguments, broke_off, call_names, count, data_url};
use crate::catalogue::{Capability, Facts};
use crate::class::{Complaint, Fault};
use crate::config::CacheKey;
use crate::provider::Provider;

/// The body of a question.
pub(crate) fn body(provider: &Provider, facts: &Facts, prompt: &Prompt) -> Value {
    let mut body = json!({ "model": facts.id, "input": input(prompt), "stream": true, "store": false });
    let spoken = prompt.shape.as_ref().filter(|_| !facts.takes_schema()).map(|shape| shape.in_words());
    let system: Vec<&str> = prompt.system.as_deref().into_iter().chain(spoken.as_deref()).collect();
    if !system.is_empty() {
        body["instructions"] = system.join("\n\n").into();
    }
    if let Some(limit) = prompt.max_tokens {
        body["max_output_tokens"] = limit.into();
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
        let format = json!({ "type": "json_schema", "name": "answer", "strict": shape.strict, "schema": shape.schema });
        body["text"] = json!({ "format": format });
    }
    if !prompt.tools.is_empty() {
        body["tools"] = prompt.tools.iter().map(tool).collect();
    }
    body
}

/// Left out, `strict` would be true here.
fn tool(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({ "type": "function", "name": name, "description": description, "parameters": parameters, "strict": false })
}

fn input(prompt: &Prompt) -> Vec<Value> {
    let mut items = Vec::with_capacity(prompt.messages.len());
    let (mut names, mut open) = (call_names(), Vec::new());
    for message in &prompt.messages {
        match message {
            Message::User { text, pictures } => items.push(user(text, pictures)),
            Message::Assistant { text, calls } => {
                open = names.by_ref().take(calls.len()).collect();
                if calls.is_empty() || !text.trim().is_empty() {
                    items.push(json!({ "role": "assistant", "content": text }));
                }
                items.extend(calls.iter().zip(&open).map(|(call, id)| {
                    let arguments = arguments(call).to_string();
                    json!({ "type": "function_call", "call_id": id, "name": call.name, "arguments": arguments })
                }));
            }
            Message::Results(results) => {
                let results = results.iter().zip(&open);
                items.extend(results.map(
                    |(result, id)| json!({ "type": "function_call_output", "call_id": id, "output": result.text }),
                ));
            }
        }
    }
    items
}

fn user(text: &str, pictures: &[Picture]) -> Value {
    if pictures.is_empty() {
        return json!({ "role": "user", "content": text });
    }
    let shown = |picture| json!({ "type": "input_image", "image_url": data_url(picture), "detail": "auto" });
    let parts = [json!({ "type": "input_text", "text": text })].into_iter().chain(pictures.iter().map(shown));
    json!({ "role": "user", "content": parts.collect::<Vec<_>>() })
}

/// Reads an event of a stream. Kinds that are not known are ignored.
///
/// # Errors
/// When it says that something went wrong, or the answer is too long.
pub(crate) fn read_event(event: &Value, draft: &mut Draft) -> Result<(), Fault> {
    let piece = event["delta"].as_str().unwrap_or_default();
    match event["type"].as_str().unwrap_or_default() {
        "response.created" | "response.in_progress" => draft.serve(&event["response"], "model"),
        "response.output_item.added" => begin_item(event, draft)?,
        "response.output_item.done" => end_item(event, draft)?,
        "response.output_text.delta" => draft.add(piece)?,
        "response.refusal.delta" | "response.refusal.done" => draft.stop = Some(Stop::Refusal),
        "response.function_call_arguments.delta" => {
            if let Some(at) = place(event, draft) {
                draft.argue(at, piece)?;
            }
        }
        "response.completed" | "response.incomplete" | "response.failed" => {
            read_response(&event["response"], draft)?;
        }
        "error" => return Err(broke_off(&Complaint::of(event))),
        _ => {}
    }
    Ok(())
}

/// Reads a whole answer. What has come in pieces is not read again.
///
/// # Errors
/// As [`read_event`].
pub(crate) fn read_response(response: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(response, "model");
    if response["usage"].is_object() {
        draft.tokens = Some(tokens(&response["usage"]));
    }
    if response["status"] == "failed" || response["error"].is_object() {
        return Err(broke_off(&Complaint::of(response)));
    }
    draft.done = true;
    if draft.written() == 0 {
        for (index, item) in response["output"].as_array().into_iter().flatten().enumerate() {
            read_item(index as u64, item, draft)?;
        }
    }
    let cut = match response["incomplete_details"]["reason"].as_str() {
        Some("content_filter") => Some(Stop::Refusal),
        Some(_) => Some(Stop::Length),
        None => None,
    };
    draft.stop = draft.stop.filter(|stop| *stop == Stop::Refusal).or(cut).or(Some(Stop::End));
    Ok(())
}

fn read_item(index: u64, item: &Value, draft: &mut Draft) -> Result<(), Fault> {
    match item["type"].as_str().unwrap_or_default() {
        "function_call" => begin_call(index, item, draft)?,
        "message" => {
            for part in item["content"].as_array().into_iter().flatten() {
                match part["type"].as_str().unwrap_or_default() {
                    "output_text" => draft.add(part["text"].as_str().unwrap_or_default())?,
                    "refusal" => draft.stop = Some(Stop::Refusal),
                    _ => {}
                }
            }
        }
        // Thoughts, and what is done at the provider.
        _ => {}
    }
    Ok(())
}

fn begin_item(event: &Value, draft: &mut Draft) -> Result<(), Fault> {
    match event["item"]["type"] == "function_call" {
        true => begin_call(count(event, "/output_index"), &event["item"], draft),
        false => Ok(()),
    }
}

/// A call is whole now. Servers that do not stream arguments say them only here.
fn end_item(event: &Value, draft: &mut Draft) -> Result<(), Fault> {
    let item = &event["item"];
    if item["type"] != "function_call" {
        return Ok(());
    }
    let Some(at) = place(event, draft) else {
        return begin_call(count(event, "/output_index"), item, draft);
    };
    match draft.calls.get(at).is_some_and(|called| called.arguments.is_empty()) {
        true => draft.argue(at, item["arguments"].as_str().unwrap_or_default()),
        false => Ok(()),
    }
}

fn begin_call(place: u64, item: &Value, draft: &mut Draft) -> Result<(), Fault> {
    let name = item["name"].as_str().unwrap_or_default().chars().take(200).collect();
    draft.call(Called { name, place, ..Called::default() })?;
    draft.argue(draft.calls.len() - 1, item["arguments"].as_str().unwrap_or_default())
}

/// Which call an event is of.
fn place(event: &Value, draft: &Draft) -> Option<usize> {
    let place = count(event, "/output_index");
    draft.calls.iter().rposition(|called| called.place == place)
}

/// Usage, in kinds that do not overlap: `input_tokens` counts what was read from the cache.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let read = count(usage, "/input_tokens");
    let cache_read = count(usage, "/input_tokens_details/cached_tokens");
    let cache_write = count(usage, "/input_tokens_details/cache_write_tokens");
    let output = count(usage, "/output_tokens");
    let reasoning = count(usage, "/output_tokens_details/reasoning_tokens").min(output);
    let input = read.saturating_sub(cache_read).saturating_sub(cache_write);
    Tokens { input, cache_read, cache_write, output, reasoning }
}
