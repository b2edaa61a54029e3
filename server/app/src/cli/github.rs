//! The arguments of `spellbook github`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::name::ForgeName;

/// `spellbook github`
#[derive(Debug, Args)]
pub struct GitHubArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: GitHubCommand,
}

/// What to do about GitHub.
#[derive(Debug, Subcommand)]
pub enum GitHubCommand {
    /// Make the GitHub App that a server is, and keep its key
    Setup(GitHubSetupArgs),
}

/// `spellbook github setup`
#[derive(Debug, Args)]
pub struct GitHubSetupArgs {
    /// Where GitHub and people find the server: https://spellbook.example.com
    #[arg(long, value_name = "URL")]
    pub site: String,
    /// The app's name; no other app at GitHub may have it
    #[arg(long, default_value = "spellbook")]
    pub name: String,
    /// The organization that the app is to belong to; without it, the person who confirms
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// What the server calls this GitHub
    #[arg(long, value_name = "NAME", default_value = "github")]
    pub forge: ForgeName,
    /// Where GitHub is
    #[arg(long, value_name = "URL", default_value = "https://github.com")]
    pub url: String,
    /// Where its API is, when that does not follow from --url
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// Where the app's key and the secret of its webhooks are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// The address of the page that leads to GitHub; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}
