//! The files as written. Each type here is a map, a choice or a kind of scalar of the file: its doc comments
//! and examples become the JSON Schema, and its [`Read`](crate::read::Read) reads it from the tree.
//! What a value means together with others is decided in [`check`](crate::check).

pub(crate) mod daemon;
pub(crate) mod mcp;
pub(crate) mod outcome;
pub(crate) mod policy;
pub(crate) mod scalar;
pub(crate) mod spellbook;
pub(crate) mod stage;
pub(crate) mod test;
pub(crate) mod trigger;
