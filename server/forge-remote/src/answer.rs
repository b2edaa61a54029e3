//! One request to a forge's API and its answer, whatever it says. Nothing is tried again here: who asked knows
//! whether that is safe.

use std::collections::BTreeMap;

use serde_json::Value;

/// A repository that was renamed answers with where it is now.
pub const MOST_REDIRECTS: usize = 3;

/// What is to be done with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Look at it.
    Get,
    /// Make it.
    Post,
    /// Change it.
    Patch,
    /// Change it, for forges that have it so.
    Put,
    /// Remove it.
    Delete,
}

/// An answer, of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Null when there is none, or it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Whether it was done.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The page after this one, as a path and query below the API (RFC 8288).
    pub fn next_page(&self, api_url: &str) -> Option<String> {
        below(api_url, self.next_link()?)
    }

    /// Whether there is a page after this one, wherever the forge thinks that it is itself.
    pub fn has_next(&self) -> bool {
        self.next_link().is_some()
    }

    /// Where to ask instead, as a path and query below the API. Of redirects only those of a read are followed,
    /// and only to the same API: a credential goes nowhere else, and a write is not repeated.
    pub fn redirect(&self, verb: Verb, api_url: &str) -> Option<String> {
        let is_redirect = matches!(self.status, 301 | 302 | 307 | 308) && verb == Verb::Get;
        below(api_url, self.header("location").filter(|_| is_redirect)?)
    }

    fn next_link(&self) -> Option<&str> {
        self.header("link")?.split(',').find_map(|link| {
            let (target, words) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = words.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next"));
            is_next.then_some(target)
        })
    }
}

/// Whether text may be sent as a token: a line break in it would end the header.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A part of a path or query, with everything escaped that means something there.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A path of several parts, as the name of a branch is, each of them escaped.
pub fn escaped_path(path: &str) -> String {
    path.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

/// The path and query of an address below the API; `None` when it is somewhere else.
fn below(api_url: &str, target: &str) -> Option<String> {
    let path = target.strip_prefix(api_url)?;
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = "https://ghe.example.com/api/v3";

    #[test]
    fn only_pages_of_the_same_api_are_followed() {
        let next = |link: &str| {
            let headers = BTreeMap::from([("link".to_owned(), link.to_owned())]);
            Answer { status: 200, headers, body: Value::Null }.next_page(API)
        };
        let here = format!("<{API}/user?page=1>; rel=\"prev\", <{API}/user?page=3>; rel=\"next\"");
        assert_eq!(next(&here).as_deref(), Some("/user?page=3"));
        assert_eq!(next("<https://evil.example/user?page=3>; rel=\"next\""), None);
        assert_eq!(next("<https://ghe.example.com/api/v3.evil.example/x>; rel=\"next\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a/b c?d=é#~"), "a%2Fb%20c%3Fd%3D%C3%A9%23~");
        assert_eq!(escaped_path("fix/50%#1"), "fix/50%25%231");
    }

    #[test]
    fn a_token_with_a_line_break_is_none() {
        assert!(is_token("ghp_abc") && !is_token("ghp_abc\n") && !is_token("") && !is_token("ghp é"));
    }
}
