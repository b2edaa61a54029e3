//! Language models.

use std::sync::Arc;

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::route::{Ability, Ranking, Route};
use domain::run::Failure;
use domain::stage::ModelUsage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::picture::Picture;
use crate::till::Till;

/// Answers questions with a model. Implementations choose the provider, retry, meter and price.
#[async_trait]
pub trait Models: std::fmt::Debug + Send + Sync {
    /// Asks one question and waits for the whole answer. Pieces of it are sent to `pieces` as they
    /// come; a receiver that is slow or gone does not matter.
    ///
    /// With `tools` the answer may be that the model calls some of them: whoever asked does what it
    /// wants and asks again, with the answer and the results added to the messages.
    ///
    /// With a `schema` the answer is valid JSON of that schema, unless it calls tools: it is checked,
    /// the model is asked to mend it once, and after that it is an error.
    ///
    /// # Errors
    /// With what was used all the same: a failed call may cost money.
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError>;

    /// Has a picture made, of words and of other pictures. A provider may make more than one.
    ///
    /// # Errors
    /// As [`Self::ask`].
    async fn draw(&self, drawing: Drawing, cancel: CancellationToken) -> Result<Drawn, ModelError>;

    /// The names that a manifest may use.
    fn names(&self) -> Vec<String>;

    /// What a question of so many tokens, with an answer of so many, costs at the model of a name; `None`
    /// when nobody knows.
    fn price(&self, name: &str, read: u64, written: u64) -> Option<NanoUsd>;
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which models may be asked, and how one is chosen.
    pub choice: Choice,
    /// A name for the conversation, where it will go on: the same for each question of it, and saying nothing
    /// to others. Providers do well to keep what they read of it.
    pub conversation: Option<String>,
    /// What the model is told before.
    pub system: Option<String>,
    /// What was said so far; the last word is not the model's.
    pub messages: Vec<Message>,
    /// What it may call before it answers.
    pub tools: Vec<Tool>,
    /// What the answer must look like: a JSON Schema.
    pub schema: Option<serde_json::Value>,
    /// The longest answer, tokens.
    pub max_tokens: Option<u32>,
    /// How freely it answers, 0 to 2.
    pub temperature: Option<f64>,
    /// What it is paid from: before each call, retries and repairs too, what that may cost at most is
    /// set aside, and after it what it did cost is taken.
    pub till: Arc<dyn Till>,
}

/// A picture that is to be made.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// Which models may make it, and how one is chosen.
    pub choice: Choice,
    /// What it is to show, or what is to be different in it.
    pub prompt: String,
    /// What it is made from; empty is from nothing.
    pub from: Vec<Picture>,
    /// What it is paid from, as a question is.
    pub till: Arc<dyn Till>,
}

/// Pictures that were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// At least one.
    pub pictures: Vec<Picture>,
    /// Which of the targets made them.
    pub target: String,
    /// Why it was asked, and the others were not.
    pub ranking: Ranking,
    /// Every call that was made, failed ones too.
    pub calls: Vec<ModelUsage>,
}

/// Which models may be asked, and how one is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The models, by any name that the catalogue or the operator knows.
    pub targets: Vec<String>,
    /// The share of each, in their order; empty unless `route` is [`Route::Weighted`].
    pub weights: Vec<u32>,
    /// How one is chosen.
    pub route: Route,
    /// What it must be able to do.
    pub needs: Vec<Ability>,
    /// Which of them the conversation is with.
    pub stays_with: Option<String>,
}

impl Choice {
    /// This one model.
    pub fn of(target: impl Into<String>) -> Self {
        Self { targets: vec![target.into()], ..Self::default() }
    }
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// To the model.
    User {
        /// The words.
        text: String,
        /// The pictures that go with them.
        pictures: Vec<Picture>,
    },
    /// By the model.
    Assistant {
        /// Its words.
        text: String,
        /// The tools that it called.
        calls: Vec<ToolCall>,
    },
    /// What came of the calls of the message before, in their order.
    Results(Vec<ToolResult>),
}

impl Message {
    /// Words to the model.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into(), pictures: Vec::new() }
    }
}

/// Something that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// When to call it, and what comes of it.
    pub description: String,
    /// What it is called with: a JSON Schema of an object.
    pub parameters: serde_json::Value,
}

/// A call that a model makes.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Which tool.
    pub name: String,
    /// What it is called with. It should be a JSON object of the tool's schema; models err.
    pub arguments: String,
    /// What the provider wants to see again with the call; nobody else understands it.
    pub opaque: Option<serde_json::Value>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// In words for the model.
    pub text: String,
    /// Whether it could not be done.
    pub failed: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// As the model wrote it.
    pub text: String,
    /// The tools that it calls; empty when this is its last word.
    pub wants: Vec<ToolCall>,
    /// Which of the question's targets answered.
    pub target: String,
    /// Why it was asked, and the others were not.
    pub ranking: Ranking,
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
    /// `budget_exhausted`, `unpriced_model`, `cancelled`, …
    pub failure: Failure,
    /// Every call that was made and may cost money.
    pub calls: Vec<ModelUsage>,
    /// Which models were asked, and why others were not, as far as it came to that.
    pub ranking: Option<Box<Ranking>>,
    /// Whether the stage may be tried again.
    pub retry: crate::Retry,
}
