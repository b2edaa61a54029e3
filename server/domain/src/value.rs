//! Values that travel from stage to stage, and who could have written them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Who could have written a value. Mixing two values keeps the worse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taint {
    /// The manifest, the operator, or someone with the right to run the daemon.
    #[default]
    Trusted,
    /// Anyone: texts of issues and comments, diffs, answers of models and of the web.
    External,
}

impl Taint {
    /// The worse of two.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        self.max(other)
    }
}

/// A value and its taint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// What it is.
    pub json: Json,
    /// Who could have written it.
    pub taint: Taint,
}

impl Value {
    /// A value that can be trusted.
    pub fn trusted(json: impl Into<Json>) -> Self {
        Self { json: json.into(), taint: Taint::Trusted }
    }

    /// A value that anyone could have written.
    pub fn external(json: impl Into<Json>) -> Self {
        Self { json: json.into(), taint: Taint::External }
    }

    /// The value as text: strings as they are, everything else as compact JSON, null as nothing.
    pub fn text(&self) -> String {
        match &self.json {
            Json::String(text) => text.clone(),
            Json::Null => String::new(),
            other => other.to_string(),
        }
    }
}
