//! What can be said about models.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use gateway::Capability;

use super::DataArgs;

/// `spellbook models`
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models that are known here, with what they cost and who says so
    List(ModelsListArgs),
    /// Say what a name means here, and why it could not be asked now
    Explain(ModelsExplainArgs),
    /// Lay a newer catalogue over the one that ships, and say what changes
    Update(ModelsUpdateArgs),
}

/// `spellbook models list`
#[derive(Debug, Args)]
pub struct ModelsListArgs {
    /// Only models that have this in their name, their provider's, or one of their aliases
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Only models of this provider
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Only models that are known for all of these
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(Capability::ALL.map(Capability::as_str)))]
    pub capability: Vec<String>,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook models explain`
#[derive(Debug, Args)]
pub struct ModelsExplainArgs {
    /// The name, as a daemon would write it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook models update`
#[derive(Debug, Args)]
pub struct ModelsUpdateArgs {
    /// The catalogue; without it, the one that `catalogue` under `[models]` of the configuration names
    #[arg(long, value_name = "FILE|URL")]
    pub from: Option<String>,
    /// Change nothing; say what would change, and exit with 1 if there is something
    #[arg(long)]
    pub check: bool,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}
