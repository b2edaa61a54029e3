//! What is known of coding agents: the built-in entries, and the operator's laid over them.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::invoke::Text;
use crate::listen::Output;

/// The entries that are built in.
const BUILT_IN: &str = include_str!("../agents.toml");

/// The coding agents of a server.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub(crate) agents: BTreeMap<String, Entry>,
}

/// An entry that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration of the coding agent `{name}` makes no sense: {why}")]
pub struct CatalogueError {
    /// Which.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// What is known of one agent.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What people call it.
    pub title: String,
    /// Why it is not to be used; with this, nothing else is needed.
    pub off: Option<String>,
    /// The rest; `None` only for one that is off.
    pub agent: Option<Agent>,
}

/// How an agent is installed, run and understood.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The version that is installed.
    pub version: String,
    /// What installs it.
    pub registry: Registry,
    /// The packages, by processor (`x86_64`, `aarch64`) or `any`.
    pub packages: BTreeMap<String, Package>,
    /// The language in which it asks models.
    pub dialect: Dialect,
    /// The model that it asks when nobody says another.
    pub model: String,
    /// Calls of models that it makes besides one for each turn.
    #[serde(default = "spare_calls")]
    pub spare_calls: u32,
    /// The program and its arguments.
    pub command: Vec<Text>,
    /// What it reads on its standard input.
    #[serde(default)]
    pub stdin: Text,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// Files of its own directory, by path: the settings that it reads.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// How its output is read.
    pub output: Output,
}

const fn spare_calls() -> u32 {
    2
}

/// What installs an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registry {
    /// npm, from whichever registry this machine's npm is configured for.
    Npm,
    /// pip, likewise.
    Pypi,
    /// The operator, by hand.
    Hand,
}

/// The language in which an agent asks models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic's messages.
    AnthropicMessages,
    /// OpenAI's responses.
    OpenaiResponses,
    /// OpenAI's chat completions.
    OpenaiChat,
    /// Google's `generateContent`.
    Gemini,
}

/// One package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the registry.
    #[serde(default)]
    pub name: String,
    /// Its version there, when that is not the agent's.
    #[serde(default)]
    pub version: Option<String>,
    /// What it is checked against: `sha512-…` in base64 as npm writes it, or `sha256:…` as pip does.
    #[serde(default)]
    pub integrity: Option<String>,
    /// The program, relative to the package (npm) or to the agent's directory.
    pub program: String,
}

impl Catalogue {
    /// The built-in entries with the operator's laid over them, field by field.
    ///
    /// # Errors
    /// When an entry makes no sense; the first one is named.
    pub fn read(operator: &toml::Table) -> Result<Self, CatalogueError> {
        let mut table: toml::Table = BUILT_IN.parse().expect("because a test reads it");
        for (name, over) in operator {
            let mut entry = table.remove(name).unwrap_or_else(|| {
                let title = toml::Value::from(name.as_str());
                toml::Value::Table(toml::Table::from_iter([("title".to_owned(), title)]))
            });
            lay_over(&mut entry, over);
            table.insert(name.clone(), entry);
        }
        let agents = table.into_iter().map(|(name, entry)| {
            let wrong = |why: String| CatalogueError { name: name.clone(), why };
            if !is_name(&name) {
                return Err(wrong("a name has lower-case letters, digits and single hyphens".to_owned()));
            }
            let entry = parse(entry).map_err(wrong)?;
            Ok((name, entry))
        });
        Ok(Self { agents: agents.collect::<Result<_, _>>()? })
    }

    /// The names of those that may be used.
    pub fn names(&self) -> Vec<String> {
        let on = self.agents.iter().filter(|(_, entry)| entry.off.is_none());
        on.map(|(name, _)| name.clone()).collect()
    }
}

impl Agent {
    /// The package for this machine's processor.
    pub(crate) fn package(&self) -> Option<&Package> {
        self.packages.get(std::env::consts::ARCH).or_else(|| self.packages.get("any"))
    }

