//! `ports::objects` for real: logs, artifacts and bundles, on the disk of this machine.
//!
//! The storage is an `object_store` one behind the port, so that a bucket is another constructor and
//! not another crate. Nothing here knows what an object means.
//!
//! Start with [`DiskObjects`].

mod disk;
mod key;

pub use disk::DiskObjects;
