//! What a body asks for, and what is changed in it before it goes on.

use std::ops::Range;

use serde_json::json;

use super::attach::Attachments;
use super::body::{Edit, Fields, string};
use super::meter::Pictures;
use super::refusal::Refusal;
use super::route::{Call, Kind};
use super::{form, tools};
use crate::budget::{Most, tokens_at_most};
use crate::config::{Dialect, LimitField, StreamUsage};
use crate::dialect::{images, tokens_of_pictures};
use crate::gateway::Target;

/// The longest answer of a program that sets no limit, where money is limited, tokens.
const UNSAID_MAX: u64 = 32_000;

/// Answers or pictures of one call at most.
const ANSWERS_MAX: u64 = 128;

/// Fields that say how dear a call is, by their plain names, and what they may say.
const TIERS: [(&str, &[&str]); 3] = [
    ("servicetier", &["auto", "default", "standard", "standard_only", "flex"]),
    ("speed", &["standard"]),
    ("inferencegeo", &["global", "not_available"]),
];

/// Fields that name further models, by their plain names.
const FURTHER: [&str; 3] = ["models", "fallbacks", "fallbackmodels"];

/// A body that was understood.
pub(super) struct Asked {
    /// The model that it names.
    pub(super) model: String,
    /// Tools at the provider, by the names under which they are granted.
    pub(super) tools: Vec<String>,
    most: Bounds,
    edits: Edits,
    bytes: usize,
}

/// What bounds its cost.
struct Bounds {
    /// Tokens that are read; `None` is as many as the model can.
    read: Option<u64>,
    /// The limit of one answer, if it sets one.
    written: Option<u64>,
    answers: u64,
    cached_long: bool,
    pictures: u64,
}

