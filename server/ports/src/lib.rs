//! What the rules need from the world, as traits, with their errors and contracts.
//!
//! Nothing here is implemented; adapters do that, one crate for one outside thing, and `testkit` has
//! a stateful fake and a conformance suite for each. A port says what it promises and which error
//! means "try again". Alternatives that a caller must expect are values, not errors.
//!
//! Start with [`store::Store`], the heart: every transaction of the product is one of its methods.

pub mod clock;
pub mod store;

pub mod smart_http;
pub mod source;

pub mod agents;
pub mod mcp;
pub mod models;
pub mod picture;
pub mod proxy;
pub mod sandbox;
pub mod till;
pub mod web;

pub mod forge;
pub mod objects;
pub mod secrets;
pub mod vault;

/// Whether trying again may help; decided where the failure is seen, not where it is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It may: the other side was busy, slow or away.
    Later,
    /// It will not.
    Never,
}
