//! Recorded answers: what models, other people's servers and coding agents said to a run once, and say again
//! to a test of it, with no network and no key.
//!
//! A [`Cassette`] is the data, a [`Tape`] a cassette while it plays. The tape stands between the engine and
//! the ports `Models`, `Web`, `Agents` and `Proxy`: it replays what it has, or asks the real ones behind it
//! and keeps what they say. What is asked is found again by what it says, never by its place in the run.
//!
//! Nothing here reads a file or knows YAML, what a test expects, or what a run is. No secret leaves it:
//! whatever goes into a cassette goes through [`domain::scrub::Scrub`].
//!
//! Start with [`cassette`] for what is kept, then [`tape`].

pub mod cassette;
mod question;
mod usage;

pub mod tape;
mod track;

mod agents;
mod models;
mod proxy;
mod web;

mod difference;

pub use agents::TapedAgents;
pub use cassette::{Cassette, CassetteError};
pub use difference::difference;
pub use models::TapedModels;
pub use proxy::TapedProxy;
pub use tape::{Miss, Mode, Tape};
pub use web::TapedWeb;

#[cfg(test)]
mod tests;
