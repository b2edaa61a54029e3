//! What can be said about money.

use clap::{Args, Subcommand, ValueEnum};
use domain::budget::{Period, Scope};
use domain::id::BudgetId;
use domain::money::NanoUsd;
use domain::name::Address;

use super::inputs::Input;

/// `spellbook budgets`
#[derive(Debug, Args)]
pub struct BudgetsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BudgetsCommand,
}

/// What to do with budgets.
#[derive(Debug, Subcommand)]
pub enum BudgetsCommand {
    /// List those in force, with what of each is gone
    List(BudgetsListArgs),
    /// Set one; it takes the place of the one about the same
    Set(BudgetsSetArgs),
    /// End one
    Remove(BudgetsRemoveArgs),
}

/// `spellbook budgets list`
#[derive(Debug, Args)]
pub struct BudgetsListArgs {
    /// List every one that was ever set: who set it, who ended it, and when
    #[arg(long)]
    pub history: bool,
}

/// `spellbook budgets set`
#[derive(Debug, Args)]
pub struct BudgetsSetArgs {
    /// Of what: owner, repository, daemon, branch, author or pull_request
    #[arg(value_name = "SCOPE", value_parser = scope)]
    pub scope: Scope,
    /// Over which time: run, day, month or total
    #[arg(value_name = "PERIOD", value_parser = period)]
    pub period: Period,
    /// How much, in dollars; in a shell, quote the $ or leave it out
    #[arg(value_name = "LIMIT")]
    pub limit: NanoUsd,
    /// Of which one: ada, ada/book, ada/book/review, ada/book@main, ada/book#7; without it, each one for
    /// itself
    #[arg(long = "for", value_name = "SUBJECT")]
    pub subject: Option<String>,
}

/// `spellbook budgets remove`
#[derive(Debug, Args)]
pub struct BudgetsRemoveArgs {
    /// The budget: bud_…, as `list` shows it
    #[arg(value_name = "BUDGET")]
    pub budget: BudgetId,
}

/// `spellbook spend`
#[derive(Debug, Args)]
pub struct SpendArgs {
    /// What to add up by
    #[arg(long, value_enum, default_value_t = SpendBy::Daemon)]
    pub by: SpendBy,
    /// Since when: a date, a moment (RFC 3339), or a span before now as 7d or 12h; without it, since the
    /// beginning of the month
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
}

/// What spending is added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpendBy {
    /// Daemon
    Daemon,
    /// The model that answered
    Model,
    /// Repository
    Repository,
    /// Who made the runs happen
    Author,
}

impl SpendBy {
    /// The word in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Model => "model",
            Self::Repository => "repository",
            Self::Author => "author",
        }
    }
}

/// `spellbook estimate`
#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// The daemon: owner/repository/id[@ref]
    #[arg(value_name = "ADDRESS")]
    pub daemon: Address,
    /// What the run would be given: NAME=VALUE, or NAME=@FILE
    #[arg(value_name = "NAME=VALUE")]
    pub inputs: Vec<Input>,
}

fn scope(word: &str) -> Result<Scope, String> {
    let all = Scope::ALL.map(Scope::as_str).join(", ");
    Scope::parse(word).ok_or_else(|| format!("write one of {all}"))
}

fn period(word: &str) -> Result<Period, String> {
    let all = Period::ALL.map(Period::as_str).join(", ");
    Period::parse(word).ok_or_else(|| format!("write one of {all}"))
}
