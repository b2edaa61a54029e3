//! Answers in JSON of a schema: how one is asked for, found in the text, checked and mended.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

/// Checks a value against a JSON Schema: `Ok`, or what is wrong with it, in words.
#[derive(Clone)]
pub struct SchemaCheck(Arc<Check>);

type Check = dyn Fn(&Value, &Value) -> Result<(), Vec<String>> + Send + Sync;

impl SchemaCheck {
    /// From a function of the schema and the value.
    pub fn new(check: impl Fn(&Value, &Value) -> Result<(), Vec<String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    fn run(&self, schema: &Value, value: &Value) -> Result<(), Vec<String>> {
        (self.0)(schema, value)
    }
}

impl fmt::Debug for SchemaCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaCheck")
    }
}

/// A schema as it is sent. Providers want an object at the top; another schema is put into an
/// envelope `{"answer": …}`, and the answer taken out of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    /// What is sent.
    pub(crate) schema: Value,
    /// Whether OpenAI can be held to it: every object is closed and every property required.
    pub(crate) strict: bool,
    asked: Value,
    enveloped: bool,
}

/// The most that is quoted of a wrong answer or of what is wrong with it, bytes.
const QUOTE_MAX: usize = 16 << 10;

impl Shape {
    pub(crate) fn of(asked: &Value) -> Self {
        let enveloped = !is_object(asked);
        let schema = if enveloped {
            let mut inner = asked.clone();
            move_refs(&mut inner);
            json!({ "type": "object", "properties": { "answer": inner }, "required": ["answer"], "additionalProperties": false })
        } else {
            asked.clone()
        };
        Self { strict: is_strict(&schema), schema, asked: asked.clone(), enveloped }
    }

    /// Its size as text, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.schema.to_string().len()
    }

    /// For a model that takes no schema.
    pub(crate) fn in_words(&self) -> String {
        format!(
            "Answer with JSON only, without any other text, valid against this JSON Schema:\n{}",
            self.schema
        )
    }

    /// Finds the value in an answer and checks it.
    ///
    /// # Errors
    /// With what is wrong, in words for the model and for people.
    pub(crate) fn read(&self, text: &str, check: &SchemaCheck) -> Result<Value, Vec<String>> {
        let found = extract(text).ok_or_else(|| vec!["the answer is not JSON".to_owned()])?;
        // A model that was not held to the envelope may well have left it away.
        let value = match found {
            Value::Object(mut object)
                if self.enveloped && object.len() == 1 && object.contains_key("answer") =>
            {
                object.get_mut("answer").map(Value::take).unwrap_or_default()
            }
            found => found,
        };
        check.run(&self.asked, &value).map(|()| value)
    }

    /// What a model is told about a wrong answer.
    pub(crate) fn repair(&self, problems: &[String]) -> String {
        let mut list = String::new();
        for problem in problems {
            let line = format!("- {}\n", cut(problem, 300));
            if list.len() + line.len() > QUOTE_MAX {
                list.push_str("- …\n");
                break;
            }
            list.push_str(&line);
        }
        format!(
            "Your answer is not valid:\n{list}Answer again with the corrected JSON only, without any other text."
        )
    }
}

/// At most so many bytes of a text, cut between characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The wrong answer as it is quoted back to the model.
pub(crate) fn quote(text: &str) -> String {
    // A provider refuses an empty turn.
    if text.trim().is_empty() { "(no answer)".to_owned() } else { cut(text, QUOTE_MAX).to_owned() }
}

fn is_object(schema: &Value) -> bool {
    schema.get("type").map_or_else(|| schema.get("properties").is_some(), |kind| kind == "object")
}

/// References from the top (`#/$defs/x`) point one level deeper inside the envelope.
fn move_refs(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(rest) = target.strip_prefix('#') {
                            *target = format!("#/properties/answer{rest}");
                        }
                    }
                    _ => move_refs(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(move_refs),
        _ => {}
    }
}

/// What OpenAI's strict mode takes ("Structured outputs, supported schemas"); anything else is sent
/// without it, and only checked here.
const STRICT_KEYS: [&str; 21] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "description",
    "title",
    "$defs",
    "$ref",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
];

fn is_strict(schema: &Value) -> bool {
    let Value::Object(object) = schema else { return false };
    if !object.keys().all(|key| STRICT_KEYS.contains(&key.as_str())) {
        return false;
    }
    let empty = Map::new();
    let map = |key: &str| object.get(key).and_then(Value::as_object).unwrap_or(&empty);
    let properties = map("properties");
    let closed = !is_object(schema)
        || (object.get("additionalProperties") == Some(&Value::Bool(false))
            && properties.keys().all(|name| {
                let required = object.get("required").and_then(Value::as_array);
                required.is_some_and(|required| required.iter().any(|known| known == name))
            }));
    let any_of = object.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    closed
        && ["type", "enum", "const", "anyOf", "$ref"].iter().any(|key| object.contains_key(*key))
        && properties
            .values()
            .chain(map("$defs").values())
            .chain(object.get("items"))
            .chain(any_of)
            .all(is_strict)
}

