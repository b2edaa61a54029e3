//! Webhooks of forges that the server is known to. What they say is understood afterwards, from the store:
//! whoever calls waits for one check and one write.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use domain::name::ForgeName;
use domain::signature::Signature;
use engine::intake::{self, Told};
use ports::forge::{Headers, Host, Signed, Unsigned};
use ports::store::Recorded;
use sha2::{Digest, Sha256};

use crate::doors::Server;
use crate::hooks::{self, DeliveryJson};
use crate::input::Path;
use crate::problem::Problem;

/// How many webhooks came, by forge and by what became of them.
const DELIVERIES: &str = "spellbook_forge_deliveries_total";

/// Takes the webhook of a forge that the server is known to.
#[utoipa::path(
    post, operation_id = "call_forge_hook", path = "/hooks/forges/{forge}", tag = "webhooks", security(()), request_body(content = Object, description = "What the forge sends"),
    params(("forge" = String, Path, description = "The operator's name for the forge, as `github`"),
           ("X-Hub-Signature-256" = Option<String>, Header, description = "Of GitHub: `sha256=` and the HMAC-SHA256 of the body, hexadecimal"),
           ("X-GitHub-Event" = Option<String>, Header, description = "Of GitHub: what it is about"),
           ("X-GitHub-Delivery" = Option<String>, Header, description = "Of GitHub: its id for the delivery")),
    responses((status = 202, description = "It is stored", body = DeliveryJson),
              (status = 401, description = "The signature does not hold", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn deliver(
    State(server): State<Arc<Server>>,
    Path(forge): Path<String>,
    request: Request,
) -> Result<(StatusCode, axum::Json<DeliveryJson>), Problem> {
    let (parts, body) = request.into_parts();
    let body = hooks::read(body, server.settings().hook_body).await?;
    let name = forge.parse::<ForgeName>().ok();
    let host = name.as_ref().and_then(|name| server.world().hosts.get_key_value(name));
    let signed = verified(host, &parts.headers, &body)?;
    let (forge, _) = host.ok_or_else(hooks::refused)?;
    let content = Sha256::digest(&body).into();
    let told = Told { forge: forge.clone(), name: signed.name, external_id: signed.id, content, body };
    let recorded = intake::forge_told(server.world(), told).await?;
    count(Some(forge), if recorded == Recorded::New { "new" } else { "known" });
    Ok(hooks::taken(recorded))
}

/// Checks a webhook. Whoever is not let in is told the same, whether there is such a forge or not.
fn verified(
    host: Option<(&ForgeName, &Arc<dyn Host>)>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Signed, Problem> {
    let Some((forge, host)) = host else {
        // The work is the same, so that the time taken does not tell.
        let _ = Signature::of("none", &[body]);
        count(None, "refused");
        return Err(hooks::refused());
    };
    host.verify(&Given(headers), body).map_err(|unsigned| {
        count(Some(forge), "refused");
        match unsigned {
            Unsigned::NoSecret => {
                tracing::warn!(forge = %forge, "a webhook of {forge} is refused: {unsigned}");
                hooks::refused()
            }
            Unsigned::Missing | Unsigned::Wrong => {
                tracing::debug!(forge = %forge, "a webhook of {forge} is refused: {unsigned}");
                hooks::refused()
            }
            Unsigned::Headers => {
                Problem::bad_request("invalid_forge_headers", format!("{unsigned}; is this {forge}?"))
            }
        }
    })
}

/// Names that callers make up would make figures without end.
fn count(forge: Option<&ForgeName>, outcome: &'static str) {
    let forge = forge.map_or("unknown", ForgeName::as_str).to_owned();
    metrics::counter!(DELIVERIES, "forge" => forge, "outcome" => outcome).increment(1);
}

/// The headers of a request, as a forge looks at them.
struct Given<'h>(&'h HeaderMap);

impl Headers for Given<'_> {
    fn one(&self, name: &str) -> Option<&str> {
        let mut given = self.0.get_all(name).iter();
        let value = given.next()?.to_str().ok()?;
        if given.next().is_some() { None } else { Some(value) }
    }
}
