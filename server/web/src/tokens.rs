//! The caller's own tokens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use domain::access::{Role, Token};
use domain::id::TokenId;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{self, Caller, SignedIn};
use crate::doors::Server;
use crate::input::{self, Json, Path};
use crate::page::Part;
use crate::problem::Problem;
use crate::sign_in::{self, Order};

/// What is known of a token; the token itself is not.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(crate) struct TokenJson {
    /// Which.
    id: String,
    /// What for.
    label: String,
    /// What it may do.
    role: &'static str,
    /// The daemons that it is confined to, as globs over `owner/name/id`; null is good for all.
    reach: Option<Vec<String>>,
    /// Whether it is good for signing in only.
    once: bool,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when; null lasts until revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<&Token> for TokenJson {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.to_string(),
            label: token.label.clone(),
            role: token.role.as_str(),
            reach: token.reach.as_ref().map(|reach| reach.globs().to_vec()),
            once: token.once,
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
        }
    }
}

/// A token that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What for: one line of at most 100 characters.
    label: String,
    /// What it may do: never more than the token that asks. Without it, the same.
    role: Option<String>,
    /// For how many days; without it, until it is revoked.
    #[schema(minimum = 1, maximum = 3650)]
    days: Option<u32>,
}

/// A new token.
#[derive(Serialize, ToSchema)]
#[schema(as = MintedToken)]
pub(crate) struct NewTokenJson {
    /// The token; it is shown this once.
    secret: String,
    /// What is known of it.
    token: TokenJson,
}

/// Lists the caller's tokens, newest first.
#[utoipa::path(get, operation_id = "list_tokens", path = "/api/v1/tokens", tag = "people", responses((status = 200, description = "Tokens", body = Part<TokenJson>)))]
pub(crate) async fn list(
    SignedIn(principal): SignedIn,
    State(server): State<Arc<Server>>,
) -> Result<axum::Json<Part<TokenJson>>, Problem> {
    let tokens = server.store().token_list(principal.account.id).await?;
    Ok(Part::whole(tokens.iter().map(TokenJson::from).collect()))
}

/// Makes a token for the caller.
#[utoipa::path(
    post, operation_id = "create_token", path = "/api/v1/tokens", tag = "people", request_body = NewToken,
    responses((status = 201, description = "The token, shown once", body = NewTokenJson))
)]
pub(crate) async fn create(
    SignedIn(principal): SignedIn,
    State(server): State<Arc<Server>>,
    Json(wanted): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<NewTokenJson>), Problem> {
    let role = wanted.role.as_deref().map_or(Ok(principal.role), role)?;
    let account = principal.account.id;
    auth::require(principal, role)?;
    let days = wanted.days.map(|days| match days {
        1..=3650 => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        _ => Err(Problem::bad_request("invalid_days", "`days` must be a number from 1 to 3650")),
    });
    let order = Order {
        account,
        label: sign_in::label(&wanted.label)?,
        role,
        once: false,
        reach: None,
        life: days.transpose()?,
    };
    let (secret, token) = sign_in::create(&server, order).await?;
    let answer = NewTokenJson { secret: secret.expose_secret().to_owned(), token: TokenJson::from(&token) };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// Ends one of the caller's tokens; an administrator ends anybody's.
#[utoipa::path(
    delete, operation_id = "revoke_token", path = "/api/v1/tokens/{token}", tag = "people", params(("token" = String, Path, description = "`tok_…`")),
    responses((status = 204, description = "It no longer holds"),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn revoke(
    Caller(principal): Caller,
    State(server): State<Arc<Server>>,
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: TokenId = input::known("token", &token)?;
    let own = match principal.reach {
        Some(_) => principal.token == id,
        None => server.store().token_list(principal.account.id).await?.iter().any(|token| token.id == id),
    };
    let may = own || principal.may(Role::Admin);
    if may && server.store().token_revoke(id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found(format!("there is no token `{id}`")))
}

/// The role that a word stands for.
pub(crate) fn role(word: &str) -> Result<Role, Problem> {
    Role::parse(word).ok_or_else(|| {
        Problem::bad_request("invalid_role", "`role` must be `viewer`, `runner`, `maintainer` or `admin`")
    })
}
