//! Signing in of GitHub Actions jobs: the identity that GitHub gives a job (an OpenID Connect token), for a
//! token of ours that lasts minutes and is confined to what the operator's rules grant. No secret is stored
//! at GitHub.
//!
//! The order is: who signed it ([`jwt`], [`keys`]), whether it is meant for us and holds now ([`claims`]),
//! whether anybody trusts it ([`trust`]), whether it was used before. It fails closed at every step.

mod claims;
mod jwt;
mod keys;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use domain::access::{Account, Reach, Role};
use domain::id::AccountId;
use ports::store::Recorded;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::accounts::AccountJson;
use crate::doors::Server;
use crate::input::Json;
use crate::problem::Problem;
use crate::sign_in::{self, Order, SignedInJson};
use crate::tokens::TokenJson;
use claims::Claims;
use jwt::Jwt;
pub(crate) use keys::Keys;
pub use trust::{Actions, ActionsError, Trust, TrustedRole};

/// How long a token lasts; a job that takes longer signs in again.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// The identity of a job.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobIdentity {
    /// The OpenID Connect token that GitHub gave the job, for this server as its audience.
    #[schema(example = "eyJ…")]
    token: String,
}

/// Exchanges the identity of a GitHub Actions job for an API token that lasts 15 minutes and starts the daemons
/// that the operator's rules grant to that job's repository. The same identity is exchanged once.
#[utoipa::path(
    post, operation_id = "sign_in_actions", path = "/api/v1/sign-in/actions", tag = "people", request_body = JobIdentity, security(()),
    responses((status = 201, description = "Signed in", body = SignedInJson),
              (status = 401, description = "The identity does not hold", body = Problem, content_type = "application/problem+json"),
              (status = 403, description = "Nobody trusts it", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn sign_in(
    State(server): State<Arc<Server>>,
    Json(given): Json<JobIdentity>,
) -> Result<(StatusCode, axum::Json<SignedInJson>), Problem> {
    let actions = &server.settings().actions;
    if actions.trust.is_empty() {
        let detail = "this server trusts no GitHub Actions job; the operator adds `[[actions.trust]]`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "actions_disabled", detail));
    }
    let claims = verified(&server, given.token.trim()).await?;
    let trust = actions.trusting(&claims).ok_or_else(|| untrusted(&claims))?;
    spend(&server, &claims).await?;
    let account = account(&server, &claims).await?;
    let order = Order {
        account: account.id,
        label: claims.label(),
        role: trust.role(),
        once: false,
        reach: Some(Reach::new(trust.daemons.clone())),
        life: Some(LIFE),
    };
    let (secret, token) = sign_in::create(&server, order).await?;
    tracing::info!(
        account = account.name,
        actions.run = claims.run_id,
        actions.event = claims.event_name,
        "a job of {} signed in",
        account.name
    );
    let answer = SignedInJson {
        secret: secret.expose_secret().to_owned(),
        token: TokenJson::from(&token),
        account: AccountJson::from(&account),
    };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// What the issuer says about a job, when it was the issuer who said it, to us, and it holds now.
async fn verified(server: &Server, text: &str) -> Result<Claims, Problem> {
    let jwt = Jwt::parse(text)?;
    let issuer = server.settings().actions.issuer();
    let key = server.keys.key(&*server.world().web, issuer, &jwt.key, server.now()).await?;
    if !key.signed(&jwt) {
        return Err(refused("identity_forged", "the identity is not signed by the issuer's key"));
    }
    let audience = server.settings().actions.audience.as_deref().unwrap_or(&server.settings().base_url);
    Claims::read(&jwt.payload)?.check(issuer, audience, server.now())
}

/// Says no to an identity that was exchanged before. It is kept in mind for as long as it holds.
async fn spend(server: &Server, claims: &Claims) -> Result<(), Problem> {
    let name = format!("{}\n{}", claims.iss, claims.jti);
    let hash: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    if server.store().assertion_use(&hash, claims.until()).await? {
        return Ok(());
    }
    Err(refused("identity_used", "this identity was exchanged before; ask GitHub for another one"))
}

/// The account of the job's repository. No person can have its name, which is no name of a person.
async fn account(server: &Server, claims: &Claims) -> Result<Account, Problem> {
    let account = Account {
        id: AccountId::new(server.world().clock.unique()),
        name: format!("repo:{}", claims.repository),
        role: Role::Runner,
        created_at: server.now(),
    };
    Ok(match server.store().account_create(&account).await? {
        Recorded::New => account,
        Recorded::Known(known) => known,
    })
}

fn untrusted(claims: &Claims) -> Problem {
    let Claims { repository, event_name, reference, .. } = claims;
    let detail = format!(
        "no `[[actions.trust]]` of this server fits a job of {repository} (id {}), event {event_name}, ref {reference}",
        claims.repository_id
    );
    Problem::new(StatusCode::FORBIDDEN, "identity_untrusted", detail)
}

fn refused(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::unauthorized(code, detail)
}
