//! One question of a program, put to one target after the other until an answer begins: set money aside,
//! send, and look whether it does. Once a piece of an answer has gone on to the program, nobody else is asked.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::body::Edit;
use super::book::OpenCall;
use super::judge::Asked;
use super::meter::Meter;
use super::refusal::{Answer, Refusal, json_answer, whole};
use super::relay::{Parts, Relay};
use super::route::{Call, Kind};
use super::token::{self, Query};
use super::visit::Shared;
use crate::budget::{Most, set_aside};
use crate::call::{Deadlines, broken, cut_off, read_all, retry_after, unanswered};
use crate::class::{Class, Complaint, Fault, Next, classify};
use crate::config::Dialect;
use crate::dialect::{Draft, Spoken, read_event};
use crate::gateway::Target;
use crate::ledger::{Bill, Charge, estimate};
use crate::provider::Connection;
use crate::sse::Parser;

/// The most that is read of an error's body, bytes.
const ERROR_MAX: usize = 64 << 10;

/// The pieces of an answer as they come.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// A question that was judged.
pub(super) struct Question<'a> {
    pub(super) visit: &'a Arc<Shared>,
    pub(super) call: &'a Call,
    pub(super) asked: &'a Asked,
    pub(super) query: &'a Query,
    /// The program's headers.
    pub(super) headers: &'a HeaderMap,
    pub(super) content_type: HeaderValue,
    pub(super) body: &'a Bytes,
}

/// One target's turn.
struct Attempt<'a> {
    question: &'a Question<'a>,
    target: &'a Target,
    /// `provider/model`.
    name: String,
    /// Which turn it is, from 1.
    number: u32,
    /// Whether there is another target to go to.
    has_next: bool,
}

/// An answer that begins.
struct Begun {
    parts: Parts,
    status: StatusCode,
    headers: HeaderMap,
    pieces: Pieces,
}

/// An answer that does not.
struct Failed {
    fault: Fault,
    /// What the program is told when nobody else is asked: the provider's own words, or ours.
    said: Result<Answer, Refusal>,
}

impl Question<'_> {
    /// Asks one after the other. What the last one said is what the program is told.
    pub(super) async fn put_to(
        &self,
        targets: &[Target],
        place: OwnedSemaphorePermit,
    ) -> Result<Answer, Refusal> {
        let mut too_small = None;
        let mut said = Err(Refusal::upstream("no model is left to ask"));
        for (number, target) in (1..).zip(targets) {
            if target.reads_no_more_than(too_small) {
                continue;
            }
            let has_next = targets.len() > number as usize;
            let attempt = Attempt { question: self, target, name: target.to_string(), number, has_next };
            let failed = match attempt.make().await {
                Ok(begun) => {
                    self.visit.keep(target);
                    return Ok(begun.pass(place, self.call.kind));
                }
                Err(failed) => failed,
            };
            tracing::warn!(model = %target, model.class = ?failed.fault.class, "model {target} failed: {:?}", failed.fault.class);
            said = failed.said;
            match failed.fault.class.policy().next {
                Next::Stop => break,
                Next::Any => {}
                Next::Larger => too_small = too_small.max(target.context()),
            }
        }
        said
    }
}

