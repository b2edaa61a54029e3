//! Server-sent events (WHATWG HTML, 9.2.6), read as their bytes come.

use std::collections::VecDeque;

/// The longest event, bytes; a server that sends longer ones is not one of ours.
const LONGEST: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind; `message` when the server names none.
    pub(crate) name: String,
    /// Its data; several lines are joined.
    pub(crate) data: String,
    /// The last id that the server gave, with this event or before it.
    pub(crate) id: Option<String>,
}

/// Bytes in, events out.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    ready: VecDeque<Event>,
}

/// An event that does not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an event of more than {} MiB", LONGEST >> 20)]
pub(crate) struct TooLong;

impl Parser {
    /// A parser of a stream that goes on after an event.
    pub(crate) fn after(id: Option<String>) -> Self {
        Self { id, ..Self::default() }
    }

    /// Takes what came.
    ///
    /// # Errors
    /// When an event is longer than any of ours.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    self.end_line();
                }
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.data.len() > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// The next whole event. One that was begun when the stream ended is none.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments begin with the colon; `retry` is for browsers.
            _ => {}
        }
    }

    fn end_event(&mut self) {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() { "message".to_owned() } else { name };
            self.ready.push_back(Event { name, data, id: self.id.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str, Option<&str>)]) {
        // Whatever the pieces in which it comes, the events are the same.
        for size in [1, 2, 3, 7, text.len().max(1)] {
            let mut parser = Parser::default();
            for piece in text.as_bytes().chunks(size) {
                parser.feed(piece).unwrap();
            }
            let events: Vec<Event> = std::iter::from_fn(|| parser.next()).collect();
            let events: Vec<_> = events
                .iter()
                .map(|event| (event.name.as_str(), event.data.as_str(), event.id.as_deref()))
                .collect();
            assert_eq!(events, expect, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        check("event: line\nid: 1\ndata: {\"a\":1}\n\n", &[("line", "{\"a\":1}", Some("1"))]);
        check(
            "data: a\r\ndata:b\r\n\r\ndata: c\rid\r\r",
            &[("message", "a\nb", None), ("message", "c", Some(""))],
        );
        check(": keep alive\n\nevent: lost\n\ndata\n\n", &[("message", "", None)]);
        check(
            "id: 7\ndata: ü\n\ndata: y\n\ndata: cut",
            &[("message", "ü", Some("7")), ("message", "y", Some("7"))],
        );
        check("\u{feff}data: x\nid: a\0b\nretry: 5\nunknown: z\n\n", &[("message", "x", None)]);
    }

    #[test]
    fn endless_events_are_refused() {
        let mut parser = Parser::default();
        let megabyte = vec![b'x'; 1 << 20];
        assert!((0..20).any(|_| parser.feed(&megabyte).is_err()));
    }
}
