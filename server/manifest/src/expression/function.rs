//! The functions of the language.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::Value as Json;

use super::evaluate::{self, Evaluator, equal, text_of};
use super::parser::Node;
use super::{EvaluationError, ExpressionError, RunSoFar};
use crate::suggest::{did_you_mean, quoted};

/// A function of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Join,
    Format,
    ToJson,
    FromJson,
    Len,
    Default,
    Success,
    Failure,
    Always,
    Cancelled,
}

impl Function {
    const ALL: [(Self, &'static str, RangeInclusive<usize>); 13] = [
        (Self::Contains, "contains", 2..=2),
        (Self::StartsWith, "startsWith", 2..=2),
        (Self::EndsWith, "endsWith", 2..=2),
        (Self::Join, "join", 1..=2),
        (Self::Format, "format", 1..=20),
        (Self::ToJson, "toJSON", 1..=1),
        (Self::FromJson, "fromJSON", 1..=1),
        (Self::Len, "len", 1..=1),
        (Self::Default, "default", 2..=2),
        (Self::Success, "success", 0..=0),
        (Self::Failure, "failure", 0..=0),
        (Self::Always, "always", 0..=0),
        (Self::Cancelled, "cancelled", 0..=0),
    ];

    pub(super) fn named(name: &str, offset: usize) -> Result<Self, ExpressionError> {
        let known = Self::ALL.into_iter().find(|(_, known, _)| *known == name);
        known.map(|(function, ..)| function).ok_or_else(|| {
            let names = Self::ALL.into_iter().map(|(_, name, _)| name);
            ExpressionError::new(format!("there is no function {}", quoted(name)), offset).help(
                did_you_mean(name, names.clone())
                    .unwrap_or_else(|| format!("the functions are {}", names.collect::<Vec<_>>().join(" "))),
            )
        })
    }

    pub(super) fn check_arity(self, given: usize, offset: usize) -> Result<(), ExpressionError> {
        let (_, name, takes) = self.entry();
        if takes.contains(&given) {
            return Ok(());
        }
        let wanted = match (*takes.start(), *takes.end()) {
            (0, 0) => "nothing".to_owned(),
            (1, 1) => "one value".to_owned(),
            (least, most) if least == most => format!("{least} values"),
            (least, most) => format!("{least} to {most} values"),
        };
        Err(ExpressionError::new(format!("`{name}` takes {wanted}, not {given}"), offset))
    }

    /// Whether it asks how the run has gone so far.
    pub(super) fn asks_status(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Always | Self::Cancelled)
    }

    fn entry(self) -> (Self, &'static str, RangeInclusive<usize>) {
        Self::ALL
            .into_iter()
            .find(|(function, ..)| *function == self)
            .expect("because ALL has every function")
    }

    /// Calls the function. `default` is not called: its first argument may fail.
    pub(super) fn call<'e>(
        self,
        arguments: &'e [Node],
        evaluator: &mut Evaluator<'e>,
    ) -> Result<Cow<'e, Json>, EvaluationError> {
        let status = evaluator.status();
        let truth = match self {
            Self::Success => status == RunSoFar::Success,
            Self::Failure => status == RunSoFar::Failure,
            Self::Cancelled => status == RunSoFar::Cancelled,
            Self::Always => true,
            _ => {
                let values: Vec<_> =
                    arguments.iter().map(|argument| evaluator.value(argument)).collect::<Result<_, _>>()?;
                return self.apply(&values, evaluator).map(Cow::Owned);
            }
        };
        Ok(Cow::Owned(Json::Bool(truth)))
    }

    fn apply(self, values: &[Cow<'_, Json>], evaluator: &Evaluator<'_>) -> Result<Json, EvaluationError> {
        let value = |index: usize| -> &Json { values.get(index).map_or(&Json::Null, Cow::as_ref) };
        match self {
            Self::Contains => contains(value(0), value(1), evaluator).map(Json::Bool),
            Self::StartsWith => {
                let (text, part) = evaluator.texts(value(0), value(1))?;
                Ok(Json::Bool(text.starts_with(part.as_ref())))
            }
            Self::EndsWith => {
                let (text, part) = evaluator.texts(value(0), value(1))?;
                Ok(Json::Bool(text.ends_with(part.as_ref())))
            }
            Self::Join => join(value(0), values.get(1).map(Cow::as_ref), evaluator).map(Json::String),
            Self::Format => format_text(values, evaluator).map(Json::String),
            Self::ToJson => evaluate::serialized(value(0), evaluator.fuel()).map(Json::String),
            Self::FromJson => from_json(value(0), evaluator),
            Self::Len => len(value(0)),
            Self::Default | Self::Success | Self::Failure | Self::Always | Self::Cancelled => Ok(Json::Null),
        }
    }
}

