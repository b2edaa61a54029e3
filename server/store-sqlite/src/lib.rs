//! `ports::store` in one SQLite file: what a server on one machine keeps.
//!
//! Writers wait in line instead of failing, and take the write lock at the beginning of their
//! transaction; reads go through a pool beside them (write-ahead log, <https://sqlite.org/wal.html>).
//! `synchronous = FULL`: what was answered survives the loss of power; leases and log lines only with
//! what is written after them ([`store::Durable`]). Several processes may open the same file.
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

mod deliveries;
mod events;

mod ledger;
mod logs;
mod memos;
mod queue;
mod runs;

mod outbox;

mod accounts;
mod discussions;

#[cfg(test)]
mod tests;
