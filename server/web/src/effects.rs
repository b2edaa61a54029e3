//! Effects: what runs want done, and promoting what a fork's run only shows.

use std::sync::Arc;

use axum::extract::State;
use domain::effect::{Effect, EffectKind, EffectStatus};
use domain::id::EffectId;
use serde::Serialize;
use serde_json::Value as Json_;
use utoipa::ToSchema;

use crate::auth::{Maintainer, Onlooker};
use crate::doors::Server;
use crate::input::{self, Path};
use crate::page::Part;
use crate::problem::Problem;
use crate::runs;

/// A change that a run wants outside.
#[derive(Serialize, ToSchema)]
#[schema(as = Effect)]
pub(crate) struct EffectJson {
    /// Which.
    id: String,
    /// `create-pull-request`, `add-comment`, …, in the words of `outcomes`.
    kind: &'static str,
    /// Makes performing it twice the same as once.
    key: String,
    /// What is wanted.
    #[schema(value_type = Object)]
    wanted: Json_,
    /// `staged`, `pending`, `done` or `refused`.
    status: &'static str,
    /// What it became, or why it was refused.
    message: Option<String>,
    /// Where to look at it.
    url: Option<String>,
    /// How often it was tried.
    attempts: u32,
    /// Who wants it; nobody but the server itself, when it is absent.
    provenance: Option<ProvenanceJson>,
    /// When it was wanted.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Who wants an effect.
#[derive(Serialize, ToSchema)]
#[schema(as = Provenance)]
pub(crate) struct ProvenanceJson {
    /// The run.
    run: String,
    /// The daemon.
    daemon: String,
    /// The commit that it ran.
    commit: String,
    /// The tree of its directory.
    digest: String,
}

impl From<&domain::effect::Provenance> for ProvenanceJson {
    fn from(provenance: &domain::effect::Provenance) -> Self {
        Self {
            run: provenance.run.to_string(),
            daemon: provenance.daemon.to_string(),
            commit: provenance.commit.to_string(),
            digest: provenance.digest.to_string(),
        }
    }
}

impl From<&Effect> for EffectJson {
    fn from(effect: &Effect) -> Self {
        let (status, message, url) = match &effect.status {
            EffectStatus::Staged => ("staged", None, None),
            EffectStatus::Pending { .. } => ("pending", None, None),
            EffectStatus::Done { receipt } => ("done", Some(receipt.summary.clone()), receipt.url.clone()),
            EffectStatus::Refused { reason } => ("refused", Some(reason.clone()), None),
        };
        Self {
            id: effect.id.to_string(),
            kind: effect.kind.as_str(),
            key: effect.key.clone(),
            wanted: wanted(&effect.kind),
            status,
            message,
            url,
            attempts: effect.attempts,
            provenance: effect.author.provenance().map(ProvenanceJson::from),
            created_at: effect.created_at.to_string(),
        }
    }
}

/// The fields of an effect, in the words of the published format.
fn wanted(kind: &EffectKind) -> Json_ {
    let mut json = serde_json::to_value(kind).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("kind");
    }
    json
}

/// Lists what a run wants done, in order.
#[utoipa::path(
    get, operation_id = "list_effects", path = "/api/v1/runs/{run}/effects", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "Effects", body = Part<EffectJson>))
)]
pub(crate) async fn list(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<Part<EffectJson>>, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let effects = server.store().effect_list(run.id).await?;
    Ok(Part::whole(effects.iter().map(EffectJson::from).collect()))
}

/// Performs an effect that is only shown so far.
#[utoipa::path(
    post, operation_id = "promote_effect", path = "/api/v1/runs/{run}/effects/{effect}/promote", tag = "runs",
    params(("run" = String, Path), ("effect" = String, Path, description = "`eff_…`")),
    responses((status = 202, description = "It will be performed", body = EffectJson),
              (status = 409, description = "It is not staged", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn promote(
    Maintainer(principal): Maintainer,
    State(server): State<Arc<Server>>,
    Path((run, effect)): Path<(String, String)>,
) -> Result<(axum::http::StatusCode, axum::Json<EffectJson>), Problem> {
    let (run, _) = runs::find(&server, runs::known(&run)?).await?;
    let id: EffectId = input::known("effect", &effect)?;
    let absent = || Problem::not_found(format!("run {} has no effect `{id}`", run.id));
    let listed = |effects: Vec<Effect>| effects.into_iter().find(|effect| effect.id == id).ok_or_else(absent);
    listed(server.store().effect_list(run.id).await?)?;
    if !server.store().effect_promote(id, server.now()).await? {
        return Err(Problem::conflict(
            "effect_not_staged",
            "the effect is not staged: it is on its way, done or refused",
        ));
    }
    tracing::info!(effect.id = %id, run.id = %run.id, "{} promoted {id}", principal.account.name);
    let promoted = listed(server.store().effect_list(run.id).await?)?;
    Ok((axum::http::StatusCode::ACCEPTED, axum::Json(EffectJson::from(&promoted))))
}
