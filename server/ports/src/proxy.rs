//! The server's side of a jail's one door: models for programs that bring their own client, and the
//! hosts that a daemon may reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::route::Ranking;
use domain::stage::{HostUsage, ModelUsage};
use secrecy::SecretString;

use crate::models::Choice;
use crate::sandbox::Door;
use crate::till::Till;

/// Admits programs in jails to models and hosts. Everything that passes is metered; keys stay here.
#[async_trait]
pub trait Proxy: std::fmt::Debug + Send + Sync {
    /// What tells programs in a jail, in their environment, where the packages of the named sets of a list
    /// come from here. Asked before a guest is admitted: sets may be looked for only now. Never a secret.
    async fn variables(&self, allowed: &[String]) -> BTreeMap<String, String>;

    /// Admits the programs of one jail, until the visit ends.
    fn admit(&self, guest: Guest) -> Arc<dyn Visit>;
}

/// Whose programs are admitted, and to what.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Tells guests apart in logs: the run, a space, and the stage.
    pub name: String,
    /// The models that may be asked, and how one is chosen; no target admits to no model at all. A program
    /// may name any of them, or what its provider calls it. The first is the one that it was told: this name
    /// stands for all of them that speak the program's language, and the next is asked when one fails before
    /// its answer begins.
    pub choice: Choice,
    /// What calls of models are paid from.
    pub till: Arc<dyn Till>,
    /// The most calls of models, retries by the program included; `None` has no bound.
    pub most_calls: Option<u32>,
    /// Tools that run at the provider and reach the web from there (web search, code execution, remote
    /// MCP servers), by the type that the dialect gives them, without its date: `web_search`.
    pub provider_tools: Vec<String>,
    /// Hosts and named sets that may be reached: `api.example.com`, `*.example.com`, `host:8443`.
    pub allowed: Vec<String>,
}

/// The time that a jail's programs are admitted.
pub trait Visit: Door {
    /// What programs show instead of a key. It is good for this visit's own door only, and dies with it.
    fn token(&self) -> SecretString;

    /// Ends the visit: no call is taken any more, those under way are broken off at both ends, and
    /// what they cost is settled. A second time says the same.
    fn end(&self) -> VisitReport;
}

/// What passed during a visit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisitReport {
    /// Every call of a model, failed ones too.
    pub calls: Vec<ModelUsage>,
    /// How one of several models was chosen, each time that this was decided otherwise than before.
    pub rankings: Vec<Ranking>,
    /// Every host that was reached or asked for, in the order of the first time.
    pub hosts: Vec<HostUsage>,
}