/// Whether a text has a part, a list an element, an object a key. Null has nothing.
fn contains(whole: &Json, part: &Json, evaluator: &Evaluator<'_>) -> Result<bool, EvaluationError> {
    match whole {
        Json::Null => Ok(false),
        Json::Array(items) => {
            for item in items {
                if equal(item, part, evaluator.fuel())? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Json::Object(fields) => Ok(part.as_str().is_some_and(|key| fields.contains_key(key))),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            let (whole, part) = evaluator.texts(whole, part)?;
            Ok(whole.contains(part.as_ref()))
        }
    }
}

fn join(list: &Json, separator: Option<&Json>, evaluator: &Evaluator<'_>) -> Result<String, EvaluationError> {
    let separator = separator.map_or(Ok(Cow::Borrowed(",")), |json| text_of(json, evaluator.fuel()))?;
    let items = match list {
        Json::Array(items) => items.as_slice(),
        Json::Null => &[],
        other => std::slice::from_ref(other),
    };
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            evaluator.fuel().append(&mut joined, &separator)?;
        }
        let text = text_of(item, evaluator.fuel())?;
        evaluator.fuel().append(&mut joined, &text)?;
    }
    Ok(joined)
}

/// `{0}` is the first value after the text; `{{` and `}}` are braces.
fn format_text(values: &[Cow<'_, Json>], evaluator: &Evaluator<'_>) -> Result<String, EvaluationError> {
    let pattern = text_of(&values[0], evaluator.fuel())?;
    let mut text = String::new();
    let mut rest = pattern.as_ref();
    while let Some(brace) = rest.find(['{', '}']) {
        evaluator.fuel().append(&mut text, &rest[..brace])?;
        rest = &rest[brace..];
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            evaluator.fuel().append(&mut text, &rest[..1])?;
            rest = after;
            continue;
        }
        let number = rest[1..].split_once('}').filter(|_| rest.starts_with('{'));
        let place = number.and_then(|(digits, after)| Some((digits.parse::<usize>().ok()?, after)));
        let Some((index, after)) = place else {
            return Err(EvaluationError::new("`format` has a brace that is not `{0}`, `{1}`, …")
                .help("write `{{` and `}}` for braces"));
        };
        let Some(value) = index.checked_add(1).and_then(|index| values.get(index)) else {
            return Err(EvaluationError::new(format!("`format` has no value for `{{{index}}}`")));
        };
        let value = text_of(value, evaluator.fuel())?;
        evaluator.fuel().append(&mut text, &value)?;
        rest = after;
    }
    evaluator.fuel().append(&mut text, rest)?;
    Ok(text)
}

fn from_json(value: &Json, evaluator: &Evaluator<'_>) -> Result<Json, EvaluationError> {
    let text = text_of(value, evaluator.fuel())?;
    evaluator.fuel().spend(text.len())?;
    serde_json::from_str(&text)
        .map_err(|error| EvaluationError::new(format!("`fromJSON` was given what is not JSON: {error}")))
}

fn len(value: &Json) -> Result<Json, EvaluationError> {
    let length = match value {
        Json::Null => 0,
        Json::String(text) => text.chars().count(),
        Json::Array(items) => items.len(),
        Json::Object(fields) => fields.len(),
        Json::Bool(_) | Json::Number(_) => {
            return Err(EvaluationError::new(format!("{} has no length", evaluate::kind(value))));
        }
    };
    Ok(Json::from(length))
}