/// Where it may be changed.
#[derive(Default)]
struct Edits {
    /// The names of the model, each with what stands before the name there.
    models: Vec<(Range<usize>, &'static str)>,
    /// Whether the name is written as JSON, or as it is.
    is_form: bool,
    /// For a stream of the chat dialect: the change that has usage told.
    usage: Option<Edit>,
    /// Where a limit of the answer can be put: the text before the number, and after it.
    limit: Option<(Edit, &'static str)>,
}

impl Asked {
    /// Reads JSON.
    ///
    /// # Errors
    /// When it is malformed, could be read in two ways, or asks for what nobody may have.
    pub(super) fn json(call: &Call, body: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why: String| Refusal::malformed(format!("the body is not understood: {why}"));
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is no UTF-8".to_owned()))?;
        let fields = Fields::read(text).map_err(malformed)?;
        if let Some(name) = fields.misspelt(judged(call.dialect)) {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(malformed(format!("the field `{shown}` is spelt otherwise")));
        }
        forbidden(&fields)?;
        let mut edits = Edits::default();
        let model = model(call, text, &fields, &mut edits)?;
        let mut found = tools::at_the_provider(call.dialect, &fields).map_err(malformed)?;
        let attached = attachments(&fields).map_err(malformed)?;
        if attached.fetched {
            found.push("web_fetch".to_owned());
        }
        let most = bounds(call, &fields, &attached, text.len()).map_err(malformed)?;
        if call.dialect == Dialect::OpenaiChat {
            edits.usage = usage(text, &fields).map_err(malformed)?;
        }
        if most.written.is_none() && matches!(call.kind, Kind::Answer | Kind::Stream) {
            edits.limit = limit(call.dialect, text, &fields).map_err(malformed)?;
        }
        Ok(Self { model, tools: found, most, edits, bytes: text.len() })
    }

    /// Reads a form.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(super) fn form(body: &[u8], boundary: &str) -> Result<Self, Refusal> {
        let malformed = |why: String| Refusal::malformed(format!("the form is not understood: {why}"));
        let parts = form::parts(body, boundary).map_err(malformed)?;
        let one = |name: &str| -> Result<Option<(&form::Part, &str)>, Refusal> {
            let mut named = parts.iter().filter(|part| super::body::plain(&part.name) == name);
            let first = named.next();
            if named.next().is_some() {
                return Err(malformed(format!("the part `{name}` is there twice")));
            }
            let Some(part) = first else { return Ok(None) };
            let value = std::str::from_utf8(&body[part.value.clone()]).ok().filter(|_| !part.is_file);
            let value = value.filter(|_| part.name == name);
            value
                .map(|value| Some((part, value)))
                .ok_or_else(|| malformed(format!("the part `{name}` is no plain text")))
        };
        let Some((place, model)) = one("model")? else { return Err(no_model()) };
        let pictures = match one("n")? {
            Some((_, count)) => count.parse().ok().filter(|count| (1..=ANSWERS_MAX).contains(count)),
            None => Some(1),
        };
        let pictures = pictures.ok_or_else(|| malformed("`n` is no number of pictures".to_owned()))?;
        let files: usize = parts.iter().filter(|part| part.is_file).map(|part| part.value.len()).sum();
        let count = parts.iter().filter(|part| part.is_file).count();
        let read =
            tokens_at_most(body.len() - files).saturating_add(tokens_of_pictures(count, files * 4 / 3));
        let most = Bounds { read: Some(read), written: None, answers: 1, cached_long: false, pictures };
        let edits = Edits { models: vec![(place.value.clone(), "")], is_form: true, ..Edits::default() };
        Ok(Self { model: model.to_owned(), tools: Vec::new(), most, edits, bytes: body.len() })
    }

    /// Its size, for an estimate of what was read.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limit of an answer, if it sets one.
    pub(super) fn longest(&self) -> Option<u64> {
        self.most.written
    }

    /// Pictures that it asks for, as they are charged at this target.
    pub(super) fn pictures(&self, target: &Target) -> Pictures {
        let count = self.most.pictures;
        Pictures { count, tokens: images::tokens_at_most(target.prices().as_ref(), count) }
    }

    /// What it may use at most, at this target.
    pub(super) fn most(&self, target: &Target) -> Most {
        let own = target.facts.output.unwrap_or(u64::MAX);
        let written = match (self.most.written, self.most.pictures) {
            (Some(said), _) => said.min(own),
            (None, 0) => own.min(UNSAID_MAX),
            (None, _) => self.pictures(target).tokens,
        };
        Most {
            read: self.most.read.unwrap_or_else(|| target.context().unwrap_or(1_000_000)),
            written: written.saturating_mul(self.most.answers),
            cached_long: self.most.cached_long,
            images: self.most.pictures,
        }
    }

    /// The changes that it needs at this target.
    pub(super) fn edits(&self, target: &Target, is_limited: bool) -> Vec<Edit> {
        let id = &target.facts.id;
        let name = |before: &str| match self.edits.is_form {
            true => format!("{before}{id}"),
            false => json!(format!("{before}{id}")).to_string(),
        };
        let models = self.edits.models.iter();
        let mut edits: Vec<Edit> = models
            .filter(|_| self.model != *id)
            .map(|(at, before)| Edit { at: at.clone(), with: name(before) })
            .collect();
        if target.provider.stream_usage == StreamUsage::Asked {
            edits.extend(self.edits.usage.clone());
        }
        if let Some((edit, after)) = self.edits.limit.as_ref().filter(|_| is_limited) {
            let most = target.facts.output.unwrap_or(UNSAID_MAX).min(UNSAID_MAX);
            let field = match target.provider.limit_field {
                LimitField::MaxTokens => "max_tokens",
                LimitField::MaxCompletionTokens => "max_completion_tokens",
            };
            let with = edit.with.replace("LIMIT_FIELD", field);
            edits.push(Edit { at: edit.at.clone(), with: format!("{with}{most}{after}") });
        }
        edits
    }
}

/// Fields that are judged, exactly as they are spelt.
fn judged(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenaiChat => &[
            "model",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "n",
            "tools",
            "messages",
        ],
        Dialect::OpenaiResponses => &["model", "stream", "max_output_tokens", "tools", "input", "background"],
        Dialect::OpenaiImages => &["model", "stream", "n", "prompt", "images"],
        Dialect::AnthropicMessages => &["model", "stream", "max_tokens", "tools", "messages", "system"],
        Dialect::Gemini => &[
            "model",
            "contents",
            "tools",
            "generationConfig",
            "generation_config",
            "systemInstruction",
            "system_instruction",
            "generateContentRequest",
            "generate_content_request",
        ],
    }
}

