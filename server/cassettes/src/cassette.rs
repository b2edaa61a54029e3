//! What is kept: every question and its answer. People read these files and compare their versions, so that
//! they are plain, and in the order in which things were asked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::scrub::Scrub;
use ports::picture::Picture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::question::{Asked, Called, Ordered};
use crate::track::Recorded;
use crate::usage::Used;

/// The form of the file; another number is another form.
const VERSION: u32 = 1;

/// Everything that was answered to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    version: u32,
    /// What models answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<ModelRecording>,
    /// What models drew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pictures: Vec<PictureRecording>,
    /// What other people's servers answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) web: Vec<WebRecording>,
    /// What coding agents did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) agents: Vec<AgentRecording>,
    /// The pictures themselves, by name: files of their own, since nobody reads them as text.
    #[serde(skip)]
    pub(crate) files: BTreeMap<String, Picture>,
}

/// The data is no cassette.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cassette: {0}")]
pub struct CassetteError(String);

impl Default for Cassette {
    fn default() -> Self {
        let files = BTreeMap::new();
        Self {
            version: VERSION,
            models: Vec::new(),
            pictures: Vec::new(),
            web: Vec::new(),
            agents: Vec::new(),
            files,
        }
    }
}

impl Cassette {
    /// Reads what [`Cassette::to_json`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_json(json: Json) -> Result<Self, CassetteError> {
        let cassette: Self =
            serde_json::from_value(json).map_err(|error| CassetteError(error.to_string()))?;
        if cassette.version != VERSION {
            let message = format!("its version is {}, and this server reads {VERSION}", cassette.version);
            return Err(CassetteError(message));
        }
        let answers = cassette.models.iter().filter_map(|recording| recording.reply.answer());
        let drawn = cassette.pictures.iter().filter_map(|recording| recording.reply.answer());
        let drawn = drawn.flat_map(|drawn| &drawn.usage);
        let done = cassette.agents.iter().flat_map(|recording| &recording.done.usage);
        let used = answers.flat_map(|answer| &answer.usage).chain(drawn).chain(done);
        match used.into_iter().find(|used| !used.is_sound()) {
            Some(used) => Err(CassetteError(format!("`{}` is no amount of money", used.cost))),
            None => Ok(cassette),
        }
    }

    /// The data, without secrets, each recording under its key.
    pub fn to_json(&self, scrub: &Scrub) -> Json {
        let json = serde_json::to_value(self).expect("because recordings are texts, numbers and JSON");
        let mut json = scrub.json(json);
        for (kind, keys) in [
            ("models", keys(&self.models)),
            ("pictures", keys(&self.pictures)),
            ("web", keys(&self.web)),
            ("agents", keys(&self.agents)),
        ] {
            for (at, key) in keys.into_iter().enumerate() {
                json[kind][at]["key"] = key.into();
            }
        }
        json
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many recordings it holds.
    pub fn len(&self) -> usize {
        self.models.len() + self.pictures.len() + self.web.len() + self.agents.len()
    }

    /// The names of the pictures that its recordings speak of: files that lie beside it.
    pub fn pictures(&self) -> BTreeSet<&str> {
        let drawn = self.pictures.iter().filter_map(|recording| recording.reply.answer());
        drawn.flat_map(|drawn| &drawn.pictures).map(String::as_str).collect()
    }

    /// Brings a picture that lies beside it.
    ///
    /// # Errors
    /// When it is no picture, or another one than was recorded.
    pub fn bring(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), CassetteError> {
        let picture = Picture::read(Bytes::from(bytes)).filter(|picture| name_of(picture) == name);
        let Some(picture) = picture else {
            return Err(CassetteError(format!("{name} is not the picture that was recorded")));
        };
        self.files.insert(name.to_owned(), picture);
        Ok(())
    }

    /// The whole file of a picture.
    pub fn picture(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|picture| &picture.bytes()[..])
    }
}

fn keys(recordings: &[impl Recorded]) -> Vec<String> {
    recordings.iter().map(Recorded::key).collect()
}

/// The name of a picture's file: what it says changes when the picture does.
pub(crate) fn name_of(picture: &Picture) -> String {
    let digest = Sha256::digest(picture.bytes());
    format!("{}.{}", hex::encode(&digest[..12]), picture.kind().extension())
}

/// The key of what was asked: the beginning of the SHA-256 of its JSON.
fn digest(asked: &impl Serialize) -> String {
    let json = serde_json::to_vec(asked).expect("because it is texts, numbers and JSON");
    hex::encode(&Sha256::digest(json)[..12])
}

/// A question for a model, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRecording {
    /// For people; what counts is the question.
    #[serde(default, rename = "key")]
    pub(crate) shown: String,
    pub(crate) question: Asked,
    #[serde(flatten)]
    pub(crate) reply: Reply<ModelAnswer>,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply<A> {
    Answer(A),
    Failure(Failed),
}

