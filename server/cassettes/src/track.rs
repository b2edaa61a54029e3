//! The recordings of one kind while they play: each is used as often as it was recorded, in any order.

use crate::difference::{difference, nearest};

/// A recording.
pub(crate) trait Recorded: Clone {
    /// Tells what was asked from everything else that was.
    fn key(&self) -> String;

    /// What was asked, as lines for people.
    fn script(&self) -> String;
}

/// The recordings of one kind.
#[derive(Debug)]
pub(crate) struct Track<R> {
    old: Vec<Old<R>>,
    /// What was recorded just now, in the order of the answers.
    new: Vec<R>,
}

#[derive(Debug)]
struct Old<R> {
    key: String,
    recording: R,
    used: bool,
}

impl<R: Recorded> Track<R> {
    pub(crate) fn new(recordings: Vec<R>) -> Self {
        let old = recordings.into_iter().map(|one| Old { key: one.key(), recording: one, used: false });
        Self { old: old.collect(), new: Vec::new() }
    }

    /// The first recording under a key that was not used yet.
    pub(crate) fn take(&mut self, key: &str) -> Option<R> {
        let found = self.old.iter_mut().find(|old| !old.used && old.key == key)?;
        found.used = true;
        Some(found.recording.clone())
    }

    /// Keeps what was answered.
    pub(crate) fn keep(&mut self, recording: R) {
        self.new.push(recording);
    }

    /// Why nothing was found, as a difference to what is most like it.
    pub(crate) fn missing(&self, key: &str, script: &str) -> (Lack, Option<String>) {
        if self.old.is_empty() {
            return (Lack::Nothing, None);
        }
        if self.old.iter().any(|old| old.key == key) {
            return (Lack::Spent, None);
        }
        let scripts = |used: bool| -> Vec<String> {
            self.old.iter().filter(|old| used || !old.used).map(|old| old.recording.script()).collect()
        };
        let unused = scripts(false);
        let candidates = if unused.is_empty() { scripts(true) } else { unused };
        let like = nearest(script, candidates.iter().map(String::as_str));
        (Lack::Changed, like.map(|like| difference(("recorded", like), ("asked", script))))
    }

    /// What was asked of the recordings that were not used.
    pub(crate) fn unused(&self) -> impl Iterator<Item = String> {
        self.old.iter().filter(|old| !old.used).map(|old| old.recording.script())
    }

    /// What was recorded just now, where it stood before or else at the end.
    pub(crate) fn recorded(&self) -> Vec<R> {
        let place = |recording: &R| {
            let key = recording.key();
            self.old.iter().position(|old| old.key == key).unwrap_or(usize::MAX)
        };
        let mut recorded = self.new.clone();
        recorded.sort_by_key(place);
        recorded
    }

    /// All recordings, what was recorded just now last.
    pub(crate) fn all(&self) -> Vec<R> {
        self.old.iter().map(|old| old.recording.clone()).chain(self.new.iter().cloned()).collect()
    }
}

/// Why there is no recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// There are none of this kind.
    Nothing,
    /// There are some, of what was asked otherwise.
    Changed,
    /// It was recorded, and less often.
    Spent,
}
