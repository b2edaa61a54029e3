//! The tree of a file into the raw types: every shape is checked, every problem reported, and what can be
//! read is read all the same, so that all problems of a file are found at once.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value as Json;

use crate::codes;
use crate::diagnostic::{Diagnostic, Problem, Report};
use crate::suggest::{did_you_mean, quoted};
use crate::yaml::{Node, Shape};

/// Where a value stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    start: usize,
    end: usize,
    /// Its number in [`Reader::steps`].
    id: usize,
}

impl Place {
    fn new(span: &Range<usize>, id: usize) -> Self {
        Self { start: span.start, end: span.end, id }
    }

    pub(crate) fn span(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Slot<T> {
    place: Option<Place>,
    value: Option<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { place: None, value: None }
    }
}

impl<T> Slot<T> {
    /// The value, if there is one and it is right.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The value and where it stands.
    pub(crate) fn found(&self) -> Option<(&T, Place)> {
        self.value.as_ref().zip(self.place)
    }

    /// Where the value stands, also when it is wrong; `None` when there is nothing.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place
    }

    /// Whether something stands there, right or wrong.
    pub(crate) fn is_written(&self) -> bool {
        self.place.is_some()
    }
}

impl<T> Slot<T> {
    /// The same place with another value, when there is one.
    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Slot<U> {
        Slot { place: self.place, value: self.value.map(with) }
    }
}

impl<T: Clone> Slot<T> {
    /// A copy of the value.
    pub(crate) fn cloned(&self) -> Option<T> {
        self.value.clone()
    }
}

/// What can be read from a value of the file.
pub(crate) trait Read: Sized {
    /// Reads the value; `None` when a problem was reported instead.
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self>;
}

/// A map that can say which of its keys are written.
pub(crate) trait Written {
    /// Every key, and where its value stands.
    fn written(&self) -> Vec<(&'static str, Option<Place>)>;
}

/// A step from a value to one inside it.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads one file and reports what is wrong with it.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    file: String,
    text: &'r str,
    report: &'r mut Report,
    /// Of each place its parent and the step from there; the first is the root.
    steps: Vec<(usize, Step)>,
}

impl<'r> Reader<'r> {
    pub(crate) fn new(file: String, text: &'r str, report: &'r mut Report) -> Self {
        Self { file, text, report, steps: vec![(0, Step::Index(0))] }
    }

    /// The place of the whole file.
    pub(crate) fn root(&self, node: &Node) -> Place {
        Place::new(&node.span, 0)
    }

    /// Reports a problem.
    pub(crate) fn report(&mut self, problem: Problem, place: Place) {
        self.report_span(problem, place, place.span());
    }

    /// Reports a problem of a part of the text that stands at a place.
    pub(crate) fn report_within(&mut self, problem: Problem, place: Place, text: &str, offset: usize) {
        let start = if self.is_full() { None } else { source_offset(self.text, place.span(), text, offset) };
        let span = start.map_or(place.span(), |start| start..start);
        self.report_span(problem, place, span);
    }

