//! Nouns and rules of Spellbook: what a repository, a daemon, a run, an effect *is*, and every
//! decision about them that needs no clock, no disk and no network.
//!
//! Nothing here reads a file, asks the time or waits; those are asked for through the `ports` crate.
//! Types derive `serde` only where they are a stored or a published format.
//!
//! Start with [`run`] for the life of a run and with [`trigger`] for why one exists.

pub mod files;
pub mod id;
pub mod name;
pub mod suggest;
pub mod time;

pub mod budget;
pub mod ledger;
pub mod money;
pub mod purse;
pub mod route;

pub mod repository;
pub mod revision;

pub mod command;
pub mod event;
pub mod trigger;

pub mod limits;
pub mod memo;
pub mod run;
pub mod stage;
pub mod value;

pub mod effect;
pub mod marker;
pub mod neutral;
pub mod proposal;
pub mod scrub;
pub mod signature;
pub mod split;

pub mod access;
