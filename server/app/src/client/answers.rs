//! What the server answers, as far as commands show it. Fields that are not listed here are kept in the
//! JSON that `--json` prints and are otherwise ignored, so that a newer server does not break an older
//! program.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// A part of a list, and where the next one begins.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Part<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

/// "No", with its reason (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) code: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) detail: Option<String>,
}

/// Money.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Money {
    pub(crate) text: String,
    /// What it is in credits, rounded up; an older server does not say.
    #[serde(default)]
    pub(crate) credits: i64,
}

/// A run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) repository: String,
    pub(crate) daemon: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) cause: Cause,
    pub(crate) attempt: u32,
    pub(crate) cost: Money,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
}

/// Why a run exists.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Cause {
    pub(crate) kind: String,
    pub(crate) actor: String,
    pub(crate) replay_of: Option<String>,
}

/// A run, and everything about it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunDetail {
    pub(crate) run: Run,
    pub(crate) stages: Vec<Stage>,
    pub(crate) effects: Vec<Effect>,
}

/// A finished stage.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stage {
    pub(crate) path: String,
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) snapshot: Option<String>,
    pub(crate) cost: Money,
    /// Not there with an older server.
    #[serde(default)]
    pub(crate) hosts: Vec<Host>,
    /// Nor these.
    #[serde(default)]
    pub(crate) rankings: Vec<Ranking>,
    #[serde(default)]
    pub(crate) calls: Vec<Call>,
    pub(crate) started_at: String,
    pub(crate) ended_at: String,
}

/// What passed between a stage's programs and one host.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Host {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) requests: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) refused: Option<String>,
}

/// How a model was chosen.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ranking {
    pub(crate) route: String,
    pub(crate) candidates: Vec<Candidate>,
}

/// A model that could have been asked.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) target: String,
    pub(crate) model: String,
    pub(crate) place: Option<u32>,
    pub(crate) why: String,
    pub(crate) expected_cost: Option<Money>,
    pub(crate) expected_ms: Option<u64>,
}

/// A call of a model.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Call {
    pub(crate) requested: String,
    pub(crate) served: String,
    pub(crate) provider: String,
    pub(crate) input_tokens: u64,
    pub(crate) cache_read_tokens: u64,
    pub(crate) cache_write_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cost: Money,
    pub(crate) estimated: bool,
}

/// Something that a run wants done.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Effect {
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) url: Option<String>,
}

/// A daemon on a branch.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Daemon {
    pub(crate) address: String,
    pub(crate) role: String,
    pub(crate) sync: String,
    pub(crate) health: String,
    pub(crate) last_run: Option<String>,
    pub(crate) revision: Revision,
}

/// A daemon at a commit of a branch.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Revision {
    pub(crate) id: String,
    pub(crate) daemon: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    pub(crate) state: String,
    pub(crate) digest: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) problems: Option<String>,
}

/// A daemon, and what it is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DaemonDetail {
    pub(crate) daemon: Daemon,
    pub(crate) hook_url: Option<String>,
}

/// A repository.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Repository {
    pub(crate) path: String,
    pub(crate) default_branch: String,
    pub(crate) sync: Sync,
}

/// How the server's picture of a repository stands to git's.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sync {
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) checked_at: Option<String>,
}

/// A line of a log.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) number: u64,
    pub(crate) stage: String,
    pub(crate) source: String,
    pub(crate) text: String,
}

/// The end of a stream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct End {
    pub(crate) status: String,
}

/// What changed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Diff {
    pub(crate) patch: String,
    pub(crate) truncated: bool,
}

/// A new token.
#[derive(Debug, Deserialize)]
pub(crate) struct SignedIn {
    #[serde(deserialize_with = "secret")]
    pub(crate) secret: SecretString,
    pub(crate) account: Account,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// Who the caller is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Me {
    pub(crate) account: Account,
    pub(crate) role: String,
}

/// A person or a program that signs in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) role: String,
}

/// A fact about a repository.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) action: Option<String>,
    pub(crate) actor: String,
    pub(crate) actor_role: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) occurred_at: String,
}

/// Whether a daemon answered to an event, and why.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Match {
    pub(crate) daemon: String,
    pub(crate) branch: String,
    pub(crate) run: Option<String>,
    pub(crate) reason: String,
}

/// What a daemon may do more or less from one version to another.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Plan {
    pub(crate) text: String,
}

/// What came of comparing something on a forge with the server's record.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Proof {
    pub(crate) proved: bool,
    pub(crate) kind: String,
    pub(crate) url: String,
    pub(crate) repository: String,
    pub(crate) record: Option<Record>,
    pub(crate) doubts: Vec<Doubt>,
}

/// What the server wanted, and when.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Record {
    pub(crate) effect: String,
    pub(crate) kind: String,
    pub(crate) provenance: Option<Provenance>,
    pub(crate) wanted_at: String,
}

/// The run that wanted it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Provenance {
    pub(crate) run: String,
    pub(crate) daemon: String,
    pub(crate) commit: String,
    pub(crate) digest: String,
}

/// Why something is not proved.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Doubt {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Files that a run keeps.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) files: Vec<ArtifactFile>,
    pub(crate) until: Option<String>,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ArtifactFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
}
