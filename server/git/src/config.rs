//! What the operator decides about repositories.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where repositories are, which programs are used, and how much anyone may ask of them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of all repositories; made when it is not there.
    pub root: PathBuf,
    /// The `git` program, by path or by a name to be found in `search_path`. 2.38 or later.
    pub git: PathBuf,
    /// The `PATH` of git and of its hooks; nothing else of the server's environment reaches them.
    pub search_path: OsString,
    /// Who is the author of the commits that the server makes.
    pub identity: Identity,
    /// How remotes are reached over ssh; `None` refuses such addresses.
    pub ssh: Option<Ssh>,
    /// Certificates (PEM) that are trusted for https besides the system's.
    pub certificates: Option<PathBuf>,
    /// What is too much.
    pub bounds: Bounds,
}

/// A name and an address for commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Shown as the author.
    pub name: String,
    /// Its address.
    pub email: String,
}

/// How remotes are reached over ssh. Nothing of the user's own `~/.ssh` is read.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The `ssh` program.
    pub program: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The file of host keys; a host that is not in it is refused.
    pub known_hosts: PathBuf,
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many reads and writes go on at once.
    pub operations: usize,
    /// How many fetches, and pushes to remotes, go on at once.
    pub fetches: usize,
    /// How many requests are served over HTTP at once.
    pub requests: usize,
    /// How long one such request may take.
    pub request_time: Duration,
    /// The largest push, bytes as they are sent.
    pub push_bytes: u64,
    /// The largest fetch, bytes as they are received.
    pub fetch_bytes: u64,
    /// The most objects in one fetch.
    pub fetch_objects: u32,
    /// The largest object that is read into memory, bytes.
    pub object_bytes: u64,
    /// The most branches and tags of a remote.
    pub refs: usize,
}

impl Config {
    /// The defaults, for repositories below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            git: "git".into(),
            search_path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            identity: Identity { name: "Spellbook".into(), email: "spellbook@localhost".into() },
            ssh: None,
            certificates: None,
            bounds: Bounds::default(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            operations: 8,
            fetches: 4,
            requests: 16,
            request_time: Duration::from_secs(30 * 60),
            push_bytes: 512 << 20,
            fetch_bytes: 2 << 30,
            fetch_objects: 5_000_000,
            object_bytes: 128 << 20,
            refs: 50_000,
        }
    }
}
