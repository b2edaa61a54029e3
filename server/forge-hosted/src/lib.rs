//! `ports::forge` for the repositories that people push here: proposals, comments and checks that
//! live in the store, and the branches that proposals offer.
//!
//! Performing an effect again, after a crash at any point, finds what the first time made. A branch
//! is only ever moved from where an effect of the same key left it: what people pushed stays.
//! Merging and declining are not here: people do that, see `engine::proposals`.
//!
//! Start with [`HostedForge`].

mod forge;
pub use forge::HostedForge;

mod checks;
mod comments;
mod look;
mod proposals;

mod failure;

#[cfg(test)]
mod tests;
