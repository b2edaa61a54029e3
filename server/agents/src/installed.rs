//! The agents of a server: which there are, and having them there when they are needed.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ports::agents::{AgentError, Agents, Program};
use tokio::sync::Mutex;

use crate::catalogue::{Agent, Catalogue, Entry, Package, Registry};
use crate::install::{self, Wanted};
use crate::invoke::Ready;
use crate::source::Installers;

/// How agents are had on this machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where they are installed; made when it is missing. Jails see it read-only, so that every directory
    /// above it must be searchable by their users.
    pub directory: PathBuf,
    /// The npm program.
    pub npm: PathBuf,
    /// A Python that has pip.
    pub python: PathBuf,
    /// The Python that jails have.
    pub jail_python: PathBuf,
}

/// Coding agents, installed when they are needed.
#[derive(Debug)]
pub struct Installed {
    directory: PathBuf,
    catalogue: Catalogue,
    installers: Installers,
    /// One installation of an agent at a time.
    turns: BTreeMap<String, Mutex<()>>,
}

/// How it stands with an agent, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The version that is, or would be, installed; `None` for one that is off.
    pub version: Option<String>,
    /// Where it is, when it is installed.
    pub directory: Option<PathBuf>,
    /// Why it is off.
    pub off: Option<String>,
}

impl Installed {
    /// Makes the directory, so that jails can be made before anything is in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(config: Config, catalogue: Catalogue) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.directory)?;
        let turns = catalogue.agents.keys().map(|name| (name.clone(), Mutex::default())).collect();
        let installers =
            Installers { npm: config.npm, python: config.python, jail_python: config.jail_python };
        Ok(Self { directory: config.directory, catalogue, installers, turns })
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How it stands with each agent.
    pub fn states(&self) -> Vec<State> {
        let states = self.catalogue.agents.iter().map(|(name, entry)| {
            let path = |agent: &Agent| Some(self.directory.join(agent.directory(name, agent.package()?)));
            let directory = entry.agent.as_ref().and_then(path).filter(|path| path.is_dir());
            State {
                name: name.clone(),
                title: entry.title.clone(),
                version: entry.agent.as_ref().map(|agent| agent.version.clone()),
                directory,
                off: entry.off.clone(),
            }
        });
        states.collect()
    }

    fn entry(&self, name: &str) -> Result<(&Agent, &Package), AgentError> {
        let Some(entry) = self.catalogue.agents.get(name) else {
            return Err(AgentError::Unknown { name: name.to_owned(), known: self.names() });
        };
        let Entry { agent: Some(agent), off: None, .. } = entry else {
            let why = entry.off.clone().unwrap_or_default();
            return Err(AgentError::Off { name: name.to_owned(), why });
        };
        let package = agent.package().ok_or_else(|| AgentError::NotInstalled {
            name: name.to_owned(),
            why: format!(
                "it has no package for this machine's processor; name one under [agents.{name}.packages.{}]",
                std::env::consts::ARCH
            ),
        })?;
        Ok((agent, package))
    }

    /// One that the operator brings.
    fn by_hand(&self, name: &str, agent: &Agent, package: &Package) -> Result<Ready, AgentError> {
        let directory = format!("{name}-{}", agent.version);
        let program = self.directory.join(&directory).join(&package.program);
        if program.is_file() {
            return Ok(Ready::new(name, agent, &directory, package.program.as_ref()));
        }
        let why = format!(
            "it is in no package registry that is asked here; put its program, for version {}, at {}, readable \
             by everybody",
            agent.version,
            program.display()
        );
        Err(AgentError::NotInstalled { name: name.to_owned(), why })
    }
}

#[async_trait]
impl Agents for Installed {
    fn names(&self) -> Vec<String> {
        self.catalogue.names()
    }

