//! Pushing one branch: ask where it is, make the pack of what is missing there, send both with the place
//! where the branch must still be, and read what the remote says (gitprotocol-pack(5)).
//!
//! `git push` would be given the credential, by its environment or by a helper, and would connect by
//! means of its own. This speaks through the connections that fetches use, which are judged when they
//! are made, so that a credential is in no process but this one; git only makes the pack.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use domain::name::{Branch, Commit};
use gix::ObjectId;
use ports::source::{Moved, SourceError};

use crate::config::Bounds;
use crate::error::{Doing, refused};
use crate::meter::{self, Meter, REFS_ALLOWANCE};
use crate::object;
use crate::packet::{self, FLUSH, Packet};
use crate::program::{Program, complaint};
use crate::report::{self, Report};

/// What a remote may say about one push, bytes.
const REPORT_ALLOWANCE: u64 = 16 << 20;

/// One push from one mirror.
pub(crate) struct Push<'a> {
    pub(crate) program: &'a Program,
    pub(crate) mirror: &'a gix::Repository,
    pub(crate) bounds: Bounds,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) branch: &'a Branch,
    pub(crate) from: Option<&'a Commit>,
    pub(crate) to: &'a Commit,
    /// What is never shown, whoever says it.
    pub(crate) secrets: Vec<String>,
}

/// `git receive-pack` on the other side.
pub(crate) trait Receiver {
    /// Asks where its refs are, anew each time; they are read up to a flush.
    fn ask(&mut self) -> Result<Box<dyn Read + '_>, SourceError>;

    /// Sends a command and the pack that belongs to it; what is read is a report.
    fn send(&mut self, command: Vec<u8>, pack: File) -> Result<Box<dyn Read + '_>, SourceError>;
}

/// What a remote shows of itself.
#[derive(Debug, Default)]
struct Shown {
    /// Where the branch is.
    at: Option<Commit>,
    /// All that it names.
    ids: Vec<ObjectId>,
    capabilities: Vec<String>,
}

