//! Any text as a template; any text as a value in one.
#![no_main]

use domain::value::Value;
use libfuzzer_sys::fuzz_target;
use manifest::expression::{JsonTemplate, MAX_RESULT, RunSoFar, Scope, Template};

struct World<'t>(&'t str);

impl Scope for World<'_> {
    fn lookup(&self, name: &str) -> Option<Value> {
        (name != "nothing").then(|| Value::external(self.0))
    }

    fn status(&self) -> RunSoFar {
        RunSoFar::Success
    }
}

fuzz_target!(|source: &str| {
    let world = World(source);
    if let Ok(template) = Template::parse(source) {
        if let Ok(value) = template.evaluate(&world) {
            assert!(value.text().len() <= MAX_RESULT);
        }
        assert!(JsonTemplate::parse(source.into()).is_ok());
    }
    let inside = Template::parse("${x}").expect("a template").evaluate(&world).expect("a value");
    assert_eq!(inside, Value::external(source));
    assert_eq!(Template::verbatim(source).literal(), Some(source));
});