    /// Whether the next problem would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.report.is_full()
    }

    fn report_span(&mut self, problem: Problem, place: Place, span: Range<usize>) {
        let (file, text, steps) = (&self.file, self.text, &self.steps);
        self.report.push(problem, |problem| problem.at(file, text, span, pointer(steps, place.id)));
    }

    /// Reports a problem of another file of the same daemon.
    pub(crate) fn report_elsewhere(&mut self, problem: Problem, place: impl FnOnce(Problem) -> Diagnostic) {
        self.report.push(problem, place);
    }

    /// The text of the file at a place.
    pub(crate) fn source(&self, place: Place) -> &'r str {
        self.text.get(place.span()).unwrap_or_default()
    }

    fn step(&mut self, parent: Place, step: Step, span: &Range<usize>) -> Place {
        self.steps.push((parent.id, step));
        Place::new(span, self.steps.len() - 1)
    }

    /// Reads whatever stands at a place.
    pub(crate) fn slot<T: Read>(&mut self, node: &Node, place: Place) -> Slot<T> {
        Slot { place: Some(place), value: T::read(node, place, self) }
    }

    /// The items of a list, with their places.
    pub(crate) fn items<'n>(&mut self, node: &'n Node, place: Place) -> Option<Vec<(&'n Node, Place)>> {
        let Shape::List(items) = &node.shape else {
            self.wrong_kind(node, place, "a list");
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| (item, self.step(place, Step::Index(index), &item.span)))
                .collect(),
        )
    }

    /// The entries of a map, each key once.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, place: Place) -> Option<Vec<Field<'n>>> {
        let Shape::Map(entries) = &node.shape else {
            self.wrong_kind(node, place, "a map");
            return None;
        };
        let mut seen = BTreeSet::new();
        let mut fields = Vec::with_capacity(entries.len());
        for entry in entries {
            let value = self.step(place, Step::Key(entry.key.clone()), &entry.value.span);
            let key = Place::new(&entry.key_span, value.id);
            if seen.insert(entry.key.as_str()) {
                fields.push(Field { name: &entry.key, key, node: &entry.value, value });
            } else {
                let message = format!("the key {} stands here twice", quoted(&entry.key));
                self.report(Problem::error(&codes::DUPLICATE_KEY, message).help("keep one of them"), key);
            }
        }
        Some(fields)
    }

    /// Reports keys that are not among the known ones.
    pub(crate) fn refuse_unknown(&mut self, fields: &[Field<'_>], known: &[&'static str]) {
        let written: BTreeSet<&str> = fields.iter().map(|field| field.name).collect();
        let unused: Vec<&str> = known.iter().copied().filter(|known| !written.contains(known)).collect();
        for field in fields.iter().filter(|field| !known.contains(&field.name)) {
            let message = format!("unknown key {}", quoted(field.name));
            let problem = Problem::error(&codes::UNKNOWN_KEY, message);
            let help = if self.is_full() { None } else { did_you_mean(field.name, unused.iter().copied()) };
            let listed = format!("the keys here are {}", known.join(", "));
            self.report(problem.help(help.unwrap_or(listed)), field.key);
        }
    }

    /// Reports keys that must be there and are not.
    pub(crate) fn require(&mut self, fields: &[Field<'_>], needed: &[&'static str], place: Place) {
        for key in needed.iter().filter(|key| fields.iter().all(|field| field.name != **key)) {
            let nearest = fields.iter().map(|field| field.key).next().unwrap_or(place);
            let place = Place { id: place.id, ..nearest };
            self.report(Problem::error(&codes::MISSING_KEY, format!("the key `{key}` is missing")), place);
        }
    }

    /// Reports a value of the wrong kind.
    pub(crate) fn wrong_kind(&mut self, node: &Node, place: Place, expected: &str) {
        let problem = Problem::error(&codes::WRONG_KIND, format!("this is {}, not {expected}", node.kind()))
            .expected(expected);
        let help = match &node.shape {
            Shape::Scalar(Json::Number(_) | Json::Bool(_)) if expected.contains("text") => {
                Some(format!("put it in quotes: \"{}\"", self.source(place).trim()))
            }
            Shape::Scalar(Json::Null) => Some("write a value, or remove the key".to_owned()),
            _ => None,
        };
        self.report(problem.maybe_help(help), place);
    }
}

/// An entry of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'n> {
    pub(crate) name: &'n str,
    pub(crate) key: Place,
    node: &'n Node,
    value: Place,
}

impl<'n> Field<'n> {
    /// Reads the value.
    pub(crate) fn read<T: Read>(&self, reader: &mut Reader<'_>) -> Slot<T> {
        reader.slot(self.node, self.value)
    }

    /// The value as it is in the tree.
    pub(crate) fn node(&self) -> (&'n Node, Place) {
        (self.node, self.value)
    }
}

