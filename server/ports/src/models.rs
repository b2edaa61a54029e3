//! Language models.

use async_trait::async_trait;
use domain::purse::Purse;
use domain::run::Failure;
use domain::stage::ModelUsage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Answers questions with a model. Implementations choose the provider, retry, meter and price.
#[async_trait]
pub trait Models: std::fmt::Debug + Send + Sync {
    /// Asks one question and waits for the whole answer. Pieces of it are sent to `pieces` as they
    /// come; a receiver that is slow or gone does not matter.
    ///
    /// With a `schema` the answer is valid JSON of that schema: it is checked, the model is asked to
    /// mend it once, and after that it is an error.
    ///
    /// # Errors
    /// With what was used all the same: a failed call may cost money.
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError>;

    /// The names that a manifest may use.
    fn names(&self) -> Vec<String>;
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The model, by any name that the catalogue or the operator knows; tried in order.
    pub targets: Vec<String>,
    /// What the model is told before.
    pub system: Option<String>,
    /// What it is asked.
    pub prompt: String,
    /// What the answer must look like: a JSON Schema.
    pub schema: Option<serde_json::Value>,
    /// The longest answer, tokens.
    pub max_tokens: Option<u32>,
    /// How freely it answers, 0 to 2.
    pub temperature: Option<f64>,
    /// What it is paid from: before each call, retries and repairs too, what that may cost at most is
    /// set aside, and after it what it did cost is taken.
    pub purse: Purse,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// As the model wrote it.
    pub text: String,
    /// Parsed and checked, when there was a schema.
    pub json: Option<serde_json::Value>,
    /// Every call that was made, failed ones and repairs too.
    pub calls: Vec<ModelUsage>,
}

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{failure}")]
pub struct ModelError {
    /// Why: `model_unknown`, `model_unavailable`, `model_refused`, `answer_invalid`, `cost_limit`,
    /// `unpriced_model`, `cancelled`, …
    pub failure: Failure,
    /// Every call that was made and may cost money.
    pub calls: Vec<ModelUsage>,
    /// Whether the stage may be tried again.
    pub retry: crate::Retry,
}
