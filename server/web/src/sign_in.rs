//! Signing in: a token that is good once for one that lasts.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use domain::access::{Account, Reach, Role, Token};
use domain::id::{AccountId, TokenId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::AccountJson;
use crate::auth::Caller;
use crate::doors::Server;
use crate::input::Json;
use crate::problem::Problem;
use crate::token;
use crate::tokens::TokenJson;

/// A one-time token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The one-time token, as the server or an administrator gave it.
    token: String,
    /// What the new token is for, in the owner's words.
    label: Option<String>,
}

/// A token that lasts.
#[derive(Serialize, ToSchema)]
#[schema(as = SignedIn)]
pub(crate) struct SignedInJson {
    /// The token; it is shown this once.
    #[schema(example = "sb_…")]
    pub(crate) secret: String,
    /// What is known of it.
    pub(crate) token: TokenJson,
    /// Whose it is.
    pub(crate) account: AccountJson,
}

/// Exchanges a one-time token for an API token.
#[utoipa::path(
    post, operation_id = "sign_in", path = "/api/v1/sign-in", tag = "people", request_body = SignIn, security(()),
    responses((status = 201, description = "Signed in", body = SignedInJson),
              (status = 401, description = "The token does not hold", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn sign_in(
    State(server): State<Arc<Server>>,
    Json(given): Json<SignIn>,
) -> Result<(StatusCode, axum::Json<SignedInJson>), Problem> {
    let refused =
        || Problem::unauthorized("token_invalid", "the token is unknown, has expired or was used already");
    let hash = token::hash(given.token.trim()).ok_or_else(refused)?;
    let (once, account) = server.store().token_find(&hash, server.now()).await?.ok_or_else(refused)?;
    if !once.once {
        return Err(Problem::unauthorized(
            "token_lasting",
            "this token lasts already: send it as `Authorization: Bearer …`",
        ));
    }
    let label = label(given.label.as_deref().unwrap_or("sign-in"))?;
    let life = server.settings().token_life;
    // The new token is stored first: when the server stops in between, the old one is still good, and
    // the new one is known to nobody.
    let order =
        Order { account: account.id, label, role: once.role, once: false, reach: None, life: Some(life) };
    let (secret, lasting) = create(&server, order).await?;
    if !server.store().token_consume(once.id).await? {
        server.store().token_revoke(lasting.id).await?;
        return Err(refused());
    }
    tracing::info!(account = account.name, "{} signed in", account.name);
    let answer = SignedInJson {
        secret: secret.expose_secret().to_owned(),
        token: TokenJson::from(&lasting),
        account: AccountJson::from(&account),
    };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// Who the caller is.
#[derive(Serialize, ToSchema)]
#[schema(as = Me)]
pub(crate) struct MeJson {
    /// The account.
    account: AccountJson,
    /// What the caller may do with this token: `viewer`, `runner`, `maintainer` or `admin`.
    role: &'static str,
    /// The id of the token.
    token: String,
    /// The daemons that the token is confined to, as globs over `owner/name/id`; null is good for all.
    reach: Option<Vec<String>>,
}

/// Says who the caller is.
#[utoipa::path(get, operation_id = "get_me", path = "/api/v1/me", tag = "people", responses((status = 200, description = "The caller", body = MeJson)))]
pub(crate) async fn me(Caller(principal): Caller) -> axum::Json<MeJson> {
    axum::Json(MeJson {
        account: AccountJson::from(&principal.account),
        role: principal.role.as_str(),
        token: principal.token.to_string(),
        reach: principal.reach.map(|reach| reach.globs().to_vec()),
    })
}

/// A token that is wanted.
pub(crate) struct Order {
    pub(crate) account: AccountId,
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) once: bool,
    pub(crate) reach: Option<Reach>,
    pub(crate) life: Option<Duration>,
}

/// Makes a token and stores its hash.
pub(crate) async fn create(server: &Server, order: Order) -> Result<(SecretString, Token), Problem> {
    let (secret, hash) = token::mint();
    let now = server.now();
    let token = Token {
        id: TokenId::new(server.world().clock.unique()),
        account: order.account,
        label: order.label,
        hash,
        role: order.role,
        once: order.once,
        reach: order.reach,
        created_at: now,
        expires_at: order.life.map(|life| now.after(life)),
    };
    server.store().token_create(&token).await?;
    Ok((secret, token))
}

/// Makes a one-time token, by which somebody else can sign in.
pub(crate) async fn invite(server: &Server, account: &Account) -> Result<SecretString, Problem> {
    let life = Some(server.settings().sign_in_life);
    let order = Order {
        account: account.id,
        label: "one-time sign-in".to_owned(),
        role: account.role,
        once: true,
        reach: None,
        life,
    };
    Ok(create(server, order).await?.0)
}

/// The label of a token: one line of 1 to 100 characters.
pub(crate) fn label(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err(Problem::bad_request("invalid_label", "`label` must be one line of 1 to 100 characters"));
    }
    Ok(text.to_owned())
}
