//! Logs of runs: in parts as JSON, or live as server-sent events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use ports::store::logs::LogLine;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Onlooker;
use crate::doors::Server;
use crate::input::Path;
use crate::page::{Listing, NoFilter, PageParams, Part};
use crate::problem::Problem;
use crate::{runs, sse};

/// A line of a log.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LineJson {
    /// Its number in the run, from 1.
    pub(crate) number: u64,
    /// Which stage wrote it.
    stage: String,
    /// `stdout`, `stderr`, `model` or `server`.
    source: &'static str,
    /// Text without the line's end.
    text: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
}

impl From<LogLine> for LineJson {
    fn from(line: LogLine) -> Self {
        Self {
            number: line.number,
            stage: line.line.stage.to_string(),
            source: line.line.source.as_str(),
            text: line.line.text,
            at: line.line.at.to_string(),
        }
    }
}

/// Shows the log of a run. With `Accept: text/event-stream` it is live: an event `line` for each line,
/// with the line's number as its id, and an event `end` when the run has ended; `Last-Event-ID` goes
/// on after that line.
#[utoipa::path(
    get, operation_id = "read_logs", path = "/api/v1/runs/{run}/logs", tag = "runs",
    params(("run" = String, Path), ("Last-Event-ID" = Option<u64>, Header, description = "Only live: the last line that was seen"), PageParams),
    responses((status = 200, description = "Lines; `after` is a line's number", content(
        (Part<LineJson> = "application/json"), (String = "text/event-stream"))))
)]
pub(crate) async fn read(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
    headers: HeaderMap,
    listing: Listing<NoFilter>,
) -> Result<Response, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let after = listing.number()?;
    if wants_stream(&headers) {
        let after = last_event_id(&headers)?.unwrap_or(after);
        return sse::log(server, run.id, after);
    }
    let lines = engine::logs::read(server.world(), run.id, after, listing.limit() + 1).await?;
    let part = listing.part(lines, |line| line.number.to_string());
    Ok(part.map(LineJson::from).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Problem::bad_request("invalid_cursor", "`Last-Event-ID` must be a line's number"))
}
