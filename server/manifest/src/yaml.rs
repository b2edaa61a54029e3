//! YAML into a tree in which every value and every key knows its place. The only module that knows the
//! YAML library.

mod refusal;

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, MergeKeyPolicy, Spanned};

pub(crate) use refusal::YamlError;

/// The largest file that is read, bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting.
pub(crate) const MAX_DEPTH: usize = 48;
/// The most values in one file.
const MAX_NODES: usize = 50_000;
/// The most aliases in one file.
const MAX_ALIASES: usize = 200;
/// The most values that aliases repeat.
const MAX_REPEATED: usize = 20_000;

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Which bytes of the file it is.
    pub(crate) span: Range<usize>,
    pub(crate) shape: Shape,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Null, a truth value, a number or a text.
    Scalar(Json),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

/// Parses one YAML 1.2 document: only `true` and `false` are truth values, `on` is a text, numbers with
/// leading zeros are texts. Keys that stand twice are kept; the reader reports them.
///
/// # Errors
/// When it is not YAML, uses tags, merge keys or several documents, or is beyond the bounds.
pub(crate) fn parse(source: &str) -> Result<Node, YamlError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        ignore_binary_tag_for_string: true,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            // The second is refused by name.
            max_documents: 2,
            max_aliases: MAX_ALIASES,
            enforce_alias_anchor_ratio: false,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            // A value is kept once for each anchor around it.
            max_recorded_anchor_events: 2 * MAX_NODES,
            // The scanner looks up to 1,024 characters ahead; the depth of what was read is to be refused first.
            flow_nesting_limit: 2_048,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
    };
    serde_saphyr::from_str_with_options::<Node>(source, options)
        .map_err(|error| refusal::refused(source, &error))
}

/// Writes data so that [`parse`] reads the same again. Blocks cannot hold every text (spaces at the end of
/// lines, control characters); where they would not, texts are quoted.
pub(crate) fn write(json: &Json) -> String {
    let written = |quoted| {
        let options = serde_saphyr::ser_options! {
            min_fold_chars: usize::MAX,
            quote_all: quoted,
        };
        let mut text = String::new();
        serde_saphyr::to_fmt_writer_with_options(&mut text, json, options)
            .expect("because JSON is YAML, and memory takes it");
        text
    };
    let text = written(false);
    if parse(&text).is_ok_and(|node| node.to_json() == *json) { text } else { written(true) }
}

impl Node {
    /// The value without its places.
    pub(crate) fn to_json(&self) -> Json {
        match &self.shape {
            Shape::Scalar(json) => json.clone(),
            Shape::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Shape::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    /// What it is, with its article.
    pub(crate) const fn kind(&self) -> &'static str {
        match &self.shape {
            Shape::Scalar(Json::Null) => "nothing",
            Shape::Scalar(Json::Bool(_)) => "a truth value",
            Shape::Scalar(Json::Number(_)) => "a number",
            Shape::Scalar(_) => "a text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape>::deserialize(deserializer)?;
        Ok(Self { span: span(&spanned.referenced), shape: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::Null))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::Bool(truth)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::from(number)))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Shape, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("the number does not fit"))?;
        Ok(Shape::Scalar(Json::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Shape, E> {
        Ok(Shape::Scalar(Json::String(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            if key.value.is_empty() {
                return Err(A::Error::custom("a key is empty"));
            }
            let key_span = span(&key.referenced);
            map.push(Entry { key: key.value, key_span, value: entries.next_value()? });
        }
        Ok(Shape::Map(map))
    }
}

fn span(location: &Location) -> Range<usize> {
    let place = location.span();
    let offset = |bytes: Option<u64>| bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let start = offset(place.byte_offset());
    start..start + offset(place.byte_len())
}
