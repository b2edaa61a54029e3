//! Fakes that answer by a script: a function from what is asked to what comes of it.

mod agents;
mod mcp;
mod models;
mod proxy;
mod sandbox;
mod web;

pub use agents::ScriptedAgents;
pub use mcp::ScriptedMcp;
pub use models::ScriptedModels;
pub use proxy::ScriptedProxy;
pub use sandbox::ScriptedSandbox;
pub use web::ScriptedWeb;

use std::sync::{Mutex, PoisonError};

use domain::stage::ModelUsage;
use ports::till::Intended;

/// A call, before it is made.
fn intended(call: &ModelUsage) -> Intended<'_> {
    Intended {
        requested: &call.requested,
        served: &call.served,
        provider: &call.provider,
        most: Some(call.cost),
    }
}

/// What was asked, in order.
#[derive(Debug)]
struct Asked<T>(Mutex<Vec<T>>);

impl<T: Clone> Asked<T> {
    const fn nothing() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn note(&self, question: &T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
