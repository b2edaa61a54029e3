//! What is recorded of a stage: the journal from which a run goes on after a crash.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::memo::Seen;
use crate::money::NanoUsd;
use crate::name::Commit;
use crate::route::Ranking;
use crate::run::Failure;
use crate::time::Timestamp;
use crate::value::Value;

/// Where a stage stands in its run: its name, below a `foreach` with the index of the item:
/// `Summarise`, `Each[3]/Label`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StagePath(String);

impl StagePath {
    /// A stage of the manifest's own list.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A stage inside this one, for one item.
    #[must_use]
    pub fn item(&self, index: usize, name: &str) -> Self {
        Self(format!("{}[{index}]/{name}", self.0))
    }

    /// From a stored path.
    pub fn stored(path: String) -> Self {
        Self(path)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A finished stage: an entry of the journal, written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Which stage.
    pub path: StagePath,
    /// How it ended.
    pub end: StageEnd,
    /// The name under which its output is known, and the output.
    pub output: Option<StageOutput>,
    /// The workspace after it: a commit under the run's ref. `None` when nothing was written.
    pub snapshot: Option<Commit>,
    /// What it used.
    pub usage: StageUsage,
    /// What it read and set of the daemon's variables: from here on the run knows them so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<Seen>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// What a stage hands to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageOutput {
    /// Under which name; `None` keeps it for people only.
    pub name: Option<String>,
    /// What.
    pub value: Value,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum StageEnd {
    /// Well.
    Succeeded,
    /// Badly.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether the run goes on all the same (`continue_on_error`).
        tolerated: bool,
    },
    /// It took longer than it may.
    TimedOut {
        /// Which limit.
        failure: Failure,
        /// Whether the run goes on all the same.
        tolerated: bool,
    },
    /// The run was ended before it could end by itself, or before it began.
    Cancelled,
    /// Its `if` does not hold, or something it needs failed.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl StageEnd {
    /// The word in the API and in `${stages…}`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Why it failed, when it did.
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } | Self::TimedOut { failure, .. } => Some(failure),
            Self::Succeeded | Self::Cancelled | Self::Skipped { .. } => None,
        }
    }

    /// Whether the run is a failure because of it.
    pub const fn breaks_run(&self) -> bool {
        matches!(self, Self::Failed { tolerated: false, .. } | Self::TimedOut { tolerated: false, .. })
    }
}

/// What a stage used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageUsage {
    /// Every call of a model, failed ones too.
    pub calls: Vec<ModelUsage>,
    /// How the models were chosen, one for each question.
    pub rankings: Vec<Ranking>,
    /// Processor time, microseconds.
    pub cpu_micros: u64,
    /// The most memory at once, bytes.
    pub memory_peak: u64,
    /// The digest of the sandbox's policy, when there was a sandbox.
    pub sandbox: Option<String>,
    /// Every host that programs in the sandbox reached or asked for.
    pub hosts: Vec<HostUsage>,
}

/// What passed between a stage's programs and one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUsage {
    /// Its name as the program wrote it, in lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Requests and tunnels, refused ones too.
    pub requests: u64,
    /// Bytes towards it.
    pub sent: u64,
    /// Bytes from it.
    pub received: u64,
    /// Why it was refused, the last time that it was.
    pub refused: Option<String>,
}

impl StageUsage {
    /// What all calls cost together.
    pub fn cost(&self) -> NanoUsd {
        self.calls.iter().map(|call| call.cost).sum()
    }

    /// The tokens of all calls together.
    pub fn tokens(&self) -> Tokens {
        self.calls.iter().fold(Tokens::default(), |sum, call| sum.plus(&call.tokens))
    }

    /// Notes how a model was chosen. One that was chosen as the one before, for the same reasons, is not
    /// noted again; nor are more than a hundred.
    pub fn rank(&mut self, ranking: Ranking) {
        const MOST: usize = 100;
        let again = self.rankings.last().is_some_and(|last| last.is_like(&ranking));
        if !again && self.rankings.len() < MOST {
            self.rankings.push(ranking);
        }
    }

