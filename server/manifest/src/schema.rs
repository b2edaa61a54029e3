//! JSON Schemas: the published ones, made from the raw types; and those that manifests bring along.

use jsonschema::{Draft, PatternOptions};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value as Json;

use crate::raw;

/// The schema of `daemon.yaml`: what `schema/daemon.v1.json` holds.
pub fn daemon() -> Json {
    published::<raw::daemon::File>("Spellbook daemon", "daemon.v1.json")
}

/// The schema of `spellbook.yaml`: what `schema/spellbook.v1.json` holds.
pub fn spellbook() -> Json {
    published::<raw::spellbook::File>("Spellbook repository", "spellbook.v1.json")
}

/// The schema of `.spellbook/policy.yaml`: what `schema/policy.v1.json` holds.
pub fn policy() -> Json {
    published::<raw::policy::File>("Spellbook policy of a repository", "policy.v1.json")
}

/// The schema of a daemon's tests: what `schema/test.v1.json` holds.
pub fn test() -> Json {
    published::<raw::test::File>("Spellbook test", "test.v1.json")
}

/// A schema as it is written to its file: indented, with a newline at the end.
pub fn to_text(schema: &Json) -> String {
    format!("{schema:#}\n")
}

/// Holds a value against a schema of a manifest that was found valid.
///
/// # Errors
/// What does not fit, at most ten sentences, each with its place in the value.
pub fn validate(schema: &Json, value: &Json) -> Result<(), Vec<String>> {
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .offline()
        .build(schema)
        .map_err(|error| vec![format!("the schema cannot be used: {error}")])?;
    let faults: Vec<String> = validator.iter_errors(value).take(10).map(|error| sentence(&error)).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn sentence(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let message: String = error.masked().to_string().chars().take(300).collect();
    if place.is_empty() { message } else { format!("{place}: {message}") }
}

/// A YAML file as JSON, read by the same rules as a manifest; `None` when it is not YAML.
pub fn yaml_to_json(text: &str) -> Option<Json> {
    crate::yaml::parse(text).ok().map(|node| node.to_json())
}

/// Data as a YAML file that people can read and compare: keys in their order, texts of several lines as
/// blocks, nothing folded. [`yaml_to_json`] reads it back.
pub fn json_to_yaml(json: &Json) -> String {
    crate::yaml::write(json)
}

fn published<T: JsonSchema>(title: &str, id: &str) -> Json {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain));
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    schema["title"] = title.into();
    schema["$id"] = id.into();
    schema
}

/// Takes away what is Rust's and not JSON's: formats like `uint32`, and line breaks of the source in
/// descriptions.
fn plain(schema: &mut Schema) {
    let rust = ["uint8", "uint16", "uint32", "uint64", "double"];
    if schema.get("format").and_then(Json::as_str).is_some_and(|format| rust.contains(&format)) {
        schema.remove("format");
    }
    if let Some(Json::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}
