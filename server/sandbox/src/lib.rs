//! The sandbox for real: every program of a run in an nsjail of its own.
//!
//! A typed [`policy`] becomes nsjail's configuration; a thread a jail makes a control group, starts
//! nsjail in it, streams what the program writes, holds it to its limits, ends it, and tells how it
//! ended. Inside, a program of ours is process 1 (`init/init.rs`), so that a jail ends with its main
//! program and dies with the server.
//!
//! Nothing here ever runs a program outside a jail, decides what a run may do, or reads what a jail
//! left in its workspace. What the machine cannot enforce is said by `protections`, never assumed.
//!
//! Start with [`Jails`]; `docs/sandbox.md` says what is protected and by what.

mod config;
mod jails;
pub mod policy;

mod image;
mod mounts;
mod root;
mod runtime;
mod unpack;

mod cell;
mod descriptor;
mod disk;
mod enter;
mod first;
mod group;
mod output;
mod process;
mod tenancy;
mod tree;
mod user;
mod workspace;

mod end;
mod plan;
mod pool;
mod supervise;

mod protections;

pub use config::{Config, Runtime};
pub use jails::{Jails, RawJail};
