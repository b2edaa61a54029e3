use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ports::Retry;
use ports::mcp::{Line, Mcp, McpError, McpServer};
use ports::models::{Tool, ToolResult};
use serde_json::{Map, Value, json};

use super::Asked;

type Script = dyn Fn(&str, &Value) -> Result<ToolResult, McpError> + Send + Sync;

/// Servers that all have the same tools, and answer by a script.
///
/// Like the real one it says nothing to a program before it was met: a line is dropped when the server is left.
pub struct ScriptedMcp {
    tools: Result<Vec<Tool>, McpError>,
    script: Arc<Script>,
    met: Asked<String>,
    called: Arc<Asked<(String, Value)>>,
}

impl ScriptedMcp {
    /// Servers with these tools, whose calls go as `script` says.
    pub fn new(
        tools: &[&str],
        script: impl Fn(&str, &Value) -> Result<ToolResult, McpError> + Send + Sync + 'static,
    ) -> Self {
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            description: format!("Does {name}."),
            parameters: json!({ "type": "object" }),
        };
        let tools = Ok(tools.iter().map(tool).collect());
        Self { tools, script: Arc::new(script), met: Asked::nothing(), called: Arc::new(Asked::nothing()) }
    }

    /// Servers that nobody can meet.
    pub fn failing(code: &'static str, message: &str) -> Self {
        let error = McpError { code, message: message.to_owned(), retry: Retry::Later };
        Self { tools: Err(error), ..Self::new(&[], |_, _| unreachable!("nobody is met")) }
    }

    /// A result in words.
    pub fn said(text: &str) -> Result<ToolResult, McpError> {
        Ok(ToolResult { text: text.to_owned(), failed: false })
    }

    /// The lines over which servers were met, in order: `pipes`, or the address with its headers.
    pub fn met(&self) -> Vec<String> {
        self.met.all()
    }

    /// The calls of tools, in order.
    pub fn called(&self) -> Vec<(String, Value)> {
        self.called.all()
    }
}

impl fmt::Debug for ScriptedMcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedMcp").field("tools", &self.tools).finish_non_exhaustive()
    }
}

#[async_trait]
impl Mcp for ScriptedMcp {
    async fn meet(&self, line: Line, _: Duration) -> Result<Box<dyn McpServer>, McpError> {
        self.met.note(&match &line {
            Line::Pipes(..) => "pipes".to_owned(),
            Line::Web(_, request) => format!("{} {:?}", request.url, request.headers),
        });
        let tools = self.tools.clone()?;
        let (script, called) = (Arc::clone(&self.script), Arc::clone(&self.called));
        Ok(Box::new(Met { tools, script, called, _line: Mutex::new(line) }))
    }
}

struct Met {
    tools: Vec<Tool>,
    script: Arc<Script>,
    called: Arc<Asked<(String, Value)>>,
    _line: Mutex<Line>,
}

impl fmt::Debug for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Met").field("tools", &self.tools).finish_non_exhaustive()
    }
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
        _: Duration,
    ) -> Result<ToolResult, McpError> {
        let arguments = Value::Object(arguments);
        self.called.note(&(tool.to_owned(), arguments.clone()));
        (self.script)(tool, &arguments)
    }

    async fn leave(self: Box<Self>) {}
}
