//! One call of a provider: send the question, read the stream. No retries here.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use ports::clock::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::{Instant, timeout_at};

use crate::class::{Class, Complaint, Fault, classify};
use crate::config::Timeouts;
use crate::dialect::{self, ANSWER_MAX, Draft, Prompt, Spoken, Stop};
use crate::gateway::Target;
use crate::ledger::{Call, Charge};
use crate::pieces::Pieces;
use crate::sse::{Event, Parser};

/// The longest answer with pictures in it, bytes.
const DRAWN_MAX: usize = 64 << 20;

/// The most that is read of an error's body, bytes.
const ERROR_MAX: usize = 64 << 10;

/// Asks the target once. What came of it is in `call` all the same when it fails.
///
/// # Errors
/// With the class that says what to do about it.
pub(crate) async fn ask(
    tools: &Tools,
    target: &Target,
    prompt: &Prompt,
    call: &mut Call,
    pieces: &mut Pieces,
) -> Result<(), Fault> {
    let provider = &target.provider;
    let Some(spoken) = Spoken::of(target, prompt) else {
        let why = match prompt.draws {
            true => "makes no pictures: its provider speaks no language for that",
            false => "makes pictures and answers no questions; ask it in an `image` stage",
        };
        return Err(Fault::new(Class::Unavailable, why));
    };
    let path = spoken.path(&target.facts.id, prompt)?;
    let connection = provider.connect(spoken.dialect(), &path, &tools.http).await?;
    let mut url = connection.url.clone();
    url.set_query(spoken.query(prompt));
    let request = tools.http.post(url).headers(connection.headers.clone());
    let request = match spoken.form(target, prompt) {
        Some(form) => request.header(CONTENT_TYPE, form.content_type).body(form.bytes),
        None => request.json(&spoken.body(target, prompt)),
    };
    let mut limits = provider.timeouts;
    let mut longest = ANSWER_MAX;
    if prompt.draws {
        // A picture comes whole, and late.
        limits.first_byte = limits.first_byte.saturating_mul(3);
        longest = DRAWN_MAX;
    }
    call.bill.charge = Charge::Sent;
    let reading = Reading {
        dialect: spoken,
        deadlines: Deadlines::begin(limits),
        longest,
        clock: tools.clock.as_ref(),
    };
    let result = reading.exchange(request, call, pieces).await;
    let result = result.and_then(|()| finished(&call.draft));
    if let (Err(fault), Some(slot)) = (&result, &connection.slot)
        && matches!(fault.class, Class::Transient | Class::StreamBroken)
    {
        slot.report_broken(&tools.http).await;
    }
    result.map_err(|fault| Fault { message: connection.redact(&fault.message), ..fault })
}

/// What calls are made with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) http: reqwest::Client,
    pub(crate) clock: std::sync::Arc<dyn Clock>,
}

/// How one answer is read.
struct Reading<'a> {
    dialect: Spoken,
    deadlines: Deadlines,
    /// The most that is read of an answer in one piece, bytes.
    longest: usize,
    clock: &'a dyn Clock,
}

impl Reading<'_> {
    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
        call: &mut Call,
        pieces: &mut Pieces,
    ) -> Result<(), Fault> {
        let response = match self.deadlines.first(request.send()).await? {
            Ok(response) => response,
            Err(error) => {
                if error.is_connect() || error.is_builder() {
                    call.bill.charge = Charge::Refused;
                }
                return Err(unanswered(&error));
            }
        };
        if response.status().as_u16() != 200 {
            call.bill.charge = Charge::Refused;
            return Err(self.refused(response).await);
        }
        if is_json(response.headers()) {
            let whole = read_all(&mut response.bytes_stream(), &self.deadlines, self.longest).await?;
            dialect::read_whole(self.dialect, &whole, &mut call.draft)?;
            call.draft.first_at = Some(Instant::now());
            pieces.send(&call.draft.text);
            return Ok(());
        }
        self.stream(&mut response.bytes_stream(), &mut call.draft, pieces).await
    }

    async fn stream(
        &self,
        body: &mut (impl futures::Stream<Item = reqwest::Result<Bytes>> + Unpin),
        draft: &mut Draft,
        pieces: &mut Pieces,
    ) -> Result<(), Fault> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let mut begun = false;
        while !draft.done {
            let next = body.next();
            let next = if begun { self.deadlines.next(next).await } else { self.deadlines.first(next).await };
            let chunk = match next.and_then(|chunk| chunk.transpose().map_err(|_| cut_off())) {
                Ok(Some(chunk)) => chunk,
                // What is missing after the reason to stop is at most the usage.
                Err(_) if draft.stop.is_some() => break,
                Ok(None) => break,
                Err(fault) => return Err(fault),
            };
            begun = true;
            draft.first_at.get_or_insert_with(Instant::now);
            parser.push(&chunk, &mut events).map_err(|_| broken("sent an event that is too large"))?;
            for event in events.drain(..) {
                self.event(&event, draft, pieces)?;
            }
        }
        match parser.finish() {
            Some(event) if !draft.done => self.event(&event, draft, pieces),
            _ => Ok(()),
        }
    }

    fn event(&self, event: &Event, draft: &mut Draft, pieces: &mut Pieces) -> Result<(), Fault> {
        let before = draft.text.len();
        dialect::read_event(self.dialect, event, draft)?;
        // It is shorter where words before a call were dropped.
        pieces.send(draft.text.get(before..).unwrap_or_default());
        Ok(())
    }

    async fn refused(&self, response: reqwest::Response) -> Fault {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock);
        let body =
            read_all(&mut response.bytes_stream(), &self.deadlines, ERROR_MAX).await.unwrap_or_default();
        let complaint = Complaint::read(&body);
        let words = match (complaint.message.as_str(), complaint.code.as_str()) {
            ("", "") => String::new(),
            ("", code) => format!(": {code}"),
            (message, _) => format!(": {message}"),
        };
        let hint = if (300..400).contains(&status) {
            "; redirects are not followed, check its base_url"
        } else {
            ""
        };
        let message = format!("answered {status}{words}{hint}");
        Fault { retry_after, ..Fault::new(classify(status, &complaint), message) }
    }
}

