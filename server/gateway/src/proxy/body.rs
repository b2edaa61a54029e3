//! JSON objects whose text stays as it is: fields with their places in it, and edits at these places.
//!
//! A field that stands twice would be read by one reader as the first and by another as the last, and
//! some readers make no difference between `Model`, `model` and `MODEL`, or `maxTokens` and
//! `max_tokens`. So names that differ no more than that may not stand side by side.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Fields of an object at most.
const FIELDS_MAX: usize = 1_000;

/// The fields of an object.
pub(super) struct Fields<'a> {
    text: &'a str,
    list: Vec<Field<'a>>,
}

struct Field<'a> {
    name: String,
    plain: String,
    value: &'a RawValue,
}

impl<'a> Fields<'a> {
    /// Reads an object, and nothing else.
    ///
    /// # Errors
    /// With what is wrong, when it is no object or could be read in two ways.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let list = reader.deserialize_map(Reader).map_err(|error| words(&error))?;
        reader.end().map_err(|error| words(&error))?;
        Ok(Self { text, list })
    }

    /// The text of a field's value. Another way to write the name (`Model`) counts, where it is
    /// written so.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let plain = plain(name);
        self.list.iter().find(|field| field.plain == plain).map(|field| field.value.get())
    }

    /// A field that is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(string)
    }

    /// A field that is a whole number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether a field is there and says something.
    pub(super) fn says(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "null" | "false" | "[]" | "{}"))
    }

    /// All fields, by their plain names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.list.iter().map(|field| (field.plain.as_str(), field.value.get()))
    }

    /// A name that means one of these, and is not written like any of them.
    pub(super) fn misspelt(&self, names: &[&str]) -> Option<&str> {
        let means = |field: &&Field<'_>| names.iter().any(|name| plain(name) == field.plain);
        let is_exact = |field: &Field<'_>| names.contains(&field.name.as_str());
        self.list.iter().filter(means).find(|field| !is_exact(field)).map(|field| field.name.as_str())
    }

    /// Where a value stands in the text of another object, which holds this one.
    pub(super) fn place(whole: &str, value: &str) -> Range<usize> {
        let begin = value.as_ptr() as usize - whole.as_ptr() as usize;
        begin..begin + value.len()
    }

    /// An edit that adds a field at the beginning.
    pub(super) fn insertion(&self, whole: &str, field: &str) -> Edit {
        let begin = Self::place(whole, self.text).start + self.text.find('{').unwrap_or(0) + 1;
        let comma = if self.list.is_empty() { "" } else { "," };
        Edit { at: begin..begin, with: format!("{field}{comma}") }
    }
}

/// A change of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) at: Range<usize>,
    pub(super) with: String,
}

impl Edit {
    /// An edit of a value of the text.
    pub(super) fn of(whole: &str, value: &str, with: String) -> Self {
        Self { at: Fields::place(whole, value), with }
    }

    /// The text with all edits made; they do not overlap.
    pub(super) fn apply(whole: &[u8], mut edits: Vec<Self>) -> Vec<u8> {
        edits.sort_by_key(|edit| edit.at.start);
        let more: usize = edits.iter().map(|edit| edit.with.len()).sum();
        let mut text = Vec::with_capacity(whole.len() + more);
        let mut from = 0;
        for edit in edits {
            text.extend_from_slice(&whole[from..edit.at.start]);
            text.extend_from_slice(edit.with.as_bytes());
            from = edit.at.end;
        }
        text.extend_from_slice(&whole[from..]);
        text
    }
}

/// The elements of a list; of anything else none.
pub(super) fn items(text: &str) -> Vec<&str> {
    let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    items.into_iter().map(RawValue::get).collect()
}

/// The string that a text is.
pub(super) fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// A name as the most careless reader reads it.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// What is wrong, without a word of the body in it.
fn words(error: &serde_json::Error) -> String {
    if error.is_data() {
        return error.to_string().split(" at line").next().unwrap_or_default().to_owned();
    }
    format!("it is no JSON (line {}, column {})", error.line(), error.column())
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut list, mut seen) = (Vec::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let plain = plain(&name);
            if !seen.insert(plain.clone()) {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(A::Error::custom(format!("the field `{shown}` stands twice")));
            }
            if list.len() >= FIELDS_MAX {
                return Err(A::Error::custom(format!("it has more than {FIELDS_MAX} fields")));
            }
            list.push(Field { name, plain, value: map.next_value()? });
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","mod\u0065l":"b"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"maxTokens":1,"max_tokens":2}"#,
            r#"{"model":"a"} {"model":"b"}"#,
            r#"["model"]"#,
            r#"{"model":"a",}"#,
            r#"{'model':'a'}"#,
            "{\"model\":\"a\",//\n\"x\":1}",
            "null",
            "",
        ] {
            assert!(Fields::read(text).is_err(), "{text}");
        }
        let error = Fields::read(r#"{"se\u0063ret":1,"SECRET":2}"#).err().unwrap();
        assert_eq!(error, "the field `SECRET` stands twice");
        assert!(!Fields::read(r#"{"a": s3cret}"#).err().unwrap().contains("s3cret"));
    }

    #[test]
    fn a_text_stays_as_it_is_but_for_the_edits() {
        let text = "\n{ \"x\" : 1e400 ,\t\"model\": \"a\\u0062\", \"deep\": { } , \"y\":[1 ,2]}\r\n";
        let fields = Fields::read(text).unwrap();
        assert_eq!(fields.text("model").as_deref(), Some("ab"));
        let deep = Fields::read(fields.get("deep").unwrap()).unwrap();
        let edits = vec![
            Edit::of(text, fields.get("model").unwrap(), "\"b\"".to_owned()),
            deep.insertion(text, "\"n\":1"),
            fields.insertion(text, "\"z\":0"),
        ];
        let edited = String::from_utf8(Edit::apply(text.as_bytes(), edits)).unwrap();
        assert_eq!(
            edited,
            "\n{\"z\":0, \"x\" : 1e400 ,\t\"model\": \"b\", \"deep\": {\"n\":1 } , \"y\":[1 ,2]}\r\n"
        );
        assert_eq!(Fields::read("{\"Model\":1}").unwrap().misspelt(&["model"]), Some("Model"));
        assert_eq!(fields.misspelt(&["model", "x"]), None);
    }
}
