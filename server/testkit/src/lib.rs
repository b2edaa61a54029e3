//! What tests stand on: a clock that stands still, one stateful fake for each port, builders, and
//! the conformance suites that the fakes and the real adapters both pass.
//!
//! Only ever a dev-dependency. A fake keeps every promise of its port and nothing besides; where a
//! real counterpart is quick to have (git, SQLite, the disk), a test takes that one instead.
//!
//! Start with [`MemoryStore`] to test a story, with [`conformance`] to write an adapter.

mod clock;
pub use clock::FixedClock;

pub mod build;

mod contract;
pub use contract::Contract;

mod gate;
pub use gate::{Answering, Asked, Behind, Gate, Trouble, decoded};

pub mod emulate;

pub mod hub;

mod issuer;
pub use issuer::Issuer;

mod memory;
pub use memory::MemoryStore;

mod memory_forge;
pub use memory_forge::MemoryForge;

mod memory_host;
pub use memory_host::MemoryHost;

mod memory_objects;
pub use memory_objects::MemoryObjects;

mod memory_vault;
pub use memory_vault::MemoryVault;

mod scripted;
pub use scripted::{
    ScriptedAgents, ScriptedMcp, ScriptedModels, ScriptedProxy, ScriptedSandbox, ScriptedWeb,
};

pub mod conformance;
