//! Scalars: texts with rules, quantities, expressions.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use domain::money::NanoUsd;
use domain::name::{NameError, SecretName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::codes::{self, Code};
use crate::diagnostic::Problem;
use crate::expression::{Expression, JsonTemplate, Template};
use crate::read::{Place, Read, Reader, Slot};
use crate::suggest::quoted;
use crate::units;
use crate::yaml::{Node, Shape};

/// A text of any length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text(pub(crate) String);

/// One line, not empty, of at most 200 characters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line(pub(crate) String);

/// A name that is also the name of a variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identifier(pub(crate) String);

/// A time with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Time(pub(crate) Duration);

/// A number of bytes with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size(pub(crate) u64);

/// An amount of dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Money(pub(crate) NanoUsd);

/// Processors, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Processors(pub(crate) u32);

/// A condition: an expression, in `${ … }` or bare.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) expression: Expression,
    /// As it was written; the offsets of references count from its beginning.
    pub(crate) text: String,
}

/// A text with expressions in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Templated(pub(crate) Template);

/// JSON with expressions in its texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TemplatedJson {
    pub(crate) template: JsonTemplate,
    /// Its texts one by one, and where each stands.
    pub(crate) texts: Vec<(Place, Template)>,
}

/// Any value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Any(pub(crate) Json);

/// The name of a secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Secret(pub(crate) SecretName);

/// A list, or one item that stands for a list of one.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<Slot<T>>);

/// A map with keys of the author's choice.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, Place, Slot<T>)>);

/// The text of a text.
pub(crate) fn text<'n>(node: &'n Node, place: Place, reader: &mut Reader<'_>) -> Option<&'n str> {
    if let Shape::Scalar(Json::String(text)) = &node.shape {
        return Some(text);
    }
    reader.wrong_kind(node, place, "a text");
    None
}

/// A text that another type parses.
pub(crate) fn parsed<T: FromStr<Err = NameError>>(
    text: &str,
    place: Place,
    reader: &mut Reader<'_>,
    code: &'static Code,
) -> Option<T> {
    text.parse()
        .map_err(|error: NameError| {
            let problem = Problem::error(code, format!("{} is not {}", quoted(&error.text), error.kind));
            reader.report(problem.help(error.rule), place);
        })
        .ok()
}

impl Read for Text {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        text(node, place, reader).map(|text| Self(text.to_owned()))
    }
}

impl Read for Line {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let text = text(node, place, reader)?;
        let wrong = if text.trim().is_empty() {
            "this is empty"
        } else if text.chars().count() > 200 {
            "this is longer than 200 characters"
        } else if text.trim_end().chars().any(char::is_control) {
            "this is more than one line, or has control characters"
        } else {
            return Some(Self(text.trim().to_owned()));
        };
        reader.report(
            Problem::error(&codes::BAD_TEXT, wrong).expected("one line of at most 200 characters"),
            place,
        );
        None
    }
}

/// Whether a text can be a variable's name.
pub(crate) fn is_identifier(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && (1..=64).contains(&text.len()) && !text.starts_with(|c: char| c.is_ascii_digit())
}

impl Read for Identifier {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let text = text(node, place, reader)?;
        if is_identifier(text) {
            return Some(Self(text.to_owned()));
        }
        let suggested: String =
            text.chars().take(64).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let problem =
            Problem::error(&codes::BAD_IDENTIFIER, format!("{} cannot be a variable's name", quoted(text)))
                .expected("letters, digits and `_`, at most 64, not beginning with a digit");
        let usable = suggested.starts_with(|c: char| c.is_ascii_alphabetic());
        reader.report(problem.maybe_help(usable.then(|| format!("write `{suggested}`"))), place);
        None
    }
}

impl Read for Time {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, place, reader, "a time with its unit, like `90s`, `15m` or `1h30m`", units::duration)
            .map(Self)
    }
}

impl Read for Size {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, place, reader, "a size with its unit, like `512MiB` or `2GiB`", units::bytes).map(Self)
    }
}

impl Read for Money {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, place, reader, "an amount of dollars, like `\"$0.50\"` or `4.99`", |text| {
            text.parse().ok()
        })
        .map(Self)
    }
}

impl Read for Processors {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let millis = |text: &str| units::thousandths(text).and_then(|millis| u32::try_from(millis).ok());
        quantity(node, place, reader, "a number of processors, like `2` or `0.5`", millis).map(Self)
    }
}

/// A quantity, written as a text or a number.
fn quantity<T>(
    node: &Node,
    place: Place,
    reader: &mut Reader<'_>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let written = match &node.shape {
        Shape::Scalar(Json::String(text)) => text.clone(),
        Shape::Scalar(Json::Number(number)) => plain_number(number),
        _ => {
            reader.wrong_kind(node, place, expected);
            return None;
        }
    };
    let value = parse(&written);
    if value.is_none() {
        let problem = Problem::error(&codes::BAD_QUANTITY, format!("{} is not understood", quoted(&written)));
        reader.report(problem.expected(expected), place);
    }
    value
}

/// A number without an exponent.
fn plain_number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format!("{float}"),
        _ => number.to_string(),
    }
}

impl Read for bool {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.shape {
            Shape::Scalar(Json::Bool(truth)) => Some(*truth),
            Shape::Scalar(Json::String(text)) if ["yes", "no", "on", "off"].contains(&text.as_str()) => {
                let truth = if matches!(text.as_str(), "yes" | "on") { "true" } else { "false" };
                let problem =
                    Problem::error(&codes::WRONG_KIND, format!("{} is a text in YAML 1.2", quoted(text)));
                reader.report(problem.expected("`true` or `false`").help(format!("write `{truth}`")), place);
                None
            }
            _ => {
                reader.wrong_kind(node, place, "`true` or `false`");
                None
            }
        }
    }
}

