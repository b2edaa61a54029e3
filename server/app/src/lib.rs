//! The one program `spellbook`: configuration, telemetry, wiring, command line.
//!
//! Here the adapters meet the engine; nothing is decided here that another crate could decide. It is
//! the only place that reads the environment, starts tasks and listens.
//!
//! Start with [`wiring`] for what is made of what, [`server`] for what runs, [`cli`] for what people
//! can say.

pub mod cli;
pub mod commands;
pub mod exit;

pub mod server;
pub mod wiring;

mod demo;
mod hook;
mod listener;
mod loops;
mod smart_http;
mod upkeep;

pub mod clock;
pub mod config;
pub mod forges;
mod registries;
mod secrets;
pub mod telemetry;
pub mod tools;

mod client;
mod credentials;
pub mod output;
mod progress;