impl<A> Reply<A> {
    pub(crate) fn answer(&self) -> Option<&A> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Failure(_) => None,
        }
    }
}

/// An answer of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelAnswer {
    /// Which of the targets answered.
    pub(crate) target: String,
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) calls: Vec<Called>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) usage: Vec<Used>,
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failed {
    pub(crate) code: String,
    pub(crate) message: String,
    /// Whether trying again may help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) retry: bool,
}

/// An order of a picture, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PictureRecording {
    #[serde(default, rename = "key")]
    pub(crate) shown: String,
    pub(crate) drawing: Ordered,
    #[serde(flatten)]
    pub(crate) reply: Reply<Painted>,
}

/// Pictures that a model made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Painted {
    /// Which of the targets made them.
    pub(crate) target: String,
    /// The names of their files.
    pub(crate) pictures: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) usage: Vec<Used>,
}

/// A call of somebody's server, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WebRecording {
    #[serde(default, rename = "key")]
    pub(crate) shown: String,
    pub(crate) request: Sent,
    #[serde(flatten)]
    pub(crate) reply: Reply<Returned>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Body>,
}

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Returned {
    pub(crate) status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    /// The session of an MCP server that begins with it, under a name that is the same in every recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Body>,
}

/// What was sent, as plainly as it can be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Json(Json),
    Text(String),
    Base64(String),
}

/// What a coding agent was asked to do, and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentRecording {
    #[serde(default, rename = "key")]
    pub(crate) shown: String,
    pub(crate) job: Given,
    pub(crate) done: Worked,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) agent: String,
    pub(crate) model: String,
    pub(crate) prompt: String,
}

/// What came of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worked {
    /// The version of the agent.
    pub(crate) version: String,
    /// Its last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) said: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failed>,
    /// What it changed, as a patch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) changed: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) usage: Vec<Used>,
}

impl Recorded for ModelRecording {
    fn key(&self) -> String {
        digest(&self.question)
    }

    fn script(&self) -> String {
        self.question.script()
    }
}

impl Recorded for PictureRecording {
    fn key(&self) -> String {
        digest(&self.drawing)
    }

    fn script(&self) -> String {
        self.drawing.script()
    }
}

impl Recorded for WebRecording {
    fn key(&self) -> String {
        digest(&self.request)
    }

    fn script(&self) -> String {
        self.request.script()
    }
}

impl Recorded for AgentRecording {
    fn key(&self) -> String {
        digest(&self.job)
    }

    fn script(&self) -> String {
        format!("agent: {}\nmodel: {}\n\n{}", self.job.agent, self.job.model, self.job.prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recording(prompt: &str) -> Json {
        json!({
            "question": { "targets": ["local"], "temperature": 0.0, "messages": [{ "user": prompt }] },
            "answer": { "target": "local", "text": "yes", "usage": [
                { "requested": "local", "served": "m", "provider": "p", "input": 1, "output": 2, "cost": "$0.01" },
            ] },
        })
    }

    #[test]
    fn what_is_written_is_read_again() {
        let failure = json!({
            "question": { "targets": ["local"], "messages": [{ "user": "again" }] },
            "failure": { "code": "model_refused", "message": "no" },
        });
        let request = json!({
            "request": { "method": "GET", "url": "https://example.org" },
            "answer": { "status": 200, "content_type": "application/json", "body": { "json": { "a": 1 } } },
        });
        let agent = json!({
            "job": { "agent": "codex", "model": "gpt-5", "prompt": "Mend it" },
            "done": { "version": "1", "said": "Done", "changed": "diff" },
        });
        let whole = json!({ "version": 1, "models": [recording("Is it?"), failure], "web": [request], "agents": [agent] });
        let cassette = Cassette::from_json(whole).unwrap();
        let written = cassette.to_json(&Scrub::new([]));
        assert_eq!(written["models"][0]["key"].as_str().map(str::len), Some(24), "{written:#}");
        let again = Cassette::from_json(written.clone()).unwrap();
        assert_eq!(again.to_json(&Scrub::new([])), written);
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn something_else_is_refused() {
        for (json, expect) in [
            (json!({ "version": 2 }), "its version is 2, and this server reads 1"),
            (json!({ "version": 1, "model": [] }), "unknown field `model`"),
            (json!([]), "invalid length 0"),
            (
                json!({ "version": 1, "models": [{ "question": { "targets": [], "messages": [] } }] }),
                "no variant",
            ),
        ] {
            let error = Cassette::from_json(json).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
        let mut dear = json!({ "version": 1, "models": [recording("x")] });
        dear["models"][0]["answer"]["usage"][0]["cost"] = "much".into();
        assert_eq!(
            Cassette::from_json(dear).unwrap_err().to_string(),
            "this is not a cassette: `much` is no amount of money"
        );
    }
}
