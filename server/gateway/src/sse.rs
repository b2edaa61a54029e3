//! Server-sent events, as the HTML standard says (9.2.6, "interpreting an event stream"): a small
//! parser that takes bytes as they come.

use bytes::Bytes;

/// The longest event, bytes. A provider that sends more is broken or hostile.
pub(crate) const EVENT_MAX: usize = 16 << 20;

/// One event. `id` and `retry` are of no use here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// The `event:` field, else empty.
    pub(crate) name: String,
    /// The `data:` fields, joined by line feeds.
    pub(crate) data: Bytes,
}

/// An event beyond [`EVENT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Reads a stream of bytes, cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    name: String,
    has_data: bool,
    after_cr: bool,
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and adds the events that are complete with them.
    ///
    /// # Errors
    /// When an event is too large; the parser is then of no more use.
    pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.keep(&rest[..end])?;
            self.end_line(events);
            let is_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if is_cr {
                match rest {
                    [] => self.after_cr = true,
                    [b'\n', after @ ..] => rest = after,
                    _ => {}
                }
            }
        }
        self.keep(rest)
    }

    /// The event that the end of the stream cut off. The standard drops it; some servers end their
    /// last event with one line feed only, so it is given to whoever can tell whether it is whole.
    pub(crate) fn finish(mut self) -> Option<Event> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut events);
        }
        self.end_event(&mut events);
        events.pop()
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + bytes.len() > EVENT_MAX {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let mut line = std::mem::take(&mut self.line);
        if !self.begun {
            self.begun = true;
            if line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
        }
        if line.is_empty() {
            return self.end_event(events);
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // A comment has an empty field; everything else is ignored.
            _ => {}
        }
    }

    fn end_event(&mut self, events: &mut Vec<Event>) {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if std::mem::take(&mut self.has_data) && !data.is_empty() {
            events.push(Event { name, data: data.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.push(chunk, &mut events).unwrap();
        }
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        events.iter().map(|event| (event.name.clone(), text(&event.data))).collect()
    }

    #[track_caller]
    fn check(stream: &str, expect: &[(&str, &str)]) {
        let expect: Vec<_> =
            expect.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect();
        assert_eq!(parse(&[stream.as_bytes()]), expect, "{stream:?} at once");
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(parse(&bytes), expect, "{stream:?} byte by byte");
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        check("data: a\n\n", &[("", "a")]);
        check("data:a\r\n\r\ndata: b\r\rdata:  c\n\n", &[("", "a"), ("", "b"), ("", " c")]);
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[("", "a")]);
        check("event: x\ndata: 1\ndata: 2\nid: 7\nretry: 9\nfoo: bar\n\n", &[("x", "1\n2")]);
        check(": keep-alive\n\n:\n\nevent: none\n\ndata\n\ndata: a\n\n", &[("", "a")]);
        check("data: {\"a\":\n\ndata: cut off\n", &[("", "{\"a\":")]);
    }

    #[test]
    fn the_last_event_is_handed_over_when_the_stream_ends() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        parser.push(b"data: a\n\ndata: [DONE]\n", &mut events).unwrap();
        assert_eq!(parser.finish().unwrap().data, "[DONE]");
        assert_eq!(Parser::default().finish(), None);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let endless = vec![b'x'; 1 << 20];
        for line_end in [&b""[..], b"\n"] {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            let mut pushed = 0;
            let refused = std::iter::repeat_with(|| {
                pushed += endless.len();
                let line = [b"data: ", &endless[..], line_end].concat();
                parser.push(&line, &mut events)
            })
            .take(20)
            .find(Result::is_err);
            assert_eq!(refused, Some(Err(TooLarge)));
            assert!(pushed <= EVENT_MAX + (1 << 20), "{pushed} bytes were taken");
        }
    }

    /// The standard's algorithm, written the plain way on the whole text.
    fn reference(stream: &str) -> Vec<(String, String)> {
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        let Some((complete, _)) = stream.rsplit_once('\n') else { return Vec::new() };
        let (mut events, mut name, mut data) = (Vec::new(), String::new(), String::new());
        for line in complete.split('\n') {
            if line.is_empty() {
                let whole = data.strip_suffix('\n').unwrap_or(&data).to_owned();
                if !whole.is_empty() {
                    events.push((name.clone(), whole));
                }
                (name, data) = (String::new(), String::new());
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => data.extend([value, "\n"]),
                "event" => name = value.to_owned(),
                _ => {}
            }
        }
        events
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn where_the_stream_is_cut_does_not_matter(
            stream in "(data|event|:|id| |\\PC|\r|\n|\r\n|\n\n|\u{feff}|: ?[a-z]{0,3}){0,60}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks), reference(&stream));
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            parse(&chunks);
        }
    }
}
