//! Secrets in texts, in every form in which they usually travel.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value as Json;

/// A shorter piece of an encoded secret is not looked for: it would be found by chance.
const SHORTEST: usize = 6;

/// Knows some secrets, finds them, and puts `${secrets.NAME}` in their place.
#[derive(Default)]
pub struct Scrub {
    /// A form of a secret, and whose it is; the longest first.
    forms: Vec<(String, String)>,
}

impl Scrub {
    /// With these secrets, by name.
    pub fn new<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s str)>) -> Self {
        let mut forms: Vec<(String, String)> = Vec::new();
        for (name, secret) in secrets {
            let encoded = encodings(secret).into_iter().filter(|form| form.len() >= SHORTEST);
            let whole = std::iter::once(secret.to_owned()).filter(|secret| !secret.is_empty());
            for form in whole.chain(encoded) {
                if forms.iter().all(|(known, _)| *known != form) {
                    forms.push((form, name.to_owned()));
                }
            }
        }
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        Self { forms }
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, (form, name)| {
            if text.contains(form.as_str()) {
                text.replace(form.as_str(), &format!("${{secrets.{name}}}"))
            } else {
                text
            }
        })
    }

    /// The value without secrets, in keys as well.
    pub fn json(&self, json: Json) -> Json {
        match json {
            Json::String(text) => Json::from(self.text(&text)),
            Json::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Json::Object(map) => {
                let scrubbed = map.into_iter().map(|(key, value)| (self.text(&key), self.json(value)));
                scrubbed.collect::<serde_json::Map<_, _>>().into()
            }
            other => other,
        }
    }

    /// The name of a secret that a text has in it, in any form.
    pub fn find(&self, text: &str) -> Option<&str> {
        let found = self.forms.iter().find(|(form, _)| text.contains(form.as_str()));
        found.map(|(_, name)| name.as_str())
    }
}

/// Shows how many, and nothing of them.
impl fmt::Debug for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrub").field("forms", &self.forms.len()).finish()
    }
}

/// A secret as JSON, in an address, in hexadecimal, and in base64 wherever it begins in what is encoded.
fn encodings(secret: &str) -> Vec<String> {
    let json = Json::from(secret).to_string();
    let mut forms = vec![json[1..json.len() - 1].to_owned()];
    let percent = |upper: bool, plain: &dyn Fn(u8) -> bool| -> String {
        let encode = |byte: u8| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        secret.bytes().map(encode).collect()
    };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    // RFC 3986, forms (a space is a plus), and what JavaScript's `encodeURIComponent` leaves alone besides.
    let script = |byte: u8| unreserved(byte) || b"!*'()".contains(&byte);
    for upper in [true, false] {
        let address = percent(upper, &unreserved);
        forms.push(address.replace("%20", "+"));
        forms.push(address);
        forms.push(percent(upper, &script));
    }
    forms.extend([hex::encode(secret), hex::encode_upper(secret)]);
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend(secret.bytes());
        // What the bytes around it have a part in is cut off: a letter is six bits.
        let start = (before * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.extend(text.get(start..end).map(str::to_owned));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const SECRET: &str = "s3cr\"et/ü val";

    #[test]
    fn a_secret_is_found_in_every_form() {
        let scrub = Scrub::new([("TOKEN", SECRET)]);
        let mut travels = vec![
            SECRET.to_owned(),
            Json::from(SECRET).to_string(),
            "s3cr%22et%2F%C3%BC%20val".to_owned(),
            "s3cr%22et%2f%c3%bc+val".to_owned(),
            hex::encode(SECRET),
            hex::encode_upper(SECRET),
        ];
        for user in ["", "a:", "ab:", "abc:"] {
            travels.push(STANDARD.encode(format!("{user}{SECRET}")));
            travels.push(URL_SAFE_NO_PAD.encode(format!("{user}{SECRET} and more")));
        }
        for text in travels {
            assert_eq!(scrub.find(&text), Some("TOKEN"), "{text}");
            let scrubbed = scrub.text(&format!("x {text} y"));
            assert!(scrub.find(&scrubbed).is_none() && scrubbed.contains("${secrets.TOKEN}"), "{scrubbed}");
        }
        let inside = scrub.json(serde_json::json!({ SECRET: [SECRET, 1] }));
        assert_eq!(inside, serde_json::json!({ "${secrets.TOKEN}": ["${secrets.TOKEN}", 1] }));
    }

    #[test]
    fn what_is_no_secret_stays() {
        let scrub = Scrub::new([("TOKEN", "made-up-token")]);
        assert_eq!(scrub.text("made-up token"), "made-up token");
        assert!(!format!("{scrub:?}").contains("made"));
    }
}