impl Read for u32 {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Shape::Scalar(Json::Number(number)) = &node.shape else {
            reader.wrong_kind(node, place, "a whole number");
            return None;
        };
        let value = number.as_u64().and_then(|number| Self::try_from(number).ok());
        if value.is_none() {
            let problem = Problem::error(&codes::OUT_OF_RANGE, format!("{number} is out of range"));
            reader.report(problem.expected("a whole number that is not negative"), place);
        }
        value
    }
}

impl Read for f64 {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        if let Shape::Scalar(Json::Number(number)) = &node.shape {
            return number.as_f64();
        }
        reader.wrong_kind(node, place, "a number");
        None
    }
}

impl Read for Condition {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let source = match &node.shape {
            Shape::Scalar(Json::String(text)) => text.clone(),
            Shape::Scalar(Json::Bool(truth)) => truth.to_string(),
            _ => {
                reader.wrong_kind(node, place, "a condition");
                return None;
            }
        };
        let parsed = Expression::parse_condition(&source);
        parsed
            .map_err(|error| {
                let problem = Problem::error(&codes::BAD_EXPRESSION, error.message).maybe_help(error.help);
                reader.report_within(problem, place, &source, error.offset);
            })
            .ok()
            .map(|expression| Self { expression, text: source.clone() })
    }
}

impl Read for Templated {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let source = match &node.shape {
            Shape::Scalar(Json::String(text)) => text.clone(),
            Shape::Scalar(scalar @ (Json::Number(_) | Json::Bool(_))) => scalar.to_string(),
            _ => {
                reader.wrong_kind(node, place, "a text");
                return None;
            }
        };
        template(&source, place, reader).map(Self)
    }
}

/// A template in the file, or a report of what is wrong with it.
pub(crate) fn template(source: &str, place: Place, reader: &mut Reader<'_>) -> Option<Template> {
    Template::parse(source)
        .map_err(|error| {
            let help = error.help.or_else(|| Some("`$${` is a `${` that is only text".to_owned()));
            let problem = Problem::error(&codes::BAD_EXPRESSION, error.message).maybe_help(help);
            reader.report_within(problem, place, source, error.offset);
        })
        .ok()
}

impl Read for TemplatedJson {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let mut texts = Vec::new();
        let sound = read_texts(node, place, reader, &mut texts);
        let template = sound.then(|| JsonTemplate::parse(node.to_json()).ok()).flatten()?;
        Some(Self { template, texts })
    }
}

/// Each text is tried in its own place, so that all mistakes are found and marked where they are.
fn read_texts(
    node: &Node,
    place: Place,
    reader: &mut Reader<'_>,
    texts: &mut Vec<(Place, Template)>,
) -> bool {
    match &node.shape {
        Shape::Scalar(Json::String(source)) => {
            let parsed = template(source, place, reader);
            let sound = parsed.is_some();
            texts.extend(parsed.map(|template| (place, template)));
            sound
        }
        Shape::Scalar(_) => true,
        Shape::List(_) => {
            let items = reader.items(node, place).unwrap_or_default();
            items
                .into_iter()
                .fold(true, |sound, (item, place)| read_texts(item, place, reader, texts) && sound)
        }
        Shape::Map(_) => {
            let fields = reader.entries(node, place).unwrap_or_default();
            fields.into_iter().fold(true, |sound, field| {
                let (node, place) = field.node();
                read_texts(node, place, reader, texts) && sound
            })
        }
    }
}

impl Read for Any {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        // Walks the maps for keys that stand twice.
        refuse_duplicates(node, place, reader);
        Some(Self(node.to_json()))
    }
}

fn refuse_duplicates(node: &Node, place: Place, reader: &mut Reader<'_>) {
    match &node.shape {
        Shape::Scalar(_) => {}
        Shape::List(_) => {
            for (item, place) in reader.items(node, place).unwrap_or_default() {
                refuse_duplicates(item, place, reader);
            }
        }
        Shape::Map(_) => {
            for field in reader.entries(node, place).unwrap_or_default() {
                let (node, place) = field.node();
                refuse_duplicates(node, place, reader);
            }
        }
    }
}

impl Read for Secret {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let text = text(node, place, reader)?;
        parsed(text, place, reader, &codes::BAD_IDENTIFIER).map(Self)
    }
}

impl<T: Read> Read for Vec<Slot<T>> {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.items(node, place)?;
        Some(items.into_iter().map(|(item, place)| reader.slot(item, place)).collect())
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.shape {
            Shape::List(_) => Read::read(node, place, reader).map(Self),
            _ => Some(Self(vec![reader.slot(node, place)])),
        }
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let fields = reader.entries(node, place)?;
        Some(Self(
            fields.into_iter().map(|field| (field.name.to_owned(), field.key, field.read(reader))).collect(),
        ))
    }
}

macro_rules! schemas {
    ($($type:ident => $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schemas! {
    Text => { "type": "string" };
    Line => { "type": "string", "minLength": 1, "maxLength": 200 };
    Identifier => { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$" };
    Time => { "type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "minLength": 2 };
    Size => { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3})?([KMGT]iB|[kMGT]?B)$" };
    Money => { "type": ["string", "number"], "pattern": "^\\$?[0-9]+(\\.[0-9]{1,9})?$", "minimum": 0 };
    Processors => { "type": "number", "exclusiveMinimum": 0 };
    Condition => { "type": ["string", "boolean"], "maxLength": 4100 };
    Templated => { "type": ["string", "number", "boolean"] };
    TemplatedJson => {};
    Any => {};
    Secret => { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" };
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [item, { "type": "array", "items": item }] })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}
