//! Models from a tape.

use std::sync::Arc;

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::route::Ranking;
use domain::run::Failure;
use domain::stage::ModelUsage;
use ports::Retry;
use ports::models::{Answer, Drawing, Drawn, ModelError, Models, Question, ToolCall};
use ports::till::Intended;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cassette::{Failed, ModelAnswer, ModelRecording, Reply};
use crate::question::{Asked, Called};
use crate::tape::Tape;
use crate::usage::Used;

/// Failures that are about the question and its answer. Others are about this machine or this moment: a
/// recording of them would be a test of the weather.
const LASTING: [&str; 5] =
    ["answer_invalid", "model_refused", "model_incapable", "request_invalid", "cost_limit"];

/// Models that answer from a tape.
#[derive(Debug)]
pub struct TapedModels {
    tape: Arc<Tape>,
    real: Arc<dyn Models>,
}

impl TapedModels {
    /// With these behind it, which a replay asks nothing but their names.
    pub fn new(tape: Arc<Tape>, real: Arc<dyn Models>) -> Self {
        Self { tape, real }
    }

    fn asked(&self, question: &Question) -> Asked {
        let asked = serde_json::to_value(Asked::from(question)).expect("because it is texts and JSON");
        let scrubbed = self.tape.scrub.json(asked);
        serde_json::from_value(scrubbed).expect("because only texts in it are others")
    }
}

#[async_trait]
impl Models for TapedModels {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        let asked = self.asked(&question);
        let nothing = Failed { code: String::new(), message: String::new(), retry: false };
        let blank = ModelRecording { shown: String::new(), question: asked, reply: Reply::Failure(nothing) };
        if let Some(recording) = self.tape.play("a model", &blank, |state| &mut state.models) {
            return replayed(recording, &question, &pieces).await;
        }
        if self.tape.is_replay() {
            let message = "this question has no recording; `spellbook test --record` asks it";
            return Err(refused(Failure::new("not_recorded", message)));
        }
        let answer = self.real.ask(question, pieces, cancel).await;
        let reply = match &answer {
            Ok(answer) => Reply::Answer(kept(answer)),
            Err(error) if LASTING.contains(&error.failure.code.as_str()) => Reply::Failure(Failed {
                code: error.failure.code.clone(),
                message: error.failure.message.clone(),
                retry: error.retry == Retry::Later,
            }),
            Err(error) => {
                self.tape.refuse(format!("a model did not answer: {}", error.failure.message));
                return answer;
            }
        };
        self.tape.state().models.keep(ModelRecording { reply, ..blank });
        answer
    }

    /// Pictures are too large for a cassette, and are made by nobody in a test.
    async fn draw(&self, _: Drawing, _: CancellationToken) -> Result<Drawn, ModelError> {
        let message = "a test cannot have pictures made; give `if` to the stage, or leave it to a run";
        Err(refused(Failure::new("not_recorded", message)))
    }

    fn names(&self) -> Vec<String> {
        self.real.names()
    }

    fn price(&self, name: &str, read: u64, written: u64) -> Option<NanoUsd> {
        self.real.price(name, read, written)
    }
}

/// What is kept of an answer.
fn kept(answer: &Answer) -> ModelAnswer {
    ModelAnswer {
        target: answer.target.clone(),
        text: answer.text.clone(),
        json: answer.json.clone(),
        calls: answer.wants.iter().map(Called::from).collect(),
        usage: answer.calls.iter().map(Used::from).collect(),
    }
}

async fn replayed(
    recording: ModelRecording,
    question: &Question,
    pieces: &mpsc::Sender<String>,
) -> Result<Answer, ModelError> {
    let answer = match recording.reply {
        Reply::Answer(answer) => answer,
        Reply::Failure(Failed { code, message, retry }) => {
            let retry = if retry { Retry::Later } else { Retry::Never };
            return Err(ModelError { retry, ..refused(Failure::new(&code, message)) });
        }
    };
    let mut calls: Vec<ModelUsage> = answer.usage.iter().map(ModelUsage::from).collect();
    // A limit that became too low is noticed as on a server.
    for call in &mut calls {
        let intended = Intended {
            requested: &call.requested,
            served: &call.served,
            provider: &call.provider,
            most: Some(call.cost),
        };
        match question.till.reserve(&intended).await {
            Ok(reservation) => reservation.settle(call),
            Err(_) => {
                let cost = call.cost;
                let message = format!(
                    "this answer cost {cost} when it was recorded, and less is left of `limits.cost`"
                );
                return Err(refused(Failure::new("cost_limit", message)));
            }
        }
    }
    // Whoever listens may have gone.
    let _ = pieces.send(answer.text.clone()).await;
    Ok(Answer {
        text: answer.text,
        wants: answer.calls.into_iter().map(ToolCall::from).collect(),
        target: answer.target,
        ranking: Ranking::default(),
        json: answer.json,
        calls,
    })
}

fn refused(failure: Failure) -> ModelError {
    ModelError { failure, calls: Vec::new(), ranking: None, retry: Retry::Never }
}
