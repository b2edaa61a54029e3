//! Calls of models: judge, set money aside, ask the provider, pass the answer on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::Edit;
use super::book::OpenCall;
use super::form;
use super::judge::Asked;
use super::meter::Meter;
use super::refusal::{Answer, Refusal, json_answer, whole};
use super::relay::{Parts, Relay};
use super::route::{Call, Kind, Route};
use super::token::{self, Query};
use super::visit::Shared;
use crate::budget::set_aside;
use crate::call::{Deadlines, read_all, unanswered};
use crate::class::{Class, Complaint, Fault, classify};
use crate::config::Dialect;
use crate::gateway::Target;
use crate::ledger::{Bill, Charge, estimate};
use crate::provider::Connection;

/// The largest body of a request, bytes.
const BODY_MAX: usize = 32 << 20;

/// How long a body may take to come, and to wait for memory before.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The most that is read of an error's body, bytes.
const ERROR_MAX: usize = 64 << 10;

/// Answers a request that is neither for another host nor a tunnel.
pub(super) async fn answer(visit: &Arc<Shared>, request: Request<Incoming>, door: SocketAddr) -> Answer {
    let path = request.uri().path().to_owned();
    let dialect = Route::dialect_of(&path);
    match answered(visit, request, door).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let shown: String = path.chars().take(200).collect();
            tracing::info!(visit.name = %visit.name, visit.path = ?shown, visit.code = refusal.code, "a request of {} is refused: {}", visit.name, refusal.code);
            refusal.answer(dialect)
        }
    }
}

async fn answered(
    visit: &Arc<Shared>,
    request: Request<Incoming>,
    door: SocketAddr,
) -> Result<Answer, Refusal> {
    if request.headers().contains_key(UPGRADE) {
        return Err(Refusal::not_found("there are no web sockets here; use plain HTTP"));
    }
    is_for_us(&request, door)?;
    let route = Route::of(request.method(), request.uri().path());
    let Some(route) = route else {
        let why = "this door leads to models only (chat completions, responses, messages, Gemini, images) and, as a proxy, to the hosts of `permissions.network.allowed`";
        return Err(Refusal::forbidden("path_not_allowed", why));
    };
    let query = Query::of(request.uri().query());
    if route == Route::Probe {
        return Ok(Response::new(whole(Bytes::new())));
    }
    if visit.over.is_cancelled() || !token::is_shown(&visit.token, request.headers(), &query) {
        return Err(Refusal::no_token());
    }
    match route {
        Route::Probe | Route::Models => Ok(json_answer(StatusCode::OK, &models(visit))),
        Route::Call(call) => ask(visit, &call, query, request).await,
    }
}

/// Whether the request is meant for this door, as far as it says: one host, and this one.
fn is_for_us(request: &Request<Incoming>, door: SocketAddr) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let ours = [format!("{door}"), format!("localhost:{}", door.port())];
    let is_ours =
        first.and_then(|host| host.to_str().ok()).is_some_and(|host| ours.iter().any(|own| own == host));
    // Of two lengths hyper takes the chunks, drops the other, and we frame anew.
    if second.is_some() || request.version() != Version::HTTP_11 {
        return Err(Refusal::malformed("the request is not plain HTTP/1.1 with one host"));
    }
    if is_ours {
        Ok(())
    } else {
        Err(Refusal::forbidden("host_not_allowed", format!("this is {door} and no other host")))
    }
}

/// The models that may be asked, in a form that OpenAI's and Anthropic's clients both read.
fn models(visit: &Shared) -> Value {
    let entry = |target: &Target| {
        json!({
            "id": target.requested, "object": "model", "created": 0, "owned_by": target.provider.name,
            "type": "model", "display_name": target.requested, "created_at": "1970-01-01T00:00:00Z"
        })
    };
    let data: Vec<Value> = visit.names(None).map(entry).collect();
    let end = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone()).unwrap_or_default();
    json!({
        "object": "list", "has_more": false, "first_id": end(data.first()), "last_id": end(data.last()), "data": data
    })
}

/// A call that may be made.
struct Admitted {
    target: Target,
    asked: Asked,
    body: Bytes,
    content_type: HeaderValue,
}

