//! Requests for models: who asks, what for, and whether they may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::attempt::Question;
use super::form;
use super::judge::Asked;
use super::refusal::{Answer, Refusal, json_answer, whole};
use super::route::{Call, Kind, Route};
use super::token::{self, Query};
use super::visit::Shared;
use crate::gateway::Target;

/// The largest body of a request, bytes.
const BODY_MAX: usize = 32 << 20;

/// How long a body may take to come, and to wait for memory before.
const BODY_TIME: Duration = Duration::from_secs(60);

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

async fn ask(
    visit: &Arc<Shared>,
    call: &Call,
    query: Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let (body, _memory) = read(visit, &head.headers, body).await?;
    let (asked, content_type) = judge(visit, call, &head.headers, &body)?;
    let targets = visit.chosen(call, &asked).await?;
    let place = Arc::clone(&visit.calls).acquire_owned().await.map_err(|_| Refusal::no_token())?;
    if call.kind != Kind::Count && !visit.take_call() {
        return Err(Refusal::spent("call_limit", "this run has made as many calls of models as it may"));
    }
    let (headers, query) = (&head.headers, &query);
    let question = Question { visit, call, asked: &asked, query, headers, content_type, body: &body };
    question.put_to(&targets, place).await
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

/// Judges what is asked for. With what comes of it is the type of the body, as it goes on.
fn judge(
    visit: &Shared,
    call: &Call,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Asked, HeaderValue), Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = if call.kind == Kind::Edits { form::boundary(content_type) } else { None };
    let asked = match boundary {
        Some(boundary) => Asked::form(body, boundary)?,
        None => Asked::json(call, body)?,
    };
    if visit.target(&asked.model, call.dialect).is_none() {
        return Err(not_one_of(visit, call, &asked.model));
    }
    if let Some(tool) = asked.tools.iter().find(|tool| !visit.provider_tools.contains(tool)) {
        let why = format!(
            "the tool `{tool}` runs at the provider, outside the sandbox, and is not granted to this run"
        );
        return Err(Refusal::forbidden("tool_not_allowed", why));
    }
    // What was judged as JSON is sent as JSON, whatever it was called.
    let content_type = match boundary.and_then(|_| headers.get(CONTENT_TYPE)) {
        Some(form) => form.clone(),
        None => HeaderValue::from_static("application/json"),
    };
    Ok((asked, content_type))
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
