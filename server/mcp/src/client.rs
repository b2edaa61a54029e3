//! A conversation with a server.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use ports::Retry;
use ports::mcp::{Line, MOST_TOOLS, Mcp, McpError, McpServer};
use ports::models::{Tool, ToolResult};
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams,
    ProtocolVersion,
};
use rmcp::service::{ClientInitializeError, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ServiceError, ServiceExt};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::result::result;
use crate::web::{self, Caller};

/// The longest message of a program, bytes.
const LONGEST_LINE: usize = 4 << 20;
/// How many pages of tools are asked for.
const MOST_PAGES: usize = 50;
/// How long taking leave may last.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// Speaks the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client;

type Running = RunningService<RoleClient, ClientConfig>;

/// A server that was met.
struct Met {
    running: Running,
    tools: Vec<Tool>,
}

impl fmt::Debug for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Met").field("tools", &self.tools.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Mcp for Client {
    async fn meet(&self, line: Line, patience: Duration) -> Result<Box<dyn McpServer>, McpError> {
        let meeting = async {
            let running = begin(line).await?;
            let tools = tools(&running).await?;
            Ok::<_, McpError>(Box::new(Met { running, tools }) as Box<dyn McpServer>)
        };
        timeout(patience, meeting).await.unwrap_or_else(|_| Err(late(patience)))
    }
}

async fn begin(line: Line) -> Result<Running, McpError> {
    let me = me();
    let begun = match line {
        Line::Pipes(reader, writer) => {
            let transport = AsyncRwTransport::new_client(reader, writer).with_max_line_length(LONGEST_LINE);
            Box::pin(me.serve(transport)).await
        }
        Line::Web(web, request) => {
            // Who it is for stands in its own headers; this one says nothing.
            let config = StreamableHttpClientTransportConfig::with_uri(request.url.as_str())
                .max_concurrent_requests(1);
            let transport = StreamableHttpClientTransport::with_client(Caller::new(web, request), config);
            Box::pin(me.serve(transport)).await
        }
    };
    begun.map_err(|error| not_met(&error))
}

/// What is said of who asks. It stays as it is from one release to the next: it stands in the recordings of
/// tests.
fn me() -> ClientConfig {
    ClientConfig::new(ClientCapabilities::default(), Implementation::new("spellbook", "1"))
        .with_protocol_version(ProtocolVersion::V_2025_06_18)
}

/// All tools, within bounds: a server could have as many pages as it likes.
async fn tools(running: &Running) -> Result<Vec<Tool>, McpError> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let listed = running.list_tools(Some(page)).await.map_err(|error| not_done(&error))?;
        let room = MOST_TOOLS - tools.len();
        tools.extend(listed.tools.into_iter().take(room).map(|tool| Tool {
            name: tool.name.into_owned(),
            description: tool.description.unwrap_or_default().into_owned(),
            parameters: Value::Object((*tool.input_schema).clone()),
        }));
        cursor = listed.next_cursor;
        if cursor.is_none() || tools.len() == MOST_TOOLS {
            break;
        }
    }
    Ok(tools)
}

#[async_trait]
impl McpServer for Met {
    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        patience: Duration,
    ) -> Result<ToolResult, McpError> {
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        match timeout(patience, self.running.call_tool(call)).await {
            Ok(Ok(done)) => Ok(result(done)),
            Ok(Err(error)) => Err(not_done(&error)),
            Err(_) => Err(late(patience)),
        }
    }

    async fn leave(mut self: Box<Self>) {
        if let Err(error) = self.running.close_with_timeout(LEAVE_MAX).await {
            tracing::warn!(%error, "taking leave of a server went wrong");
        }
    }
}

fn late(patience: Duration) -> McpError {
    let message = format!("it did not answer within {patience:?}");
    McpError { code: "mcp_timed_out", message, retry: Retry::Later }
}

fn gone() -> McpError {
    McpError { code: "mcp_gone", message: "it has ended".to_owned(), retry: Retry::Later }
}

/// Why there is no conversation.
fn not_met(error: &ClientInitializeError) -> McpError {
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            web::cause(error.error.as_ref()).unwrap_or_else(gone)
        }
        ClientInitializeError::ConnectionClosed(_) => gone(),
        ClientInitializeError::JsonRpcError(refused) => refusal(&refused.message),
        error => {
            let message = format!("it does not speak the protocol: {}", shown(&error.to_string()));
            McpError { code: "mcp_not_understood", message, retry: Retry::Never }
        }
    }
}

/// Why something that was asked was not done.
fn not_done(error: &ServiceError) -> McpError {
    match error {
        ServiceError::McpError(refused) => refusal(&refused.message),
        ServiceError::TransportSend(error) => web::cause(error.error.as_ref()).unwrap_or_else(gone),
        ServiceError::TransportClosed | ServiceError::Cancelled { .. } => gone(),
        error => {
            let message = format!("its answer is not understood: {}", shown(&error.to_string()));
            McpError { code: "mcp_not_understood", message, retry: Retry::Never }
        }
    }
}

fn refusal(message: &str) -> McpError {
    let message = format!("it refused: {}", shown(message));
    McpError { code: "mcp_refused", message, retry: Retry::Never }
}

/// A text of others on one line, cut.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
