//! Proof: whether something on a forge is what this server wrote there.

use std::sync::Arc;

use axum::extract::State;
use domain::effect::Effect;
use engine::verify::{Claim, Doubt, Proof, verify};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Viewer;
use crate::doors::Server;
use crate::effects::ProvenanceJson;
use crate::input::Query;
use crate::problem::Problem;

/// What is to be verified.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyParams {
    /// The address of a comment, pull request, issue, check, release or commit, as a browser shows it; on the built-in
    /// host as receipts have it.
    #[param(example = "https://github.com/acme/app/issues/8#issuecomment-21")]
    url: String,
}

/// What came of comparing something with the server's record.
#[derive(Serialize, ToSchema)]
#[schema(as = Proof)]
pub(crate) struct ProofJson {
    /// Whether it is what this server wrote there, as it wrote it.
    proved: bool,
    /// `comment`, `pull request`, `issue`, `check`, `release` or `commit`.
    kind: &'static str,
    /// Where it is, as the forge writes it.
    url: String,
    /// The repository, by its name on this server.
    repository: String,
    /// What it says of itself; null when it says nothing.
    claim: Option<ClaimJson>,
    /// What the record has for it; null when it has nothing.
    record: Option<RecordJson>,
    /// Why it is not proved, all of it; empty when it is.
    doubts: Vec<DoubtJson>,
}

/// What something says of itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Claim)]
pub(crate) struct ClaimJson {
    /// The run.
    run: Option<String>,
    /// The daemon.
    daemon: Option<String>,
    /// The commit that it ran.
    commit: Option<String>,
    /// The tree of its directory.
    digest: Option<String>,
}

/// What the server wanted, and when.
#[derive(Serialize, ToSchema)]
#[schema(as = VerifiedRecord)]
pub(crate) struct RecordJson {
    /// The effect.
    effect: String,
    /// `create-pull-request`, `add-comment`, …, in the words of `outcomes`.
    kind: &'static str,
    /// Who wanted it; the server itself, when it is absent.
    provenance: Option<ProvenanceJson>,
    /// When it was wanted.
    #[schema(format = DateTime)]
    wanted_at: String,
}

/// Why something is not proved.
#[derive(Serialize, ToSchema)]
#[schema(as = Doubt)]
pub(crate) struct DoubtJson {
    /// `unmarked`, `other_repository`, `unknown_run`, `unknown_effect`, `not_performed`, `copied`, `edited`, `put_back`,
    /// `other_commit`, `moved` or `differs`.
    code: &'static str,
    /// In words.
    message: String,
}

impl From<Proof> for ProofJson {
    fn from(proof: Proof) -> Self {
        Self {
            proved: proof.is_proved(),
            kind: proof.thing.kind.as_str(),
            url: proof.thing.url,
            repository: proof.repository.path.to_string(),
            claim: proof.claim.map(ClaimJson::from),
            record: proof.effect.as_ref().map(RecordJson::from),
            doubts: proof.doubts.iter().map(DoubtJson::from).collect(),
        }
    }
}

impl From<Claim> for ClaimJson {
    fn from(claim: Claim) -> Self {
        let Claim { run, daemon, commit, digest } = claim;
        Self { run: run.map(|run| run.to_string()), daemon, commit, digest }
    }
}

impl From<&Effect> for RecordJson {
    fn from(effect: &Effect) -> Self {
        Self {
            effect: effect.id.to_string(),
            kind: effect.kind.as_str(),
            provenance: effect.author.provenance().map(ProvenanceJson::from),
            wanted_at: effect.created_at.to_string(),
        }
    }
}

impl From<&Doubt> for DoubtJson {
    fn from(doubt: &Doubt) -> Self {
        Self { code: doubt.code(), message: doubt.to_string() }
    }
}

/// Says whether something on a forge is what this server wrote there.
#[utoipa::path(
    get, operation_id = "verify", path = "/api/v1/verify", tag = "discussions", params(VerifyParams),
    responses((status = 200, description = "What came of it, also when it is not proved", body = ProofJson),
              (status = 404, description = "There is nothing there, or no such repository", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "The forge does not answer", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Query(VerifyParams { url }): Query<VerifyParams>,
) -> Result<axum::Json<ProofJson>, Problem> {
    // Only an address of this very server is one of the built-in host.
    let here = url.strip_prefix(server.settings().base_url.as_str()).filter(|rest| rest.starts_with('/'));
    let proof = verify(server.world(), here.unwrap_or(&url)).await?;
    Ok(axum::Json(ProofJson::from(proof)))
}
