//! What each command does, one file a command.

mod agents;
mod artifacts;
mod budgets;
mod cancel;
mod completions;
mod deliveries;
mod diff;
mod doctor;
mod estimate;
mod explain;
mod fmt;
mod git_hook;
mod github;
mod init;
mod list;
mod login;
mod logs;
mod migrate;
mod models;
mod new;
mod plan;
mod replay;
mod run;
mod run_remote;
mod serve;
mod spend;
mod state;
mod status;
mod test;
mod validate;
mod verify;
mod why;
mod work;
mod worktree;

use anyhow::Context;

use crate::cli::{Cli, Command, Place};
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;

/// Runs a command to its end.
///
/// # Errors
/// When it could not do what was asked; the error says how to exit.
pub fn run(cli: Cli, ui: &Ui) -> Result<Exit, CommandError> {
    // Every connection of this process uses this one implementation of cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(dispatch(cli, ui))
}

async fn dispatch(cli: Cli, ui: &Ui) -> Result<Exit, CommandError> {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(&args, ui),
        Command::New(args) => new::run(&args, ui),
        Command::Validate(args) => validate::run(&args, ui),
        Command::Fmt(args) => fmt::run(&args, ui),
        Command::Run(args) => match args.place() {
            Place::Directory(directory) => run::run(&directory, &args, &configuration(global)?, ui).await,
            Place::Server(address) => run_remote::run(&address, &args, global, ui).await,
        },
        Command::Test(args) => test::run(&args, &configuration(global)?, ui).await,
        Command::Serve(args) => serve::run(&args, configuration(global)?, ui).await,
        Command::Work(args) => work::run(&args, &configuration(global)?).await,
        Command::List(args) => list::run(&args, global, ui).await,
        Command::Status(args) => status::run(&args, global, ui).await,
        Command::State(args) => state::run(&args, global, ui).await,
        Command::Plan(args) => plan::run(&args, ui),
        Command::Explain(args) => explain::run(&args, global, ui).await,
        Command::Artifacts(args) => artifacts::run(&args, global, ui).await,
        Command::Why(args) => why::run(&args, global, ui).await,
        Command::Verify(args) => verify::run(&args, global, ui).await,
        Command::Deliveries(args) => deliveries::run(&args, global, ui).await,
        Command::Logs(args) => logs::run(&args, global, ui).await,
        Command::Replay(args) => replay::run(&args, global, ui).await,
        Command::Diff(args) => diff::run(&args, global, ui).await,
        Command::Cancel(args) => cancel::run(&args, global, ui).await,
        Command::Estimate(args) => estimate::run(&args, global, ui).await,
        Command::Budgets(args) => budgets::run(&args, global, ui).await,
        Command::Spend(args) => spend::run(&args, global, ui).await,
        Command::Login(args) => login::run(&args, ui).await,
        Command::Doctor(args) => doctor::run(&args, &configuration(global)?, ui).await,
        Command::Migrate(args) => migrate::run(&args, &configuration(global)?, ui).await,
        Command::GitHub(args) => github::run(&args, ui).await,
        Command::Agents(args) => agents::run(&args, &configuration(global)?, ui).await,
        Command::Models(args) => models::run(&args, &configuration(global)?, ui).await,
        Command::Completions(args) => completions::run(&args),
        Command::GitHook(args) => git_hook::run(&args).await,
    }
}

fn configuration(global: &crate::cli::Global) -> Result<Config, CommandError> {
    Config::read(global.config.as_deref())
        .map_err(|error| CommandError::usage("configuration_invalid", error.to_string()).because(error))
}
