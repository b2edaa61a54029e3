//! The whole program, from outside: the real binary, the real git, nsjail and model.

mod cli;
mod house;
mod jail_kill;
mod jail_push;
mod local_model_run;
mod tidy;
mod wire;
