//! What a run is given: checked against what its daemon asks for, all faults at once.

use manifest::model::{Input, InputKind};
use serde_json::{Map, Value as Json};

use crate::refusal::Refusal;

/// The longest text of one input, bytes.
const LONGEST: usize = 1 << 20;

/// The inputs of a run: what was given, with defaults for the rest.
///
/// Text is taken for numbers, booleans and JSON where these are asked for, because that is what a
/// command line and a comment can give.
///
/// # Errors
/// `inputs_invalid`, naming every input that is missing, unknown or of another kind.
pub fn accept(asked: &[Input], given: &Map<String, Json>) -> Result<Map<String, Json>, Refusal> {
    let mut accepted = Map::new();
    let mut faults = Vec::new();
    for name in given.keys().filter(|name| !asked.iter().any(|input| input.name == **name)) {
        let known: Vec<_> = asked.iter().map(|input| format!("`{}`", input.name)).collect();
        faults.push(match known.as_slice() {
            [] => format!("`{name}` is not an input; this daemon has none"),
            known => format!("`{name}` is not an input; there are {}", known.join(", ")),
        });
    }
    for input in asked {
        match given.get(&input.name).filter(|value| !value.is_null()) {
            Some(value) => match accept_one(&input.kind, value) {
                Ok(value) => drop(accepted.insert(input.name.clone(), value)),
                Err(wanted) => faults.push(format!("`{}` must be {wanted}", input.name)),
            },
            None => match &input.default {
                Some(default) => drop(accepted.insert(input.name.clone(), default.clone())),
                None if input.required => faults.push(format!("`{}` is missing", input.name)),
                None => drop(accepted.insert(input.name.clone(), Json::Null)),
            },
        }
    }
    if faults.is_empty() { Ok(accepted) } else { Err(Refusal::invalid("inputs_invalid", faults.join("; "))) }
}

/// The value as the kind wants it, or what the kind wants.
fn accept_one(kind: &InputKind, value: &Json) -> Result<Json, String> {
    let text = value.as_str().filter(|text| text.len() <= LONGEST);
    let number = || match value {
        Json::Number(number) => number.as_f64(),
        _ => text.and_then(|text| text.trim().parse::<f64>().ok()).filter(|number| number.is_finite()),
    };
    match kind {
        InputKind::String => match text {
            Some(text) if !text.contains('\n') => Ok(Json::from(text)),
            _ => Err("one line of text".to_owned()),
        },
        InputKind::Text | InputKind::File | InputKind::Secret => {
            text.map(Json::from).ok_or_else(|| "text of at most 1 MiB".to_owned())
        }
        InputKind::Number => number().map(Json::from).ok_or_else(|| "a number".to_owned()),
        InputKind::Integer => whole(value, text).map(Json::from).ok_or_else(|| "a whole number".to_owned()),
        InputKind::Boolean => match (value, text) {
            (Json::Bool(flag), _) => Ok(Json::from(*flag)),
            (_, Some("true")) => Ok(Json::from(true)),
            (_, Some("false")) => Ok(Json::from(false)),
            _ => Err("true or false".to_owned()),
        },
        InputKind::Enum(options) => match text {
            Some(text) if options.iter().any(|option| option == text) => Ok(Json::from(text)),
            _ => Err(format!("one of {}", options.join(", "))),
        },
        InputKind::Json => match text {
            Some(text) => serde_json::from_str(text).map_err(|error| format!("JSON ({error})")),
            None if value.is_string() => Err("JSON of at most 1 MiB".to_owned()),
            None => Ok(value.clone()),
        },
    }
}

fn whole(value: &Json, text: Option<&str>) -> Option<i64> {
    value.as_i64().or_else(|| text.and_then(|text| text.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(kind: InputKind) -> Input {
        Input { name: "x".to_owned(), kind, description: None, default: None, required: true }
    }

    fn check(kind: InputKind, given: &Json, expect: Result<&Json, &str>) {
        let given = Map::from_iter([("x".to_owned(), given.clone())]);
        let got = accept(&[asked(kind)], &given).map(|accepted| accepted["x"].clone());
        assert_eq!(got.as_ref().map_err(|refusal| refusal.message.as_str()), expect);
    }

    #[test]
    fn text_is_taken_for_what_is_asked() {
        check(InputKind::Integer, &json!("3"), Ok(&json!(3)));
        check(InputKind::Boolean, &json!("true"), Ok(&json!(true)));
        check(InputKind::Json, &json!("[1]"), Ok(&json!([1])));
        check(InputKind::Number, &json!("1e999"), Err("`x` must be a number"));
        check(InputKind::Integer, &json!(1.5), Err("`x` must be a whole number"));
        check(InputKind::String, &json!("a\nb"), Err("`x` must be one line of text"));
        check(InputKind::Enum(vec!["a".into(), "b".into()]), &json!("c"), Err("`x` must be one of a, b"));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let given = Map::from_iter([("y".to_owned(), json!(1))]);
        let refusal = accept(&[asked(InputKind::String)], &given).unwrap_err();
        assert_eq!(refusal.message, "`y` is not an input; there are `x`; `x` is missing");
    }
}
