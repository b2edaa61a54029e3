//! The answer as it comes, for whoever watches.

use tokio::sync::mpsc;

/// Sends pieces of an answer to someone who may be slow or gone. Nothing waits for them: what they
/// do not take yet is sent with the next piece.
#[derive(Debug)]
pub(crate) struct Pieces {
    to: mpsc::Sender<String>,
    waiting: String,
    begun: bool,
}

/// The most that is kept for a slow watcher, bytes; after that they miss some.
const WAITING_MAX: usize = 1 << 20;

impl Pieces {
    pub(crate) fn new(to: mpsc::Sender<String>) -> Self {
        Self { to, waiting: String::new(), begun: false }
    }

    /// The next words of the answer.
    pub(crate) fn send(&mut self, text: &str) {
        if text.is_empty() || self.to.is_closed() {
            return;
        }
        self.begun = true;
        if self.waiting.len() + text.len() <= WAITING_MAX {
            self.waiting.push_str(text);
        }
        self.flush();
    }

    /// A new answer begins, and what was sent before is no part of it: says so, if anything was.
    pub(crate) fn restart(&mut self, why: &str) {
        if std::mem::take(&mut self.begun) {
            self.send(&format!("\n— {why} —\n"));
            self.begun = false;
        }
    }

    /// What is still waiting, if there is room for it now.
    pub(crate) fn flush(&mut self) {
        if !self.waiting.is_empty()
            && let Ok(room) = self.to.try_reserve()
        {
            room.send(std::mem::take(&mut self.waiting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_watcher_misses_nothing_and_holds_nobody_up() {
        let (to, mut from) = mpsc::channel(1);
        let mut pieces = Pieces::new(to);
        for word in ["a", "b", "c"] {
            pieces.send(word);
        }
        assert_eq!(from.try_recv().unwrap(), "a");
        pieces.flush();
        assert_eq!(from.try_recv().unwrap(), "bc");
    }

    #[test]
    fn a_restart_is_marked_only_after_words() {
        let (to, mut from) = mpsc::channel(8);
        let mut pieces = Pieces::new(to);
        pieces.restart("again");
        pieces.send("a");
        pieces.restart("again");
        pieces.restart("again");
        assert_eq!(from.try_recv().unwrap(), "a");
        assert_eq!(from.try_recv().unwrap(), "\n— again —\n");
        assert!(from.try_recv().is_err());
    }
}
