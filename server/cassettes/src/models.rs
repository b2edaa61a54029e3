//! Models from a tape.

use std::sync::Arc;

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::route::Ranking;
use domain::run::Failure;
use domain::stage::ModelUsage;
use ports::Retry;
use ports::models::{Answer, Drawing, Drawn, ModelError, Models, Question, ToolCall};
use ports::till::{Intended, Till};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cassette::{Failed, ModelAnswer, ModelRecording, Painted, PictureRecording, Reply, name_of};
use crate::question::{Asked, Called, Ordered};
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

    /// What is asked, without secrets.
    fn scrubbed<T: Serialize + DeserializeOwned>(&self, asked: &T) -> T {
        let asked = serde_json::to_value(asked).expect("because it is texts and JSON");
        let scrubbed = self.tape.scrub.json(asked);
        serde_json::from_value(scrubbed).expect("because only texts in it are others")
    }

    /// What is kept of a failure; nothing of one that is not to be, which the tape is told.
    fn kept_of(&self, error: &ModelError) -> Option<Failed> {
        let Failure { code, message, .. } = &error.failure;
        if !LASTING.contains(&code.as_str()) {
            self.tape.refuse(format!("a model did not answer: {message}"));
            return None;
        }
        let message = self.tape.scrub.text(message);
        Some(Failed { code: code.clone(), message, retry: error.retry == Retry::Later })
    }

    /// What is kept of pictures; their files are kept as they are.
    fn painted(&self, drawn: &Drawn) -> Option<Painted> {
        let mut names = Vec::new();
        for picture in &drawn.pictures {
            // What is written beside the colours of a picture: its maker, and at times what was ordered.
            if self.tape.scrub.find(&String::from_utf8_lossy(picture.bytes())).is_some() {
                self.tape.refuse("a secret would stand in a picture".to_owned());
                return None;
            }
            let name = name_of(picture);
            self.tape.state().files.insert(name.clone(), picture.clone());
            names.push(name);
        }
        let usage = drawn.calls.iter().map(Used::from).collect();
        Some(Painted { target: drawn.target.clone(), pictures: names, usage })
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
        let asked = self.scrubbed(&Asked::from(&question));
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
            Ok(answer) => Some(Reply::Answer(kept(answer))),
            Err(error) => self.kept_of(error).map(Reply::Failure),
        };
        if let Some(reply) = reply {
            self.tape.state().models.keep(ModelRecording { reply, ..blank });
        }
        answer
    }

    async fn draw(&self, drawing: Drawing, cancel: CancellationToken) -> Result<Drawn, ModelError> {
        let ordered = self.scrubbed(&Ordered::from(&drawing));
        let nothing = Failed { code: String::new(), message: String::new(), retry: false };
        let blank =
            PictureRecording { shown: String::new(), drawing: ordered, reply: Reply::Failure(nothing) };
        let found = self.tape.play("a model that makes pictures", &blank, |state| &mut state.drawings);
        if let Some(recording) = found {
            return redrawn(recording, &drawing, &self.tape).await;
        }
        if self.tape.is_replay() {
            let message = "this picture has no recording; `spellbook test --record` has it made";
            return Err(refused(Failure::new("not_recorded", message)));
        }
        let drawn = self.real.draw(drawing, cancel).await;
        let reply = match &drawn {
            Ok(drawn) => self.painted(drawn).map(Reply::Answer),
            Err(error) => self.kept_of(error).map(Reply::Failure),
        };
        if let Some(reply) = reply {
            self.tape.state().drawings.keep(PictureRecording { reply, ..blank });
        }
        drawn
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
    let answer = said(recording.reply)?;
    let calls = paid(&answer.usage, &question.till).await?;
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

async fn redrawn(recording: PictureRecording, drawing: &Drawing, tape: &Tape) -> Result<Drawn, ModelError> {
    let painted = said(recording.reply)?;
    let pictures: Vec<_> = {
        let state = tape.state();
        painted.pictures.iter().filter_map(|name| state.files.get(name).cloned()).collect()
    };
    if pictures.is_empty() || pictures.len() < painted.pictures.len() {
        let message = format!("a picture that was recorded is not there: {}", painted.pictures.join(", "));
        tape.miss(message.clone());
        return Err(refused(Failure::new("not_recorded", message)));
    }
    let calls = paid(&painted.usage, &drawing.till).await?;
    Ok(Drawn { pictures, target: painted.target, ranking: Ranking::default(), calls })
}

/// The answer, or the failure as it was.
fn said<A>(reply: Reply<A>) -> Result<A, ModelError> {
    match reply {
        Reply::Answer(answer) => Ok(answer),
        Reply::Failure(Failed { code, message, retry }) => {
            let retry = if retry { Retry::Later } else { Retry::Never };
            Err(ModelError { retry, ..refused(Failure::new(&code, message)) })
        }
    }
}

/// Pays what was paid then: a limit that became too low is noticed as on a server.
async fn paid(usage: &[Used], till: &Arc<dyn Till>) -> Result<Vec<ModelUsage>, ModelError> {
    let mut calls: Vec<ModelUsage> = usage.iter().map(ModelUsage::from).collect();
    for call in &mut calls {
        let intended = Intended {
            requested: &call.requested,
            served: &call.served,
            provider: &call.provider,
            most: Some(call.cost),
        };
        match till.reserve(&intended).await {
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
    Ok(calls)
}

fn refused(failure: Failure) -> ModelError {
    ModelError { failure, calls: Vec::new(), ranking: None, retry: Retry::Never }
}
