//! Files in, a manifest or diagnostics out. Reads the raw types and decides what their values mean together.

mod calls;
mod files;
mod graph;
mod head;
mod hosts;
mod mcp;
mod names;
mod outcomes;
mod policy;
mod resources;
pub(crate) mod schema;
mod spellbook;
mod stages;
mod state;
mod test;
mod triggers;
mod unsupported;

use std::collections::{BTreeMap, BTreeSet};

use domain::files::{File, Files};
use domain::limits::Limits;
use domain::name::{DaemonId, SecretName};

use crate::codes;
use crate::diagnostic::{Checked, Diagnostic, Problem, Report};
use crate::discover::MANIFESTS;
use crate::model::{Input, Manifest};
use crate::raw;
use crate::read::{Read, Reader};
use crate::render::Sources;
use crate::spellbook::Spellbook;
use crate::suggest::quoted;
use crate::yaml;

pub use self::hosts::NETWORK_SETS;
pub use self::policy::check_policy;
pub use self::spellbook::check_spellbook;
pub use self::stages::CODING_AGENTS;
pub use self::test::check_test;
pub use self::unsupported::unsupported_stages;

/// A daemon's directory at a commit.
#[derive(Debug, Clone, Copy)]
pub struct DaemonSource<'s> {
    /// The daemon's id.
    pub id: &'s str,
    /// The directory, relative to the repository; empty for the root.
    pub directory: &'s str,
    /// Its files, by path relative to it.
    pub files: &'s Files,
}

impl<'s> DaemonSource<'s> {
    /// The path of a file of the directory in the repository.
    pub fn path(&self, file: &str) -> String {
        if self.directory.is_empty() { file.to_owned() } else { format!("{}/{file}", self.directory) }
    }
}

/// The daemon's own files, for rendering.
impl Sources for DaemonSource<'_> {
    fn text(&self, file: &str) -> Option<&str> {
        let inside = match self.directory {
            "" => file,
            directory => file.strip_prefix(directory)?.strip_prefix('/')?,
        };
        std::str::from_utf8(self.files.bytes(inside)?).ok().map(without_mark)
    }
}

/// What a daemon is held against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    /// What the operator allows.
    pub ceiling: &'r Limits,
    /// The models that the server knows, by name; empty when nobody can tell.
    pub models: &'r [&'r str],
    /// The coding agents that the server has, by name; empty when nobody can tell.
    pub agents: &'r [&'r str],
    /// The runtimes that the server has; empty when nobody can tell.
    pub runtimes: &'r [&'r str],
    /// The repository's `spellbook.yaml`, for licence and price.
    pub spellbook: Option<&'r Spellbook>,
    /// The daemons that this one can call by `./id`; `None` when nobody can tell. Most daemons call none: see
    /// [`Manifest::callees`](crate::Manifest::callees) before looking for them.
    pub siblings: Option<&'r Siblings>,
}

/// The daemons of a repository, at the commit at which one of them is checked.
#[derive(Debug, Clone, Default)]
pub struct Siblings {
    /// All of them, as far as is known; used for "did you mean".
    pub ids: BTreeSet<DaemonId>,
    /// Those that are called, and what each asks for; `None` when it is there and cannot run.
    pub called: BTreeMap<DaemonId, Option<Vec<Input>>>,
}

/// Checks a daemon. Every problem is found at once; what is unusual but usable is a warning.
pub fn check_daemon(source: DaemonSource<'_>, rules: &Rules<'_>) -> Checked<Manifest> {
    let mut report = Report::default();
    let value = manifest(&source, rules, &mut report);
    let file = source.path(manifest_name(source.files).unwrap_or(MANIFESTS[0]));
    Checked::new(value, report.finish(&file))
}

