//! `ports::forge` for GitLab, gitlab.com and those that people run: asks, performs effects, reads webhooks.
//!
//! Whatever is done is done once: `forge_remote` says how, over what [`site`] can do here. GitLab's objects have
//! other names than GitHub's: [`thing`] brings them into the shape of all things. It counts issues and merge
//! requests apart: see [`thread`]. Lines of a text may be orders to it: see [`quick`]. Start with [`GitLab::build`].

use forge_remote::shape;

mod gitlab;
pub use gitlab::GitLab;

mod ask;
mod look;
mod recent;
mod site;
mod visit;

mod quick;
mod thing;
mod thread;
mod understand;
mod verify;
pub use understand::Reader;
pub use verify::verify;
