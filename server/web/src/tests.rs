//! The doors, tried from outside: requests go through the whole router.

mod actions;
mod api;
mod contract;
mod forges;
mod git;
mod hooks;
mod hostile;
mod house;
mod money;
mod people;
mod runs;
mod state;
mod verify;
