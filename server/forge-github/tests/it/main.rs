//! `forge-github` against GitHubs that run here: a small one that remembers what it is told and loses answers
//! on demand, which holds every request against GitHub's own description of its API; and the emulator
//! `emulate` of npm, which nobody here wrote.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without ends it")]

mod counterpart;
mod house;

mod effects;
mod emulator;
mod look;
mod pace;
mod payloads;
mod questions;
