//! The lines that git's wire consists of (gitprotocol-common(5), "pkt-line").

use std::io::{self, ErrorKind, Read};

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// Some bytes, at most 65,516.
    Data(Vec<u8>),
    /// The end of a list.
    Flush,
}

/// Reads the next one; `None` when the stream ended before it.
pub(crate) fn read(reader: &mut dyn Read) -> io::Result<Option<Packet>> {
    let mut head = [0; 4];
    if reader.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut head[1..])?;
    let is_hex = head.iter().all(u8::is_ascii_hexdigit);
    let length = std::str::from_utf8(&head).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    match length.filter(|_| is_hex) {
        Some(0) => Ok(Some(Packet::Flush)),
        Some(length @ 4..) => {
            let mut data = vec![0; length - 4];
            reader.read_exact(&mut data)?;
            Ok(Some(Packet::Data(data)))
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, "that is not the language of git")),
    }
}

/// Writes one that holds these bytes.
pub(crate) fn data(content: &[u8]) -> Vec<u8> {
    [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
}

/// The end of a list, as it is written.
pub(crate) const FLUSH: &[u8] = b"0000";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut bytes: &[u8], expect: &[Result<Option<&str>, ErrorKind>]) {
        for expect in expect {
            let found = read(&mut bytes).map_err(|error| error.kind()).map(|packet| match packet {
                Some(Packet::Data(data)) => Some(String::from_utf8(data).unwrap()),
                Some(Packet::Flush) => Some("FLUSH".to_owned()),
                None => None,
            });
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|kind| *kind), *expect);
        }
    }

    #[test]
    fn lines_are_read() {
        check(b"0006a\n00000004", &[Ok(Some("a\n")), Ok(Some("FLUSH")), Ok(Some("")), Ok(None)]);
        check(&[&data(b"abc"), FLUSH].concat(), &[Ok(Some("abc")), Ok(Some("FLUSH")), Ok(None)]);
    }

    #[test]
    fn what_is_no_line_is_an_error() {
        let (invalid, ended) = (Err(ErrorKind::InvalidData), Err(ErrorKind::UnexpectedEof));
        check(b"<htm", &[invalid]);
        check(b"+00a", &[invalid]);
        check(b"0001", &[invalid]);
        check(b"0003", &[invalid]);
        check(b"00", &[ended]);
        check(b"0009a", &[ended]);
        check(b"ffff", &[ended]);
    }
}