/// Whether the answer is whole. Some servers forget the mark at the end; a reason to stop is as good.
fn finished(draft: &Draft) -> Result<(), Fault> {
    match draft.stop {
        Some(Stop::Refusal) => Err(Fault::new(Class::Content, "refused to answer")),
        Some(Stop::End | Stop::Length) => Ok(()),
        None if draft.done && draft.written() > 0 => Ok(()),
        None => Err(broken("its answer broke off before its end")),
    }
}

pub(crate) fn broken(message: &str) -> Fault {
    Fault::new(Class::StreamBroken, message)
}

pub(crate) fn cut_off() -> Fault {
    broken("its answer broke off: the connection was cut")
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"))
}

/// What an error of the connection means. Its own words have the address in them, and no more than
/// these.
pub(crate) fn unanswered(error: &reqwest::Error) -> Fault {
    if error.is_builder() {
        return Fault::new(Class::Request, "cannot be asked: the request cannot be built");
    }
    let what =
        if error.is_connect() { "cannot be reached" } else { "did not answer: the connection was cut" };
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    let why = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::new(Class::Transient, format!("{what}{why}"))
}

pub(crate) async fn read_all(
    body: &mut (impl futures::Stream<Item = reqwest::Result<Bytes>> + Unpin),
    deadlines: &Deadlines,
    most: usize,
) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    while let Some(chunk) = deadlines.next(body.next()).await? {
        let chunk = chunk.map_err(|_| cut_off())?;
        if all.len() + chunk.len() > most {
            return Err(Fault::new(Class::Request, format!("its answer is longer than {} KiB", most >> 10)));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// How long a provider asks to wait: `retry-after-ms`, else `Retry-After` in seconds or as a date
/// (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, clock: &dyn Clock) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number =
        |name: &str| text(name)?.parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..1e9).contains(n));
    if let Some(millis) = number("retry-after-ms") {
        return Some(Duration::from_secs_f64(millis / 1_000.0));
    }
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs_f64(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text("retry-after")?).ok()?;
    let millis = date.as_millisecond().saturating_sub(clock.now().millis());
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// Until when which part of an answer must be there.
pub(crate) struct Deadlines {
    limits: Timeouts,
    first: Instant,
    total: Instant,
}

impl Deadlines {
    pub(crate) fn begin(limits: Timeouts) -> Self {
        let now = Instant::now();
        // A limit beyond the end of time is none.
        let after =
            |span: Duration| now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365));
        Self { limits, first: after(limits.first_byte.min(limits.total)), total: after(limits.total) }
    }

    /// Waits for the first part.
    pub(crate) async fn first<T>(&self, part: impl Future<Output = T>) -> Result<T, Fault> {
        timeout_at(self.first, part).await.map_err(|_| {
            Fault::new(
                Class::Transient,
                format!("did not begin to answer within {:?}", self.limits.first_byte.min(self.limits.total)),
            )
        })
    }

    /// Waits for a further part.
    pub(crate) async fn next<T>(&self, part: impl Future<Output = T>) -> Result<T, Fault> {
        let stalled = Instant::now().checked_add(self.limits.stall).unwrap_or(self.total);
        timeout_at(stalled.min(self.total), part).await.map_err(|_| {
            let why = if stalled < self.total {
                format!("its answer stopped for {:?}", self.limits.stall)
            } else {
                format!("its answer took longer than {:?}", self.limits.total)
            };
            Fault::new(Class::StreamBroken, why)
        })
    }
}
