//! `ports::vault` for real: AES-256-GCM under keys that the operator gives, or that are made at the first start
//! and kept in a file of the data directory.
//!
//! Nothing here knows what is sealed, or where it is kept. Keys never leave this crate.
//!
//! Start with [`Keyring`].

mod file;
mod keyring;

pub use file::FileError;
pub use keyring::{Keyring, KeyringError};
