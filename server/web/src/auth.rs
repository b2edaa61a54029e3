//! Who is asking, and what they may do.
//!
//! A handler that takes one of the types here as an argument runs only for those who may: the
//! argument is the proof. It stands before every other argument that looks at the request, so that a
//! stranger learns nothing else.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::access::{Principal, Role};
use domain::event::Actor;

use crate::doors::Server;
use crate::problem::Problem;
use crate::token;

/// Someone who may look: anybody when the operator says so.
pub(crate) struct Viewer;

/// Someone whose token may be confined to some daemons: the door itself asks what is within reach. Whoever
/// takes one of the other types here is confined to nothing.
pub(crate) struct Caller(pub(crate) Principal);

/// The same for those who may start and cancel runs.
pub(crate) struct Starter(pub(crate) Principal);

/// The same for doors at which one looks; nobody is a stranger who may look.
pub(crate) struct Onlooker(pub(crate) Option<Principal>);

/// Someone who has signed in.
pub(crate) struct SignedIn(pub(crate) Principal);

/// Someone who may start, cancel and replay runs.
pub(crate) struct Runner(pub(crate) Principal);

/// Someone who may push, merge and add repositories.
pub(crate) struct Maintainer(pub(crate) Principal);

/// Someone who may do everything.
pub(crate) struct Admin(pub(crate) Principal);

impl FromRequestParts<Arc<Server>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        onlooker(server, principal(&parts.headers, server).await?).map(|_| Self)
    }
}

impl FromRequestParts<Arc<Server>> for Onlooker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        onlooker(server, bearer(&parts.headers, server).await?).map(Self)
    }
}

impl FromRequestParts<Arc<Server>> for Starter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        let principal = bearer(&parts.headers, server).await?.ok_or_else(stranger)?;
        require(principal, Role::Runner).map(Self)
    }
}

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        bearer(&parts.headers, server).await?.map(Self).ok_or_else(stranger)
    }
}

fn onlooker(server: &Server, principal: Option<Principal>) -> Result<Option<Principal>, Problem> {
    match principal {
        Some(principal) => require(principal, Role::Viewer).map(Some),
        None if server.settings().public_read => Ok(None),
        None => Err(stranger()),
    }
}

macro_rules! proofs {
    ($($name:ident = $role:expr;)*) => {$(
        impl FromRequestParts<Arc<Server>> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
                let principal = principal(&parts.headers, server).await?.ok_or_else(stranger)?;
                require(principal, $role).map(Self)
            }
        }
    )*};
}

proofs! {
    SignedIn = Role::Viewer;
    Runner = Role::Runner;
    Maintainer = Role::Maintainer;
    Admin = Role::Admin;
}

/// Says no to someone who may not do what `role` may.
pub(crate) fn require(principal: Principal, role: Role) -> Result<Principal, Problem> {
    if principal.may(role) { Ok(principal) } else { Err(Problem::forbidden(role, principal.role)) }
}

/// The problem of someone who has not said who they are.
pub(crate) fn stranger() -> Problem {
    Problem::unauthorized("token_missing", "sign in: send a token as `Authorization: Bearer sb_…`")
}

/// Who is asking, at a door that knows of no confinement.
pub(crate) async fn principal(headers: &HeaderMap, server: &Server) -> Result<Option<Principal>, Problem> {
    let principal = bearer(headers, server).await?;
    if principal.as_ref().is_some_and(|principal| principal.reach.is_some()) {
        let detail = "this token is good for starting some daemons and following their runs, not for this";
        return Err(Problem::new(StatusCode::FORBIDDEN, "token_confined", detail));
    }
    Ok(principal)
}

/// Who is asking; `None` is a stranger. A token that does not hold is never taken for no token.
async fn bearer(headers: &HeaderMap, server: &Server) -> Result<Option<Principal>, Problem> {
    let Some(text) = credential(headers)? else { return Ok(None) };
    let now = server.now();
    let found = match token::hash(&text) {
        Some(hash) => server.store().token_find(&hash, now).await?,
        None => None,
    };
    let Some((token, account)) = found else {
        return Err(Problem::unauthorized(
            "token_invalid",
            "the token is unknown, has expired or was revoked",
        ));
    };
    if token.once {
        return Err(Problem::unauthorized(
            "token_once",
            "this token is good for signing in only: exchange it by `POST /api/v1/sign-in`",
        ));
    }
    server.tokens.take(token.id.uuid(), now).map_err(Problem::rate_limited)?;
    let role = account.role.min(token.role);
    Ok(Some(Principal { account, token: token.id, role, reach: token.reach }))
}

/// The token in a request: as bearer (RFC 6750), or as the password of anybody (RFC 7617), for git.
fn credential(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let broken =
        || Problem::unauthorized("authorization_invalid", "the `Authorization` header cannot be understood");
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(broken());
    }
    let (scheme, rest) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(broken)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(broken());
    }
    let pair = STANDARD
        .decode(rest.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(broken)?;
    let (_, password) = pair.split_once(':').ok_or_else(broken)?;
    Ok(Some(password.to_owned()))
}

/// Someone as the cause of an event; roles in the forges' words, for the filters of triggers.
pub(crate) fn actor(principal: &Principal) -> Actor {
    let role = match principal.role {
        Role::Viewer => "read",
        Role::Runner => "triage",
        Role::Maintainer => "write",
        Role::Admin => "admin",
    };
    // Confined tokens are those of programs.
    Actor {
        name: principal.account.name.clone(),
        role: Some(role.to_owned()),
        bot: principal.reach.is_some(),
    }
}
