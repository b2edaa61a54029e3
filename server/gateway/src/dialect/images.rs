//! OpenAI's pictures: `POST /images/generations`, and `POST /images/edits` from other pictures.
//!
//! Written after OpenAI's API reference ("Create image", "Create image edit").

use ports::picture::Picture;
use rand::RngExt;
use serde_json::{Value, json};

use super::{Draft, Prompt, Stop, responses};
use crate::catalogue::Facts;
use crate::class::{Class, Fault};
use crate::price::Prices;

/// Tokens of one picture that is made, at most.
pub(crate) const PICTURE: u64 = 16_384;

/// Tokens that pictures are charged by, at most; none where each has a price of its own.
pub(crate) fn tokens_at_most(prices: Option<&Prices>, pictures: u64) -> u64 {
    match prices.is_some_and(|prices| prices.image.is_some()) {
        true => 0,
        false => PICTURE.saturating_mul(pictures),
    }
}

/// The body for a picture from nothing.
pub(crate) fn body(facts: &Facts, prompt: &Prompt) -> Value {
    let mut body = json!({ "model": facts.id, "prompt": prompt.words(), "n": 1 });
    if wants_format(facts) {
        body["response_format"] = "b64_json".into();
    }
    body
}

/// OpenAI's newer models send pictures by themselves, and take it for an error to be asked for that; others
/// would send an address.
fn wants_format(facts: &Facts) -> bool {
    !facts.id.contains("gpt-image")
}

/// A form, as RFC 7578 has it.
pub(crate) struct Form {
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// The form for a picture from others.
pub(crate) fn form(facts: &Facts, prompt: &Prompt) -> Form {
    // Long and drawn anew, so that nothing of the question can be it.
    let boundary = format!("{:032x}", rand::rng().random::<u128>());
    let mut bytes = Vec::new();
    let mut part = |head: &str, value: &[u8]| {
        let begin = format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        bytes.extend_from_slice(begin.as_bytes());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    };
    part("name=\"model\"", facts.id.as_bytes());
    part("name=\"prompt\"", prompt.words().as_bytes());
    part("name=\"n\"", b"1");
    if wants_format(facts) {
        part("name=\"response_format\"", b"b64_json");
    }
    let pictures: Vec<&Picture> = prompt.pictures().collect();
    // Several are a list; one is what every server takes.
    let name = if pictures.len() == 1 { "image" } else { "image[]" };
    for (number, picture) in (1..).zip(&pictures) {
        let kind = picture.kind();
        let file = format!("{number}.{}", kind.extension());
        let head = format!("name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: {}", kind.media_type());
        part(&head, picture.bytes());
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Form { content_type: format!("multipart/form-data; boundary={boundary}"), bytes }
}

/// Reads a whole answer.
///
/// # Errors
/// When a picture is none, or only an address.
pub(crate) fn read(body: &Value, draft: &mut Draft) -> Result<(), Fault> {
    draft.serve(body, "model");
    if body["usage"].is_object() {
        draft.tokens = Some(responses::tokens(&body["usage"]));
    }
    for entry in body["data"].as_array().into_iter().flatten() {
        match entry["b64_json"].as_str() {
            Some(data) => draft.draw(data)?,
            None if entry["url"].is_string() => {
                let why = "answered with the address of a picture and not with the picture";
                return Err(Fault::new(Class::Request, why));
            }
            None => {}
        }
    }
    draft.stop = Some(Stop::End);
    Ok(())
}
