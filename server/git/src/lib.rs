//! `Source` for real: bare mirrors on disk, read and written by gix, served and merged by the `git`
//! program, fetched from and pushed to wherever people keep their repositories.
//!
//! Everything that a repository, a remote or a jail gives is hostile here. Nothing that a repository
//! holds is ever run: no hooks but ours, no filters, no configuration of a user or a machine. No
//! credential is written to disk, to an argument or into a message.
//!
//! Start with [`source`] for the port, with [`http`] for the smart HTTP backend, and with `mirror`
//! for what a repository looks like on disk.

pub mod config;
pub mod source;

mod mirror;
mod turns;

mod begin;
mod checkout;
mod commit;
mod history;
mod object;
mod reference;
mod tree;

mod ignored;
mod snapshot;

mod local;

mod address;
mod bring;
mod connect;
mod fetch;
mod https;
mod meter;
pub mod remote;
mod verify;

mod packet;
mod push;
mod receiver;
mod report;

pub mod hook;
mod hooks;
pub mod http;

mod error;
mod maintain;
mod program;

pub use config::{Bounds, Config, Identity, Ssh};
pub use hooks::{HOOK_PROGRAM, HOOK_SOCKET};
pub use local::Local;
pub use source::Git;
