//! A forge's own description of its API, as a file of operations: each with its method and path, the schemas of its
//! parameters and of its body. A field or parameter that is not described is one too many.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::gate::{Asked, decoded};

/// The operations that a forge describes.
#[derive(Debug)]
pub struct Contract(Vec<Operation>);

#[derive(Debug)]
struct Operation {
    method: String,
    path: Vec<String>,
    /// Parameters of the path that may have several parts, as the name of a branch has.
    long: Vec<String>,
    parameters: BTreeMap<String, Validator>,
    query: BTreeMap<String, Validator>,
    body: Option<Validator>,
}

impl Contract {
    /// Reads a file of operations.
    ///
    /// # Panics
    /// When it is none.
    pub fn read(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).expect("JSON");
        Self(document["operations"].as_array().expect("operations").iter().map(Operation::read).collect())
    }

    /// What is wrong with a request.
    pub fn violations(&self, asked: &Asked) -> Vec<String> {
        let fits = |operation: &&Operation| {
            operation.method == asked.method && operation.values(&asked.path).is_some()
        };
        // A path without parameters is more than one with.
        let operation = self.0.iter().filter(fits).min_by_key(|operation| operation.parameters.len());
        let whole = format!("{} {}", asked.method, asked.path);
        match operation {
            None => vec![format!("{whole}: there is no such operation")],
            Some(operation) => {
                operation.check(asked).into_iter().map(|wrong| format!("{whole}: {wrong}")).collect()
            }
        }
    }
}

impl Operation {
    fn read(described: &Value) -> Self {
        let validators = |place: &str| {
            let parameters = described["parameters"][place].as_object().expect("parameters");
            parameters.iter().map(|(name, schema)| (name.clone(), validator(schema))).collect()
        };
        let texts = |key: &str| {
            let list = described[key].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            method: described["method"].as_str().expect("a method").to_owned(),
            path: described["path"].as_str().expect("a path").split('/').map(str::to_owned).collect(),
            long: texts("long"),
            parameters: validators("path"),
            query: validators("query"),
            body: described.get("body").map(validator),
        }
    }

    /// The values of its parameters, when a path is one of its own.
    fn values(&self, path: &str) -> Option<Vec<(&str, String)>> {
        let parts: Vec<&str> = path.split('/').collect();
        let (mut values, mut at) = (Vec::new(), 0);
        for step in &self.path {
            let part = parts.get(at)?;
            match step.strip_prefix('{').and_then(|step| step.strip_suffix('}')) {
                Some(name) if self.long.iter().any(|long| long == name) => {
                    values.push((name, parts[at..].join("/")));
                    at = parts.len();
                }
                Some(name) => {
                    values.push((name, decoded(part)));
                    at += 1;
                }
                None if step == part => at += 1,
                None => return None,
            }
        }
        (at == parts.len()).then_some(values)
    }

    fn check(&self, asked: &Asked) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, value) in self.values(&asked.path).unwrap_or_default() {
            check_value(name, self.parameters.get(name), &value, &mut wrong);
        }
        for (name, value) in &asked.query {
            check_value(name, self.query.get(name), value, &mut wrong);
        }
        match (&self.body, &asked.body) {
            (Some(validator), body) => {
                let body = body.clone().unwrap_or_else(|| json!({}));
                wrong.extend(validator.iter_errors(&body).map(|error| format!("body: {error}")));
            }
            (None, Some(_)) => wrong.push("it has a body".to_owned()),
            (None, None) => {}
        }
        wrong
    }
}

fn validator(schema: &Value) -> Validator {
    jsonschema::validator_for(schema).expect("a schema")
}

fn check_value(name: &str, validator: Option<&Validator>, value: &str, wrong: &mut Vec<String>) {
    let Some(validator) = validator else {
        wrong.push(format!("`{name}` is no parameter"));
        return;
    };
    let number = value.parse::<i64>().ok().map(Value::from);
    let fits = |value: &Value| validator.is_valid(value);
    if !fits(&Value::from(value)) && !number.as_ref().is_some_and(fits) {
        wrong.push(format!("`{name}` is {value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIBED: &str = r#"{ "operations": [
        { "method": "GET", "path": "/things", "parameters": { "path": {}, "query": {
            "state": { "enum": ["open", "all"] }, "page": { "type": "integer" } } } },
        { "method": "GET", "path": "/things/latest", "parameters": { "path": {}, "query": {} } },
        { "method": "GET", "path": "/things/{id}", "parameters": {
            "path": { "id": { "type": "integer" } }, "query": {} } },
        { "method": "POST", "path": "/things", "parameters": { "path": {}, "query": {} }, "body": {
            "type": "object", "required": ["title"], "properties": { "title": { "type": "string" } },
            "additionalProperties": false } },
        { "method": "GET", "path": "/refs/{ref}", "long": ["ref"], "parameters": {
            "path": { "ref": { "type": "string" } }, "query": {} } },
        { "method": "GET", "path": "/names/{name}", "parameters": {
            "path": { "name": { "enum": ["a/b"] } }, "query": {} } } ] }"#;

    #[test]
    fn it_knows_what_would_not_be_taken() {
        let contract = Contract::read(DESCRIBED);
        let check = |method: &str, uri: &str, body: Value, expect: &str| {
            let request = axum::http::Request::builder().method(method).uri(uri).body(()).unwrap();
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let asked = Asked::read(&request.into_parts().0, body.as_bytes());
            let wrong = contract.violations(&asked).join("\n");
            let as_expected = wrong.is_empty() == expect.is_empty() && wrong.contains(expect);
            assert!(as_expected, "{method} {uri}: {wrong}");
        };
        check("GET", "/things?state=open&page=2", Value::Null, "");
        check("GET", "/things?state=ajar", Value::Null, "`state`");
        check("GET", "/things?page=last", Value::Null, "`page`");
        check("GET", "/things?sated=x", Value::Null, "no parameter");
        check("GET", "/things", json!({}), "it has a body");
        check("GET", "/things/7", Value::Null, "");
        check("GET", "/things/latest", Value::Null, "");
        check("GET", "/things/newest", Value::Null, "`id`");
        check("GET", "/things/7/8", Value::Null, "no such operation");
        check("GET", "/refs/heads/a/b", Value::Null, "");
        check("GET", "/names/a%2Fb", Value::Null, "");
        check("GET", "/names/a/b", Value::Null, "no such operation");
        check("DELETE", "/things", Value::Null, "no such operation");
        check("POST", "/things", json!({ "title": "x" }), "");
        check("POST", "/things", json!({ "body": "x" }), "title");
        check("POST", "/things", json!({ "title": "x", "colour": 1 }), "colour");
        check("POST", "/things", Value::Null, "title");
    }
}
