//! Servers of the Model Context Protocol: programs and services of others that bring tools for models.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::models::{Tool, ToolResult};
use crate::web::{Web, WebRequest};

/// Speaks the protocol. It starts no program and opens no connection: whoever asks brings the line.
#[async_trait]
pub trait Mcp: std::fmt::Debug + Send + Sync {
    /// Meets a server and learns which tools it has, at most [`MOST_TOOLS`] of them.
    ///
    /// # Errors
    /// When nobody speaks the protocol at the other end, or not within `patience`.
    async fn meet(&self, line: Line, patience: Duration) -> Result<Box<dyn McpServer>, McpError>;
}

/// More tools of one server are not looked at.
pub const MOST_TOOLS: usize = 1_000;

/// How a server is reached.
pub enum Line {
    /// A program: what it writes, and what it reads.
    Pipes(Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>),
    /// An address, called by `web` as this request is, with methods, headers and bodies of the protocol.
    Web(Arc<dyn Web>, WebRequest),
}

/// Names no address: it may hold a secret.
impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pipes(..) => "Pipes",
            Self::Web(..) => "Web",
        })
    }
}

/// A server that was met. When it is dropped nothing more is said to it.
#[async_trait]
pub trait McpServer: std::fmt::Debug + Send + Sync {
    /// Its tools, as it calls and describes them: text of others, of any length and content.
    fn tools(&self) -> &[Tool];

    /// Calls a tool. What is no text in the result is told of in words.
    ///
    /// # Errors
    /// When there is no result within `patience`. That a tool failed is a result.
    async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        patience: Duration,
    ) -> Result<ToolResult, McpError>;

    /// Takes leave, as far as the server can be told.
    async fn leave(self: Box<Self>);
}

/// A server does not do what it is asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct McpError {
    /// `mcp_gone`, `mcp_timed_out`, `mcp_refused`, `mcp_not_understood`, or a code of
    /// [`WebError`](crate::web::WebError).
    pub code: &'static str,
    /// What happened, for people and models. It may hold text of the server.
    pub message: String,
    /// Whether trying again may help.
    pub retry: crate::Retry,
}
