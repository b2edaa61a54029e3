//! `ports::forge` for GitHub, github.com and Enterprise: asks, performs effects, reads webhooks.
//!
//! Whatever is done is done once, however often it is tried and wherever a try breaks off: [`wanted`] says
//! how. Whoever is asked too fast is not asked at all: see [`pace`]. No token is kept for writing, none is
//! shown. Start with [`GitHub::build`].

mod config;
pub use config::{Access, BuildError, Config, Surroundings};

mod github;
pub use github::{GitHub, Own};

mod registration;
pub use registration::{EVENTS, PERMISSIONS, Registered, app_manifest, register};

mod visit;
mod wanted;

mod ask;
mod host;
mod recent;

pub mod shape;
mod understand;
mod verify;
mod webhooks;
pub use understand::Reader;
pub use verify::verify;

mod client;
mod failure;
mod key;
mod pace;
mod tokens;