/// The most places in a text where JSON is looked for.
const PLACES_MAX: usize = 64;

/// The JSON of an answer: all of it, the last fenced block, or the first object or list in it.
pub(crate) fn extract(text: &str) -> Option<Value> {
    let parse = |text: &str| serde_json::from_str::<Value>(text.trim()).ok();
    if let Some(value) = parse(text) {
        return Some(value);
    }
    // Thoughts of models that think aloud may have JSON in them that is not the answer.
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after);
    if let Some(value) = parse(text) {
        return Some(value);
    }
    let fenced = text.split("```").skip(1).step_by(2).collect::<Vec<_>>();
    let in_fence = fenced.iter().rev().find_map(|block| {
        // The first line may be the language.
        parse(block).or_else(|| parse(block.split_once('\n')?.1))
    });
    in_fence.or_else(|| {
        let places = text.char_indices().filter(|(_, c)| matches!(c, '{' | '['));
        places.take(PLACES_MAX).find_map(|(at, _)| {
            serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next().and_then(Result::ok)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &Value) {
        assert_eq!(&extract(text).unwrap_or_default(), expect, "{text:?}");
    }

    #[test]
    fn json_is_found_in_what_models_write() {
        let (a, none) = (&json!({ "a": 1 }), &Value::Null);
        check(r#"{"a":1}"#, a);
        check(" \n{\"a\":1}\n", a);
        check("```json\n{\"a\":1}\n```", a);
        check("Here it is:\n```\n{\"a\":1}\n```\nAnything else?", a);
        check("First I tried\n```json\n{\"b\":2}\n```\nbut then\n```json\n{\"a\":1}\n```", a);
        check("```json {\"a\":1}```", a);
        check("The answer is {\"a\":1}. Good luck {friend}", a);
        check("<think>maybe {\"b\":2}?</think>\n{\"a\":1}", a);
        check("<think>maybe {\"b\":2}?</think>so: {\"a\":1}", a);
        check("{not json} but [1, 2]", &json!([1, 2]));
        check("true", &json!(true));
        check("I cannot answer that.", none);
        check("", none);
        check("```json\n{\"a\":", none);
        check(&"[".repeat(100_000), none);
        check(&"{".repeat(1_000), none);
        check(r#"{"a":1e999}"#, none);
    }

    #[test]
    fn what_is_no_object_gets_an_envelope() {
        let list = Shape::of(
            &json!({ "type": "array", "items": { "$ref": "#/$defs/x" }, "$defs": { "x": { "type": "string" } } }),
        );
        assert_eq!(list.schema["properties"]["answer"]["items"]["$ref"], "#/properties/answer/$defs/x");
        let check = SchemaCheck::new(|schema, value| {
            assert_eq!(schema["type"], "array", "the schema that was asked is checked");
            if value.is_array() { Ok(()) } else { Err(vec!["no list".to_owned()]) }
        });
        assert_eq!(list.read(r#"{"answer":["a"]}"#, &check), Ok(json!(["a"])));
        assert_eq!(list.read(r#"["a"]"#, &check), Ok(json!(["a"])));
        assert_eq!(list.read(r#"{"answer":1}"#, &check), Err(vec!["no list".to_owned()]));
        let object = json!({ "type": "object", "properties": { "answer": {} } });
        assert_eq!(Shape::of(&object).schema, object);
    }

    #[test]
    fn strict_is_asked_for_only_where_it_is_possible() {
        let closed = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
        let text = json!({ "type": "string", "enum": ["a", "b"] });
        for (schema, expect) in [
            (closed(json!({ "a": text }), json!(["a"])), true),
            (closed(json!({ "a": text }), json!([])), false),
            (json!({ "type": "object", "properties": { "a": text }, "required": ["a"] }), false),
            (closed(json!({ "a": { "type": "array", "items": { "type": "object" } } }), json!(["a"])), false),
            (closed(json!({ "a": { "oneOf": [text] } }), json!(["a"])), false),
            (closed(json!({ "a": {} }), json!(["a"])), false),
            (text, true),
            (json!(true), false),
        ] {
            assert_eq!(Shape::of(&schema).strict, expect, "{schema}");
        }
    }

    #[test]
    fn a_repair_is_short_whatever_is_wrong() {
        let shape = Shape::of(&json!({ "type": "object" }));
        let problems = vec!["ü".repeat(1_000); 1_000];
        let words = shape.repair(&problems);
        assert!(words.len() < QUOTE_MAX + 1_000, "{}", words.len());
        assert!(words.ends_with("without any other text."));
        assert_eq!(quote(" "), "(no answer)");
    }
}
