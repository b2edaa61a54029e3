//! What this server holds every file of a spellbook against. A push, a merge and a question through the API
//! all come by here, so that they cannot disagree.

use domain::files::File;
use domain::limits::Limits;
use manifest::{Checked, DaemonSource, Manifest, Rules, Siblings, Spellbook};

use crate::world::World;

/// The version of the server: all crates have that of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The operator's ceiling, and what the server has.
#[derive(Debug)]
pub(crate) struct Standard {
    ceiling: Limits,
    models: Vec<String>,
    agents: Vec<String>,
    runtimes: Vec<String>,
}

impl Standard {
    /// The standard as it is now.
    pub(crate) fn of(world: &World) -> Self {
        Self {
            ceiling: world.settings.ceiling.clone(),
            models: world.models.names(),
            agents: world.agents.names(),
            runtimes: world.sandbox.runtimes(),
        }
    }

    /// Checks a repository's own file; without one everything is as usual.
    pub(crate) fn spellbook(path: &str, file: Option<&File>) -> Checked<Spellbook> {
        match file {
            Some(file) => manifest::check_spellbook(path, file, VERSION),
            None => Checked { value: Some(Spellbook::default()), diagnostics: Vec::new() },
        }
    }

    /// Checks a daemon.
    pub(crate) fn daemon(
        &self,
        source: DaemonSource<'_>,
        spellbook: Option<&Spellbook>,
        siblings: Option<&Siblings>,
    ) -> Checked<Manifest> {
        let [models, agents, runtimes] = [&self.models, &self.agents, &self.runtimes]
            .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        let rules = Rules {
            ceiling: &self.ceiling,
            models: &models,
            agents: &agents,
            runtimes: &runtimes,
            spellbook,
            siblings,
        };
        manifest::check_daemon(source, &rules)
    }
}
