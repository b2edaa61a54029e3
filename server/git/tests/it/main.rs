//! Mirrors held against real git: what gix reads is what git reads, what people push and clone goes
//! through the real backend, and what hostile repositories, remotes and jails bring does no harm.

#![expect(clippy::disallowed_methods, reason = "fixtures are made, and answers checked, by the git program")]
#![expect(clippy::unwrap_used, reason = "what a test cannot do without ends it")]

mod fixture;

mod bring;
mod fetch;
mod hostile_remotes;
mod https;
mod push;
mod quarantine;
mod reads;
mod serve;
mod snapshots;
mod writes;
