//! What every implementation of a port must do, as tests that run against any of them.

pub mod effects;
pub mod forge;
pub mod objects;
pub mod store;
pub mod vault;
