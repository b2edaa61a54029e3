//! The MCP servers of one stage: those whose tools its model is offered. A program runs in a jail at the
//! stage's desk, as long as the stage; an address is called through the network that the daemon may reach.
//!
//! All that a server says is text of strangers. Its tools are offered under names that every model takes, and
//! within bounds; secrets stand in headers only, and are taken out of whatever comes back.

mod offer;
mod program;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use domain::run::Failure;
use domain::scrub::Scrub;
use domain::stage::StageUsage;
use domain::trigger::globs_select;
use futures::future::{BoxFuture, join_all};
use manifest::model::{McpReach, McpServer as Declared, McpTools};
use ports::Retry;
use ports::mcp::{Line, McpError, McpServer};
use ports::models::{Tool as Offered, ToolCall, ToolResult};
use ports::web::WebRequest;
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use super::excerpt::head;
use super::{At, Trouble, http};
use crate::workspace::Desk;
use offer::Offer;
use program::{End, Program};

/// How long a server may take to start, and to answer a call, when it does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer of an address, bytes.
const LONGEST: usize = 4 << 20;
/// How much of a result a model is shown, bytes.
const SHOWN: usize = 24 << 10;

/// The servers that a stage uses, and which of their tools.
pub(super) type Wanted<'a> = BTreeMap<&'a str, (&'a Declared, Vec<String>)>;

/// Which servers a stage uses, that names these tools: all of them where it names none at all.
pub(super) fn wanted<'a>(named: &'a [McpTools], all: All, at: &At<'a>) -> Wanted<'a> {
    let mut wanted = Wanted::new();
    for (name, server) in &at.run.manifest.mcp_servers {
        let globs: Vec<String> =
            named.iter().filter(|tools| tools.server == *name).map(|tools| tools.glob.clone()).collect();
        if all == All::Yes {
            wanted.insert(name, (server, vec!["**".to_owned()]));
        } else if !globs.is_empty() {
            wanted.insert(name, (server, globs));
        }
    }
    wanted
}

/// Whether a stage has the tools of every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum All {
    Yes,
    No,
}

/// The servers of a stage, met.
#[derive(Debug, Default)]
pub(super) struct Servers {
    met: Vec<Met>,
    offer: Offer,
    /// Takes out what must not be shown to a model.
    scrub: Scrub,
}

#[derive(Debug)]
struct Met {
    name: String,
    server: Box<dyn McpServer>,
    patience: Duration,
    /// How its program ended, when it is one.
    end: Option<End>,
}

/// A server that is to be met.
struct Stranger<'a> {
    name: &'a str,
    declared: &'a Declared,
    globs: Vec<String>,
    line: Line,
    end: Option<End>,
}

/// Does `work` with the servers that are wanted, each of them running. None is left when it returns; what their
/// jails used is added to what was made.
pub(super) async fn with<'a, T>(
    wanted: Wanted<'a>,
    (desk, directory): (&Desk, &Path),
    at: &At<'a>,
    work: impl AsyncFnOnce(Servers) -> (Result<T, Trouble>, Servers),
) -> (Result<T, Trouble>, StageUsage) {
    let over = at.cancel.child_token();
    let (strangers, programs) = match prepare(wanted, (desk, directory), at, &over).await {
        Ok(prepared) => prepared,
        Err(trouble) => return (Err(trouble), StageUsage::default()),
    };
    let body = async {
        let (made, servers) = match Servers::meet(strangers, at).await {
            Ok(servers) => work(servers).await,
            Err((trouble, servers)) => (Err(trouble), servers),
        };
        servers.leave().await;
        over.cancel();
        made
    };
    let (made, used) = tokio::join!(body, join_all(programs));
    let mut usage = StageUsage::default();
    used.into_iter().for_each(|used| usage.add(used));
    (made, usage)
}

type Running<'s> = BoxFuture<'s, StageUsage>;

/// The lines to all servers, and the programs at the other end of some.
async fn prepare<'a, 's>(
    wanted: Wanted<'a>,
    (desk, directory): (&'s Desk, &'s Path),
    at: &'s At<'a>,
    over: &CancellationToken,
) -> Result<(Vec<Stranger<'a>>, Vec<Running<'s>>), Trouble> {
    let (mut strangers, mut programs) = (Vec::new(), Vec::new());
    for (name, (declared, globs)) in wanted {
        let (line, end) = match &declared.reach {
            McpReach::Program(program) => {
                let Program { line, end, running } =
                    program::prepare(program, (desk, directory), at, over.child_token())?;
                programs.push(running);
                (line, Some(end))
            }
            McpReach::Address { url, headers } => {
                let names: Vec<_> = headers.iter().flat_map(|(_, template)| template.references()).collect();
                let secrets = http::secrets(at, &names).await?;
                let context = at.context.with_secrets(secrets);
                let mut texts = Vec::new();
                for (name, template) in headers {
                    texts.push((name.clone(), template.evaluate(&context)?.text()));
                }
                let request = WebRequest {
                    method: "POST".to_owned(),
                    url: url.clone(),
                    headers: texts,
                    body: Bytes::new(),
                    allowed: at.run.manifest.permissions.hosts(),
                    timeout: patience(declared, at),
                    max_bytes: LONGEST,
                };
                (Line::Web(at.run.world.web.clone(), request), None)
            }
        };
        strangers.push(Stranger { name, declared, globs, line, end });
    }
    Ok((strangers, programs))
}