fn manifest(source: &DaemonSource<'_>, rules: &Rules<'_>, report: &mut Report) -> Option<Manifest> {
    let Some(name) = manifest_name(source.files) else {
        let problem = Problem::error(&codes::NO_MANIFEST, "the directory has no `daemon.yaml`");
        whole_file(report, &source.path(MANIFESTS[0]), problem);
        return None;
    };
    let path = source.path(name);
    if MANIFESTS.iter().all(|name| source.files.get(name).is_some()) {
        let message = "the directory has both `daemon.yaml` and `daemon.yml`";
        whole_file(report, &path, Problem::error(&codes::TWO_MANIFESTS, message).help("remove one of them"));
    }
    if let Err(error) = DaemonId::parse(source.id) {
        let message = format!("{} is not a daemon id", quoted(source.id));
        whole_file(report, &path, Problem::error(&codes::BAD_DAEMON_ID, message).help(error.rule));
    }
    let text = regular_text(source.files.get(name), &path, report)?;
    let node = tree(text, &path, report)?;
    if node.shape == yaml::Shape::Scalar(serde_json::Value::Null) {
        let problem = Problem::error(&codes::YAML_SYNTAX, "the file says nothing")
            .expected("a map with the key `daemon`");
        whole_file(report, &path, problem);
        return None;
    }
    let mut reader = Reader::new(path, text, report);
    let root = reader.root(&node);
    let file = raw::daemon::File::read(&node, root, &mut reader)?;
    let daemon = file.daemon.get()?;
    let secrets = head::secrets(daemon);
    let mut check = Check {
        source,
        rules,
        reader,
        secrets,
        used_secrets: BTreeSet::new(),
        state: BTreeSet::new(),
        read_state: BTreeSet::new(),
        servers: mcp::Declared::default(),
        reads_diff: false,
    };
    head::daemon(&mut check, daemon)
}

/// The name of the directory's manifest.
fn manifest_name(files: &Files) -> Option<&'static str> {
    MANIFESTS.into_iter().find(|name| files.get(name).is_some())
}

/// The text of a regular UTF-8 file of bearable size.
fn regular_text<'f>(file: Option<&'f File>, path: &str, report: &mut Report) -> Option<&'f str> {
    match file_text(file?) {
        Ok(text) => Some(text),
        Err(problem) => {
            whole_file(report, path, problem);
            None
        }
    }
}

/// The text of a file, or why it has none.
fn file_text(file: &File) -> Result<&str, Problem> {
    let bytes = match file {
        File::Regular(bytes) if bytes.len() <= yaml::MAX_BYTES => bytes,
        File::Regular(_) | File::Large(_) => {
            return Err(Problem::error(&codes::FILE_TOO_LARGE, "the file is larger than 1 MiB"));
        }
        File::Symlink => {
            let problem = Problem::error(&codes::NOT_A_FILE, "this is a symbolic link, not a regular file");
            return Err(problem.help("commit the file itself"));
        }
        File::Submodule => {
            return Err(Problem::error(&codes::NOT_A_FILE, "this is a submodule, not a regular file"));
        }
    };
    text_of(bytes)
}

/// Bytes as text, without a byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map(without_mark).map_err(|error| {
        Problem::error(&codes::NOT_UTF8, format!("byte {} is not UTF-8", error.valid_up_to()))
            .help("save the file as UTF-8")
    })
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The tree of a YAML file.
fn tree(text: &str, path: &str, report: &mut Report) -> Option<yaml::Node> {
    yaml::parse(text)
        .map_err(|error| {
            let problem = Problem::error(error.code, error.message).maybe_help(error.help.map(str::to_owned));
            report.push(problem, |problem| problem.at(path, text, error.span, String::new()));
        })
        .ok()
}

fn whole_file(report: &mut Report, path: &str, problem: Problem) {
    report.push(problem, |problem| problem.at(path, "", 0..0, String::new()));
}

/// A check under way.
struct Check<'c> {
    source: &'c DaemonSource<'c>,
    rules: &'c Rules<'c>,
    reader: Reader<'c>,
    /// The secrets that the daemon declares.
    secrets: BTreeSet<SecretName>,
    /// Those that something uses.
    used_secrets: BTreeSet<SecretName>,
    /// The variables that the daemon declares.
    state: BTreeSet<String>,
    /// Those that the stage which is looked at, or `outcomes`, read.
    read_state: BTreeSet<String>,
    /// The MCP servers that the daemon declares.
    servers: mcp::Declared,
    /// Whether something reads the change of a pull request.
    reads_diff: bool,
}

/// Where a template or condition stands.
#[derive(Debug, Clone, Copy)]
enum Spot<'s> {
    /// In the manifest: its place, and its text as it was read.
    Here(crate::read::Place, &'s str),
    /// It is another file of the directory: its path in the repository, and its text.
    File(&'s str, &'s str),
}

impl Check<'_> {
    /// Reports a problem at an offset of a text.
    fn report_at(&mut self, problem: Problem, spot: Spot<'_>, offset: usize) {
        match spot {
            Spot::Here(place, text) => self.reader.report_within(problem, place, text, offset),
            Spot::File(path, text) => {
                let at = |problem: Problem| -> Diagnostic {
                    problem.at(path, text, offset..offset, String::new())
                };
                self.reader.report_elsewhere(problem, at);
            }
        }
    }
}
