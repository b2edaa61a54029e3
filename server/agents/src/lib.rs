//! Coding agents as data: how each is installed, run and understood.
//!
//! `agents.toml` has an entry for each; an operator adds or changes entries in the server's
//! configuration. Programs are installed by the machine's own `npm` and `pip`, checked against what
//! the entry says, into a directory that jails see read-only. No code here knows an agent by its name.
//!
//! It must not run an agent, nor anything that a package brings: that is done in a jail, by the engine.
//!
//! Start with `agents.toml`, then [`catalogue`] for what an entry may say.

pub mod catalogue;
pub use catalogue::{Catalogue, CatalogueError};

mod installed;
pub use installed::{Config, Installed, State};

mod install;
mod source;

mod invoke;
mod listen;
