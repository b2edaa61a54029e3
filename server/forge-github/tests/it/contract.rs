//! GitHub's own description of its API, of which `openapi.json` holds the requests that are made here
//! (`tools/github-openapi.py` makes it).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// GitHub offers it, and the links of its lists lead there; its description does not name it.
const UNDESCRIBED: &[(&str, &str)] = &[("GET", "/repositories/")];

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    document["operations"].as_array().unwrap().iter().map(Operation::read).collect()
});

struct Operation {
    method: String,
    path: Vec<String>,
    parameters: BTreeMap<String, Validator>,
    query: BTreeMap<String, Validator>,
    body: Option<Validator>,
}

impl Operation {
    fn read(described: &Value) -> Self {
        let validators = |place: &str| {
            let parameters = described["parameters"][place].as_object().unwrap();
            let validator = |(name, schema): (&String, &Value)| (name.clone(), validator(schema));
            parameters.iter().map(validator).collect()
        };
        Self {
            method: described["method"].as_str().unwrap().to_owned(),
            path: described["path"].as_str().unwrap().split('/').map(str::to_owned).collect(),
            parameters: validators("path"),
            query: validators("query"),
            body: described.get("body").map(validator),
        }
    }

    /// The values of its parameters, when a path is one of its own. A ref may have several parts.
    fn values<'p>(&self, path: &'p str) -> Option<Vec<(&str, String)>> {
        let parts: Vec<&'p str> = path.split('/').collect();
        let (mut values, mut at) = (Vec::new(), 0);
        for step in &self.path {
            let part = parts.get(at)?;
            match step.strip_prefix('{').and_then(|step| step.strip_suffix('}')) {
                Some("ref") if self.path.last() == Some(step) => {
                    values.push(("ref", parts[at..].join("/")));
                    at = parts.len();
                }
                Some(name) => {
                    values.push((name, (*part).to_owned()));
                    at += 1;
                }
                None if step == part => at += 1,
                None => return None,
            }
        }
        (at == parts.len()).then_some(values)
    }

    fn check(
        &self,
        values: &[(&str, String)],
        query: &[(String, String)],
        body: Option<&Value>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, value) in values {
            check_value(name, self.parameters.get(*name), value, &mut wrong);
        }
        for (name, value) in query {
            check_value(name, self.query.get(name), value, &mut wrong);
        }
        match (&self.body, body) {
            (Some(validator), body) => {
                let body = body.cloned().unwrap_or_else(|| json!({}));
                wrong.extend(validator.iter_errors(&body).map(|error| format!("body: {error}")));
            }
            (None, Some(_)) => wrong.push("it has a body".to_owned()),
            (None, None) => {}
        }
        wrong
    }
}

fn validator(schema: &Value) -> Validator {
    jsonschema::validator_for(schema).unwrap()
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

/// What is wrong with a request, by GitHub's description.
pub(crate) fn violations(
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: Option<&Value>,
) -> Vec<String> {
    if UNDESCRIBED.iter().any(|(verb, start)| *verb == method && path.starts_with(start)) {
        return Vec::new();
    }
    let fits = |operation: &&Operation| operation.method == method && operation.values(path).is_some();
    // A path without parameters is more than one with.
    let operation = OPERATIONS.iter().filter(fits).min_by_key(|operation| operation.parameters.len());
    match operation {
        None => vec![format!("{method} {path}: there is no such operation")],
        Some(operation) => {
            let wrong = operation.check(&operation.values(path).unwrap_or_default(), query, body);
            wrong.into_iter().map(|wrong| format!("{method} {path}: {wrong}")).collect()
        }
    }
}

#[test]
fn it_knows_what_github_would_not_take() {
    let check = |method, path, query: &[(&str, &str)], body: Option<Value>, expect: Option<&str>| {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let wrong = violations(method, path, &query, body.as_ref());
        assert_eq!(wrong.is_empty(), expect.is_none(), "{wrong:?}");
        assert!(expect.is_none_or(|expect| wrong[0].contains(expect)), "{wrong:?}");
    };
    check("GET", "/repos/a/b/issues", &[("state", "open"), ("per_page", "100")], None, None);
    check("GET", "/repos/a/b/issues", &[("state", "ajar")], None, Some("`state`"));
    check("GET", "/repos/a/b/issues", &[("sated", "x")], None, Some("no parameter"));
    check("GET", "/repos/a/b/git/ref/heads/a/b", &[], None, None);
    check("GET", "/repos/a/b/nothing", &[], None, Some("no such operation"));
    check("POST", "/repos/a/b/issues", &[], Some(json!({ "body": "x" })), Some("title"));
    check("POST", "/repos/a/b/issues", &[], Some(json!({ "title": "x", "colour": 1 })), Some("colour"));
    check(
        "POST",
        "/repos/a/b/check-runs",
        &[],
        Some(json!({ "name": "x", "head_sha": "y", "status": "odd" })),
        Some("body"),
    );
}
