//! The single way to a model, and out to other people's servers.
//!
//! [`Gateway`] answers questions ([`ports::models::Models`]): it finds the provider of a name, speaks
//! its dialect, streams, retries, checks structured answers and has one mended, and says what every
//! call used and cost. [`Egress`] calls addresses ([`ports::web::Web`]) that a daemon may reach.
//! [`AgentProxy`] stands behind the doors of jails ([`ports::proxy::Proxy`]) and lets their programs to both.
//!
//! It must not know what a run, a stage or a daemon is, must not read the environment or the clock of
//! the machine, and must never put a key, a header or a body into a log or an error.
//!
//! Start with [`gateway`], then [`ask`] (the one retry loop), [`call`] (one call) and [`class`] (what
//! is done about which error). `docs/models.md` says the same for operators.

mod gateway;

mod ask;
mod budget;
mod call;
mod class;
mod dialect;
mod health;
mod ledger;
mod pieces;
mod rank;
mod sse;
mod structured;

mod catalogue;
mod client;
mod config;
mod listing;
mod price;
mod provider;

mod local;

pub mod proxy;
pub mod web;

#[cfg(test)]
mod tests;

pub use catalogue::update::{CATALOGUE_MAX, CatalogueError, Update, fetch};
pub use catalogue::{Capability, Origin};
pub use config::{
    CacheKey, Config, Dialect, HeaderText, KeySource, LimitField, LocalConfig, ModelConfig, ProviderConfig,
    RetryConfig, StreamUsage, Timeouts,
};
pub use gateway::{BuildError, Gateway, Surroundings};
pub use listing::{Change, Changes, Key, Meaning, ModelInfo, Way};
pub use price::{Prices, Tier};
pub use provider::KeyLookup;
pub use proxy::AgentProxy;
pub use structured::SchemaCheck;
pub use web::Egress;
