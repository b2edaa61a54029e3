//! Accounts, for administrators.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use domain::access::Account;
use domain::id::AccountId;
use domain::name::Owner;
use ports::store::Recorded;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::doors::Server;
use crate::input::{self, Json, Path};
use crate::page::Part;
use crate::problem::Problem;
use crate::{sign_in, tokens};

/// A person or a program that signs in.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(crate) struct AccountJson {
    /// Which.
    id: String,
    /// Its name.
    name: String,
    /// What it may do.
    role: &'static str,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<&Account> for AccountJson {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name.clone(),
            role: account.role.as_str(),
            created_at: account.created_at.to_string(),
        }
    }
}

/// An account that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    /// Its name: letters, digits and single hyphens.
    name: String,
    /// What it may do: `viewer`, `runner`, `maintainer` or `admin`.
    role: String,
}

/// A way in for somebody.
#[derive(Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(crate) struct InvitationJson {
    /// The account.
    account: AccountJson,
    /// A one-time token, to be exchanged at `/api/v1/sign-in`; it is shown this once.
    sign_in: String,
}

/// Lists all accounts, by name.
#[utoipa::path(get, operation_id = "list_accounts", path = "/api/v1/accounts", tag = "people", responses((status = 200, description = "Accounts", body = Part<AccountJson>)))]
pub(crate) async fn list(
    _admin: Admin,
    State(server): State<Arc<Server>>,
) -> Result<axum::Json<Part<AccountJson>>, Problem> {
    Ok(Part::whole(server.store().account_list().await?.iter().map(AccountJson::from).collect()))
}

/// Adds an account, and a one-time token for it.
#[utoipa::path(
    post, operation_id = "create_account", path = "/api/v1/accounts", tag = "people", request_body = NewAccount,
    responses((status = 201, description = "The account, and the way in, shown once", body = InvitationJson),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn create(
    _admin: Admin,
    State(server): State<Arc<Server>>,
    Json(wanted): Json<NewAccount>,
) -> Result<(StatusCode, axum::Json<InvitationJson>), Problem> {
    let name: Owner = input::required("name", &wanted.name)?;
    let account = Account {
        id: AccountId::new(server.world().clock.unique()),
        name: name.to_string(),
        role: tokens::role(&wanted.role)?,
        created_at: server.now(),
    };
    if let Recorded::Known(taken) = server.store().account_create(&account).await? {
        let detail = format!("there is an account `{}` already", taken.name);
        return Err(Problem::conflict("account_exists", detail));
    }
    Ok((StatusCode::CREATED, axum::Json(invitation(&server, &account).await?)))
}

/// Makes another one-time token for an account.
#[utoipa::path(
    post, operation_id = "invite_account", path = "/api/v1/accounts/{name}/sign-in", tag = "people", params(("name" = String, Path, description = "The account's name")),
    responses((status = 201, description = "The way in, shown once", body = InvitationJson))
)]
pub(crate) async fn invite(
    _admin: Admin,
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<InvitationJson>), Problem> {
    let account = server.store().account_find(&name).await?;
    let account =
        account.ok_or_else(|| Problem::not_found(format!("there is no account `{}`", input::cut(&name))))?;
    Ok((StatusCode::CREATED, axum::Json(invitation(&server, &account).await?)))
}

async fn invitation(server: &Server, account: &Account) -> Result<InvitationJson, Problem> {
    let secret = sign_in::invite(server, account).await?;
    Ok(InvitationJson { account: AccountJson::from(account), sign_in: secret.expose_secret().to_owned() })
}
