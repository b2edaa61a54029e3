//! What a program writes, on its way to whoever reads it.
//!
//! The jail's thread always takes everything off the pipes, so that a slow reader never holds a
//! program up; at most `limits.output` bytes wait in between. The head is kept, the rest is counted
//! and dropped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use ports::sandbox::{OutputChunk, Stream};
use tokio::sync::Notify;

/// Largest piece, and the most that is read at once.
const PIECE: usize = 64 << 10;
/// From here on pieces are joined with the last one of their stream, also past one of the other.
const MANY_PIECES: usize = 1024;

/// The queue between the jail's thread and the reader.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<(Stream, BytesMut)>,
    closed: bool,
}

impl Queue {
    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return;
        }
        let many = state.pieces.len() >= MANY_PIECES;
        let last = match many {
            true => state.pieces.iter_mut().rev().find(|(of, _)| *of == stream),
            false => state.pieces.back_mut().filter(|(of, piece)| *of == stream && piece.len() < PIECE),
        };
        match last {
            Some((_, piece)) => piece.extend_from_slice(bytes),
            None => state.pieces.push_back((stream, BytesMut::from(bytes))),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// No more comes, or no more is wanted.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_one();
    }

    /// The next piece; `None` after the last. May be dropped and called again.
    pub(crate) async fn next(&self) -> Option<OutputChunk> {
        loop {
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((stream, bytes)) = state.pieces.pop_front() {
                    return Some(OutputChunk { stream, bytes: Bytes::from(bytes) });
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// The server's side of a program's output.
#[derive(Debug)]
pub(crate) struct Drain {
    pipes: [Option<File>; 2],
    queue: Arc<Queue>,
    keep: u64,
    seen: u64,
    buffer: Vec<u8>,
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Drain {
    /// Reads from standard output and error, keeps at most `keep` bytes of both together.
    pub(crate) fn new(stdout: File, stderr: File, queue: Arc<Queue>, keep: u64) -> Self {
        Self { pipes: [Some(stdout), Some(stderr)], queue, keep, seen: 0, buffer: vec![0; PIECE] }
    }

    /// The pipes that are still open, for waiting.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = &File> {
        self.pipes.iter().flatten()
    }

    /// Takes what is there, a few pieces at most. Says whether there may be more.
    pub(crate) fn take(&mut self) -> bool {
        let mut more = false;
        for (pipe, stream) in self.pipes.iter_mut().zip(STREAMS) {
            let Some(file) = pipe else { continue };
            match file.read(&mut self.buffer) {
                Ok(0) => *pipe = None,
                Ok(count) => {
                    let left = self.keep.saturating_sub(self.seen);
                    let kept = usize::try_from(left).unwrap_or(usize::MAX).min(count);
                    self.seen += count as u64;
                    if kept > 0 {
                        self.queue.push(stream, &self.buffer[..kept]);
                    }
                    more = true;
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => *pipe = None,
            }
        }
        more
    }

    /// Bytes written, kept or not.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether some were dropped.
    pub(crate) fn dropped(&self) -> bool {
        self.seen > self.keep
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use ports::sandbox::Stream;

    use super::{Drain, Queue};
    use crate::descriptor;

    async fn check(written: &[(Stream, &str)], keep: u64, expect: &[(Stream, &str)]) {
        let (stdout, out) = descriptor::pipe().unwrap();
        let (stderr, err) = descriptor::pipe().unwrap();
        let (mut out, mut err) = (std::fs::File::from(out), std::fs::File::from(err));
        let queue = Arc::new(Queue::default());
        let mut drain = Drain::new(stdout, stderr, Arc::clone(&queue), keep);
        for (stream, text) in written {
            match stream {
                Stream::Stdout => out.write_all(text.as_bytes()).unwrap(),
                Stream::Stderr => err.write_all(text.as_bytes()).unwrap(),
            }
            while drain.take() {}
        }
        queue.close();
        let mut found = Vec::new();
        while let Some(chunk) = queue.next().await {
            found.push((chunk.stream, String::from_utf8(chunk.bytes.to_vec()).unwrap()));
        }
        assert_eq!(found.iter().map(|(stream, text)| (*stream, text.as_str())).collect::<Vec<_>>(), expect);
        let all: usize = written.iter().map(|(_, text)| text.len()).sum();
        assert_eq!(drain.seen(), all as u64);
        assert_eq!(drain.dropped(), all as u64 > keep);
    }

    #[tokio::test]
    async fn the_head_is_kept_and_pieces_are_joined() {
        use Stream::{Stderr, Stdout};
        check(&[(Stdout, "a"), (Stdout, "b"), (Stderr, "c")], 9, &[(Stdout, "ab"), (Stderr, "c")]).await;
        check(&[(Stdout, "abc"), (Stderr, "def")], 4, &[(Stdout, "abc"), (Stderr, "d")]).await;
        check(&[(Stdout, "abc")], 3, &[(Stdout, "abc")]).await;
        check(&[(Stdout, "abc")], 0, &[]).await;
    }

    #[tokio::test]
    async fn changing_streams_at_every_byte_makes_few_pieces() {
        let (stdout, out) = descriptor::pipe().unwrap();
        let (stderr, err) = descriptor::pipe().unwrap();
        let (mut out, mut err) = (std::fs::File::from(out), std::fs::File::from(err));
        let queue = Arc::new(Queue::default());
        let mut drain = Drain::new(stdout, stderr, Arc::clone(&queue), 1 << 20);
        for _ in 0..5000 {
            out.write_all(b"o").unwrap();
            err.write_all(b"e").unwrap();
            while drain.take() {}
        }
        queue.close();
        let (mut pieces, mut bytes) = (0, 0);
        while let Some(chunk) = queue.next().await {
            pieces += 1;
            bytes += chunk.bytes.len();
        }
        assert_eq!(bytes, 10_000);
        assert!(pieces <= super::MANY_PIECES, "{pieces}");
    }
}
