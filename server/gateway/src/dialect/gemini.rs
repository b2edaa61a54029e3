//! Google's Gemini: `POST /models/{model}:streamGenerateContent`.
//!
//! Written after Google's API reference ("Generating content", "Function calling", "Thought signatures").

use domain::stage::Tokens;
use ports::models::{Message, Tool, ToolCall};
use serde_json::{Value, json};

use super::{Called, Draft, Prompt, Stop, arguments, call_names, count, encoded};
use crate::catalogue::{Capability, Facts};
use crate::class::{Class, Fault};

/// Where the signature of a call lies in what is kept with it: as Google puts it when it is asked in
/// OpenAI's language, so that a conversation can change from one to the other.
const SIGNATURE: &str = "/google/thought_signature";

/// What Google takes for the signature of a call that another model made.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// The body of a question.
pub(crate) fn body(facts: &Facts, prompt: &Prompt) -> Value {
    let mut body = json!({ "contents": contents(facts, prompt) });
    // It refuses to be held to a schema while it may call tools.
    let held = prompt.shape.as_ref().filter(|_| facts.takes_schema() && prompt.tools.is_empty());
    let spoken =
        prompt.shape.as_ref().filter(|_| held.is_none()).map(|shape| match prompt.tools.is_empty() {
            true => shape.in_words(),
            false => format!("When you are done with the tools: {}", shape.in_words()),
        });
    let system: Vec<&str> = prompt.system.as_deref().into_iter().chain(spoken.as_deref()).collect();
    if !system.is_empty() {
        body["systemInstruction"] = json!({ "parts": [{ "text": system.join("\n\n") }] });
    }
    if !prompt.tools.is_empty() {
        let declared: Vec<Value> = prompt.tools.iter().map(tool).collect();
        body["tools"] = json!([{ "functionDeclarations": declared }]);
    }
    let mut generation = json!({});
    if let Some(limit) = prompt.max_tokens {
        generation["maxOutputTokens"] = limit.into();
    }
    if let Some(temperature) = prompt.temperature
        && !facts.has(Capability::NoTemperature)
    {
        generation["temperature"] = temperature.into();
    }
    if let Some(shape) = held {
        generation["responseMimeType"] = "application/json".into();
        generation["responseJsonSchema"] = shape.schema.clone();
    }
    if prompt.draws {
        generation["responseModalities"] = json!(["TEXT", "IMAGE"]);
    }
    if generation.as_object().is_some_and(|fields| !fields.is_empty()) {
        body["generationConfig"] = generation;
    }
    body
}

fn tool(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({ "name": name, "description": description, "parametersJsonSchema": parameters })
}

fn contents(facts: &Facts, prompt: &Prompt) -> Vec<Value> {
    // A result names the tool that was called, besides the call.
    let (mut names, mut open) = (call_names(), Vec::<(String, String)>::new());
    let written = prompt.messages.iter().map(|message| match message {
        Message::User { text, pictures } => {
            let shown = pictures.iter().map(|picture| {
                let media_type = picture.kind().media_type();
                json!({ "inlineData": { "mimeType": media_type, "data": encoded(picture) } })
            });
            let parts = shown.chain([json!({ "text": text })]);
            json!({ "role": "user", "parts": parts.collect::<Vec<_>>() })
        }
        Message::Assistant { text, calls } => {
            let ids = names.by_ref().take(calls.len());
            open = ids.zip(calls.iter().map(|call| call.name.clone())).collect();
            let words = Some(text).filter(|text| calls.is_empty() || !text.trim().is_empty());
            let words = words.map(|text| json!({ "text": text }));
            let calls = calls.iter().zip(&open).enumerate();
            let calls = calls.map(|(at, (call, (id, _)))| called(facts, call, id, at == 0));
            json!({ "role": "model", "parts": words.into_iter().chain(calls).collect::<Vec<_>>() })
        }
        Message::Results(results) => {
            let parts = results.iter().zip(&open).map(|(result, (id, name))| {
                let kind = if result.failed { "error" } else { "result" };
                json!({ "functionResponse": { "id": id, "name": name, "response": { kind: result.text } } })
            });
            json!({ "role": "user", "parts": parts.collect::<Vec<_>>() })
        }
    });
    written.collect()
}

fn called(facts: &Facts, call: &ToolCall, id: &str, is_first: bool) -> Value {
    let mut part = json!({ "functionCall": { "id": id, "name": call.name, "args": arguments(call) } });
    let signed = call.opaque.as_ref().and_then(|opaque| opaque.pointer(SIGNATURE));
    let is_old = ["gemini-1", "gemini-2"].iter().any(|old| facts.id.contains(old));
    match signed {
        Some(signature) => part["thoughtSignature"] = signature.clone(),
        // The first call of an answer must have one.
        None if is_first && !is_old => part["thoughtSignature"] = UNSIGNED.into(),
        None => {}
    }
    part
}

/// Reads a piece of a stream, or a whole answer: they look the same.
///
/// # Errors
/// When the answer is too long, or came to nothing.
pub(crate) fn read_part(body: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(body, "modelVersion");
    if body["usageMetadata"].is_object() {
        draft.tokens = Some(tokens(&body["usageMetadata"]));
    }
    // A question that a filter stops has no candidates.
    if body["promptFeedback"]["blockReason"].is_string() {
        draft.stop = Some(Stop::Refusal);
    }
    let Some(candidate) = body.pointer("/candidates/0") else { return Ok(()) };
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        if let Some(call) = part.get("functionCall") {
            read_call(call, part, draft)?;
        } else if part["thought"] == true {
            // What it thinks of is not what it says, words and sketches alike.
        } else if let Some(data) = part["inlineData"]["data"].as_str() {
            draft.draw(data)?;
        } else {
            draft.add(part["text"].as_str().unwrap_or_default())?;
        }
    }
    match candidate["finishReason"].as_str() {
        None | Some("FINISH_REASON_UNSPECIFIED") => {}
        Some("STOP") => draft.stop = draft.stop.or(Some(Stop::End)),
        Some("MAX_TOKENS") => draft.stop = Some(Stop::Length),
        Some(
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION",
        ) => draft.stop = Some(Stop::Refusal),
        // A call that it could not write down, and the like: another time it can.
        Some(other) => {
            let shown: String = other.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
            return Err(Fault::new(Class::StreamBroken, format!("broke off its answer: {shown}")));
        }
    }
    Ok(())
}

fn read_call(call: &Value, part: &Value, draft: &mut Draft) -> Result<(), Fault> {
    let name = call["name"].as_str().unwrap_or_default().chars().take(200).collect();
    let signature = part["thoughtSignature"].as_str();
    let opaque = signature.map(|signature| json!({ "google": { "thought_signature": signature } }));
    draft.call(Called { name, opaque, ..Called::default() })?;
    match call.get("args").filter(|args| args.is_object()) {
        Some(args) => draft.argue(draft.calls.len() - 1, &args.to_string()),
        None => Ok(()),
    }
}

/// Usage, in kinds that do not overlap: the prompt counts what was read from the cache, and thoughts are
/// apart from what is shown.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let prompt = count(usage, "/promptTokenCount").saturating_add(count(usage, "/toolUsePromptTokenCount"));
    let cache_read = count(usage, "/cachedContentTokenCount");
    let reasoning = count(usage, "/thoughtsTokenCount");
    let output = count(usage, "/candidatesTokenCount").saturating_add(reasoning);
    let input = prompt.saturating_sub(cache_read);
    Tokens { input, cache_read, cache_write: 0, output, reasoning }
}