/// What nobody may have: what is not metered, what costs more than the catalogue says, and other models.
fn forbidden(fields: &Fields<'_>) -> Result<(), Refusal> {
    for (name, value) in fields.all().filter(|(_, value)| *value != "null") {
        let tier = TIERS.iter().find(|(field, _)| *field == name);
        if tier.is_some_and(|(_, fine)| !string(value).is_some_and(|said| fine.contains(&said.as_str()))) {
            let why = format!("`{name}` asks for a tier whose price is not known here; leave it out");
            return Err(Refusal::forbidden("dearer_tier", why));
        }
        if name == "background" && value != "false" {
            let why = "an answer in the background cannot be metered; leave `background` out";
            return Err(Refusal::forbidden("background", why));
        }
        if FURTHER.contains(&name) {
            let why = format!("`{name}` names further models; name one in `model`");
            return Err(Refusal::forbidden("model_not_allowed", why));
        }
    }
    Ok(())
}

fn no_model() -> Refusal {
    Refusal::forbidden("model_not_allowed", "no model is named")
}

/// The model, and every place in the body where its name stands.
fn model(call: &Call, text: &str, fields: &Fields<'_>, edits: &mut Edits) -> Result<String, Refusal> {
    let Some(in_path) = &call.model else {
        let value = fields.get("model").ok_or_else(no_model)?;
        edits.models.push((Fields::place(text, value), ""));
        return string(value).filter(|name| !name.is_empty()).ok_or_else(no_model);
    };
    let mut objects = vec![fields.get("model")];
    if let Some(inner) = fields.get("generateContentRequest").filter(|value| *value != "null") {
        let inner = Fields::read(inner)
            .map_err(|why| Refusal::malformed(format!("the body is not understood: {why}")))?;
        if inner.misspelt(&["model"]).is_some() {
            return Err(Refusal::malformed("the body is not understood: `model` is spelt otherwise"));
        }
        objects.push(inner.get("model"));
    }
    for value in objects.into_iter().flatten().filter(|value| *value != "null") {
        let name = string(value);
        if name.is_none_or(|name| name.strip_prefix("models/").unwrap_or(&name) != in_path) {
            let why = "the body names another model than the path";
            return Err(Refusal::forbidden("model_not_allowed", why));
        }
        edits.models.push((Fields::place(text, value), "models/"));
    }
    Ok(in_path.clone())
}

fn attachments(fields: &Fields<'_>) -> Result<Attachments, String> {
    let mut found = Attachments::default();
    let roots = [
        "messages",
        "input",
        "contents",
        "system",
        "systemInstruction",
        "tools",
        "images",
        "generateContentRequest",
    ];
    roots.iter().filter_map(|root| fields.get(root)).try_for_each(|value| found.look(value))?;
    Ok(found)
}

