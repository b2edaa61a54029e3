//! `call-webhook`: an address is told, with a signature as this server itself wants it from others.

use std::time::Duration;

use bytes::Bytes;
use domain::effect::{Effect, EffectKind, Receipt};
use domain::signature::Signature;
use ports::Retry;
use ports::forge::ForgeError;
use ports::web::WebRequest;
use secrecy::ExposeSecret;

use crate::world::World;

/// The longest a call may take; shorter than an effect is held.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read, bytes; nothing is made of it.
const LONGEST_ANSWER: usize = 64 << 10;

/// Calls. The effect's id goes with the call, so that whoever is called twice after a crash can tell.
pub(super) async fn call(world: &World, effect: &Effect) -> Result<Receipt, ForgeError> {
    let EffectKind::CallWebhook { url, allowed, secret, headers, body } = &effect.kind else {
        return Err(ForgeError::refused("it is no call of a webhook"));
    };
    let mut headers = headers.clone();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    headers.push(("x-spellbook-delivery".to_owned(), effect.id.to_string()));
    if let Some(name) = secret {
        let secret = world.secrets.secret(effect.repository, name).await;
        let secret = secret.map_err(|error| ForgeError::later(error.to_string()))?;
        let missing = || ForgeError::refused(format!("the secret `{name}` is not set"));
        let secret = secret.filter(|secret| !secret.expose_secret().is_empty()).ok_or_else(missing)?;
        let signature = Signature::of(secret.expose_secret(), &[body.as_bytes()]);
        headers.push(("x-spellbook-signature-256".to_owned(), signature.written()));
    }
    let request = WebRequest {
        method: "POST".to_owned(),
        url: url.clone(),
        headers,
        body: Bytes::from(body.clone()),
        allowed: allowed.clone(),
        timeout: PATIENCE,
        max_bytes: LONGEST_ANSWER,
    };
    let answer = world.web.send(request).await;
    let answer = answer.map_err(|error| ForgeError {
        message: error.message,
        retry: error.retry,
        not_before: None,
    })?;
    match answer.status {
        200..=299 => Ok(Receipt::new(Some(url.clone()), format!("called; the answer was {}", answer.status))),
        status @ (408 | 425 | 429 | 500..) => Err(answered(status, Retry::Later)),
        status => Err(answered(status, Retry::Never)),
    }
}

fn answered(status: u16, retry: Retry) -> ForgeError {
    ForgeError { message: format!("the address answered {status}"), retry, not_before: None }
}
