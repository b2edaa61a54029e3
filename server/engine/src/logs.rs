//! What runs write: gathered while they run, one object once they have ended.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::id::RunId;
use domain::stage::StagePath;
use domain::time::Timestamp;
use ports::objects::ObjectsError;
use ports::store::logs::{LineSource, LogLine, NewLine};
use ports::store::{Fenced, LeaseProof, StoreError};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::world::World;

/// How long a line may wait before it is stored.
const PACE: Duration = Duration::from_millis(100);
/// What a line costs besides its text, bytes: an empty one is not free.
const LINE_COST: u64 = 64;
/// So many lines are stored at once, so that others get their turn to write.
const MOST_LINES: usize = 2_000;
/// A longer line is stored in pieces of this many bytes.
const LONGEST_LINE: usize = 16 << 10;
/// Objects are read in pieces of this many bytes.
const READ: u64 = 4 << 20;

/// The log of a run that is under way.
#[derive(Debug)]
pub(crate) struct RunLog<'w> {
    world: &'w World,
    proof: LeaseProof,
    pending: Mutex<Pending>,
    /// Whether the store may hold lines.
    is_begun: AtomicBool,
}

#[derive(Debug)]
struct Pending {
    lines: Vec<NewLine>,
    /// Bytes that may still be kept.
    room: u64,
}

impl<'w> RunLog<'w> {
    /// A log that keeps `most` bytes.
    pub(crate) fn new(world: &'w World, proof: LeaseProof, most: u64) -> Self {
        // An earlier attempt may have stored some.
        let is_begun = AtomicBool::new(proof.attempt > 1);
        Self { world, proof, pending: Mutex::new(Pending { lines: Vec::new(), room: most }), is_begun }
    }

    /// Adds a line. Past the bound a marker says so, once, and the rest is dropped.
    pub(crate) fn line(&self, stage: &StagePath, source: LineSource, text: String) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.room == 0 {
            return;
        }
        let at = self.world.clock.now();
        let size = text.len() as u64 + stage.as_str().len() as u64 + LINE_COST;
        pending.room = pending.room.saturating_sub(size);
        pending.lines.push(NewLine { stage: stage.clone(), source, text, at });
        if pending.room == 0 {
            let text = "… the log is full; what follows is not kept".to_owned();
            pending.lines.push(NewLine { stage: stage.clone(), source: LineSource::Server, text, at });
        }
    }

    /// Stores what was gathered.
    pub(crate) async fn flush(&self) -> Result<Fenced, StoreError> {
        let lines = std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner).lines);
        if lines.is_empty() {
            return Ok(Fenced::Written);
        }
        self.is_begun.store(true, Ordering::Relaxed);
        for some in lines.chunks(MOST_LINES) {
            if self.world.store.log_append(&self.proof, some).await? == Fenced::Lost {
                return Ok(Fenced::Lost);
            }
        }
        Ok(Fenced::Written)
    }

    /// Whether the store may hold lines of the run.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun.load(Ordering::Relaxed)
    }

    /// Stores what is gathered, again and again, until the lease is lost.
    pub(crate) async fn pump(&self) -> Result<Fenced, StoreError> {
        loop {
            tokio::time::sleep(PACE).await;
            if self.flush().await? == Fenced::Lost {
                return Ok(Fenced::Lost);
            }
        }
    }
}

/// Makes lines out of bytes as they come, whatever they are.
#[derive(Debug)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    longest: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::up_to(LONGEST_LINE)
    }
}

impl Lines {
    /// Lines of at most so many bytes; a longer one comes in pieces.
    pub(crate) fn up_to(longest: usize) -> Self {
        Self { rest: Vec::new(), longest }
    }

    /// The lines that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.take());
            } else {
                self.rest.push(byte);
                if self.rest.len() >= self.longest {
                    lines.extend(self.take());
                }
            }
        }
        lines
    }

    /// What is left at the end.
    pub(crate) fn finish(mut self) -> Option<String> {
        if self.rest.is_empty() { None } else { self.take() }
    }

    fn take(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_end_matches('\r').replace('\0', "\u{fffd}"))
    }
}

/// A line in the object.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    number: u64,
    stage: StagePath,
    source: String,
    at: Timestamp,
    text: String,
}

fn key(run: RunId) -> String {
    format!("logs/{run}.jsonl")
}

/// Makes the log of an ended run an object. Done again after a crash it does no harm.
pub(crate) async fn seal(world: &World, run: RunId) -> Result<(), SealError> {
    let mut object = Vec::new();
    let mut after = 0;
    loop {
        let lines = world.store.log_read(run, after, 1_000).await?;
        let Some(last) = lines.last() else { break };
        after = last.number;
        for LogLine { number, line } in lines {
            let sealed = Sealed {
                number,
                stage: line.stage,
                source: line.source.as_str().to_owned(),
                at: line.at,
                text: line.text,
            };
            serde_json::to_writer(&mut object, &sealed).expect("text and numbers can be written");
            object.push(b'\n');
        }
    }
    if object.is_empty() {
        return Ok(());
    }
    world.objects.put(&key(run), object.into()).await?;
    world.store.log_remove(run).await?;
    Ok(())
}

/// A log could not be made an object; its lines stay where they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Objects(#[from] ObjectsError),
}

/// Lines of a run after a number, in order, at most so many, wherever they are kept.
///
/// # Errors
/// When they cannot be read.
pub async fn read(world: &World, run: RunId, after: u64, most: u32) -> Result<Vec<LogLine>, Refusal> {
    let lines = world.store.log_read(run, after, most).await?;
    if !lines.is_empty() {
        return Ok(lines);
    }
    let unavailable = |error: ObjectsError| Refusal {
        kind: crate::RefusalKind::Unavailable,
        code: "log_unavailable",
        message: error.to_string(),
    };
    let mut bytes = Vec::new();
    while let Some(part) =
        world.objects.get(&key(run), bytes.len() as u64, READ).await.map_err(unavailable)?
    {
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    let lines =
        bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Sealed>(line).ok());
    Ok(lines.filter(|line| line.number > after).take(most as usize).map(unseal).collect())
}

fn unseal(sealed: Sealed) -> LogLine {
    let source = LineSource::parse(&sealed.source).unwrap_or(LineSource::Server);
    LogLine {
        number: sealed.number,
        line: NewLine { stage: sealed.stage, source, text: sealed.text, at: sealed.at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_bytes_come() {
        let bytes = "eins\r\nzwei ü\n\ndrei".as_bytes();
        for size in 1..bytes.len() {
            let mut lines = Lines::default();
            let mut got: Vec<String> = bytes.chunks(size).flat_map(|chunk| lines.push(chunk)).collect();
            got.extend(lines.finish());
            assert_eq!(got, ["eins", "zwei ü", "", "drei"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        let got = lines.push(&vec![b'x'; 3 * LONGEST_LINE + 1]);
        assert_eq!(got.len(), 3);
        assert_eq!(lines.finish().as_deref(), Some("x"));
    }
}
