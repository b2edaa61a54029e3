//! The documents that are made from the code.

use serde_json::Value as Json;

use crate::bless::is_current;

fn all() -> [Json; 4] {
    use manifest::schema::{daemon, policy, spellbook, test};
    [daemon(), spellbook(), policy(), test()]
}

#[test]
fn the_published_schemas_are_current() {
    is_current("schema/daemon.v1.json", &manifest::schema::to_text(&manifest::schema::daemon()));
    is_current("schema/spellbook.v1.json", &manifest::schema::to_text(&manifest::schema::spellbook()));
    is_current("schema/policy.v1.json", &manifest::schema::to_text(&manifest::schema::policy()));
    is_current("schema/test.v1.json", &manifest::schema::to_text(&manifest::schema::test()));
}

#[test]
fn the_list_of_diagnostics_is_current() {
    is_current("docs/diagnostics.md", &manifest::codes::to_markdown());
}

#[test]
fn every_field_has_a_description_and_an_example() {
    for schema in all() {
        let mut bare = Vec::new();
        undocumented(&schema, "", &mut bare);
        assert!(bare.is_empty(), "without description or example: {bare:#?}");
    }
}

/// Every property, wherever it is declared; conditions (`if`) declare nothing.
fn undocumented(schema: &Json, path: &str, bare: &mut Vec<String>) {
    let Json::Object(fields) = schema else {
        if let Json::Array(items) = schema {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| undocumented(item, &format!("{path}/{index}"), bare));
        }
        return;
    };
    for (key, value) in fields {
        if matches!(key.as_str(), "if" | "examples" | "default") {
            continue;
        }
        if key == "properties" {
            for (name, property) in value.as_object().into_iter().flatten() {
                let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
                let shown = property["examples"].as_array().is_some_and(|list| !list.is_empty());
                if !described || !shown {
                    bare.push(format!("{path}/{name}"));
                }
                undocumented(property, &format!("{path}/{name}"), bare);
            }
        } else {
            undocumented(value, &format!("{path}/{key}"), bare);
        }
    }
}

#[test]
fn the_schemas_are_schemas() {
    for schema in all() {
        assert!(jsonschema::draft202012::meta::is_valid(&schema));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