fn bounds(call: &Call, fields: &Fields<'_>, attached: &Attachments, bytes: usize) -> Result<Bounds, String> {
    let generation = match fields.get("generationConfig").filter(|value| *value != "null") {
        Some(value) if call.dialect == Dialect::Gemini => Some(Fields::read(value)?),
        _ => None,
    };
    let from = generation.as_ref().unwrap_or(fields);
    let number = |from: &Fields<'_>, name: &str| match from.get(name).filter(|value| *value != "null") {
        Some(_) => from.number(name).map(Some).ok_or_else(|| format!("`{name}` is no whole number")),
        None => Ok(None),
    };
    let (limits, answers): (&[&str], &str) = match call.dialect {
        Dialect::OpenaiChat => (&["max_tokens", "max_completion_tokens"], "n"),
        Dialect::OpenaiResponses => (&["max_output_tokens"], ""),
        Dialect::OpenaiImages => (&[], ""),
        Dialect::AnthropicMessages => (&["max_tokens"], ""),
        Dialect::Gemini => (&["maxOutputTokens"], "candidateCount"),
    };
    let mut written = None;
    for name in limits {
        written = written.max(number(from, name)?);
    }
    let answers = if answers.is_empty() { 1 } else { number(from, answers)?.unwrap_or(1) };
    let pictures = if call.dialect == Dialect::OpenaiImages { number(fields, "n")?.unwrap_or(1) } else { 0 };
    if !(1..=ANSWERS_MAX).contains(&answers) || pictures > ANSWERS_MAX {
        return Err(format!("it asks for more than {ANSWERS_MAX} answers"));
    }
    let is_continued = fields.says("previous_response_id") || fields.says("conversation");
    let own = tokens_at_most(bytes.saturating_sub(attached.bytes));
    let read = own.saturating_add(tokens_of_pictures(attached.count, attached.bytes));
    let read = if is_continued { None } else { Some(read) };
    Ok(Bounds { read, written, answers, cached_long: attached.cached_long, pictures })
}

/// The change after which a stream of the chat dialect ends with what was used.
fn usage(text: &str, fields: &Fields<'_>) -> Result<Option<Edit>, String> {
    match fields.get("stream") {
        Some("true") => {}
        None | Some("false" | "null") => return Ok(None),
        Some(_) => return Err("`stream` is neither true nor false".to_owned()),
    }
    let whole = "{\"include_usage\":true}";
    let Some(options) = fields.get("stream_options") else {
        return Ok(Some(fields.insertion(text, &format!("\"stream_options\":{whole}"))));
    };
    if options == "null" {
        return Ok(Some(Edit::of(text, options, whole.to_owned())));
    }
    let inner = Fields::read(options)?;
    if inner.misspelt(&["include_usage"]).is_some() {
        return Err("`include_usage` is spelt otherwise".to_owned());
    }
    Ok(match inner.get("include_usage") {
        Some("true") => None,
        Some(said) => Some(Edit::of(text, said, "true".to_owned())),
        None => Some(inner.insertion(text, "\"include_usage\":true")),
    })
}