    /// Adds what an attempt at the same stage used besides.
    pub fn add(&mut self, more: Self) {
        self.calls.extend(more.calls);
        for ranking in more.rankings {
            self.rank(ranking);
        }
        self.cpu_micros += more.cpu_micros;
        self.memory_peak = self.memory_peak.max(more.memory_peak);
        self.sandbox = more.sandbox.or(self.sandbox.take());
        for host in more.hosts {
            match self.hosts.iter_mut().find(|known| (&known.host, known.port) == (&host.host, host.port)) {
                Some(known) => known.add(host),
                None => self.hosts.push(host),
            }
        }
    }
}

impl HostUsage {
    fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.sent += more.sent;
        self.received += more.received;
        self.refused = more.refused.or(self.refused.take());
    }
}

/// What one call of a model used, as the ledger has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUsage {
    /// Which call; `None` in journals from before there was a ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<CallId>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Which try at the same question it was, from 1; 0 is not known.
    pub attempt: u32,
    /// The model that the manifest names.
    pub requested: String,
    /// The model that answered.
    pub served: String,
    /// Whose it is.
    pub provider: String,
    /// What it read and wrote.
    pub tokens: Tokens,
    /// What it cost.
    pub cost: NanoUsd,
    /// Whether it is reckoned from the size of the texts; otherwise the provider said so.
    pub estimated: bool,
    /// Of the tokens written to the provider's cache, those that stay there for an hour.
    pub cache_write_1h: u64,
    /// Pictures that were made.
    pub images: u64,
    /// Who says what it costs; `None` when nobody does.
    pub price: Option<PriceSource>,
    /// What the same tokens had cost with the dearest model that could have been asked; `None` when there
    /// was no other, or the price of one is not known.
    pub dearest: Option<NanoUsd>,
    /// Why it failed, as a word: `rate_limited`, `stream_broken`, …
    pub failure: Option<String>,
}

/// Who says what a model costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceSource {
    /// A catalogue, `configuration`, or `free` for what runs on the operator's own machines.
    pub source: String,
    /// Of which day.
    pub date: Option<String>,
}

/// Tokens by kind. Kinds do not overlap, but `reasoning` is part of `output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Read afresh.
    pub input: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Written to the provider's cache.
    pub cache_write: u64,
    /// Written.
    pub output: u64,
    /// Written without being shown.
    pub reasoning: u64,
}

impl Tokens {
    /// Kind by kind.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input + other.input,
            cache_read: self.cache_read + other.cache_read,
            cache_write: self.cache_write + other.cache_write,
            output: self.output + other.output,
            reasoning: self.reasoning + other.reasoning,
        }
    }

    /// Everything that was read or written.
    pub const fn total(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, requests: u64, refused: Option<&str>) -> HostUsage {
        let (host, refused) = (name.to_owned(), refused.map(str::to_owned));
        HostUsage { host, port: 443, requests, sent: 10, received: 20, refused }
    }

    #[test]
    fn a_host_that_is_asked_again_is_counted_together() {
        let mut usage =
            StageUsage { hosts: vec![host("a", 1, None)], memory_peak: 9, ..StageUsage::default() };
        let hosts = vec![host("b", 1, None), host("a", 2, Some("no"))];
        usage.add(StageUsage { hosts, memory_peak: 5, ..StageUsage::default() });
        let both = HostUsage { sent: 20, received: 40, ..host("a", 3, Some("no")) };
        assert_eq!((usage.hosts, usage.memory_peak), (vec![both, host("b", 1, None)], 9));
    }

    /// What was stored before there was a ledger is read as before.
    #[test]
    fn an_old_call_is_read() {
        let call: ModelUsage = serde_json::from_str(
            r#"{"requested":"a","served":"b","provider":"c","tokens":{"input":1},"cost":5,"estimated":true}"#,
        )
        .unwrap();
        assert_eq!(
            (call.id, call.cost, call.tokens.input, call.estimated),
            (None, NanoUsd::from_nanos(5), 1, true)
        );
    }

    /// What was stored before hosts were counted is read as before.
    #[test]
    fn an_old_record_has_no_hosts() {
        let usage: StageUsage =
            serde_json::from_str(r#"{"calls":[],"cpu_micros":1,"memory_peak":2,"sandbox":null}"#).unwrap();
        assert_eq!((usage.cpu_micros, usage.hosts), (1, Vec::new()));
    }
}
