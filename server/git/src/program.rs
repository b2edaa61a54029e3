//! The `git` program, started so that nothing but this crate decides what it does: no configuration
//! of the system or of a user, no inherited environment, hooks only from the server's own directory.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ports::source::SourceError;

use crate::config::Config;
use crate::error::Doing;

/// The tree without entries. Attributes are read from it, so that no `.gitattributes` of a
/// repository decides how a difference is shown or a merge is made (git 2.43 and later read them).
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// The `git` program and what it is told each time.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    git: PathBuf,
    http_backend: PathBuf,
    search_path: OsString,
    settings: Vec<(&'static str, String)>,
}

impl Program {
    /// Looks for the program and its parts.
    pub(crate) fn find(config: &Config, hooks: &Path) -> Result<Self, SourceError> {
        let mut program = Self {
            git: config.git.clone(),
            http_backend: PathBuf::new(),
            search_path: config.search_path.clone(),
            settings: settings(config, hooks),
        };
        program.require_version()?;
        program.http_backend = program.find_http_backend()?;
        Ok(program)
    }

    /// `git` with a clean environment; standard streams are closed until the caller opens them.
    pub(crate) fn git(&self) -> Command {
        self.start(&self.git, &[])
    }

    /// `git http-backend`, with these settings besides the usual ones.
    pub(crate) fn http_backend(&self, more: &[(&'static str, &str)]) -> Command {
        self.start(&self.http_backend, more)
    }

    /// Another program with the same clean environment.
    #[expect(clippy::disallowed_methods, reason = "this is where git is spawned")]
    pub(crate) fn other(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.search_path)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn start(&self, program: &Path, more: &[(&'static str, &str)]) -> Command {
        let mut command = self.other(program);
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ATTR_SOURCE", EMPTY_TREE)
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        let own = self.settings.iter().map(|(key, value)| (*key, value.as_str()));
        let mut count = 0;
        for (key, value) in own.chain(more.iter().copied()) {
            command
                .env(format!("GIT_CONFIG_KEY_{count}"), key)
                .env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    /// Runs git to its end and gives what it wrote; an error holds what it complained about.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<Vec<u8>, SourceError> {
        let doing = format!("git {}", arguments.first().unwrap_or(&""));
        let output = self
            .git()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .doing(&format!("starting {}", self.git.display()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(SourceError::Broken(format!("{doing}: {}", complaint(&output.stderr))))
    }

    fn require_version(&self) -> Result<(), SourceError> {
        let answer = String::from_utf8_lossy(&self.output(&["--version"])?).trim().to_owned();
        let number = answer.rsplit(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let mut parts = number.unwrap_or("").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 38) {
            return Ok(());
        }
        Err(SourceError::Broken(format!(
            "{} is `{answer}`; version 2.38 or later is needed",
            self.git.display()
        )))
    }

    /// Some builds of git come without the backend while the distribution's package has it.
    fn find_http_backend(&self) -> Result<PathBuf, SourceError> {
        let own = String::from_utf8_lossy(&self.output(&["--exec-path"])?).trim().to_owned();
        let places = [own.as_str(), "/usr/lib/git-core", "/usr/libexec/git-core"];
        places
            .iter()
            .map(|place| Path::new(place).join("git-http-backend"))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| {
                SourceError::Broken(format!(
                    "git-http-backend is in none of {}; install all of git",
                    places.join(", ")
                ))
            })
    }
}

/// The last words of a program, short enough for a message.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let start = text.char_indices().rev().nth(400).map_or(0, |(at, _)| at);
    if text.is_empty() { "it failed without a word".to_owned() } else { text[start..].replace('\n', "; ") }
}

fn settings(config: &Config, hooks: &Path) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&'static str, String)> = [
        ("core.fsmonitor", "false"),
        ("core.attributesFile", "/dev/null"),
        ("core.excludesFile", "/dev/null"),
        ("core.logAllRefUpdates", "false"),
        ("core.protectHFS", "true"),
        ("core.protectNTFS", "true"),
        ("core.bigFileThreshold", "32m"),
        // What was accepted survives a power cut.
        ("core.fsync", "committed,reference"),
        ("core.fsyncMethod", "batch"),
        ("credential.helper", ""),
        ("protocol.allow", "never"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("transfer.fsckObjects", "true"),
        ("receive.fsckObjects", "true"),
        // Old and harmless mistakes of old tools; refusing them refuses well-known histories.
        ("receive.fsck.zeroPaddedFilemode", "ignore"),
        ("receive.fsck.badTimezone", "ignore"),
        ("receive.fsck.missingSpaceBeforeDate", "ignore"),
        ("receive.advertisePushOptions", "true"),
        ("receive.autogc", "false"),
        ("receive.denyDeletes", "false"),
        ("receive.denyNonFastForwards", "false"),
        ("receive.hideRefs", "refs/spellbook"),
        ("uploadpack.hideRefs", "refs/spellbook/kept"),
        ("uploadpack.hideRefs", "refs/spellbook/brought"),
        ("uploadpack.allowFilter", "true"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    settings.push(("core.hooksPath", hooks.display().to_string()));
    settings.push(("receive.maxInputSize", config.bounds.push_bytes.to_string()));
    settings
}
