//! The doors of the server: the JSON API, git over HTTP, webhooks, health.
//!
//! This crate knows URLs, status codes, headers and who may do what; it decides nothing about
//! repositories and runs, which is the engine's, and it speaks to the world only through the ports.
//! It must never answer 2xx before what it accepted is durable, and never show a secret.
//!
//! Start with [`openapi`](openapi()), whose table lists every door; [`router`] says what each request
//! passes through.

mod doors;
mod router;
pub use doors::{ClientAddress, Doors, RenderMetrics, Settings};
pub use router::router;
mod openapi;
pub use openapi::openapi;
mod auth;
mod envelope;
mod input;
mod page;
mod problem;
mod rate;
pub mod token;
pub use actions::{Actions, ActionsError, Trust, TrustedRole};
pub use rate::Rate;
mod accounts;
mod actions;
mod artifacts;
mod budgets;
mod estimates;
mod sign_in;
mod spend;
mod tokens;

mod daemons;
mod diff;
mod manifests;
mod rankings;
mod remote_url;
mod repositories;
mod revisions;
mod schemas;
mod validate;
mod verify;

mod discussions;
mod effects;
mod events;
mod forges;
mod git;
mod health;
mod hooks;
mod logs;
mod mcp;
mod proposals;
mod runs;
mod sse;
mod stages;
mod state;
#[cfg(test)]
mod tests;
