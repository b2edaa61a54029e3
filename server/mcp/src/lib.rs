//! `Mcp` for real: the client's side of the Model Context Protocol, by its official SDK.
//!
//! Nothing here starts a program or opens a connection. A program is spoken to through the pipes that it was
//! given in its jail; an address is called by the [`Web`](ports::web::Web) that comes with it, so that no request
//! goes where a daemon may not. What a server says is text of strangers: it is bounded here, and judged by
//! whoever asked.
//!
//! Start with [`Client`]; [`web`] is how the SDK is kept from calling anybody itself.

mod client;
mod result;
mod web;

pub use client::Client;

#[cfg(test)]
mod tests;