async fn ask(
    visit: &Arc<Shared>,
    call: &Call,
    query: Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let (body, memory) = read(visit, &head.headers, body).await?;
    let admitted = admit(visit, call, &head.headers, &body).await?;
    drop(body);
    let place = Arc::clone(&visit.calls).acquire_owned().await.map_err(|_| Refusal::no_token())?;
    if call.kind != Kind::Count && !visit.take_call() {
        return Err(Refusal::spent("call_limit", "this run has made as many calls of models as it may"));
    }
    let target = &admitted.target;
    let name = target.to_string();
    let most = if call.kind == Kind::Count { Default::default() } else { admitted.asked.most(target) };
    let reserved = set_aside(&*visit.till, target, &most).await;
    let reservation = reserved.map_err(|fault| Refusal::of(&name, &fault))?;
    let bill = Bill::of(target, visit.names(Some(call.dialect)), admitted.asked.bytes(), reservation);
    let open = visit.book.open(bill, Meter::new(call.dialect, admitted.asked.pictures(target)));
    let open = open.ok_or_else(Refusal::no_token)?;
    let deadlines = Deadlines::begin(target.provider.timeouts);
    let path = call.path(&target.facts.id);
    let connected = target.provider.connect(call.dialect, &path, visit.gateway.http()).await;
    let mut connection = connected.map_err(|fault| Refusal::of(&name, &fault))?;
    let sending = Sending { visit, call, open: &open, deadlines: &deadlines, name: &name };
    let headers = headers(&head.headers, &connection, admitted.content_type);
    let response = sending.send(&mut connection, headers, &query, admitted.body).await?;
    drop(memory);
    let status = response.status();
    if !status.is_success() {
        sending.charge(Charge::Refused);
        sending.open.failed(classify(status.as_u16(), &Complaint::default()));
        return match (call.kind, status.as_u16()) {
            (Kind::Count, 404 | 405 | 501) => Ok(estimated(call.dialect, admitted.asked.bytes())),
            _ => Ok(sending.refused(response, &connection).await),
        };
    }
    let parts =
        Parts { call: open, deadlines, dialect: call.dialect, target: name, slot: connection.slot, place };
    Ok(passed(parts, response, call.kind))
}

/// Reads the body of a request, within bounds. The memory is kept as long as the permit.
async fn read(
    visit: &Shared,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Refusal::malformed("the body is compressed; send it as it is"));
    }
    let most = body.size_hint().upper().map_or(BODY_MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let too_large = || Refusal::too_large(format!("the body is longer than {} MiB", BODY_MAX >> 20));
    if most > BODY_MAX {
        return Err(too_large());
    }
    let reading = async {
        let kib = u32::try_from(most.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let memory =
            Arc::clone(&visit.bodies).acquire_many_owned(kib).await.map_err(|_| Refusal::no_token())?;
        match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => Ok((body.to_bytes(), memory)),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Refusal::malformed("the body broke off")),
        }
    };
    timeout(BODY_TIME, reading)
        .await
        .unwrap_or_else(|_| Err(Refusal::malformed("the body took too long to come")))
}

/// Judges what is asked for.
async fn admit(visit: &Shared, call: &Call, headers: &HeaderMap, body: &Bytes) -> Result<Admitted, Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = if call.kind == Kind::Edits { form::boundary(content_type) } else { None };
    let asked = match boundary {
        Some(boundary) => Asked::form(body, boundary)?,
        None => Asked::json(call, body)?,
    };
    let target =
        visit.target(&asked.model, call.dialect).ok_or_else(|| not_one_of(visit, call, &asked.model))?;
    if let Some(tool) = asked.tools.iter().find(|tool| !visit.provider_tools.contains(tool)) {
        let why = format!(
            "the tool `{tool}` runs at the provider, outside the sandbox, and is not granted to this run"
        );
        return Err(Refusal::forbidden("tool_not_allowed", why));
    }
    let edits = asked.edits(target, visit.till.is_bounded().await);
    let body = if edits.is_empty() { body.clone() } else { Edit::apply(body, edits).into() };
    // What was judged as JSON is sent as JSON, whatever it was called.
    let content_type = match boundary.and_then(|_| headers.get(CONTENT_TYPE)) {
        Some(form) => form.clone(),
        None => HeaderValue::from_static("application/json"),
    };
    Ok(Admitted { target: target.clone(), asked, body, content_type })
}

