//! JSON Schemas that a manifest brings along: are they ones, and can they be used without harm?

use jsonschema::{Draft, PatternOptions};
use serde_json::Value as Json;

/// The largest schema, bytes of JSON.
const MAX_BYTES: usize = 64 << 10;
/// The most patterns in it: each is compiled.
const MAX_PATTERNS: usize = 200;

/// What is wrong with a schema; `None` when it can be used.
pub(crate) fn fault(schema: &Json) -> Option<String> {
    if !matches!(schema, Json::Object(_) | Json::Bool(_)) {
        return Some("a JSON Schema is a map".to_owned());
    }
    if schema.to_string().len() > MAX_BYTES {
        return Some("the schema is larger than 64 KiB".to_owned());
    }
    let mut patterns = 0;
    if let Some(fault) = walk(schema, &mut patterns) {
        return Some(fault);
    }
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .offline();
    options.build(schema).err().map(|error| {
        let place = error.instance_path().to_string();
        let message: String = error.to_string().chars().take(200).collect();
        if place.is_empty() { message } else { format!("at {place}: {message}") }
    })
}

/// References stay inside, and patterns are not too many. As deep as the file, which is bounded.
fn walk(schema: &Json, patterns: &mut usize) -> Option<String> {
    match schema {
        Json::Object(fields) => fields.iter().find_map(|(key, value)| {
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef", Json::String(target)) if !target.starts_with('#') => {
                    return Some("`$ref` must stay inside the schema: it begins with `#`".to_owned());
                }
                ("pattern", Json::String(_)) => *patterns += 1,
                ("patternProperties", Json::Object(fields)) => *patterns += fields.len(),
                _ => {}
            }
            if *patterns > MAX_PATTERNS {
                return Some(format!("the schema has more than {MAX_PATTERNS} patterns"));
            }
            walk(value, patterns)
        }),
        Json::Array(items) => items.iter().find_map(|item| walk(item, patterns)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: &Json, expect: Option<&str>) {
        let fault = fault(schema);
        match expect {
            None => assert_eq!(fault, None, "{schema}"),
            Some(part) => {
                assert!(fault.as_ref().is_some_and(|text| text.contains(part)), "{schema}: {fault:?}");
            }
        }
    }

    #[test]
    fn only_schemas_that_do_no_harm_are_taken() {
        check(&json!({ "type": "object", "required": ["issues"] }), None);
        check(&json!(true), None);
        check(&json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string" } } }), None);
        check(&json!([]), Some("is a map"));
        check(&json!({ "type": "strng" }), Some("/type"));
        check(&json!({ "$ref": "http://127.0.0.1/x" }), Some("stay inside"));
        check(&json!({ "$ref": "file:///etc/passwd" }), Some("stay inside"));
        check(&json!({ "pattern": "(a*)*\\1b" }), Some("pattern"));
        check(&json!({ "pattern": "(?=a)b" }), Some("pattern"));
        check(&json!({ "description": "x".repeat(70_000) }), Some("64 KiB"));
        let many: Vec<Json> = (0..300).map(|n| json!({ "pattern": format!("a{n}") })).collect();
        check(&json!({ "anyOf": many }), Some("200 patterns"));
    }
}
