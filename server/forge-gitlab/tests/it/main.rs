//! `forge-gitlab` against a GitLab that runs here: a small one that remembers what it is told and loses answers
//! on demand, which holds every request against a description of GitLab's API.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without ends it")]

mod house;
mod hub;

mod effects;
mod payloads;
mod questions;