/// Reads the value under a key; an absent one is an empty slot.
pub(crate) fn field<T: Read>(fields: &[Field<'_>], name: &str, reader: &mut Reader<'_>) -> Slot<T> {
    fields.iter().find(|field| field.name == name).map_or_else(Slot::default, |field| field.read(reader))
}

/// The JSON pointer (RFC 6901) of a place.
fn pointer(steps: &[(usize, Step)], id: usize) -> String {
    let mut parts = Vec::new();
    let mut at = id;
    while at != 0 {
        let (parent, step) = &steps[at];
        parts.push(match step {
            Step::Key(key) => key.replace('~', "~0").replace('/', "~1"),
            Step::Index(index) => index.to_string(),
        });
        at = *parent;
    }
    parts.iter().rev().map(|part| format!("/{part}")).collect()
}

/// Where byte `offset` of a text stands in the file, when the text stands there as it is, at least line
/// by line; `None` when it was written with escapes or folded.
fn source_offset(source: &str, span: Range<usize>, text: &str, offset: usize) -> Option<usize> {
    let written = source.get(span.clone())?;
    let before = text.get(..offset)?;
    if let Some(start) = written.find(text) {
        return Some(span.start + start + offset);
    }
    let mut at = 0;
    let mut lines = text.split('\n');
    for _ in 0..before.matches('\n').count() {
        let line = lines.next()?;
        at += written[at..].find(line)? + line.len();
    }
    let line = lines.next()?;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(span.start + at + written[at..].find(line)? + column)
}

/// Declares a map of the file: a struct with a [`Slot`] for every key, its JSON Schema and its [`Read`].
macro_rules! object {
    (
        $(#[$meta:meta])*
        struct $name:ident $(requires [$($need:ident),* $(,)?])? {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        #[derive(Debug, Default, schemars::JsonSchema)]
        $(#[$meta])*
        #[schemars(deny_unknown_fields)]
        $(#[schemars(extend("required" = serde_json::json!([$(stringify!($need)),*])))])?
        pub(crate) struct $name {
            $($(#[$field_meta])* #[schemars(default)] pub(crate) $field: $crate::read::Slot<$type>,)*
        }

        impl $name {
            /// The keys.
            pub(crate) const KEYS: &'static [&'static str] = &[$($crate::read::plain(stringify!($field))),*];
            const NEEDED: &'static [&'static str] = &[$($(stringify!($need)),*)?];
        }

        impl $crate::read::Written for $name {
            fn written(&self) -> Vec<(&'static str, Option<$crate::read::Place>)> {
                vec![$(($crate::read::plain(stringify!($field)), self.$field.place())),*]
            }
        }

        impl $crate::read::Read for $name {
            fn read(
                node: &$crate::yaml::Node,
                place: $crate::read::Place,
                reader: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                let fields = reader.entries(node, place)?;
                reader.refuse_unknown(&fields, Self::KEYS);
                reader.require(&fields, Self::NEEDED, place);
                Some(Self {
                    $($field: $crate::read::field(&fields, $crate::read::plain(stringify!($field)), reader),)*
                })
            }
        }
    };
}

/// Declares a choice between words: an enum, its JSON Schema and its [`Read`].
macro_rules! words {
    (
        $(#[$meta:meta])*
        enum $name:ident { $($variant:ident = $word:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)* }

        impl $name {
            /// The words, in order.
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl $crate::read::Read for $name {
            fn read(
                node: &$crate::yaml::Node,
                place: $crate::read::Place,
                reader: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                match $crate::read::word(node, place, reader, Self::WORDS)? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }
    };
}

pub(crate) use {object, words};

/// A field's name without the `r#` of Rust's keywords.
pub(crate) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// One of several words.
pub(crate) fn word<'n>(
    node: &'n Node,
    place: Place,
    reader: &mut Reader<'_>,
    words: &[&'static str],
) -> Option<&'n str> {
    let Shape::Scalar(Json::String(text)) = &node.shape else {
        reader.wrong_kind(node, place, &format!("a text: {}", crate::suggest::one_of(words.iter().copied())));
        return None;
    };
    if words.contains(&text.as_str()) {
        return Some(text);
    }
    let problem = Problem::error(&codes::UNKNOWN_WORD, format!("{} is not known here", quoted(text)))
        .expected(crate::suggest::one_of(words.iter().copied()))
        .maybe_help(did_you_mean(text, words.iter().copied()));
    reader.report(problem, place);
    None
}

/// A slot is described as what may stand in it.
impl<T: schemars::JsonSchema> schemars::JsonSchema for Slot<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
