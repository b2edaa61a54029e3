//! Questions for models, as they stand in a cassette: the one place that knows which parts of a question make
//! it the same question, and how it is written.

use ports::models::{Drawing, Message, Question, Tool, ToolCall, ToolResult};
use ports::picture::Picture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

/// What was asked. How a model is chosen among the targets, and what it is paid from, is no part of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The models that may answer.
    pub(crate) targets: Vec<String>,
    /// The longest answer, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,
    /// How freely it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    /// What the model is told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    /// What was said so far.
    pub(crate) messages: Vec<Said>,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Offered>,
    /// What the answer must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Json>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Said {
    /// To the model.
    User(String),
    /// To the model, with pictures.
    Shown {
        /// The words.
        text: String,
        /// Each picture, by its kind and digest.
        pictures: Vec<String>,
    },
    /// By the model.
    Assistant {
        /// Its words.
        text: String,
        /// The tools that it called.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Called>,
    },
    /// What came of the calls.
    Results(Vec<Came>),
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offered {
    /// Its name.
    pub(crate) name: String,
    /// When to call it.
    pub(crate) description: String,
    /// What it is called with: a JSON Schema.
    pub(crate) parameters: Json,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Called {
    /// Which.
    pub(crate) name: String,
    /// What it was called with.
    pub(crate) arguments: String,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Came {
    /// In words for the model.
    pub(crate) text: String,
    /// Whether it could not be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
}

/// A picture that was ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ordered {
    /// The models that may make it.
    pub(crate) targets: Vec<String>,
    /// What it is to show.
    pub(crate) prompt: String,
    /// The pictures that it is made from, each by its kind and digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) from: Vec<String>,
}

impl From<&Question> for Asked {
    fn from(question: &Question) -> Self {
        Self {
            targets: question.choice.targets.clone(),
            max_tokens: question.max_tokens,
            temperature: question.temperature,
            system: question.system.clone(),
            messages: question.messages.iter().map(Said::from).collect(),
            tools: question.tools.iter().map(Offered::from).collect(),
            schema: question.schema.clone(),
        }
    }
}

impl From<&Drawing> for Ordered {
    fn from(drawing: &Drawing) -> Self {
        Self {
            targets: drawing.choice.targets.clone(),
            prompt: drawing.prompt.clone(),
            from: drawing.from.iter().map(picture).collect(),
        }
    }
}

impl From<&Message> for Said {
    fn from(message: &Message) -> Self {
        match message {
            Message::User { text, pictures } if pictures.is_empty() => Self::User(text.clone()),
            Message::User { text, pictures } => {
                Self::Shown { text: text.clone(), pictures: pictures.iter().map(picture).collect() }
            }
            Message::Assistant { text, calls } => {
                Self::Assistant { text: text.clone(), calls: calls.iter().map(Called::from).collect() }
            }
            Message::Results(results) => Self::Results(results.iter().map(Came::from).collect()),
        }
    }
}

/// A picture, told from every other.
fn picture(picture: &Picture) -> String {
    format!("{} sha256:{}", picture.kind().media_type(), hex::encode(Sha256::digest(picture.bytes())))
}

impl From<&Tool> for Offered {
    fn from(tool: &Tool) -> Self {
        let Tool { name, description, parameters } = tool.clone();
        Self { name, description, parameters }
    }
}

/// What only the provider understands is left out: it would make every recording another.
impl From<&ToolCall> for Called {
    fn from(call: &ToolCall) -> Self {
        Self { name: call.name.clone(), arguments: call.arguments.clone() }
    }
}

impl From<Called> for ToolCall {
    fn from(called: Called) -> Self {
        Self { name: called.name, arguments: called.arguments, opaque: None }
    }
}

impl From<&ToolResult> for Came {
    fn from(result: &ToolResult) -> Self {
        Self { text: result.text.clone(), failed: result.failed }
    }
}

impl Ordered {
    /// What was ordered, as lines for people.
    pub(crate) fn script(&self) -> String {
        let mut lines =
            vec![format!("targets: {}", self.targets.join(", ")), String::new(), self.prompt.clone()];
        lines.extend(self.from.iter().map(|picture| format!("from {picture}")));
        lines.join("\n")
    }
}

impl Asked {
    /// What was asked, as lines for people.
    pub(crate) fn script(&self) -> String {
        let mut lines = vec![format!("targets: {}", self.targets.join(", "))];
        lines.extend(self.max_tokens.map(|most| format!("max_tokens: {most}")));
        lines.extend(self.temperature.map(|heat| format!("temperature: {heat}")));
        lines.extend(self.system.iter().flat_map(|text| ["".to_owned(), "system:".to_owned(), text.clone()]));
        for said in &self.messages {
            lines.push(String::new());
            match said {
                Said::User(text) => lines.extend(["user:".to_owned(), text.clone()]),
                Said::Shown { text, pictures } => {
                    lines.extend(["user:".to_owned(), text.clone()]);
                    lines.extend(pictures.iter().map(|picture| format!("shows {picture}")));
                }
                Said::Assistant { text, calls } => {
                    lines.extend(["assistant:".to_owned(), text.clone()]);
                    lines.extend(calls.iter().map(|call| format!("calls {}: {}", call.name, call.arguments)));
                }
                Said::Results(results) => {
                    for came in results {
                        let word = if came.failed { "failed:" } else { "result:" };
                        lines.extend([word.to_owned(), came.text.clone()]);
                    }
                }
            }
        }
        for tool in &self.tools {
            lines.extend([String::new(), format!("tool {}: {}", tool.name, tool.description)]);
            lines.push(format!("{:#}", tool.parameters));
        }
        lines.extend(self.schema.iter().flat_map(|schema| ["\nschema:".to_owned(), format!("{schema:#}")]));
        lines.join("\n")
    }
}
