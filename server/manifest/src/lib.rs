//! Daemon files in, a [`Manifest`](model::Manifest) or diagnostics with a place and a code out. The same code
//! answers on a push, in `spellbook validate`, on a check run and in the editor.
//!
//! Nothing here reads a disk, asks the time or the network, or keeps state between two checks: files come as
//! bytes ([`domain::files::Files`]), what the server knows comes as [`Rules`]. What a file may say is declared
//! once, in `raw`: from there come the reader and the published JSON Schemas.
//!
//! Start with [`check_daemon`] (and [`check_test`] for its tests), then `raw/daemon.rs` for the shape of the file, [`model`] for what comes out,
//! and [`expression`] for the language between `${` and `}`.

pub mod discover;
pub mod model;
pub mod policy;
pub mod protected;
mod spellbook;
pub mod test;

mod check;
mod raw;
mod read;
mod units;
mod yaml;

pub mod expression;

pub mod codes;
mod diagnostic;
mod render;

pub mod format;
pub mod schema;

use domain::suggest;

pub use check::{
    CODING_AGENTS, DaemonSource, NETWORK_SETS, Rules, Siblings, check_daemon, check_policy, check_spellbook,
    check_test, unsupported_stages,
};
pub use diagnostic::{Checked, Diagnostic, Severity, to_json};
pub use model::Manifest;
pub use policy::{POLICY, Policy};
pub use render::{Sources, Style, render};
pub use spellbook::{Branches, Bundle, Forks, Publisher, Requirement, Spellbook};
