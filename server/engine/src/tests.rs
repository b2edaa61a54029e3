//! The story through its outermost doors: runs are asked for, worked on and looked at as the program
//! does it. Git is real; the store, the jails and the models are fakes.

mod house;

mod agents;
mod artifacts;
mod attachments;
mod commands;
mod consent;
mod dashboard;
mod debounce;
mod effects;
mod endings;
mod forges;
mod groups;
mod images;
mod money;
mod outbox;
mod plans;
mod rehearsals;
mod servers;
mod side_by_side;
mod state;
mod strangers;
mod talk;
mod verify;
mod worker;
