//! Webhooks: signed hints from where a watched repository lives, and daemons' own endpoints.
//!
//! The signature is HMAC-SHA256 over the body as it came (GitHub's scheme, or Zendesk's), checked before the
//! body is looked at and before anything is stored. No secret, or an empty one, lets nobody in. Whoever
//! is not let in is told the same, whether the thing exists or not.

pub(crate) mod deliveries;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::{DeliveryId, RepositoryId};
use domain::name::{DaemonId, RepositoryPath, SecretName};
use domain::signature::Signature;
use domain::time::Timestamp;
use engine::intake::{self, Hint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ports::store::Recorded;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value as Json_;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::doors::Server;
use crate::input::Path;
use crate::problem::Problem;

/// The secret of a watched repository that signs its webhook.
const REMOTE_SECRET: &str = "WEBHOOK_SECRET";
/// Names of the header that carries the signature.
const SIGNATURES: [&str; 2] = ["x-spellbook-signature-256", "x-hub-signature-256"];
/// The time of a call, seconds since the epoch, when the caller signs it along.
const TIMESTAMP: &str = "x-spellbook-timestamp";
/// Zendesk's signature, base64, and the time that it always signs along, RFC 3339 ("Verifying webhook
/// authenticity" in its developer documentation).
const ZENDESK: [&str; 2] = ["x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"];
/// Names of the header that carries the sender's id for a delivery.
const DELIVERIES: [&str; 5] = [
    "x-spellbook-delivery",
    "x-github-delivery",
    "x-gitea-delivery",
    "x-gitlab-event-uuid",
    "x-zendesk-webhook-invocation-id",
];
/// How old a signed time may be, and how far ahead, seconds.
const SKEW: i64 = 300;

/// A delivery that was taken in.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryJson {
    /// Whether the same was taken in before; nothing more happens then.
    duplicate: bool,
    /// Which one that was: `dlv_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
}

/// Takes the webhook of a watched repository: a hint to look at it soon.
#[utoipa::path(
    post, operation_id = "call_remote_hook", path = "/hooks/remotes/{repository}", tag = "webhooks", security(()), request_body(content = Object, description = "Any JSON object"),
    params(("repository" = String, Path, description = "`repo_…`"),
           ("X-Hub-Signature-256" = String, Header, description = "`sha256=` and the HMAC-SHA256 of the body, hexadecimal; or `X-Spellbook-Signature-256`")),
    responses((status = 202, description = "It is stored", body = DeliveryJson),
              (status = 401, description = "The signature does not hold", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn remote(
    State(server): State<Arc<Server>>,
    Path(repository): Path<String>,
    request: Request,
) -> Result<(StatusCode, axum::Json<DeliveryJson>), Problem> {
    let door = remote_door(&server, &repository).await?;
    let (hint, json) = verified(&server, request, door.as_ref().map(|(_, secret)| secret)).await?;
    let (id, _) = door.ok_or_else(refused)?;
    plausible(&json)?;
    Ok(taken(intake::remote_hint(server.world(), id, hint).await?))
}

/// Takes a call of a daemon's own endpoint, which becomes an event.
#[utoipa::path(
    post, operation_id = "call_daemon_hook", path = "/hooks/daemons/{owner}/{name}/{daemon}", tag = "webhooks", security(()), request_body(content = Object, description = "Any JSON"),
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path),
           ("X-Spellbook-Signature-256" = String, Header, description = "`sha256=` and the HMAC-SHA256 of the body, hexadecimal; or `X-Hub-Signature-256`"),
           ("X-Spellbook-Timestamp" = Option<i64>, Header, description = "Seconds since the epoch; then `timestamp.body` is what is signed, and the same body may come again")),
    responses((status = 202, description = "It is stored", body = DeliveryJson),
              (status = 401, description = "The signature does not hold", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn daemon(
    State(server): State<Arc<Server>>,
    Path((owner, name, daemon)): Path<(String, String, String)>,
    request: Request,
) -> Result<(StatusCode, axum::Json<DeliveryJson>), Problem> {
    let door = daemon_door(&server, &format!("{owner}/{name}"), &daemon).await?;
    let (hint, _) = verified(&server, request, door.as_ref().map(|door| &door.secret)).await?;
    let door = door.ok_or_else(refused)?;
    Ok(taken(intake::daemon_call(server.world(), door.repository, &door.daemon, hint).await?))
}

/// The watched repository that an address names, and its secret, if it has both.
async fn remote_door(server: &Server, id: &str) -> Result<Option<(RepositoryId, SecretString)>, Problem> {
    let Ok(id) = id.parse::<RepositoryId>() else { return Ok(None) };
    let name = REMOTE_SECRET.parse().expect("because the name of this secret is one");
    Ok(secret(server, id, &name).await?.map(|secret| (id, secret)))
}

/// A daemon's own endpoint.
struct Door {
    repository: RepositoryId,
    daemon: DaemonId,
    secret: SecretString,
}

/// The endpoint that an address names, if there is one that can be opened.
async fn daemon_door(server: &Server, path: &str, daemon: &str) -> Result<Option<Door>, Problem> {
    let (Ok(path), Ok(daemon)) = (path.parse::<RepositoryPath>(), daemon.parse::<DaemonId>()) else {
        return Ok(None);
    };
    let Some(repository) = server.store().repository_find(&path).await? else { return Ok(None) };
    let Some(name) = intake::webhook_trigger(server.world(), repository.id, &daemon).await? else {
        return Ok(None);
    };
    let secret = secret(server, repository.id, &name).await?;
    Ok(secret.map(|secret| Door { repository: repository.id, daemon, secret }))
}

async fn secret(
    server: &Server,
    repository: RepositoryId,
    name: &SecretName,
) -> Result<Option<SecretString>, Problem> {
    server.world().secrets.secret(repository, name).await.map_err(|error| {
        tracing::error!(reason = %error, "the secret of a webhook cannot be read");
        Problem::unavailable("secrets_unavailable", "this is not possible at the moment; try again shortly")
    })
}

/// Reads a body and checks its signature, then that it is JSON. What is not signed is not parsed.
async fn verified(
    server: &Server,
    request: Request,
    secret: Option<&SecretString>,
) -> Result<(Hint, Json_), Problem> {
    let (parts, body) = request.into_parts();
    // Signatures that cannot hold cost no reading.
    let signature = signature(&parts.headers).ok_or_else(refused)?;
    let signed_along = match zendesk_signature(&parts.headers) {
        Some(_) => zendesk_time(&parts.headers, server.now())?,
        None => timestamp(&parts.headers, server.now().millis() / 1000)?.map(|text| text + "."),
    };
    let body = read(body, server.settings().hook_body).await?;
    let content = content(signed_along.as_deref(), &body);
    let pieces: Vec<&[u8]> = signed(signed_along.as_deref(), &body).collect();
    if !signature.holds(secret.map(ExposeSecret::expose_secret), &pieces) {
        return Err(refused());
    }
    let external_id = delivery_id(&parts.headers)?;
    let json = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request("invalid_json", format!("the body is not JSON: {error}")))?;
    Ok((Hint { external_id, content, body }, json))
}

/// One answer for everything that is not let in.
pub(crate) fn refused() -> Problem {
    Problem::unauthorized("signature_invalid", "there is no such webhook, or the signature does not hold")
}

pub(crate) async fn read(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok(whole.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a webhook may have {} MiB", most >> 20),
        )),
        Err(_) => Err(Problem::bad_request("body_broken", "the body ended before its time")),
    }
}

