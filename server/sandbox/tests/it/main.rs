//! Real programs in real jails. Everything here needs nsjail and fails without it.

#![expect(clippy::unwrap_used, reason = "tests, and what they have in common")]

mod heard;
mod jail;
mod probe;

mod door;
mod ends;
mod host;
mod image;
mod inside;
mod killed;
mod limits;
mod prepared;
mod refused;
