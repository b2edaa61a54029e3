//! A tree into a value.
//!
//! Time and memory are bounded: each root is read once, whatever a tree does with it is borrowed, and
//! all the bytes that are compared, searched or written are paid from a [`Fuel`] of 16 MiB.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;

use domain::value::{Taint, Value};
use serde_json::Value as Json;

use super::function::Function;
use super::parser::{Node, Relation, Step};
use super::{EvaluationError, MAX_RESULT, Reference, RunSoFar, Scope};
use crate::suggest::{did_you_mean, quoted};

/// Bytes that one evaluation may look at.
const WORK: usize = 16 * MAX_RESULT;

/// What is left of the work that an evaluation may do, bytes.
#[derive(Debug)]
pub(super) struct Fuel(Cell<usize>);

impl Fuel {
    pub(super) const fn full() -> Self {
        Self(Cell::new(WORK))
    }

    pub(super) fn spend(&self, bytes: usize) -> Result<(), EvaluationError> {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ())
            .ok_or_else(|| EvaluationError::new("the expression works on more than 16 MiB of data"))
    }

    /// Appends text to a text that may not outgrow a result.
    pub(super) fn append(&self, text: &mut String, more: &str) -> Result<(), EvaluationError> {
        self.spend(more.len())?;
        if text.len() + more.len() > MAX_RESULT {
            return Err(too_large());
        }
        text.push_str(more);
        Ok(())
    }
}

/// The roots that expressions name, each read from the scope once.
#[derive(Debug)]
pub(super) struct Roots {
    values: BTreeMap<String, Option<Value>>,
    /// Keys right below a root that have a taint of their own.
    members: BTreeMap<(String, String), Value>,
    known: Vec<String>,
    status: RunSoFar,
}

impl Roots {
    pub(super) fn read(references: &[Reference<'_>], scope: &dyn Scope) -> Self {
        let (mut values, mut members) = (BTreeMap::new(), BTreeMap::new());
        for Reference { root, path, .. } in references {
            let member = path.first().and_then(|key| Some((*key, scope.member(root, key)?)));
            if let Some((key, value)) = member {
                members.insert(((*root).to_owned(), key.to_owned()), value);
            } else if !values.contains_key(*root) {
                values.insert((*root).to_owned(), scope.lookup(root));
            }
        }
        let known = if values.values().any(Option::is_none) { scope.names() } else { Vec::new() };
        Self { values, members, known, status: scope.status() }
    }

    fn member(&self, name: &str, key: &str) -> Option<&Value> {
        // Most scopes have none; then there is no key to be made.
        if self.members.is_empty() {
            return None;
        }
        self.members.get(&(name.to_owned(), key.to_owned()))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).and_then(Option::as_ref)
    }
}

/// Walks a tree.
#[derive(Debug)]
pub(super) struct Evaluator<'e> {
    roots: &'e Roots,
    fuel: &'e Fuel,
    taint: Taint,
}

impl<'e> Evaluator<'e> {
    pub(super) fn new(roots: &'e Roots, fuel: &'e Fuel) -> Self {
        Self { roots, fuel, taint: Taint::Trusted }
    }

    pub(super) fn status(&self) -> RunSoFar {
        self.roots.status
    }

