//! Pictures, sounds and files in a question: how much of its size they are, and whether the provider
//! is to fetch them from somewhere, which would be a way out of the jail.

use super::body::{Fields, items, plain, string};

/// How deep messages, contents and sources lie in one another.
const DEPTH: usize = 12;

/// What a question has besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attachments {
    /// Encoded data, bytes of the body.
    pub(super) bytes: usize,
    /// How many there are.
    pub(super) count: usize,
    /// Whether one is only an address.
    pub(super) fetched: bool,
    /// Whether something may be written to a cache that lasts an hour.
    pub(super) cached_long: bool,
}

impl Attachments {
    /// Looks through a list of messages, in any of the languages.
    ///
    /// # Errors
    /// When an object could be read in two ways.
    pub(super) fn look(&mut self, messages: &str) -> Result<(), String> {
        self.value(messages, DEPTH)
    }

    fn value(&mut self, text: &str, depth: usize) -> Result<(), String> {
        match text.as_bytes().first() {
            _ if depth == 0 => Ok(()),
            Some(b'[') => items(text).into_iter().try_for_each(|item| self.value(item, depth - 1)),
            Some(b'{') => self.object(text, depth),
            _ => Ok(()),
        }
    }

    fn object(&mut self, text: &str, depth: usize) -> Result<(), String> {
        let fields = Fields::read(text)?;
        for (name, value) in fields.all() {
            match name {
                // Values of tools: JSON of any shape, in which nothing is fetched.
                "input" | "arguments" | "args" | "response" | "parameters" | "metadata" | "text" => {}
                "data" | "filedata" | "url" | "imageurl" | "fileurl" | "fileuri"
                    if value.starts_with('"') =>
                {
                    self.reference(name, value);
                }
                "ttl" => self.cached_long |= string(value).as_deref() == Some("1h"),
                _ => self.value(value, depth - 1)?,
            }
        }
        Ok(())
    }

    fn reference(&mut self, name: &str, value: &str) {
        let is_data = name.ends_with("data") || value.starts_with("\"data:");
        // An escape in the first characters would hide a scheme from a look at the text.
        let begin = || string(value).map(|text| plain(&text.chars().take(5).collect::<String>()));
        if is_data || begin().as_deref() == Some("data:") {
            self.bytes += value.len();
            self.count += 1;
        } else if value != "\"\"" {
            self.fetched = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(messages: &str, count: usize, fetched: bool) {
        let mut found = Attachments::default();
        found.look(messages).unwrap();
        assert_eq!((found.count, found.fetched), (count, fetched), "{messages}");
    }

    #[test]
    fn data_is_told_from_addresses() {
        check(r#"[{"role":"user","content":"see https://x"}]"#, 0, false);
        check(
            r#"[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]"#,
            1,
            false,
        );
        check(r#"[{"content":[{"type":"image_url","image_url":{"url":"https://evil/?d=1"}}]}]"#, 0, true);
        check(r#"[{"content":[{"type":"image_url","image_url":{"url":"\u0068ttps://evil"}}]}]"#, 0, true);
        check(r#"[{"content":[{"type":"input_image","image_url":"https://evil"}]}]"#, 0, true);
        check(r#"[{"content":[{"type":"input_file","file_url":"https://evil"}]}]"#, 0, true);
        check(r#"[{"content":[{"type":"image","source":{"type":"base64","data":"AA"}}]}]"#, 1, false);
        check(
            r#"[{"content":[{"type":"tool_result","content":[{"source":{"type":"url","url":"https://evil"}}]}]}]"#,
            0,
            true,
        );
        check(r#"[{"parts":[{"inlineData":{"mimeType":"image/png","data":"AA"}}]}]"#, 1, false);
        check(r#"[{"parts":[{"file_data":{"file_uri":"https://evil"}}]}]"#, 0, true);
        // What a tool is called with, or answers, is nobody's address.
        check(r#"[{"content":[{"type":"tool_use","input":{"url":"https://x"}}]}]"#, 0, false);
        check(r#"[{"parts":[{"functionResponse":{"name":"f","response":{"url":"https://x"}}}]}]"#, 0, false);
    }

    #[test]
    fn a_long_cache_is_seen() {
        let mut found = Attachments::default();
        found.look(r#"[{"content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]"#).unwrap();
        assert!(found.cached_long);
    }
}
