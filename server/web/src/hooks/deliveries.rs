//! Deliveries: what others told this server, and what was made of it.

use std::sync::Arc;

use axum::extract::State;
use domain::id::DeliveryId;
use ports::store::events::DeliveryRecord;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Admin;
use crate::doors::Server;
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;

/// A request from outside that was taken in.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryRecord)]
pub(crate) struct RecordJson {
    /// Which.
    id: String,
    /// Who sent it: `forge/<name>`, `daemon/<id>`, or `remote` for a watched repository.
    source: String,
    /// About which repository; null where only the body says so.
    repository: Option<String>,
    /// What it is about, in the words of a forge.
    name: Option<String>,
    /// The sender's id for it.
    external_id: Option<String>,
    /// How long the body is.
    bytes: u64,
    /// What was made of it, or why nothing was; null until it was looked at.
    verdict: Option<String>,
    /// When it came.
    #[schema(format = DateTime)]
    received_at: String,
}

impl From<DeliveryRecord> for RecordJson {
    fn from(record: DeliveryRecord) -> Self {
        Self {
            id: record.id.to_string(),
            source: record.source,
            repository: record.repository.map(|repository| repository.to_string()),
            name: record.name,
            external_id: record.external_id,
            bytes: record.bytes,
            verdict: record.verdict,
            received_at: record.received_at.to_string(),
        }
    }
}

/// Which deliveries to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryFilter {
    /// Who sent them: `forge/github`, …
    source: Option<String>,
}

/// Lists what others told this server, newest first, and what was made of it.
#[utoipa::path(
    get, operation_id = "list_deliveries", path = "/api/v1/deliveries", tag = "events", params(DeliveryFilter, PageParams),
    responses((status = 200, description = "Deliveries, without their bodies", body = Part<RecordJson>))
)]
pub(crate) async fn list(
    _admin: Admin,
    State(server): State<Arc<Server>>,
    listing: Listing<DeliveryFilter>,
) -> Result<Paged<RecordJson>, Problem> {
    let page = listing.page(DeliveryId::uuid)?;
    let found = server.store().delivery_list(listing.filter.source.as_deref(), &page).await?;
    Ok(listing.part(found, |record| record.id.to_string()).map(RecordJson::from))
}