    async fn prepare(&self, name: &str) -> Result<Arc<dyn Program>, AgentError> {
        let (agent, package) = self.entry(name)?;
        if agent.registry == Registry::Hand {
            return Ok(Arc::new(self.by_hand(name, agent, package)?));
        }
        let directory = agent.directory(name, package);
        let wanted = Wanted { name, agent, package, agents: &self.directory, directory: &directory };
        let failed = |why: String| AgentError::InstallFailed { name: name.to_owned(), why };
        let path = wanted.path();
        if !path.is_dir() {
            let turn = self.turns.get(name).expect("because there is one for each agent");
            let _turn = turn.lock().await;
            if !path.is_dir() {
                tracing::info!(agent.name = name, agent.version = agent.version, "installing {name}");
                install::install(wanted, &self.installers).await.map_err(failed)?;
            }
        }
        let program = install::program(&path)
            .map_err(|error| failed(format!("{} is not whole ({error}); remove it", path.display())))?;
        Ok(Arc::new(Ready::new(name, agent, &directory, &program)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use ports::agents::Job;

    use super::*;

    /// A server's agents, with an npm that is a script of ours.
    struct House {
        home: tempfile::TempDir,
        installed: Installed,
    }

    /// Packs and installs a file `it` as npm would, and notes how often.
    const NPM: &str = r#"
for last; do :; done
echo "$1" >> "$(dirname "$0")/calls"
case $1 in
    pack) while [ "$1" != --pack-destination ]; do shift; done
          printf 'packed' > "$2/it-1.tgz" ;;
    install) while [ "$1" != --prefix ]; do shift; done
          [ "$(cat "$last")" = packed ] || exit 1
          mkdir -p "$2/node_modules/it/bin"; echo run > "$2/node_modules/it/bin/it" ;;
esac
"#;
    const PACKED: &str = "sha256:88cb8a087b6e8cebfc9ae5602f5a2159a6bcf923e7f2c56809bcda6cad1727a7";

    impl House {
        fn new(npm: &str, integrity: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            let program = home.path().join("npm");
            fs::write(&program, format!("#!/bin/sh\n{npm}")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let own = format!(
                r#"
                [it]
                title = "It"
                version = "1"
                registry = "npm"
                dialect = "openai-chat"
                model = "m"
                command = ["{{program}}", "{{directory}}/settings"]
                files.settings = "x"
                output.format = "text"
                packages.any = {{ name = "it", integrity = "{integrity}", program = "bin/it" }}
                "#
            );
            let config = Config {
                directory: home.path().join("agents"),
                npm: program,
                python: "python3".into(),
                jail_python: "python3".into(),
            };
            let catalogue = Catalogue::read(&own.parse().unwrap()).unwrap();
            Self { installed: Installed::open(config, catalogue).unwrap(), home }
        }

        async fn refused(&self, name: &str) -> String {
            let error = self.installed.prepare(name).await.unwrap_err();
            format!("{}: {error}", error.code())
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.home.path().join("calls")).unwrap_or_default().replace('\n', " ")
        }

        /// What is in the directory, without locks.
        fn found(&self) -> Vec<String> {
            let entries = fs::read_dir(self.home.path().join("agents")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| !name.starts_with(".lock-")).collect()
        }
    }

    const JOB: Job<'_> =
        Job { prompt: "p", model: "m", proxy: "http://h", token: "t", home: "/home/agent", turns: 3 };

    #[tokio::test]
    async fn two_that_ask_at_once_install_once() {
        let house = House::new(NPM, PACKED);
        let (one, two) = tokio::join!(house.installed.prepare("it"), house.installed.prepare("it"));
        assert_eq!(one.unwrap().version(), "1");
        let command = two.unwrap().invoke(&JOB).command;
        let [directory] = &house.found()[..] else { panic!("{:?}", house.found()) };
        let inside = format!("/opt/agents/{directory}");
        assert_eq!(command, [format!("{inside}/node_modules/it/bin/it"), format!("{inside}/settings")]);
        assert_eq!(house.calls(), "pack install ");
        house.installed.prepare("it").await.unwrap();
        assert_eq!(house.calls(), "pack install ");
        let state = house.installed.states().into_iter().find(|state| state.name == "it").unwrap();
        assert_eq!(state.directory.as_deref(), Some(&*house.home.path().join("agents").join(directory)));
    }

    /// Two servers on one directory.
    #[tokio::test]
    async fn another_process_that_asks_waits_too() {
        let (house, other) = (House::new(NPM, PACKED), House::new(NPM, PACKED));
        let Installed { catalogue, installers, turns, .. } = other.installed;
        let second = Installed { directory: house.home.path().join("agents"), catalogue, installers, turns };
        let (one, two) = tokio::join!(house.installed.prepare("it"), second.prepare("it"));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(format!("{}{}", house.calls(), other_calls(other.home.path())), "pack install ");
    }

    fn other_calls(home: &Path) -> String {
        fs::read_to_string(home.join("calls")).unwrap_or_default().replace('\n', " ")
    }

    #[tokio::test]
    async fn what_is_another_file_is_not_installed() {
        let house = House::new(NPM, &PACKED.replace('f', "e"));
        let error = house.refused("it").await;
        assert!(
            error.starts_with("agent_install_failed: ") && error.contains("its hash is another"),
            "{error}"
        );
        assert_eq!((house.calls().as_str(), house.found()), ("pack ", Vec::new()));
    }

    #[tokio::test]
    async fn what_npm_says_last_is_told_and_nothing_is_left() {
        let house = House::new("echo 'npm error code E404' >&2; exit 1", PACKED);
        let error = house.refused("it").await;
        assert!(error.ends_with("npm ended with exit status: 1: npm error code E404"), "{error}");
        assert_eq!(house.found(), Vec::<String>::new());
        fs::remove_file(house.home.path().join("npm")).unwrap();
        let error = house.refused("it").await;
        assert!(error.ends_with("is not there; install npm on this machine"), "{error}");
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_removed() {
        let house = House::new(NPM, PACKED);
        let name = house.installed.catalogue.agents["it"].agent.as_ref().unwrap();
        let name = name.directory("it", &name.packages["any"]);
        fs::create_dir_all(house.home.path().join(format!("agents/.new-{name}-killed/root"))).unwrap();
        house.installed.prepare("it").await.unwrap();
        assert_eq!(house.found(), [name]);
    }

    #[tokio::test]
    async fn what_nobody_installs_is_said() {
        let house = House::new(NPM, PACKED);
        let unknown = house.refused("nobody").await;
        assert!(
            unknown.starts_with("agent_unknown: there is no coding agent `nobody`; there are aider, "),
            "{unknown}"
        );
        let off = house.refused("cursor").await;
        assert!(
            off.starts_with("agent_off: ") && off.contains("can be neither metered nor bounded"),
            "{off}"
        );
        let by_hand = house.refused("goose").await;
        assert!(by_hand.starts_with("agent_not_installed: ") && by_hand.contains("/goose-"), "{by_hand}");

        let path = house.home.path().join("agents/goose-1.0");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("goose"), "x").unwrap();
        let goose = house.installed.prepare("goose").await.unwrap();
        assert_eq!(goose.invoke(&JOB).command[0], "/opt/agents/goose-1.0/goose");
    }
}