    pub(super) fn fuel(&self) -> &'e Fuel {
        self.fuel
    }

    /// The worst taint of what was read so far.
    pub(super) fn taint(&self) -> Taint {
        self.taint
    }

    pub(super) fn value(&mut self, node: &'e Node) -> Result<Cow<'e, Json>, EvaluationError> {
        match node {
            Node::Literal(json) => Ok(Cow::Borrowed(json)),
            Node::Root { name, .. } => self.root(name),
            Node::Access { of, steps } => self.access(of, steps),
            Node::Not(of) => self.value(of).map(|value| Cow::Owned(Json::Bool(!truthy(&value)))),
            Node::All(parts) => self.first(parts, |value| !truthy(value)),
            Node::Any(parts) => self.first(parts, truthy),
            Node::Compare { relation, sides, .. } => self.compare(*relation, &sides[0], &sides[1]),
            Node::Choose(parts) => {
                let chosen = if truthy(&*self.value(&parts[0])?) { &parts[1] } else { &parts[2] };
                self.value(chosen)
            }
            Node::Call { function: Function::Default, arguments, .. } => {
                self.default(&arguments[0], &arguments[1])
            }
            Node::Call { function, arguments, .. } => function.call(arguments, self),
        }
    }

    fn root(&mut self, name: &'e str) -> Result<Cow<'e, Json>, EvaluationError> {
        let Some(value) = self.roots.get(name) else {
            let help = did_you_mean(name, self.roots.known.iter().map(String::as_str));
            return Err(EvaluationError::unknown(format!("there is no {}", quoted(name)), help));
        };
        self.taint = self.taint.with(value.taint);
        Ok(Cow::Borrowed(&value.json))
    }

    fn access(&mut self, of: &'e Node, steps: &'e [Step]) -> Result<Cow<'e, Json>, EvaluationError> {
        let (mut value, steps) = match (of, steps) {
            (Node::Root { name, .. }, [Step::Key(key), rest @ ..])
                if let Some(member) = self.roots.member(name, key) =>
            {
                self.taint = self.taint.with(member.taint);
                (Cow::Borrowed(&member.json), rest)
            }
            _ => (self.value(of)?, steps),
        };
        for step in steps {
            value = match step {
                Step::Key(key) => child(value, &Key::Name(key)),
                Step::Index(index) => {
                    let index = self.value(index)?;
                    child(value, &key(&index)?)
                }
            };
        }
        Ok(value)
    }

    /// The first part that `stops`, or the last.
    fn first(
        &mut self,
        parts: &'e [Node],
        stops: impl Fn(&Json) -> bool,
    ) -> Result<Cow<'e, Json>, EvaluationError> {
        let mut last = Cow::Owned(Json::Null);
        for part in parts {
            last = self.value(part)?;
            if stops(&last) {
                break;
            }
        }
        Ok(last)
    }

    fn compare(
        &mut self,
        relation: Relation,
        left: &'e Node,
        right: &'e Node,
    ) -> Result<Cow<'e, Json>, EvaluationError> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let holds = match relation {
            Relation::Equal => equal(&left, &right, self.fuel)?,
            Relation::NotEqual => !equal(&left, &right, self.fuel)?,
            Relation::Less => order(&left, &right)?.is_some_and(Ordering::is_lt),
            Relation::LessOrEqual => order(&left, &right)?.is_some_and(Ordering::is_le),
            Relation::Greater => order(&left, &right)?.is_some_and(Ordering::is_gt),
            Relation::GreaterOrEqual => order(&left, &right)?.is_some_and(Ordering::is_ge),
        };
        Ok(Cow::Owned(Json::Bool(holds)))
    }

    /// The first value, or the second when the first is null or reads an unknown name.
    fn default(&mut self, wanted: &'e Node, otherwise: &'e Node) -> Result<Cow<'e, Json>, EvaluationError> {
        match self.value(wanted) {
            Ok(value) if !value.is_null() => Ok(value),
            Ok(_) => self.value(otherwise),
            Err(error) if error.is_unknown_name() => self.value(otherwise),
            Err(error) => Err(error),
        }
    }

    /// Both values as texts.
    pub(super) fn texts<'v>(
        &self,
        a: &'v Json,
        b: &'v Json,
    ) -> Result<(Cow<'v, str>, Cow<'v, str>), EvaluationError> {
        let texts = (text_of(a, self.fuel)?, text_of(b, self.fuel)?);
        self.fuel.spend(texts.0.len() + texts.1.len())?;
        Ok(texts)
    }
}

/// Which child is meant.
enum Key<'k> {
    Name(&'k str),
    Position(u64),
}

fn key(index: &Json) -> Result<Key<'_>, EvaluationError> {
    match index {
        Json::String(name) => Ok(Key::Name(name)),
        Json::Number(number) => match number.as_u64() {
            Some(position) => Ok(Key::Position(position)),
            None => Err(EvaluationError::new(format!("{number} is not an index")).help("count from 0")),
        },
        other => Err(EvaluationError::new(format!("{} cannot be an index", kind(other)))),
    }
}