impl Push<'_> {
    /// Moves the branch, unless it is elsewhere than was believed.
    pub(crate) fn run(&self, receiver: &mut dyn Receiver) -> Result<Moved, SourceError> {
        let shown = self.ask(receiver)?;
        if let Some(settled) = self.settled(&shown) {
            return Ok(settled);
        }
        let Err(error) = self.send(receiver, &shown) else { return Ok(Moved::Moved) };
        // Someone else may have been faster, or it was done and the answer was lost.
        let again = self.ask(receiver).ok().and_then(|shown| self.settled(&shown));
        again.ok_or(error)
    }

    /// What there is to say when nothing need be sent.
    fn settled(&self, shown: &Shown) -> Option<Moved> {
        if shown.at.as_ref() == Some(self.to) {
            return Some(Moved::Moved);
        }
        (shown.at.as_ref() != self.from).then(|| Moved::Stale { actual: shown.at.clone() })
    }

    fn ask(&self, receiver: &mut dyn Receiver) -> Result<Shown, SourceError> {
        self.meter.allow(REFS_ALLOWANCE);
        let mut reader = receiver.ask()?;
        let mut shown = Shown::default();
        let mut count = 0;
        loop {
            let line = match packet::read(&mut *reader).map_err(|error| self.broken_off(&error))? {
                Some(Packet::Data(line)) => line,
                Some(Packet::Flush) => return Ok(shown),
                None => return Err(SourceError::Unreachable("the remote broke off".into())),
            };
            count += 1;
            if count > self.bounds.refs {
                let most = self.bounds.refs;
                return refused(format!(
                    "the remote has more than {most} refs; at most {most} are looked at"
                ));
            }
            self.look(&line, &mut shown)?;
        }
    }

    /// One line of the list: an id, a name, and in the first line what the remote is capable of.
    fn look(&self, line: &[u8], shown: &mut Shown) -> Result<(), SourceError> {
        if let Some(words) = line.strip_prefix(b"ERR ") {
            return refused(format!("the remote refuses: {}", self.said(words)));
        }
        let mut halves = line.splitn(2, |byte| *byte == 0);
        let (Some(entry), capabilities) = (halves.next(), halves.next()) else { return Ok(()) };
        if let Some(capabilities) = capabilities {
            let words = String::from_utf8_lossy(capabilities);
            shown.capabilities = words.split_ascii_whitespace().map(str::to_owned).collect();
        }
        let entry = String::from_utf8_lossy(entry);
        let Some((id, name)) = entry.trim_end().split_once(' ') else { return Ok(()) };
        let Ok(commit) = Commit::parse(id) else { return Ok(()) };
        if name.strip_prefix("refs/heads/") == Some(self.branch.as_str()) {
            shown.at = Some(commit.clone());
        }
        shown.ids.push(object::id(&commit));
        Ok(())
    }

    fn send(&self, receiver: &mut dyn Receiver, shown: &Shown) -> Result<(), SourceError> {
        let can = |capability: &str| shown.capabilities.iter().any(|known| known == capability);
        if shown.capabilities.iter().any(|known| known.starts_with("object-format=") && known != SHA_1) {
            return refused("the remote uses SHA-256, which is not supported");
        }
        if !can("report-status") {
            return refused("the remote does not say what becomes of a push");
        }
        let wanted = ["report-status", "side-band-64k", "quiet", SHA_1].into_iter().filter(|it| can(it));
        let wanted = wanted.collect::<Vec<_>>().join(" ");
        let zero = "0".repeat(40);
        let (from, to, branch) = (self.from.map_or(&*zero, Commit::as_str), self.to, self.branch);
        let command = format!("{from} {to} refs/heads/{branch}\0 {wanted} {AGENT}");
        let command = [packet::data(command.as_bytes()), FLUSH.to_vec()].concat();
        let pack = self.pack(shown)?;
        self.meter.allow(REPORT_ALLOWANCE);
        let mut reader = receiver.send(command, pack)?;
        let report = match can("side-band-64k") {
            true => report::read_banded(&mut *reader),
            false => report::read(&mut *reader),
        };
        self.judge(&report.map_err(|error| self.broken_off(&error))?)
    }

    fn judge(&self, report: &Report) -> Result<(), SourceError> {
        let Some(result) = report.result(&format!("refs/heads/{}", self.branch)) else {
            return Err(SourceError::Unreachable(format!(
                "the remote does not say what became of the push{}",
                self.after_colon(&report.words)
            )));
        };
        result.or_else(|why| {
            refused(format!("the remote refuses: {}{}", self.said(&why), self.after_colon(&report.words)))
        })
    }

    /// Makes the pack of what the remote lacks. It has no name on the disk.
    fn pack(&self, shown: &Shown) -> Result<File, SourceError> {
        let path = self.mirror.git_dir();
        let mut wants = format!("{}\n", self.to);
        for id in shown.ids.iter().filter(|id| self.mirror.has_object(id)) {
            wants.push_str(&format!("^{id}\n"));
        }
        let mut child = self
            .program
            .git()
            .arg("--git-dir")
            .arg(path)
            .args(["pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "--quiet"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("starting git pack-objects")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let adopted = self.meter.adopt(child);
        let packed = input.zip(output).map(|(mut input, output)| {
            input.write_all(wants.as_bytes())?;
            drop(input);
            self.spool(path, output)
        });
        let Some(mut child) = self.meter.release(adopted) else {
            return Err(SourceError::Broken("git pack-objects was lost".into()));
        };
        if !matches!(packed, Some(Ok(Some(_)))) {
            meter::kill(&mut child);
        }
        let ended = child.wait_with_output().doing("waiting for git pack-objects")?;
        if self.meter.is_stopped() {
            return Err(SourceError::Unreachable("the push was stopped".into()));
        }
        match packed {
            Some(Ok(Some(pack))) if ended.status.success() => Ok(pack),
            Some(Ok(None)) => refused(format!("the push is larger than {} MB", self.bounds.push_bytes >> 20)),
            Some(Err(error)) if ended.stderr.is_empty() => Err(error).doing("packing what is pushed"),
            _ => Err(SourceError::Broken(format!("git pack-objects: {}", complaint(&ended.stderr)))),
        }
    }

    /// Puts a pack on the disk; `None` when it is too large.
    fn spool(&self, repository: &Path, output: impl Read) -> io::Result<Option<File>> {
        let most = self.bounds.push_bytes;
        let mut pack = tempfile::tempfile_in(repository.join("objects"))?;
        let written = io::copy(&mut output.take(most.saturating_add(1)), &mut pack)?;
        pack.rewind()?;
        Ok((written <= most).then_some(pack))
    }

    fn broken_off(&self, error: &io::Error) -> SourceError {
        if self.meter.is_too_much() {
            return SourceError::Refused("the remote sends more than is allowed".into());
        }
        if self.meter.is_stopped() {
            return SourceError::Unreachable("the remote did not answer in time".into());
        }
        SourceError::Unreachable(format!("the remote broke off: {error}"))
    }

    fn after_colon(&self, words: &[u8]) -> String {
        let words = self.said(words);
        if words.is_empty() { words } else { format!(": {words}") }
    }

    /// Words of the remote, as they may be shown.
    fn said(&self, words: &[u8]) -> String {
        report::shown(words, &self.secrets)
    }
}

const SHA_1: &str = "object-format=sha1";
const AGENT: &str = concat!("agent=spellbook/", env!("CARGO_PKG_VERSION"));