fn patience(declared: &Declared, at: &At<'_>) -> Duration {
    declared.timeout.unwrap_or(PATIENCE).min(at.run.manifest.limits.timeout)
}

impl Servers {
    /// Meets all of them, one after another, in the order of their names.
    async fn meet(strangers: Vec<Stranger<'_>>, at: &At<'_>) -> Result<Self, (Trouble, Self)> {
        let mut servers = Self::default();
        if strangers.iter().any(|stranger| matches!(stranger.declared.reach, McpReach::Address { .. })) {
            match http::secrets(at, &[]).await {
                Ok(secrets) => servers.scrub = http::scrub(&secrets),
                Err(trouble) => return Err((trouble, servers)),
            }
        }
        for stranger in strangers {
            if let Err(trouble) = servers.one(stranger, at).await {
                return Err((trouble, servers));
            }
        }
        Ok(servers)
    }

    async fn one(&mut self, stranger: Stranger<'_>, at: &At<'_>) -> Result<(), Trouble> {
        let Stranger { name, declared, globs, line, end } = stranger;
        let patience = patience(declared, at);
        let meeting = at.run.world.mcp.meet(line, patience);
        let server = tokio::select! {
            met = meeting => match met {
                Ok(server) => server,
                Err(error) => return Err(self.not_met(name, error, end.as_ref()).await),
            },
            () = at.cancel.cancelled() => return Err(cancelled()),
        };
        let allowed = |tool: &str| {
            (declared.allowed.is_empty() || globs_select(&declared.allowed, tool))
                && globs_select(&globs, tool)
        };
        let (count, left_out) = self.offer.add((self.met.len(), name), server.tools(), allowed);
        at.note(format!("the MCP server `{name}` offers {count} of its {} tools", server.tools().len()));
        left_out.into_iter().for_each(|why| at.note(why));
        self.met.push(Met { name: name.to_owned(), server, patience, end });
        Ok(())
    }

    async fn not_met(&self, name: &str, error: McpError, end: Option<&End>) -> Trouble {
        // What a recording lacks is no fault of the server.
        let code = if error.code.starts_with("mcp_") { "mcp_unavailable" } else { error.code };
        let (timed_out, retry) = (false, error.retry);
        let why = self.scrub.text(&reason(error, end).await);
        let message = format!("the MCP server `{name}` does not work: {why}");
        Trouble { failure: Failure::new(code, message), timed_out, retry }
    }

    /// The tools as a model is told of them.
    pub(super) fn offered(&self) -> Vec<Offered> {
        self.offer.tools()
    }

    /// The names of the tools.
    pub(super) fn names(&self) -> Vec<&str> {
        self.offer.names()
    }

    /// Whose tool a model means, and its arguments; nothing when it is not one of theirs.
    pub(super) fn find(&self, call: &ToolCall) -> Option<Result<Foreign, String>> {
        let (server, tool) = self.offer.find(&call.name)?;
        let arguments = match call.arguments.trim() {
            "" => Ok(Map::new()),
            text => serde_json::from_str(text)
                .map_err(|error| format!("the arguments are not as the tool wants them: {error}")),
        };
        let shown = format!("{}/{tool}", self.met[server].name);
        Some(arguments.map(|arguments| Foreign { server, tool: tool.to_owned(), shown, arguments }))
    }

    /// Calls a tool. Whatever goes wrong on the other side is told to the model.
    ///
    /// # Errors
    /// When the stage is to end, or a test has no recording of it.
    pub(super) async fn call(&self, call: &Foreign, at: &At<'_>) -> Result<Result<String, String>, Trouble> {
        let Met { name, server, patience, end } = &self.met[call.server];
        let calling = server.call(&call.tool, call.arguments.clone(), *patience);
        let result = tokio::select! {
            result = calling => result,
            () = at.cancel.cancelled() => return Err(cancelled()),
        };
        match result {
            Ok(ToolResult { text, failed }) => {
                let text = shown(&self.scrub.text(&text));
                Ok(if failed { Err(text) } else { Ok(text) })
            }
            Err(error) if error.code == "not_recorded" => Err(Trouble {
                failure: Failure::new(error.code, error.message),
                timed_out: false,
                retry: Retry::Never,
            }),
            Err(error) => {
                let why = self.scrub.text(&reason(error, end.as_ref()).await);
                Ok(Err(shown(&format!("the MCP server `{name}` gave no result: {why}"))))
            }
        }
    }

    async fn leave(self) {
        join_all(self.met.into_iter().map(|met| met.server.leave())).await;
    }
}

/// A call of a server's tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Foreign {
    server: usize,
    tool: String,
    /// The server and the tool, for people.
    shown: String,
    arguments: Map<String, Json>,
}

/// For people; it may have many lines.
impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.shown, Json::Object(self.arguments.clone()))
    }
}

/// Why a server did nothing: how its program ended, where it did.
async fn reason(error: McpError, end: Option<&End>) -> String {
    match end {
        Some(end) if error.code == "mcp_gone" => match end.why().await {
            Some(why) => format!("it {why}"),
            None => error.message,
        },
        _ => error.message,
    }
}

fn shown(text: &str) -> String {
    let part = head(text, SHOWN);
    if part.len() == text.len() {
        text.to_owned()
    } else {
        format!("{part}\n(there is more, which is left out)")
    }
}

fn cancelled() -> Trouble {
    Failure::new("cancelled", "was cancelled").into()
}
