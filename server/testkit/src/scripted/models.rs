use std::fmt;

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::route::Ranking;
use domain::run::Failure;
use domain::stage::{ModelUsage, Tokens};
use ports::Retry;
use ports::models::{Answer, Choice, Drawing, Drawn, ModelError, Models, Question, ToolCall};
use ports::picture::Picture;
use ports::till::{Declined, Till};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Asked;

type Script = dyn Fn(&Question) -> Result<Answer, ModelError> + Send + Sync;

/// Models that answer by a script; the whole text of an answer is its one piece. What their calls cost
/// comes out of the question's till, and a question that it does not pay is not answered.
pub struct ScriptedModels {
    script: Box<Script>,
    asked: Asked<Question>,
    drawn: Asked<Drawing>,
    names: Vec<String>,
}

impl ScriptedModels {
    /// Models that answer as `script` says.
    pub fn new(script: impl Fn(&Question) -> Result<Answer, ModelError> + Send + Sync + 'static) -> Self {
        let names = ["claude-opus", "gemini-pro", "gpt-4", "gpt-5", "local"].map(str::to_owned).to_vec();
        Self { script: Box::new(script), asked: Asked::nothing(), drawn: Asked::nothing(), names }
    }

    /// Models that always answer `text`.
    pub fn saying(text: &'static str) -> Self {
        Self::new(move |question| Ok(Self::answer(question, text)))
    }

    /// The same models, under other names than `claude-opus`, `gemini-pro`, `gpt-4`, `gpt-5`, `local`.
    #[must_use]
    pub fn with_names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// An answer: a tenth of a cent for one call. With a schema the text must be JSON; it is not
    /// checked any further.
    ///
    /// # Panics
    /// When the question has a schema and the text is not JSON: the script is wrong then.
    pub fn answer(question: &Question, text: &str) -> Answer {
        let json = question.schema.as_ref().map(|_| match serde_json::from_str(text) {
            Ok(json) => json,
            Err(error) => panic!("the script answers {text:?} where JSON is asked for: {error}"),
        });
        let target = question.choice.targets.first().cloned().unwrap_or_default();
        Answer {
            text: text.to_owned(),
            json,
            wants: Vec::new(),
            target,
            ranking: Ranking::default(),
            calls: vec![Self::usage(question)],
        }
    }

    /// An answer that calls tools, each by its name and arguments.
    pub fn calling(question: &Question, text: &str, calls: &[(&str, serde_json::Value)]) -> Answer {
        let wants = calls.iter().map(|(name, arguments)| ToolCall {
            name: (*name).to_owned(),
            arguments: arguments.to_string(),
            opaque: None,
        });
        let plain = Question { schema: None, ..question.clone() };
        Answer { wants: wants.collect(), ..Self::answer(&plain, text) }
    }

    /// No answer; nothing was used.
    pub fn failure(code: &str, message: &str, retry: Retry) -> ModelError {
        ModelError { failure: Failure::new(code, message), calls: Vec::new(), ranking: None, retry }
    }

    /// What one call uses: ten tokens in, five out, a tenth of a cent.
    pub fn usage(question: &Question) -> ModelUsage {
        Self::used(&question.choice)
    }

    fn used(choice: &Choice) -> ModelUsage {
        let requested = choice.targets.first().cloned().unwrap_or_default();
        ModelUsage {
            served: requested.clone(),
            requested,
            provider: "scripted".to_owned(),
            tokens: Tokens { input: 10, output: 5, ..Tokens::default() },
            cost: NanoUsd::from_nanos(1_000_000),
            attempt: 1,
            ..ModelUsage::default()
        }
    }

    async fn pay(till: &dyn Till, call: &mut ModelUsage) -> Result<(), ModelError> {
        match till.reserve(&super::intended(call)).await {
            Ok(reservation) => reservation.settle(call),
            Err(Declined::Exhausted { code, message }) => {
                return Err(Self::failure(code, &message, Retry::Never));
            }
            Err(declined) => panic!("what is scripted has a price, and its store answers: {declined:?}"),
        }
        Ok(())
    }

    /// The pictures that were asked for, in order.
    pub fn drawings(&self) -> Vec<Drawing> {
        self.drawn.all()
    }

    /// The questions that were asked, in order.
    pub fn questions(&self) -> Vec<Question> {
        self.asked.all()
    }
}

impl fmt::Debug for ScriptedModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModels").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[async_trait]
impl Models for ScriptedModels {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        self.asked.note(&question);
        if cancel.is_cancelled() {
            return Err(Self::failure("cancelled", "the call was cancelled", Retry::Never));
        }
        let mut result = (self.script)(&question);
        let calls = match &mut result {
            Ok(answer) => &mut answer.calls,
            Err(error) => &mut error.calls,
        };
        for call in calls {
            Self::pay(&*question.till, call).await?;
        }
        let answer = result?;
        // A receiver that is slow or gone does not matter.
        let _ = pieces.try_send(answer.text.clone());
        Ok(answer)
    }

    /// Draws a PNG in which the words stand, for a tenth of a cent; another one where the words begin with
    /// `two`. What says `nothing` is refused.
    async fn draw(&self, drawing: Drawing, cancel: CancellationToken) -> Result<Drawn, ModelError> {
        self.drawn.note(&drawing);
        if cancel.is_cancelled() {
            return Err(Self::failure("cancelled", "the call was cancelled", Retry::Never));
        }
        if drawing.prompt == "nothing" {
            return Err(Self::failure("model_refused", "it refused", Retry::Never));
        }
        let mut usage = Self::used(&drawing.choice);
        Self::pay(&*drawing.till, &mut usage).await?;
        let png = [b"\x89PNG\r\n\x1a\n", drawing.prompt.as_bytes()].concat();
        let count = if drawing.prompt.starts_with("two") { 2 } else { 1 };
        Ok(Drawn {
            pictures: vec![Picture::read(png.into()).expect("because it begins as one"); count],
            target: usage.requested.clone(),
            ranking: Ranking::default(),
            calls: vec![usage],
        })
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// A millionth of a dollar a token.
    fn price(&self, name: &str, read: u64, written: u64) -> Option<NanoUsd> {
        let is_known = self.names.iter().any(|known| known == name);
        is_known.then(|| NanoUsd::USD.per_million(read + written))
    }
}
