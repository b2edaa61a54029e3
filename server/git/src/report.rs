//! What a remote says about a push (gitprotocol-pack(5), "Report Status"), and how its words are shown.

use std::io::{self, Read};

use crate::packet::{self, Packet};

/// How much is kept of what the remote says besides, bytes.
const MOST_WORDS: usize = 4 << 10;
/// How long a report about one branch may be, bytes.
const MOST_REPORT: usize = 64 << 10;
/// How many characters of it are shown.
const MOST_SHOWN: usize = 600;

/// What became of a push.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The lines about objects and refs.
    lines: Vec<Vec<u8>>,
    /// What hooks and servers said for people to read.
    pub(crate) words: Vec<u8>,
}

/// Reads a report as it is.
pub(crate) fn read(reader: &mut dyn Read) -> io::Result<Report> {
    let mut report = Report::default();
    let mut left = MOST_REPORT;
    while let Some(Packet::Data(line)) = packet::read(reader)? {
        left = left.checked_sub(line.len() + 1).ok_or_else(too_long)?;
        report.lines.push(line);
    }
    Ok(report)
}

/// Reads a report that is sent on one of three bands: itself, words, words and the end.
pub(crate) fn read_banded(reader: &mut dyn Read) -> io::Result<Report> {
    let (mut inner, mut words) = (Vec::new(), Vec::new());
    while let Some(Packet::Data(line)) = packet::read(reader)? {
        let Some((band, content)) = line.split_first() else { continue };
        match band {
            1 if inner.len() + content.len() > MOST_REPORT => return Err(too_long()),
            1 => inner.extend_from_slice(content),
            _ => {
                let room = MOST_WORDS - words.len();
                words.extend_from_slice(&content[..content.len().min(room)]);
            }
        }
        if *band == 3 {
            break;
        }
    }
    let report = read(&mut inner.as_slice())?;
    Ok(Report { words, ..report })
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the report is too long")
}

impl Report {
    /// Whether the ref was moved, or why not; `None` when nothing is said of it.
    pub(crate) fn result(&self, name: &str) -> Option<Result<(), Vec<u8>>> {
        let mut lines = self.lines.iter().map(|line| line.trim_ascii_end());
        let unpacked = lines.next()?.strip_prefix(b"unpack ")?;
        if unpacked != b"ok" {
            return Some(Err(unpacked.to_vec()));
        }
        lines.find_map(|line| {
            let (verdict, rest) = (line.get(..3)?, line.get(3..)?);
            let rest = rest.strip_prefix(name.as_bytes())?;
            match (verdict, rest.split_first()) {
                (b"ok ", None) => Some(Ok(())),
                (b"ng ", Some((b' ', why))) => Some(Err(why.to_vec())),
                _ => None,
            }
        })
    }
}

/// Words of a remote in one line: without what a terminal or a page would obey, without secrets, cut.
pub(crate) fn shown(words: &[u8], secrets: &[String]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines = text.split(['\n', '\r']).map(|line| {
        line.chars().filter(|c| !c.is_control() && !is_direction(*c)).collect::<String>().trim().to_owned()
    });
    let mut shown = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    for secret in secrets {
        shown = shown.replace(secret.as_str(), "***");
    }
    match shown.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// Characters that turn the direction of those around them (UAX #9).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Vec<u8> {
        let lines = lines.iter().map(|line| packet::data(line.as_bytes()));
        [lines.collect::<Vec<_>>().concat(), packet::FLUSH.to_vec()].concat()
    }

    fn check(lines: &[&str], expect: Option<Result<(), &str>>) {
        let expect = expect.map(|result| result.map_err(|why| why.as_bytes().to_vec()));
        let plain = report(lines);
        assert_eq!(read(&mut plain.as_slice()).unwrap().result("refs/heads/a"), expect, "{lines:?}");
        let banded = [packet::data(&[&[1], plain.as_slice()].concat()), packet::FLUSH.to_vec()].concat();
        assert_eq!(read_banded(&mut banded.as_slice()).unwrap().result("refs/heads/a"), expect, "{lines:?}");
    }

    #[test]
    fn only_the_ref_itself_counts() {
        check(&["unpack ok\n", "ok refs/heads/a\n"], Some(Ok(())));
        check(&["unpack ok", "ok refs/heads/ab", "ng refs/heads/a no way\n"], Some(Err("no way")));
        check(&["unpack index-pack failed\n", "ok refs/heads/a\n"], Some(Err("index-pack failed")));
        check(&["unpack ok\n", "ok refs/heads/b\n"], None);
        check(&["unpack ok\n", "ok"], None);
        check(&["ok refs/heads/a\n"], None);
        check(&[], None);
    }

    #[test]
    fn words_come_beside_and_may_be_the_end() {
        let line = |band: u8, content: &[u8]| packet::data(&[&[band], content].concat());
        let bytes = [line(2, b"a"), line(3, b"b"), line(2, b"c")].concat();
        let found = read_banded(&mut bytes.as_slice()).unwrap();
        assert_eq!((found.words.as_slice(), found.result("x")), (b"ab".as_slice(), None));
        let flood = line(2, &[b'x'; 60_000]).repeat(3);
        assert_eq!(read_banded(&mut flood.as_slice()).unwrap().words.len(), MOST_WORDS);
        let endless = line(1, &[b'x'; 60_000]).repeat(2);
        assert!(read_banded(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn words_are_shown_as_words() {
        let secrets = ["s3cret".to_owned()];
        assert_eq!(shown(b"\n error: \x1b[31mno\x07 \r\n\ngo away\n", &secrets), "error: [31mno; go away");
        assert_eq!(shown("a \u{202e}b s3c\u{0}ret \u{2066}c".as_bytes(), &secrets), "a b *** c");
        assert_eq!(shown(&[b'x'; 5_000], &[]).chars().count(), MOST_SHOWN + 1);
    }
}
