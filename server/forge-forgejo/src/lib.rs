//! `ports::forge` for Forgejo, and for Gitea, which it came from: asks, performs effects, reads webhooks.
//!
//! Whatever is done is done once: `forge_remote` says how, over what [`site`] can do here. Its objects are nearly
//! GitHub's; [`thing`] says what is not. Start with [`Forgejo::build`].

use forge_remote::shape;

mod forgejo;
pub use forgejo::Forgejo;

mod ask;
mod look;
mod recent;
mod site;
mod visit;

mod thing;
mod understand;
mod verify;
pub use understand::Reader;
pub use verify::verify;