    /// The directory of its installation, named by all that is in it.
    pub(crate) fn directory(&self, name: &str, package: &Package) -> String {
        let mut digest = Sha256::new();
        let version = package.version.as_deref().unwrap_or(&self.version);
        let parts = [&package.name, version, package.integrity.as_deref().unwrap_or("")].into_iter();
        let files = self.files.iter().flat_map(|(path, text)| [path.as_str(), text.as_str()]);
        for part in parts.chain(files) {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        format!("{name}-{}-{}", self.version, &hex::encode(digest.finalize())[..8])
    }
}

/// Tables are laid over one another entry by entry, everything else is replaced.
fn lay_over(entry: &mut toml::Value, over: &toml::Value) {
    match (entry, over) {
        (toml::Value::Table(entry), toml::Value::Table(over)) => {
            for (key, value) in over {
                match entry.get_mut(key) {
                    Some(known) => lay_over(known, value),
                    None => {
                        entry.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (entry, over) => *entry = over.clone(),
    }
}

fn parse(mut value: toml::Value) -> Result<Entry, String> {
    let table = value.as_table_mut().ok_or("it is no table")?;
    // What is said of one that is off does not matter, and `off = false` turns one on.
    let off = match table.remove("off") {
        None | Some(toml::Value::Boolean(false)) => None,
        Some(toml::Value::Boolean(true)) => Some("the operator turned it off".to_owned()),
        Some(toml::Value::String(why)) => Some(why),
        Some(other) => return Err(format!("`off` is a reason, or false, and not {other}")),
    };
    let Some(toml::Value::String(title)) = table.remove("title") else {
        return Err("`title` is missing".to_owned());
    };
    if off.is_some() {
        return Ok(Entry { title, off, agent: None });
    }
    let agent: Agent = value.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    check(&agent)?;
    Ok(Entry { title, off, agent: Some(agent) })
}

fn check(agent: &Agent) -> Result<(), String> {
    let refuse = |condition: bool, why: &str| if condition { Err(why.to_owned()) } else { Ok(()) };
    refuse(!is_version(&agent.version), "`version` has letters, digits, `.`, `-`, `+` and `_`")?;
    refuse(agent.command.is_empty(), "`command` is empty")?;
    refuse(agent.packages.is_empty(), "`packages` is empty")?;
    refuse(agent.model.is_empty(), "`model` is empty")?;
    for (processor, package) in &agent.packages {
        let at = |why: String| format!("`packages.{processor}`: {why}");
        let named = agent.registry != Registry::Hand;
        if named && !is_package(&package.name) {
            return Err(at(format!("`{}` is no name of a package", package.name.escape_debug())));
        }
        if package.version.as_deref().is_some_and(|version| !is_version(version)) {
            return Err(at("its `version` has letters, digits, `.`, `-`, `+` and `_`".to_owned()));
        }
        match &package.integrity {
            Some(text) => drop(text.parse::<crate::source::Integrity>().map_err(at)?),
            None if named => return Err(at("`integrity` is missing".to_owned())),
            None => {}
        }
        if !stays_inside(&package.program) {
            return Err(at(format!("`{}` is no path inside the package", package.program.escape_debug())));
        }
    }
    if let Some(path) = agent.files.keys().find(|path| !stays_inside(path)) {
        return Err(format!("the file `{}` is no path inside the agent's directory", path.escape_debug()));
    }
    agent.output.check()
}

/// The names of agents are names of directories.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 40 && name.bytes().all(plain) && name.split('-').all(|part| !part.is_empty())
}

fn is_version(version: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte);
    (1..=60).contains(&version.len()) && version.bytes().all(plain) && !version.starts_with(['.', '-'])
}

/// A name that npm and pip take for nothing else: no option, no path, no address.
fn is_package(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let part =
        |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric()) && part.bytes().all(plain);
    match name.strip_prefix('@').map(|scoped| scoped.split_once('/')) {
        Some(Some((scope, name))) => part(scope) && part(name),
        Some(None) => false,
        None => part(name),
    }
}

fn stays_inside(path: &str) -> bool {
    let path = Path::new(path);
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(operator: &str) -> Result<Catalogue, String> {
        Catalogue::read(&operator.parse().unwrap()).map_err(|error| error.to_string())
    }

    fn refused(operator: &str, expect: &str) {
        let error = read(operator).expect_err(operator);
        assert!(error.contains(expect), "{operator}: {error}");
    }

    #[test]
    fn the_built_in_entries_make_sense() {
        let catalogue = read("").unwrap();
        let names = ["aider", "claude-code", "codex", "gemini-cli", "goose", "opencode"];
        assert_eq!(catalogue.names(), names);
        let cursor = &catalogue.agents["cursor"];
        assert!(cursor.off.as_ref().is_some_and(|why| why.contains("metered")), "{cursor:?}");
    }

    #[test]
    fn an_operator_changes_a_field_and_adds_an_agent() {
        let own = r#"
            [codex]
            model = "house"
            packages.x86_64.version = "9.9.9-linux-x64"
            [mine]
            title = "Mine"
            version = "1"
            registry = "hand"
            dialect = "openai-chat"
            model = "house"
            command = ["{program}", "{prompt}"]
            packages.any.program = "mine"
            output = { format = "text" }
        "#;
        let catalogue = read(own).unwrap();
        let built_in = read("").unwrap();
        let agent = |catalogue: &Catalogue, name: &str| catalogue.agents[name].agent.clone().unwrap();
        let (old, new) = (agent(&built_in, "codex"), agent(&catalogue, "codex"));
        assert_eq!((new.model.as_str(), new.version), ("house", old.version));
        assert_eq!(new.packages["x86_64"].version.as_deref(), Some("9.9.9-linux-x64"));
        assert_eq!(new.packages["x86_64"].name, old.packages["x86_64"].name);
        assert!(catalogue.names().contains(&"mine".to_owned()));
    }

    #[test]
    fn one_is_turned_off() {
        let catalogue = read("codex.off = 'it is not for us'").unwrap();
        assert!(!catalogue.names().contains(&"codex".to_owned()));
        assert_eq!(catalogue.agents["codex"].off.as_deref(), Some("it is not for us"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        refused("codex.modle = 'x'", "`codex` makes no sense: unknown field `modle`");
        refused("mine.title = 'Mine'", "`mine` makes no sense: missing field `version`");
        refused("cursor.off = false", "missing field `version`");
        refused("codex.off = 3", "`off` is a reason");
        refused("\"../x\".title = 'x'", "lower-case letters");
        refused("codex.version = '../1'", "`version` has");
        refused("codex.registry = 'cargo'", "unknown variant `cargo`");
        refused("codex.command = []", "`command` is empty");
        refused("codex.command = ['{program}', '{prmpt}']", "`{prmpt}`");
        refused("codex.packages.x86_64.name = '--global'", "no name of a package");
        refused("codex.packages.x86_64.name = 'git+ssh://h/x'", "no name of a package");
        refused("codex.packages.x86_64.integrity = 'md5-x'", "integrity");
        refused("codex.packages.x86_64.program = '../../bin/sh'", "no path inside");
        refused("codex.files.'/etc/passwd' = 'x'", "no path inside");
        refused("codex.output.format = 'xml'", "unknown variant `xml`");
    }

    #[test]
    fn a_directory_is_another_when_what_is_in_it_is() {
        let directory = |own: &str| {
            let agent = read(own).unwrap().agents["codex"].agent.clone().unwrap();
            agent.directory("codex", &agent.packages["x86_64"])
        };
        let own = directory("");
        assert!(own.starts_with("codex-"), "{own}");
        assert_eq!(own, directory("codex.model = 'house'"));
        assert_ne!(own, directory("codex.files.'a.json' = '{}'"));
        assert_ne!(own, directory("codex.packages.x86_64.version = '9'"));
    }
}
