//! The arguments of `spellbook deliveries`.

use clap::Args;

/// `spellbook deliveries`
#[derive(Debug, Args)]
pub struct DeliveriesArgs {
    /// Who sent them: forge/NAME, daemon/ID, or remote; without it, everybody
    #[arg(value_name = "SENDER")]
    pub source: Option<String>,
    /// How many are shown, the newest first
    #[arg(short, long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub last: u16,
}
