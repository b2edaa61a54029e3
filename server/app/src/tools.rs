//! Programs and files that the server uses and that are not part of it: where they are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where things are looked for.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where `./x` puts what it installs.
    pub directory: PathBuf,
    path: Vec<PathBuf>,
    nsjail: Option<PathBuf>,
    model_python: Option<PathBuf>,
    model_weights: Option<PathBuf>,
    agents: Option<PathBuf>,
}

impl Tools {
    /// What the environment says: `SPELLBOOK_TOOLS`, `SPELLBOOK_NSJAIL`, `SPELLBOOK_MODEL_PYTHON`,
    /// `SPELLBOOK_MODEL_GGUF`, `SPELLBOOK_AGENTS`, `PATH`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let file = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory =
            file("SPELLBOOK_TOOLS").unwrap_or_else(|| data_home(&variable).join("spellbook/tools"));
        Self {
            directory,
            path: variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            nsjail: file("SPELLBOOK_NSJAIL"),
            model_python: file("SPELLBOOK_MODEL_PYTHON"),
            model_weights: file("SPELLBOOK_MODEL_GGUF"),
            agents: file("SPELLBOOK_AGENTS"),
        }
    }

    /// The nsjail program: the one that is named, one on the `PATH`, or the one that `./x` installed.
    /// It may not be there; the sandbox says so when it is used.
    pub fn nsjail(&self) -> PathBuf {
        let installed = || self.directory.join("bin/nsjail");
        self.nsjail.clone().or_else(|| self.find("nsjail")).unwrap_or_else(installed)
    }

    /// The Python with the local model's server, when the environment names one.
    pub fn model_python(&self) -> Option<&Path> {
        self.model_python.as_deref()
    }

    /// The local model's weights, when the environment names them.
    pub fn model_weights(&self) -> Option<&Path> {
        self.model_weights.as_deref()
    }

    /// Where coding agents are installed, when the environment says it.
    pub fn agents(&self) -> Option<&Path> {
        self.agents.as_deref()
    }

    /// A program on the `PATH`.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        self.path.iter().map(|directory| directory.join(program)).find(|file| file.is_file())
    }
}

/// Where data of this person's programs is kept (XDG Base Directory Specification).
pub fn data_home(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
}

/// Where the server keeps its data when nobody says. Jails are other users, who must be able to pass
/// through every directory above their workspace; nobody passes through root's home.
pub fn state_home(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    match variable("XDG_DATA_HOME").filter(|home| !home.is_empty()) {
        None if is_root => PathBuf::from("/var/lib"),
        _ => data_home(variable),
    }
}

/// Reads a variable of the environment: the one place that does.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
