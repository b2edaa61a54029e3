//! Live streams: server-sent events (WHATWG HTML, 9.2).
//!
//! A stream reads only as fast as its reader does, goes on after the id that the reader saw last, and
//! ends with an event `end`: after that, there is nothing to reconnect for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::effect::EffectStatus;
use domain::id::RunId;
use domain::run::RunStatus;
use futures::stream;
use ports::store::Topic;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::auth::Onlooker;
use crate::doors::Server;
use crate::input::Path;
use crate::logs::LineJson;
use crate::problem::Problem;
use crate::runs;

/// Wakeups are hints, so a stream also looks by itself, this often.
const LOOK: Duration = Duration::from_secs(2);
/// A line of comment this often keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// So many lines are read at once.
const LINES: u32 = 500;

/// Where a run is, as its stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Progress {
    /// Which run.
    run: String,
    /// `queued`, `running`, …
    status: &'static str,
    /// How many times a worker took it up.
    attempt: u32,
    /// How many stages have ended.
    stages: usize,
    /// How many effects there are, and how many of them are still to be performed.
    effects: usize,
    /// How many of them are still to be performed.
    pending: usize,
    /// What its models cost so far, billionths of a dollar.
    cost_nano_usd: i64,
}

/// Follows a run: an event `status` whenever it moves on, with all that is known, and an event `end`
/// when it has ended and everything that it wants is done.
#[utoipa::path(
    get, operation_id = "follow_run", path = "/api/v1/runs/{run}/events", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "Events; their data is `Progress`", body = Progress, content_type = "text/event-stream"))
)]
pub(crate) async fn events(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<Response, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let follow = Follow { seen: None };
    Ok(respond(Reader::new(server, run.id, &[Topic::Runs, Topic::Outbox], Kind::Progress(follow))?))
}

/// Streams the log of a run from the line after a number.
pub(crate) fn log(server: Arc<Server>, run: RunId, after: u64) -> Result<Response, Problem> {
    Ok(respond(Reader::new(server, run, &[Topic::Logs, Topic::Runs], Kind::Log { after })?))
}

/// One stream.
struct Reader {
    server: Arc<Server>,
    run: RunId,
    kind: Kind,
    wakeups: Vec<watch::Receiver<u64>>,
    closing: CancellationToken,
    ready: VecDeque<Event>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

enum Kind {
    Log { after: u64 },
    Progress(Follow),
}

struct Follow {
    seen: Option<Progress>,
}

impl Reader {
    fn new(server: Arc<Server>, run: RunId, topics: &[Topic], kind: Kind) -> Result<Self, Problem> {
        let permit = Arc::clone(&server.streams).try_acquire_owned().map_err(|_| {
            Problem::unavailable(
                "too_many_streams",
                "too many streams are open; try again later or read page by page",
            )
        })?;
        let wakeups = topics.iter().map(|topic| server.store().wakeups(*topic)).collect();
        let closing = server.doors.closing.clone();
        Ok(Self {
            server,
            run,
            kind,
            wakeups,
            closing,
            ready: VecDeque::new(),
            ended: false,
            _permit: permit,
        })
    }

    /// The next event; `None` when the stream is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended || self.closing.is_cancelled() {
                return None;
            }
            for wakeups in &mut self.wakeups {
                wakeups.mark_unchanged();
            }
            if let Err(problem) = self.look().await {
                // The reader reconnects with the id that it saw last.
                tracing::warn!(run.id = %self.run, reason = problem.detail(), "a stream of {} broke off", self.run);
                return None;
            }
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    /// Makes events of what is new.
    async fn look(&mut self) -> Result<(), Problem> {
        match &mut self.kind {
            Kind::Log { after } => {
                // The status is read before the lines: a run that had ended by then writes no more.
                let status = status(&self.server, self.run).await?;
                let lines = engine::logs::read(self.server.world(), self.run, *after, LINES).await?;
                if lines.is_empty() && status.is_final() {
                    self.ready.push_back(end(status));
                    self.ended = true;
                }
                for line in lines {
                    *after = line.number;
                    self.ready.push_back(event("line", &LineJson::from(line)).id(after.to_string()));
                }
            }
            Kind::Progress(follow) => {
                let (progress, status) = progress(&self.server, self.run).await?;
                let settled = status.is_final() && progress.pending == 0;
                if follow.seen.as_ref() != Some(&progress) {
                    self.ready.push_back(event("status", &progress));
                    follow.seen = Some(progress);
                }
                if settled {
                    self.ready.push_back(end(status));
                    self.ended = true;
                }
            }
        }
        Ok(())
    }

    /// Waits until something may be new.
    async fn wait(&mut self) {
        let changes = self.wakeups.iter_mut().map(|wakeups| {
            Box::pin(async move {
                if wakeups.changed().await.is_err() {
                    // A store that is gone tells nothing any more; the pause below still looks.
                    std::future::pending::<()>().await;
                }
            })
        });
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = futures::future::select_all(changes) => {}
        }
    }
}

async fn status(server: &Server, run: RunId) -> Result<RunStatus, Problem> {
    Ok(runs::find(server, run).await?.0.state.status())
}

async fn progress(server: &Server, run: RunId) -> Result<(Progress, RunStatus), Problem> {
    let (run, _) = runs::find(server, run).await?;
    let status = run.state.status();
    let stages = server.store().run_journal(run.id).await?.len();
    let effects = server.store().effect_list(run.id).await?;
    let pending =
        effects.iter().filter(|effect| matches!(effect.status, EffectStatus::Pending { .. })).count();
    let progress = Progress {
        run: run.id.to_string(),
        status: status.as_str(),
        attempt: run.attempt,
        stages,
        effects: effects.len(),
        pending,
        cost_nano_usd: run.cost.nanos(),
    };
    Ok((progress, status))
}

fn end(status: RunStatus) -> Event {
    event("end", &serde_json::json!({ "status": status.as_str() }))
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("because the structs here hold only texts and numbers");
    Event::default().event(name).data(data)
}

fn respond(reader: Reader) -> Response {
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies of nginx's kind would otherwise hold lines back.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}