fn not_one_of(visit: &Shared, call: &Call, model: &str) -> Refusal {
    let shown: String = model.chars().filter(|c| !c.is_control()).take(80).collect();
    let names: Vec<&str> = visit.names(Some(call.dialect)).map(|target| target.requested.as_str()).collect();
    let may = match names.as_slice() {
        [] => format!("it may ask none in {}", call.dialect),
        names => format!("it may ask {}", names.join(", ")),
    };
    Refusal::forbidden(
        "model_not_allowed",
        format!("the model `{shown}` is not one of this run's in {}; {may}", call.dialect),
    )
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
    headers.insert(hyper::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// A call on its way.
struct Sending<'a> {
    visit: &'a Shared,
    call: &'a Call,
    open: &'a OpenCall,
    deadlines: &'a Deadlines,
    name: &'a str,
}

impl Sending<'_> {
    async fn send(
        &self,
        connection: &mut Connection,
        headers: HeaderMap,
        query: &Query,
        body: Bytes,
    ) -> Result<reqwest::Response, Refusal> {
        if !query.kept.is_empty() {
            connection.url.query_pairs_mut().extend_pairs(&query.kept);
        }
        let http = self.visit.gateway.http();
        let request = http.post(connection.url.clone()).headers(headers).body(body);
        self.charge(Charge::Sent);
        let response = match self.deadlines.first(request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if error.is_connect() || error.is_builder() {
                    self.charge(Charge::Refused);
                }
                let fault = unanswered(&error);
                self.open.failed(fault.class);
                return Err(Refusal::of(
                    self.name,
                    &Fault { message: connection.redact(&fault.message), ..fault },
                ));
            }
            Err(fault) => {
                self.open.failed(fault.class);
                return Err(Refusal::silent(format!("{} {}", self.name, fault.message)));
            }
        };
        if response.status().is_redirection() {
            self.charge(Charge::Refused);
            self.open.failed(Class::Unavailable);
            let why =
                format!("{} answered {}; redirects are not followed", self.name, response.status().as_u16());
            return Err(Refusal::upstream(why));
        }
        Ok(response)
    }

    /// Nobody charges for counting, so it has no row.
    fn charge(&self, charge: Charge) {
        if self.call.kind != Kind::Count {
            self.open.charge(charge);
        }
    }

    /// A provider's own error, without the key that some of them quote.
    async fn refused(&self, response: reqwest::Response, connection: &Connection) -> Answer {
        let status = response.status();
        tracing::warn!(model = %self.name, model.status = status.as_u16(), "model {} answered {}", self.name, status.as_u16());
        let headers = answer_headers(response.headers());
        let body =
            read_all(&mut response.bytes_stream(), self.deadlines, ERROR_MAX).await.unwrap_or_default();
        let body = match String::from_utf8(body) {
            Ok(text) => Bytes::from(connection.redact(&text)),
            Err(_) => Bytes::new(),
        };
        let mut answer = Response::new(whole(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer.headers_mut().remove(hyper::header::CONTENT_LENGTH);
        answer
    }
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
    let length = hyper::header::CONTENT_LENGTH;
    let goes = |name: &HeaderName| {
        *name == length
            || !(OURS.contains(&name.as_str()) || token::is_of_the_connection(name) || named.contains(name))
    };
    let mut kept = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| goes(name)) {
        kept.append(name, value.clone());
    }
    kept
}

fn passed(parts: Parts, response: reqwest::Response, kind: Kind) -> Answer {
    let mut headers = answer_headers(response.headers());
    let kind_of = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_stream = kind_of.starts_with("text/event-stream") && kind != Kind::Count;
    if is_stream {
        // What is said at the end of a stream that breaks is not counted by anyone.
        headers.remove(hyper::header::CONTENT_LENGTH);
    }
    let status = response.status();
    let mut answer = Response::new(Relay::body(parts, response, is_stream));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// How many tokens a question has, where the provider does not count.
fn estimated(dialect: Dialect, bytes: usize) -> Answer {
    let tokens = estimate(bytes);
    let body = match dialect {
        Dialect::Gemini => json!({ "totalTokens": tokens }),
        _ => json!({ "input_tokens": tokens }),
    };
    json_answer(StatusCode::OK, &body)
}
