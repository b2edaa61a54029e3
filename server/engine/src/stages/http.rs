//! `http`: a call of an address by the server, the one place where a daemon's secrets are used.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use domain::run::Failure;
use domain::scrub::Scrub;
use domain::value::{Taint, Value};
use manifest::expression::Reference;
use manifest::model::{HttpBody, HttpStage, InputKind};
use ports::Retry;
use ports::web::{WebRequest, WebResponse};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};

use super::{At, Made, Trouble};
use crate::work::stranger;

/// The longest a call may take when the stage does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, bytes.
const LONGEST: usize = 1 << 20;
/// A shorter secret is not looked for in answers: it would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Calls, and hands on the answer: JSON where it is JSON, else text.
pub(super) async fn run(stage: &HttpStage, at: &At<'_>) -> Made {
    let secrets = match secrets(at, &stage.references()).await {
        Ok(secrets) => secrets,
        Err(trouble) => return trouble.into(),
    };
    let request = match request(stage, at, &secrets) {
        Ok(request) => request,
        Err(trouble) => return trouble.into(),
    };
    let scrub = scrub(&secrets);
    at.note(format!("{} {}", request.method, scrub.text(&request.url)));
    let answer = tokio::select! {
        answer = at.run.world.web.send(request) => answer,
        () = at.cancel.cancelled() => return Made::failed(Failure::new("cancelled", "was cancelled")),
    };
    match answer {
        Ok(response) => respond(stage, at, &response, &scrub),
        Err(error) => {
            let failure = Failure::new(error.code, scrub.text(&error.message));
            Trouble { failure, timed_out: error.code == "timed_out", retry: error.retry }.into()
        }
    }
}

/// The secrets that the daemon declares, as far as they exist, for something that reads these names. For a
/// stranger's pull request there are none, and what reads one does not go on.
pub(super) async fn secrets(
    at: &At<'_>,
    names: &[Reference<'_>],
) -> Result<BTreeMap<String, SecretString>, Trouble> {
    let mut known = BTreeMap::new();
    if at.run.run.is_for_stranger() {
        return match names.iter().any(|name| is_secret(at, name)) {
            true => Err(stranger::without("the daemon's secrets", "secrets_withheld").into()),
            false => Ok(known),
        };
    }
    for name in &at.run.manifest.permissions.secrets {
        let secret = at.run.world.secrets.secret(at.run.run.repository, name).await;
        match secret.map_err(|error| Failure::new("secrets_unavailable", error.to_string()))? {
            Some(secret) => drop(known.insert(name.to_string(), secret)),
            None => {
                let message = format!("the secret `{name}` is not set; ask an operator to set it");
                return Err(Failure::new("secret_missing", message).into());
            }
        }
    }
    // Secret inputs are as secret; a name cannot be both.
    for input in at.run.manifest.inputs.iter().filter(|input| input.kind == InputKind::Secret) {
        if let Some(secret) = at.run.run.inputs.get(&input.name).and_then(Json::as_str) {
            known.entry(input.name.clone()).or_insert_with(|| SecretString::from(secret.to_owned()));
        }
    }
    Ok(known)
}

fn is_secret(at: &At<'_>, name: &Reference<'_>) -> bool {
    let input = if name.root == "inputs" { name.path.first() } else { Some(&name.root) };
    let mut secret = at.run.manifest.inputs.iter().filter(|input| input.kind == InputKind::Secret);
    name.root == "secrets" || secret.any(|secret| input == Some(&secret.name.as_str()))
}

/// Takes out of what comes back the secrets that a server sends along.
pub(super) fn scrub(secrets: &BTreeMap<String, SecretString>) -> Scrub {
    let secrets = secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret()));
    Scrub::new(secrets.filter(|(_, secret)| secret.len() >= SHORTEST_SECRET))
}

fn request(
    stage: &HttpStage,
    at: &At<'_>,
    secrets: &BTreeMap<String, SecretString>,
) -> Result<WebRequest, Trouble> {
    let context = at.context.with_secrets(secrets.clone());
    let mut headers = Vec::new();
    for (name, template) in &stage.headers {
        headers.push((name.clone(), template.evaluate(&context)?.text()));
    }
    let body = match &stage.body {
        HttpBody::None => Bytes::new(),
        HttpBody::Text(template) => Bytes::from(template.evaluate(&context)?.text()),
        HttpBody::Json(template) => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
            Bytes::from(template.evaluate(&context)?.json.to_string())
        }
    };
    Ok(WebRequest {
        method: stage.method.clone(),
        url: stage.url.evaluate(&context)?.text(),
        headers,
        body,
        allowed: at.run.manifest.permissions.hosts(),
        timeout: at.stage.timeout.unwrap_or(PATIENCE).min(at.run.manifest.limits.timeout),
        max_bytes: LONGEST,
    })
}

fn respond(stage: &HttpStage, at: &At<'_>, response: &WebResponse, scrub: &Scrub) -> Made {
    let text = scrub.text(&String::from_utf8_lossy(&response.body));
    at.note(format!("{} ({} bytes)", response.status, response.body.len()));
    if response.status >= 400 {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
        let retry =
            if response.status == 429 || response.status >= 500 { Retry::Later } else { Retry::Never };
        let failure =
            Failure::new("http_status", format!("the server answered {}: {shown}", response.status));
        let mut made = Made::from(Trouble { failure, timed_out: false, retry });
        made.result = Some(Value::external(json!({ "status": response.status, "body": text })));
        return made;
    }
    let is_json =
        response.headers.iter().any(|(name, value)| name == "content-type" && value.contains("json"));
    let json = match serde_json::from_str(&text) {
        // Again, because JSON can write a letter in more than one way.
        Ok(json) if is_json || stage.schema.is_some() => scrub.json(json),
        Err(error) if stage.schema.is_some() => {
            return Made::failed(Failure::new("output_invalid", format!("the answer is not JSON: {error}")));
        }
        Ok(_) | Err(_) => Json::from(text),
    };
    if let Some(Err(faults)) = stage.schema.as_ref().map(|schema| manifest::schema::validate(schema, &json)) {
        let message = format!("the answer does not fit the stage's `schema`: {}", faults.join("; "));
        return Made::failed(Failure::new("output_invalid", message));
    }
    Made::value(Value { json, taint: Taint::External })
}