/// Where a limit of the answer can be put.
fn limit(dialect: Dialect, text: &str, fields: &Fields<'_>) -> Result<Option<(Edit, &'static str)>, String> {
    // A field that says nothing is the place for a number; else it is added.
    let place = |fields: &Fields<'_>, name: &str, label: &str| match fields.get(name) {
        Some(null) => (Edit::of(text, null, String::new()), ""),
        None => {
            let Edit { at, with } = fields.insertion(text, &format!("\"{label}\":"));
            match with.strip_suffix(',') {
                Some(with) => (Edit { at, with: with.to_owned() }, ","),
                None => (Edit { at, with }, ""),
            }
        }
    };
    Ok(Some(match dialect {
        Dialect::OpenaiChat => {
            let said =
                ["max_tokens", "max_completion_tokens"].into_iter().find(|name| fields.get(name).is_some());
            place(fields, said.unwrap_or("max_tokens"), "LIMIT_FIELD")
        }
        Dialect::OpenaiResponses => place(fields, "max_output_tokens", "max_output_tokens"),
        Dialect::AnthropicMessages => place(fields, "max_tokens", "max_tokens"),
        Dialect::OpenaiImages => return Ok(None),
        Dialect::Gemini => match fields.get("generationConfig") {
            None => {
                let Edit { at, with } = fields.insertion(text, "\"generationConfig\":{\"maxOutputTokens\":");
                match with.strip_suffix(',') {
                    Some(with) => (Edit { at, with: with.to_owned() }, "},"),
                    None => (Edit { at, with }, "}"),
                }
            }
            Some(null) if null == "null" => (Edit::of(text, null, "{\"maxOutputTokens\":".to_owned()), "}"),
            Some(config) => place(&Fields::read(config)?, "maxOutputTokens", "maxOutputTokens"),
        },
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::config::Dialect as D;

    const BODIES: [(D, Kind, &str); 4] = [
        (
            D::OpenaiChat,
            Kind::Answer,
            r#"{"model":"gpt-5","stream":true,"stream_options":{"x":1},"max_tokens":null,"n":1,"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function"}]}"#,
        ),
        (
            D::OpenaiResponses,
            Kind::Answer,
            r#"{"model":"gpt-5","input":[{"content":[{"type":"input_text"}]}],"tools":[]}"#,
        ),
        (
            D::AnthropicMessages,
            Kind::Answer,
            r#"{"model":"a\u0062","max_tokens":9,"system":"x","messages":[]}"#,
        ),
        (
            D::Gemini,
            Kind::Stream,
            r#"{"model":"models/m","generationConfig":{"candidateCount":1},"contents":[{"parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[]}]}"#,
        ),
    ];

    fn call(dialect: D, kind: Kind) -> Call {
        Call { dialect, kind, model: (dialect == D::Gemini).then(|| "m".to_owned()) }
    }

    /// What a reader makes of it who takes the first of two fields, whatever their case.
    fn first(body: &Value, name: &str) -> Option<Value> {
        body.as_object()?
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_forwarded_is_what_was_judged(
            which in 0..BODIES.len(),
            swaps in prop::collection::vec(
                (any::<prop::sample::Index>(), r#"null|0|1e9|""|\[\]|\{\}|"x"|true|,"model":"y"|"Model":"z",|[ -~]|\PC"#),
                0..4,
            ),
        ) {
            let (dialect, kind, body) = BODIES[which];
            let mut body = body.to_owned();
            for (at, with) in swaps {
                let at = body.floor_char_boundary(at.index(body.len()));
                body.insert_str(at, &with);
            }
            let Ok(asked) = Asked::json(&call(dialect, kind), body.as_bytes()) else { return Ok(()) };
            let before: Value = serde_json::from_str(&body).unwrap();
            if dialect != D::Gemini {
                prop_assert_eq!(first(&before, "model"), Some(Value::from(asked.model.clone())));
            }
            let edits: Vec<Edit> = asked.edits.models.iter().map(|(at, prefix)| Edit { at: at.clone(), with: json!(format!("{prefix}new")).to_string() }).collect();
            let limit = asked.edits.limit.iter().map(|(edit, after)| Edit { at: edit.at.clone(), with: format!("{}7{after}", edit.with) });
            let edits = edits.into_iter().chain(asked.edits.usage.clone()).chain(limit).collect();
            let after = Edit::apply(body.as_bytes(), edits);
            let after: Value = serde_json::from_slice(&after).unwrap();
            let expect = if dialect == D::Gemini { "models/new" } else { "new" };
            prop_assert!(dialect == D::Gemini && before.get("model").is_none_or(Value::is_null) || after["model"] == expect, "{}", after);
            prop_assert!(asked.edits.usage.is_none() || after["stream_options"]["include_usage"] == true, "{}", after);
            for (name, value) in before.as_object().unwrap() {
                let is_edited = ["model", "stream_options", "max_tokens", "generationConfig"].contains(&name.as_str());
                prop_assert!(is_edited || after.get(name) == Some(value), "{}: {}", name, after);
            }
        }

        #[test]
        fn no_form_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            let form = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
            let at = at.index(form.len());
            let broken = [&form[..at], &bytes, &form[at..]].concat();
            if let Ok(asked) = Asked::form(&broken, "b") {
                prop_assert_eq!(asked.edits.models.len(), 1);
                prop_assert_eq!(&broken[asked.edits.models[0].0.clone()], asked.model.as_bytes());
            }
        }
    }
}
