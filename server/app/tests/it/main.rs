//! The whole program, from outside: the real binary, the real git, nsjail and model.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what surprises a test ends it; tests start the programs that they are about and read the environment"
)]

mod action;
mod admission;
mod cli;
mod daemons;
mod explain;
mod forges;
mod github;
mod house;
mod jail_agents;
mod jail_cassettes;
mod jail_hostile;
mod jail_kill;
mod jail_mcp;
mod jail_network;
mod jail_push;
mod jail_registries;
mod jail_secrets;
mod jail_stages;
mod jail_state;
mod jail_story;
mod jail_worker;
mod local_model_run;
mod mcp;
mod money;
mod reconcile;
mod tidy;
mod upstream;
mod wire;
