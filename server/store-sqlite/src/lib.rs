//! `ports::store` in one SQLite file: what a server on one machine keeps.
//!
//! All writes go through one connection, each in a transaction that takes the write lock at its
//! beginning, so that writers wait in line instead of failing; reads go through a pool beside it
//! (write-ahead log, <https://sqlite.org/wal.html>). `synchronous = FULL`: what was answered survives
//! the loss of power. Several processes may open the same file.
//!
//! Nothing here decides what a run may do; it keeps the promises of `ports::store` and no others.
//!
//! Start with [`SqliteStore::open`], then `runs.rs` and `queue.rs`; the tables are in
//! `migrations/sqlite/`.

mod store;
pub use store::SqliteStore;

mod failure;
mod migrations;
mod rows;

mod repositories;
mod revisions;

mod events;

mod logs;
mod queue;
mod runs;

mod outbox;

mod accounts;
mod discussions;

#[cfg(test)]
mod tests;