impl Attempt<'_> {
    async fn make(&self) -> Result<Begun, Failed> {
        let Question { visit, call, asked, .. } = *self.question;
        let provider = &self.target.provider;
        let is_counted = call.kind != Kind::Count;
        let most = if is_counted { asked.most(self.target) } else { Most::default() };
        let reserved = set_aside(&*visit.till, self.target, &most).await;
        let reservation = reserved.map_err(|fault| self.failed(fault))?;
        let mut bill = Bill::of(self.target, visit.names(Some(call.dialect)), asked.bytes(), reservation);
        bill.attempt = self.number;
        let open = visit.book.open(bill, Meter::new(call.dialect, asked.pictures(self.target)));
        let over = Refusal::no_token;
        let open =
            open.ok_or_else(|| Failed { fault: Fault::new(Class::Local, "is over"), said: Err(over()) })?;
        let tokens = most.read.saturating_add(most.written);
        let ward = &visit.gateway.asker().ward;
        let asking = is_counted.then(|| ward.asks(&provider.name, &self.target.key(), tokens));
        match self.exchange(open).await {
            Ok(mut begun) => {
                begun.parts.asking = asking;
                Ok(begun)
            }
            Err(failed) => {
                if let Some(asking) = asking {
                    asking.failed(&failed.fault);
                }
                Err(failed)
            }
        }
    }

    async fn exchange(&self, open: OpenCall) -> Result<Begun, Failed> {
        let Question { visit, call, asked, .. } = *self.question;
        let provider = &self.target.provider;
        let path = call.path(&self.target.facts.id);
        let connected = provider.connect(call.dialect, &path, visit.gateway.http()).await;
        let mut connection = connected.map_err(|fault| self.failed(fault))?;
        let edits = asked.edits(self.target, visit.till.is_bounded().await);
        let whole = self.question.body;
        let body = if edits.is_empty() { whole.clone() } else { Edit::apply(whole, edits).into() };
        let begun = Instant::now();
        let deadlines = Deadlines::begin(provider.timeouts);
        let response = self.send(&open, &deadlines, &mut connection, body).await?;
        if !response.status().is_success() {
            self.charge(&open, Charge::Refused);
            let failed = self.refused(response, &connection, &deadlines).await;
            open.failed(failed.fault.class);
            return Err(failed);
        }
        let (status, headers) = (response.status(), answer_headers(response.headers()));
        let mut pieces: Pieces = Box::pin(response.bytes_stream());
        if self.has_next {
            pieces = self.begins(&open, &deadlines, &headers, pieces).await?;
        }
        let parts = Parts {
            call: open,
            deadlines,
            dialect: call.dialect,
            target: self.name.clone(),
            slot: connection.slot,
            asking: None,
            begun,
        };
        Ok(Begun { parts, status, headers, pieces })
    }

    async fn send(
        &self,
        open: &OpenCall,
        deadlines: &Deadlines,
        connection: &mut Connection,
        body: Bytes,
    ) -> Result<reqwest::Response, Failed> {
        let Question { visit, query, headers: from, ref content_type, .. } = *self.question;
        if !query.kept.is_empty() {
            connection.url.query_pairs_mut().extend_pairs(&query.kept);
        }
        let headers = headers(from, connection, content_type.clone());
        let request = visit.gateway.http().post(connection.url.clone()).headers(headers).body(body);
        self.charge(open, Charge::Sent);
        let response = match deadlines.first(request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if error.is_connect() || error.is_builder() {
                    self.charge(open, Charge::Refused);
                }
                let fault = unanswered(&error);
                open.failed(fault.class);
                let message = connection.redact(&fault.message);
                return Err(self.failed(Fault { message, ..fault }));
            }
            Err(fault) => {
                open.failed(fault.class);
                let said = Err(Refusal::silent(format!("{} {}", self.name, fault.message)));
                return Err(Failed { fault, said });
            }
        };
        if response.status().is_redirection() {
            self.charge(open, Charge::Refused);
            open.failed(Class::Unavailable);
            let why = format!("answered {}; redirects are not followed", response.status().as_u16());
            let said = Err(Refusal::upstream(format!("{} {why}", self.name)));
            return Err(Failed { fault: Fault::new(Class::Unavailable, why), said });
        }
        Ok(response)
    }

    /// Waits for the first piece of an answer: until it has gone on, another target may still be asked.
    async fn begins(
        &self,
        open: &OpenCall,
        deadlines: &Deadlines,
        headers: &HeaderMap,
        mut pieces: Pieces,
    ) -> Result<Pieces, Failed> {
        let first = deadlines.first(pieces.next()).await;
        let first = first.and_then(|piece| match piece {
            Some(Ok(piece)) => Ok(piece),
            Some(Err(_)) => Err(cut_off()),
            None => Err(broken("its answer ended before it began")),
        });
        let is_stream = is_stream(headers, self.question.call.kind);
        let fault = match first {
            Ok(piece) => match self.complaint(&piece).filter(|_| is_stream) {
                None => return Ok(Box::pin(stream::iter([Ok(piece)]).chain(pieces))),
                Some(fault) => {
                    open.begins(is_stream);
                    // It is read for what was used; that it is too large is of no matter any more.
                    let _ = open.passes(&piece);
                    fault
                }
            },
            Err(fault) => fault,
        };
        open.failed(fault.class);
        Err(self.failed(fault))
    }

    /// An error that a stream begins with, where it is one for which another target is asked.
    fn complaint(&self, piece: &[u8]) -> Option<Fault> {
        let (mut parser, mut events, mut draft) = (Parser::default(), Vec::new(), Draft::default());
        parser.push(piece, &mut events).ok()?;
        let spoken = Spoken::in_dialect(self.question.call.dialect);
        let fault = events.iter().find_map(|event| read_event(spoken, event, &mut draft).err())?;
        // What is no JSON may be of a form that only the program knows.
        let is_said =
            events.iter().all(|event| serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok());
        (is_said && fault.class.policy().next != Next::Stop).then_some(fault)
    }

    /// A provider's own error, without the key that some of them quote.
    async fn refused(
        &self,
        response: reqwest::Response,
        connection: &Connection,
        deadlines: &Deadlines,
    ) -> Failed {
        let status = response.status();
        let mut headers = answer_headers(response.headers());
        headers.remove(CONTENT_LENGTH);
        let wait = retry_after(response.headers(), &*self.question.visit.gateway.asker().tools.clock);
        let body = read_all(&mut response.bytes_stream(), deadlines, ERROR_MAX).await.unwrap_or_default();
        let class = classify(status.as_u16(), &Complaint::read(&body));
        let fault = Fault { retry_after: wait, ..Fault::new(class, format!("answered {}", status.as_u16())) };
        if self.question.call.kind == Kind::Count && matches!(status.as_u16(), 404 | 405 | 501) {
            return Failed { fault, said: Ok(self.estimated()) };
        }
        let body = match String::from_utf8(body) {
            Ok(text) => Bytes::from(connection.redact(&text)),
            Err(_) => Bytes::new(),
        };
        let mut answer = Response::new(whole(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Failed { fault, said: Ok(answer) }
    }

    /// How many tokens a question has, where the provider does not count.
    fn estimated(&self) -> Answer {
        let tokens = estimate(self.question.asked.bytes());
        let body = match self.question.call.dialect {
            Dialect::Gemini => json!({ "totalTokens": tokens }),
            _ => json!({ "input_tokens": tokens }),
        };
        json_answer(StatusCode::OK, &body)
    }

    fn failed(&self, fault: Fault) -> Failed {
        let said = Err(Refusal::of(&self.name, &fault));
        Failed { fault, said }
    }

    /// Nobody charges for counting, so it has no row.
    fn charge(&self, open: &OpenCall, charge: Charge) {
        if self.question.call.kind != Kind::Count {
            open.charge(charge);
        }
    }
}

impl Begun {
    fn pass(self, place: OwnedSemaphorePermit, kind: Kind) -> Answer {
        let Self { parts, status, mut headers, pieces } = self;
        let is_stream = is_stream(&headers, kind);
        if is_stream {
            // What is said at the end of a stream that breaks is not counted by anyone.
            headers.remove(CONTENT_LENGTH);
        }
        let mut answer = Response::new(Relay::body(parts, pieces, is_stream, place));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer
    }
}

fn is_stream(headers: &HeaderMap, kind: Kind) -> bool {
    let kind_of = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind_of.starts_with("text/event-stream") && kind != Kind::Count
}

/// The headers that go to the provider: the program's, under the provider's own.
fn headers(from: &HeaderMap, connection: &Connection, content_type: HeaderValue) -> HeaderMap {
    let mut headers = token::kept(from);
    let version = HeaderName::from_static("anthropic-version");
    for (name, value) in &connection.headers {
        if *name != version || !headers.contains_key(&version) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The headers of an answer that go on.
fn answer_headers(headers: &HeaderMap) -> HeaderMap {
    // Whose account it is, and what a browser would keep.
    const OURS: [&str; 6] = [
        "set-cookie",
        "alt-svc",
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "server",
    ];
    let named = token::named_by_connection(headers);
    let goes = |name: &HeaderName| {
        *name == CONTENT_LENGTH
            || !(OURS.contains(&name.as_str()) || token::is_of_the_connection(name) || named.contains(name))
    };
    let mut kept = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| goes(name)) {
        kept.append(name, value.clone());
    }
    kept
}
