//! Daemons as tools of the Model Context Protocol, for assistants and other programs outside: `/mcp`, by its
//! streamable HTTP transport (<https://modelcontextprotocol.io/specification>).
//!
//! A tool is a deployed daemon, its parameters are the daemon's inputs, and to call it is to start a run and
//! wait for its end. Who calls is who the token says, as everywhere else.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use domain::access::Principal;
use domain::id::{RevisionId, RunId};
use domain::name::{Address, At};
use domain::run::{Run, RunState};
use engine::intake;
use http_body_util::combinators::BoxBody;
use ports::store::repositories::DaemonFilter;
use ports::store::{Page, Topic};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    InitializeResult, JsonObject, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::auth::{Runner, actor};
use crate::doors::Server;
use crate::manifests::inputs_schema;

/// Tools of one answer to `tools/list`.
const PAGE: u32 = 100;
/// The longest name of a tool that clients take.
const LONGEST_NAME: usize = 64;

/// Serves one message of a client.
pub(crate) async fn serve(
    Runner(principal): Runner,
    State(server): State<Arc<Server>>,
    request: Request,
) -> Response {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        // Who shows a token is no stranger's page; and a browser's page has none to show.
        .disable_allowed_hosts()
        .enforce_origin_validation()
        .with_max_request_body_bytes(server.settings().api_body)
        .with_cancellation_token(server.doors.closing.child_token());
    let desk = Desk { server: Arc::clone(&server), principal };
    let service = StreamableHttpService::new(
        move || Ok(desk.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let answer: Response<BoxBody<Bytes, Infallible>> = service.handle(request).await;
    answer.map(Body::new)
}

/// What one caller may use.
#[derive(Clone)]
struct Desk {
    server: Arc<Server>,
    principal: Principal,
}

/// A daemon that can be called.
struct Offered {
    name: String,
    address: Address,
    cursor: String,
}

impl ServerHandler for Desk {
    fn get_info(&self) -> InitializeResult {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let version = self.server.settings().version.clone();
        InitializeResult::new(capabilities)
            .with_server_info(Implementation::new("spellbook", version))
            .with_instructions(
                "Each tool is a daemon of this server. To call one starts a run, and its result is what the run made; \
                 runs may take minutes. What they want changed outside arrives as a proposal or a comment.",
            )
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let (offered, more) = self.offered(cursor.as_deref()).await?;
        let next_cursor = offered.last().filter(|_| more).map(|last| last.cursor.clone());
        let mut result = ListToolsResult { next_cursor, ..ListToolsResult::default() };
        for one in &offered {
            // One that is broken now is no tool.
            if let Ok(resolved) = engine::address::resolve(self.server.world(), &one.address).await {
                result.tools.push(tool(one, &resolved.manifest));
            }
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(address) = self.named(&request.name).await? else {
            let why = format!("there is no tool `{}`", request.name.escape_debug());
            return Err(ErrorData::invalid_params(why, None));
        };
        let _place = self.server.streams.try_acquire().map_err(|_| {
            ErrorData::internal_error("too many callers wait for their runs; try again later", None)
        })?;
        let start = intake::Start {
            address,
            inputs: request.arguments.unwrap_or_default(),
            actor: actor(&self.principal),
            idempotency: None,
        };
        // What is wrong with the inputs is for the model that made them.
        let started = match intake::start(self.server.world(), start).await {
            Ok(started) => started.run,
            Err(refusal) => return Ok(failed(refusal.message).into()),
        };
        let run = self.ended(started, &context).await?;
        self.result(&run).await.map(Into::into)
    }
}

impl Desk {
    /// A page of the daemons on deploy branches, and whether there are more.
    async fn offered(&self, cursor: Option<&str>) -> Result<(Vec<Offered>, bool), ErrorData> {
        let after = cursor.map(|cursor| cursor.parse::<RevisionId>().map(RevisionId::uuid)).transpose();
        let after =
            after.map_err(|_| ErrorData::invalid_params("the cursor is not one of this list", None))?;
        let page = Page { after, size: PAGE };
        let filter = DaemonFilter { repository: None, branch: None };
        let rows = self.server.store().daemon_list(&filter, &page).await.map_err(|error| away(&error))?;
        let more = rows.len() >= PAGE as usize;
        let offered = rows.into_iter().map(|row| {
            let address = Address { repository: row.path, daemon: row.revision.daemon, at: At::Deployed };
            Offered { name: name_of(&address), address, cursor: row.revision.id.to_string() }
        });
        Ok((offered.collect(), more))
    }

    /// The daemon of a tool's name.
    async fn named(&self, name: &str) -> Result<Option<Address>, ErrorData> {
        let mut cursor = None;
        loop {
            let (offered, more) = self.offered(cursor.as_deref()).await?;
            cursor = offered.last().map(|last| last.cursor.clone());
            if let Some(found) = offered.into_iter().find(|one| one.name == name) {
                return Ok(Some(found.address));
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// Waits for a run's end; the client hears of each stage, if it asked to. Whoever calls the call off
    /// calls the run off.
    async fn ended(&self, run: RunId, context: &RequestContext<RoleServer>) -> Result<Run, ErrorData> {
        let store = self.server.store();
        let mut wakeups = store.wakeups(Topic::Runs);
        let progress = context.meta.get_progress_token();
        let mut told = 0;
        loop {
            wakeups.mark_unchanged();
            let now = store.run_get(run).await.map_err(|error| away(&error))?;
            let now = now.ok_or_else(|| ErrorData::internal_error("the run is gone", None))?;
            if let Some(token) = &progress {
                for record in store.run_journal(run).await.map_err(|error| away(&error))?.iter().skip(told) {
                    told += 1;
                    let message = format!("{} {}", record.path, record.end.as_str());
                    let progress = ProgressNotificationParam::new(token.clone(), told as f64);
                    // Whether anybody listens is their affair.
                    let _ = context.peer.notify_progress(progress.with_message(message)).await;
                }
            }
            if now.state.status().is_final() {
                return Ok(now);
            }
            tokio::select! {
                Ok(()) = wakeups.changed() => {}
                () = context.ct.cancelled() => {
                    let by = &self.principal.account.name;
                    let _ = intake::cancel(self.server.world(), run, by).await;
                    return Err(ErrorData::internal_error(format!("{run} was asked to end"), None));
                }
                () = self.server.doors.closing.cancelled() => {
                    let why = format!("the server stops; {run} goes on without you");
                    return Err(ErrorData::internal_error(why, None));
                }
            }
        }
    }

    async fn result(&self, run: &Run) -> Result<CallToolResult, ErrorData> {
        let RunState::Ended { outcome, .. } = &run.state else {
            return Err(ErrorData::internal_error(format!("{} has not ended", run.id), None));
        };
        if let Some(message) = outcome.message() {
            return Ok(failed(format!("{}: {message} ({})", outcome.status(), run.id)));
        }
        let output = engine::export::output(self.server.world(), run).await;
        let output = output.map_err(|refusal| ErrorData::internal_error(refusal.message, None))?.json;
        Ok(match output {
            Json::Null => CallToolResult::success(vec![ContentBlock::text(format!("{} succeeded", run.id))]),
            Json::String(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            // What is structured is an object.
            output @ Json::Object(_) => CallToolResult::structured(output),
            output => CallToolResult::success(vec![ContentBlock::text(output.to_string())]),
        })
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn tool(offered: &Offered, manifest: &manifest::Manifest) -> Tool {
    let mut schema = inputs_schema(manifest);
    let schema: JsonObject = schema.as_object_mut().map(std::mem::take).unwrap_or_default();
    let said = manifest.description.as_deref().unwrap_or(&manifest.name);
    Tool::new(offered.name.clone(), format!("{said} ({})", offered.address), schema)
        .with_title(manifest.name.clone())
}

/// A name of letters, digits, `_` and `-` that stays the same, and is another for every daemon.
fn name_of(address: &Address) -> String {
    let Address { repository, daemon, .. } = address;
    let parts = [repository.owner.as_str(), repository.name.as_str(), daemon.as_str()];
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = parts.join("__").chars().map(plain).collect();
    let is_plain = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    if is_plain && name.len() <= LONGEST_NAME {
        return name;
    }
    let digest = hex::encode(&Sha256::digest(parts.join("/"))[..4]);
    format!("{}_{digest}", &name[name.len().saturating_sub(LONGEST_NAME - 9)..])
}

/// A result that says why there is none.
fn failed(why: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(why)])
}

fn away(error: &ports::store::StoreError) -> ErrorData {
    tracing::error!(%error, "a tool could not be served");
    ErrorData::internal_error("the server cannot answer now", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(address: &str) -> String {
        let name = name_of(&address.parse().expect("it is an address"));
        assert!(name.len() <= LONGEST_NAME, "{name}");
        name
    }

    #[test]
    fn every_daemon_has_a_name_of_its_own() {
        assert_eq!(name("ada/book/review"), "ada__book__review");
        let (dot, line) = (name("ada/my.book/review"), name("ada/my_book/review"));
        assert!(
            dot.starts_with("ada__my_book__review_") && line.starts_with("ada__my_book__review_"),
            "{dot}"
        );
        assert_ne!(dot, line);
        let long = format!("ada/book/{}", "review-".repeat(8) + "a");
        assert_ne!(name(&long), name(&format!("{long}b")));
    }
}
