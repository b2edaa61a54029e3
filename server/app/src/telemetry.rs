//! Logs: readable lines on standard error for people, JSON for programs; `SPELLBOOK_LOG` filters them.

use tracing_subscriber::EnvFilter;

use crate::tools;

/// What the lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// Starts logging. Called once, by a program that serves.
pub fn start(format: LogFormat, default: &str) {
    let filter = tools::variable("SPELLBOOK_LOG").unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in a test, changes nothing.
    let _ = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
