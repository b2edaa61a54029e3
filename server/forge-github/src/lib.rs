//! `ports::forge` for GitHub, github.com and Enterprise: asks, performs effects, reads webhooks.
//!
//! Whatever is done is done once: `forge_remote` says how, over what [`site`] can do here. No token is kept for
//! writing, none is shown. Start with [`GitHub::build`].

use forge_remote::shape;

mod config;
pub use config::{Access, BuildError, Config, Surroundings};

mod github;
pub use github::{GitHub, Own};

mod registration;
pub use registration::{EVENTS, PERMISSIONS, Registered, app_manifest, register};

mod checks;
mod site;
mod visit;
mod wanted;

mod ask;
mod host;
mod look;
mod recent;

mod understand;
mod verify;
mod webhooks;
pub use understand::Reader;
pub use verify::verify;

mod client;
mod key;
mod tokens;