/// A child; null when there is none, also of what has no children.
fn child<'e>(value: Cow<'e, Json>, key: &Key<'_>) -> Cow<'e, Json> {
    let position = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
    let found = match value {
        Cow::Borrowed(json) => match (json, key) {
            (Json::Object(fields), Key::Name(name)) => fields.get(*name).map(Cow::Borrowed),
            (Json::Array(items), Key::Position(at)) => items.get(position(*at)).map(Cow::Borrowed),
            _ => None,
        },
        Cow::Owned(json) => match (json, key) {
            (Json::Object(mut fields), Key::Name(name)) => fields.remove(*name).map(Cow::Owned),
            (Json::Array(mut items), Key::Position(at)) if position(*at) < items.len() => {
                Some(Cow::Owned(items.swap_remove(position(*at))))
            }
            _ => None,
        },
    };
    found.unwrap_or(Cow::Owned(Json::Null))
}

/// Whether a value counts as true: everything but `false`, `null`, `0` and the empty text.
pub(super) fn truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(truth) => *truth,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(_) | Json::Object(_) => true,
    }
}

/// Whether two values are equal: numbers by what they are worth, texts exactly, lists and objects by
/// their parts. Values of different kinds never are.
pub(super) fn equal(a: &Json, b: &Json, fuel: &Fuel) -> Result<bool, EvaluationError> {
    fuel.spend(1)?;
    match (a, b) {
        (Json::Number(_), Json::Number(_)) => Ok(order(a, b)? == Some(Ordering::Equal)),
        (Json::String(a), Json::String(b)) => {
            fuel.spend(a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                if !equal(a, b, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Json::Object(a), Json::Object(b)) if a.len() == b.len() => {
            for (key, a) in a {
                match b.get(key) {
                    Some(b) if equal(a, b, fuel)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        (Json::Null, Json::Null) => Ok(true),
        (Json::Bool(a), Json::Bool(b)) => Ok(a == b),
        _ => Ok(false),
    }
}

/// The order of two numbers or of two texts (by Unicode scalar value). Null has no order, so that a
/// missing value is neither less nor greater; anything else is a mistake.
fn order(a: &Json, b: &Json) -> Result<Option<Ordering>, EvaluationError> {
    match (a, b) {
        (Json::Number(x), Json::Number(y)) => {
            let whole = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            };
            match (whole(x), whole(y)) {
                (Some(x), Some(y)) => Ok(Some(x.cmp(&y))),
                _ => Ok(x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y))),
            }
        }
        (Json::String(x), Json::String(y)) => Ok(Some(x.cmp(y))),
        (Json::Null, _) | (_, Json::Null) => Ok(None),
        _ => Err(EvaluationError::new(format!("{} and {} have no order", kind(a), kind(b)))
            .help("`<` and its kin compare two numbers or two texts")),
    }
}

/// What a value is, with its article.
pub(super) const fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// A value as text: texts as they are, null as nothing, everything else as compact JSON.
pub(super) fn text_of<'v>(value: &'v Json, fuel: &Fuel) -> Result<Cow<'v, str>, EvaluationError> {
    match value {
        Json::String(text) => Ok(Cow::Borrowed(text)),
        Json::Null => Ok(Cow::Borrowed("")),
        other => serialized(other, fuel).map(Cow::Owned),
    }
}

/// Compact JSON, at most as long as a result may be.
pub(super) fn serialized(value: &Json, fuel: &Fuel) -> Result<String, EvaluationError> {
    let mut written = Bounded { bytes: Vec::new(), kept: true, length: 0 };
    serde_json::to_writer(&mut written, value).map_err(|_| too_large())?;
    fuel.spend(written.length)?;
    String::from_utf8(written.bytes).map_err(|_| EvaluationError::new("JSON that is not UTF-8"))
}

/// Refuses a value that is larger than a result may be.
pub(super) fn check_size(value: &Json, fuel: &Fuel) -> Result<(), EvaluationError> {
    let mut written = Bounded { bytes: Vec::new(), kept: false, length: 0 };
    serde_json::to_writer(&mut written, value).map_err(|_| too_large())?;
    fuel.spend(written.length)
}

fn too_large() -> EvaluationError {
    EvaluationError::new("the result is larger than 1 MiB")
}

/// A writer that fails when more than a result comes.
struct Bounded {
    bytes: Vec<u8>,
    kept: bool,
    length: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len();
        // Quotes do not count against a text of exactly the largest size.
        if self.length > MAX_RESULT + 2 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.kept {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
