//! What stands behind the door of a jail: models for programs that bring their own client, and the
//! hosts that a daemon may reach.
//!
//! A request is judged once, by what is forwarded: method and path are compared with a list as they
//! are, a body is read strictly and refused where two readers could read it differently. What passes
//! goes to the provider byte for byte but for credentials, the model's name, and the few fields without
//! which a call could not be metered or bounded. Answers pass as they come; a copy is read for what was
//! used. There is no retry here, the client has a loop of its own; where a name stands for several models,
//! the next one is asked as long as nothing of an answer has gone on to the client.
//!
//! One task for each connection, none for a visit that waits.

mod attach;
mod attempt;
mod body;
mod book;
mod choose;
mod egress;
mod form;
mod forward;
mod judge;
mod meter;
mod refusal;
mod relay;
mod route;
mod token;
mod tools;
mod visit;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ports::proxy::{Guest, Proxy, Visit};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::web::Egress;

/// Admits programs in jails to models and hosts.
pub struct AgentProxy {
    gateway: Arc<Gateway>,
    egress: Arc<Egress>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl AgentProxy {
    /// Builds it, on the runtime that will serve its visits.
    pub fn new(gateway: Arc<Gateway>, egress: Arc<Egress>, runtime: Handle) -> Self {
        Self { gateway, egress, runtime, tasks: TaskTracker::new() }
    }

    /// Waits until what visits that ended had under way is gone. Visits must have ended before.
    pub async fn shutdown(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl fmt::Debug for AgentProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentProxy").field("connections", &self.tasks.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Proxy for AgentProxy {
    async fn variables(&self, allowed: &[String]) -> BTreeMap<String, String> {
        self.egress.gate.look(allowed).await
    }

    fn admit(&self, guest: Guest) -> Arc<dyn Visit> {
        let around = visit::Around {
            gateway: Arc::clone(&self.gateway),
            egress: Arc::clone(&self.egress),
            runtime: self.runtime.clone(),
            tasks: self.tasks.clone(),
        };
        Arc::new(visit::Admitted::new(guest, around))
    }
}
