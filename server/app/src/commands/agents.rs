//! `spellbook agents`: which coding agents there are, and having them there before a run needs them.

use std::path::Path;

use agents::{Installed, State};
use ports::agents::{AgentError, Agents};
use serde_json::json;

use crate::cli::{AgentsArgs, AgentsCommand, AgentsInstallArgs};
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};
use crate::tools::{self, Tools};
use crate::wiring;

/// Lists or installs. Exits with 69 when one cannot be had.
pub(crate) async fn run(args: &AgentsArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    match &args.command {
        AgentsCommand::List(args) => list(&open(args.data.data.as_deref(), config)?, ui),
        AgentsCommand::Install(args) => install(args, config, ui).await,
    }
}

fn open(data: Option<&Path>, config: &Config) -> Result<Installed, CommandError> {
    let data = wiring::data_directory(data, config);
    let tools = Tools::from_environment(tools::variable);
    wiring::agents(config, &data, &tools)
        .map_err(|error| CommandError::usage("agents_unusable", format!("{error:#}")).because(error))
}

fn list(installed: &Installed, ui: &Ui) -> Result<Exit, CommandError> {
    let states = installed.states();
    if ui.is_json() {
        let rows: Vec<_> = states.iter().map(row).collect();
        ui.document(&rows)?;
        return Ok(Exit::Ok);
    }
    let rows = states.iter().map(|state| {
        let (tone, word) = match (&state.off, &state.directory) {
            (Some(_), _) => (Tone::Dim, "off"),
            (None, Some(_)) => (Tone::Good, "installed"),
            (None, None) => (Tone::Plain, "on demand"),
        };
        [
            (Tone::Name, state.name.clone()),
            (tone, word.to_owned()),
            (Tone::Plain, state.version.clone().unwrap_or_default()),
            (Tone::Plain, state.title.clone()),
            (Tone::Dim, state.off.clone().unwrap_or_default()),
        ]
    });
    ui.table(["AGENT", "STATE", "VERSION", "", ""], rows)?;
    Ok(Exit::Ok)
}

fn row(state: &State) -> serde_json::Value {
    json!({
        "name": state.name,
        "title": state.title,
        "version": state.version,
        "directory": state.directory,
        "off": state.off,
    })
}

async fn install(args: &AgentsInstallArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    let installed = open(args.data.data.as_deref(), config)?;
    for name in &args.names {
        let progress = ui.spinner(format!("installing {name}"));
        let prepared = installed.prepare(name).await;
        drop(progress);
        let program = prepared.map_err(|error| refused(&error))?;
        if !ui.is_json() {
            ui.line(format_args!("{} {} is there", ui.paint(Tone::Name, name), program.version()))?;
        }
    }
    if ui.is_json() {
        let states = installed.states();
        let rows: Vec<_> = states.iter().filter(|state| args.names.contains(&state.name)).map(row).collect();
        ui.document(&rows)?;
    }
    Ok(Exit::Ok)
}

fn refused(error: &AgentError) -> CommandError {
    let exit = match error {
        AgentError::Unknown { .. } => Exit::Usage,
        AgentError::Off { .. } | AgentError::NotInstalled { .. } | AgentError::InstallFailed { .. } => {
            Exit::Unavailable
        }
    };
    CommandError::new(exit, error.code(), error.to_string())
}
