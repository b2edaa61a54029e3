//! Forms (`multipart/form-data`, RFC 7578) of the one path that takes them, read strictly: what only
//! some readers understand is refused.

use std::ops::Range;

/// Parts of a form at most.
const PARTS_MAX: usize = 100;

/// A part that is no file: its name, and where its value stands.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) is_file: bool,
    pub(super) value: Range<usize>,
}

/// The boundary of a form, from its content type.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, rest) = content_type.split_once(';')?;
    let value = rest.trim().strip_prefix("boundary=")?;
    let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    let is_plain = (1..=70).contains(&value.len()) && value.bytes().all(plain);
    (kind.trim().eq_ignore_ascii_case("multipart/form-data") && is_plain).then_some(value)
}

/// The parts of a form, in order.
///
/// # Errors
/// With what is wrong, when it is not written in the plainest way.
pub(super) fn parts(body: &[u8], boundary: &str) -> Result<Vec<Part>, String> {
    let first = format!("--{boundary}\r\n");
    let next = format!("\r\n--{boundary}");
    let mut at = if body.starts_with(first.as_bytes()) {
        first.len()
    } else {
        return Err("it does not begin with its boundary".to_owned());
    };
    let mut parts = Vec::new();
    loop {
        let head = find(body, b"\r\n\r\n", at).ok_or("a part has no end of its head")?;
        let (name, is_file) = head_of(&body[at..head])?;
        let value = head + 4;
        let end = find(body, next.as_bytes(), value).ok_or("a part has no end")?;
        parts.push(Part { name, is_file, value: value..end });
        if parts.len() > PARTS_MAX {
            return Err(format!("it has more than {PARTS_MAX} parts"));
        }
        let after = &body[end + next.len()..];
        if matches!(after, b"--" | b"--\r\n") {
            return Ok(parts);
        }
        if !after.starts_with(b"\r\n") {
            return Err("something stands after a boundary".to_owned());
        }
        at = end + next.len() + 2;
    }
}

/// The name of a part, and whether it is a file.
fn head_of(head: &[u8]) -> Result<(String, bool), String> {
    let head = std::str::from_utf8(head).map_err(|_| "a part's head is no text")?;
    let mut named = None;
    for line in head.split("\r\n") {
        let (field, value) = line.split_once(':').ok_or("a part's head has a line without a colon")?;
        match field.to_ascii_lowercase().as_str() {
            "content-disposition" if named.is_none() => named = Some(disposition(value.trim())?),
            "content-type" | "content-length" => {}
            _ => return Err("a part's head has a field that does not belong there".to_owned()),
        }
    }
    named.ok_or_else(|| "a part has no name".to_owned())
}

/// `form-data; name="model"`, with `filename="…"` after it for a file; nothing else.
fn disposition(text: &str) -> Result<(String, bool), String> {
    let wrong = || "a part's name is not written plainly".to_owned();
    let rest = text.strip_prefix("form-data; name=\"").ok_or_else(wrong)?;
    let (name, rest) = rest.split_once('"').ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-[]".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(wrong());
    }
    let is_file = match rest.strip_prefix("; filename=\"") {
        Some(file) if file.ends_with('"') && !file[..file.len() - 1].contains(['"', '\\', '\r', '\n']) => {
            true
        }
        None if rest.is_empty() => false,
        _ => return Err(wrong()),
    };
    Ok((name.to_owned(), is_file))
}

fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let first = *what.first()?;
    let mut at = from;
    while let Some(step) = body.get(at..)?.iter().position(|byte| *byte == first) {
        at += step;
        if body[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[&str]) -> Vec<u8> {
        let parts: String = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect();
        format!("{parts}--b--\r\n").into_bytes()
    }

    #[test]
    fn parts_are_found() {
        let body = form(&[
            "Content-Disposition: form-data; name=\"model\"\r\n\r\ngpt-image",
            "Content-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\0\r\n--x\r\n\r\n",
        ]);
        let found = parts(&body, "b").unwrap();
        let names: Vec<(&str, bool)> = found.iter().map(|part| (part.name.as_str(), part.is_file)).collect();
        assert_eq!(names, [("model", false), ("image[]", true)]);
        assert_eq!(&body[found[0].value.clone()], b"gpt-image");
        assert_eq!(&body[found[1].value.clone()], b"\0\r\n--x\r\n\r\n");
        assert_eq!(boundary("multipart/form-data; boundary=b-1"), Some("b-1"));
        assert_eq!(boundary("Multipart/Form-Data;boundary=\"b\""), Some("b"));
        for other in [
            "multipart/form-data",
            "multipart/mixed; boundary=b",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\"b",
            "multipart/form-data; boundary=",
        ] {
            assert_eq!(boundary(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let name = |disposition: &str| form(&[&format!("Content-Disposition: {disposition}\r\n\r\nx")]);
        for body in [
            name("form-data; name=model"),
            name("form-data; name=\"mo\\\"del\""),
            name("form-data; name=\"model\"; name=\"other\""),
            name("form-data; name*=utf-8''model"),
            name("form-data; filename=\"x\"; name=\"model\""),
            name("attachment; name=\"model\""),
            form(&["Content-Type: text/plain\r\n\r\nx"]),
            form(&[
                "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\nx",
            ]),
            form(&[
                "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\nx",
            ]),
            b"preamble\r\n--b\r\n".to_vec(),
            b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx".to_vec(),
            b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--epilogue".to_vec(),
            b"--b\nContent-Disposition: form-data; name=\"a\"\n\nx\n--b--\n".to_vec(),
            Vec::new(),
        ] {
            assert!(parts(&body, "b").is_err(), "{}", String::from_utf8_lossy(&body));
        }
    }
}
