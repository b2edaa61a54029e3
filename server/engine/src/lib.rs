//! The story: what happens when something happened. Intake → dispatch → work → stages → outbox, and
//! reconcile, which brings the server's picture of git up to date.
//!
//! The engine decides; it touches the world only through the ports in [`world::World`]. It must not open a file
//! outside the workspaces it made, speak a wire format, or know a forge's words. Every step is a plain function
//! that says what came of it; loops call `next()` in the program and a `while` calls it in tests.
//!
//! Start with [`work::next`], the life of one run; [`dispatch::next`] says why a run exists.

pub mod admission;
pub mod installations;
pub mod intake;
pub mod reconcile;
mod standard;
mod survey;
pub mod sweep;
pub mod watch;
pub mod world;

mod consent;
pub mod dashboard;
pub mod dispatch;
mod effects;
mod group;
pub mod outbox;
pub mod plan;
pub mod schedule;
pub mod work;

pub mod address;
mod allowance;
pub mod artifacts;
pub mod budgets;
mod context;
mod desks;
pub mod estimate;
mod execution;
pub mod export;
mod graph;
pub mod inputs;
pub mod logs;
pub mod proposals;
pub mod refusal;
pub mod rehearsal;
pub mod replay;
pub mod report;
pub mod repositories;
mod session;
mod stages;
pub mod state;
mod stop;
mod till;
mod variables;
pub mod verify;
pub mod why;
mod workspace;
pub use refusal::{Refusal, RefusalKind};
pub use world::World;
#[cfg(test)]
mod tests;