/// The one signature of a request; none when there are two.
fn signature(headers: &HeaderMap) -> Option<Signature> {
    let names = SIGNATURES.iter().chain(&ZENDESK[..1]);
    if names.map(|name| headers.get_all(*name).iter().count()).sum::<usize>() != 1 {
        return None;
    }
    if let Some(value) = zendesk_signature(headers) {
        let bytes: [u8; 32] = STANDARD.decode(value).ok()?.try_into().ok()?;
        return Some(Signature::from(bytes));
    }
    Signature::parse(SIGNATURES.iter().find_map(|name| headers.get(*name))?.to_str().ok()?)
}

/// The signature of a call from Zendesk.
fn zendesk_signature(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(ZENDESK[0]).map(HeaderValue::as_bytes)
}

/// The time that Zendesk has signed, which must be there, once, and be near.
fn zendesk_time(headers: &HeaderMap, now: Timestamp) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(ZENDESK[1]).iter();
    let text = given.next().and_then(|value| value.to_str().ok()).filter(|_| given.next().is_none());
    // A moment and nothing else: a span before now would always be near.
    let text = text.filter(|text| text.contains('T')).ok_or_else(refused)?;
    let at = Timestamp::said(text, now).ok_or_else(refused)?;
    near(at.millis() / 1000, now.millis() / 1000, ZENDESK[1])?;
    Ok(Some(text.to_owned()))
}

/// The signed time, when there is one; it must be near.
fn timestamp(headers: &HeaderMap, now: i64) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(TIMESTAMP).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| given.next().is_none()).ok_or_else(refused)?;
    let at: i64 = text.parse().map_err(|_| refused())?;
    near(at, now, TIMESTAMP)?;
    Ok(Some(text.to_owned()))
}

/// Refuses a time, seconds since the epoch, that is not near: what was signed long ago is not called again.
fn near(at: i64, now: i64, header: &str) -> Result<(), Problem> {
    if now.abs_diff(at) > SKEW.unsigned_abs() {
        let message = format!("`{header}` is more than {SKEW} s away from now");
        return Err(Problem::unauthorized("timestamp_stale", message));
    }
    Ok(())
}

/// What is signed, in pieces.
fn signed<'a>(along: Option<&'a str>, body: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    along.into_iter().map(str::as_bytes).chain([body])
}

/// The hash of what is signed: the same content twice is the same delivery.
fn content(along: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for piece in signed(along, body) {
        hash.update(piece);
    }
    hash.finalize().into()
}

/// The sender's id for a delivery. It is not signed, so it only ever finds duplicates.
fn delivery_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = DELIVERIES.iter().find_map(|name| headers.get(*name)) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if !(1..=200).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::bad_request(
            "invalid_delivery_id",
            "the delivery id must be 1 to 200 visible ASCII characters",
        ));
    }
    Ok(Some(text.to_owned()))
}

/// Says no to what no forge sends. More is not asked of a hint: git is the truth.
fn plausible(json: &Json_) -> Result<(), Problem> {
    let odd = |what: &str| {
        Err(Problem::bad_request("invalid_payload", format!("{what}; is this a forge's webhook?")))
    };
    let Some(fields) = json.as_object() else { return odd("the body is not a JSON object") };
    if fields.get("repository").is_some_and(|repository| !repository.is_object()) {
        return odd("`repository` is not an object");
    }
    if fields.get("commits").is_some_and(|commits| !commits.is_array()) {
        return odd("`commits` is not a list");
    }
    Ok(())
}

pub(crate) fn taken(recorded: Recorded<DeliveryId>) -> (StatusCode, axum::Json<DeliveryJson>) {
    let first = match recorded {
        Recorded::New => None,
        Recorded::Known(first) => Some(first.to_string()),
    };
    (StatusCode::ACCEPTED, axum::Json(DeliveryJson { duplicate: first.is_some(), first }))
}
