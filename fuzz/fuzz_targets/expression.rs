//! Any text as an expression: a value or an error, and the same again from its own source.
#![no_main]

use domain::value::Value;
use libfuzzer_sys::fuzz_target;
use manifest::expression::{Expression, RunSoFar, Scope};
use serde_json::json;

struct World;

impl Scope for World {
    fn lookup(&self, name: &str) -> Option<Value> {
        match name {
            "event" => Some(Value::external(json!({ "number": 7, "labels": ["a", "b"], "title": "${x}" }))),
            "a" => Some(Value::trusted(json!([1, 2.5, "x", null, { "b": [] }]))),
            _ => None,
        }
    }

    fn status(&self) -> RunSoFar {
        RunSoFar::Failure
    }
}

fuzz_target!(|source: &str| {
    match Expression::parse(source) {
        Ok(expression) => {
            let again = Expression::parse(expression.source()).expect("its own source parses");
            assert_eq!(again.evaluate(&World), expression.evaluate(&World));
            expression.references();
        }
        Err(error) => assert!(source.is_char_boundary(error.offset)),
    }
    let _ = Expression::parse_condition(source);
});
