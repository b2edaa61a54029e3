//! From an entry to a command: places in texts, and what stands there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use ports::agents::{AGENTS, Invocation, Job, Listener, Program};
use serde::Deserialize;

use crate::catalogue::Agent;
use crate::listen::Hearing;

/// A text with places: `{prompt}`, `{model}`, … Braces that hold anything but a word are text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Place { place: Place, json: bool },
}

/// What can stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Prompt,
    Model,
    Proxy,
    Token,
    Home,
    Turns,
    Directory,
    Program,
    Version,
}

impl Place {
    const ALL: [(&'static str, Self); 9] = [
        ("prompt", Self::Prompt),
        ("model", Self::Model),
        ("base_url", Self::Proxy),
        ("token", Self::Token),
        ("home", Self::Home),
        ("turns", Self::Turns),
        ("directory", Self::Directory),
        ("program", Self::Program),
        ("version", Self::Version),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(name, place)| (name == word).then_some(place))
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let (mut plain, mut rest) = (String::new(), text.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            let word = after.split_once('}').filter(|(word, _)| is_word(word));
            let Some((word, left)) = word else {
                plain.push('{');
                rest = after;
                continue;
            };
            let (name, json) = match word.strip_suffix(":json") {
                Some(name) => (name, true),
                None => (word, false),
            };
            let place = Place::parse(name).ok_or_else(|| {
                let known: Vec<&str> = Place::ALL.iter().map(|(name, _)| *name).collect();
                format!("`{{{word}}}` means nothing; there are {}", known.join(", "))
            })?;
            if !plain.is_empty() {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Place { place, json });
            rest = left;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(Self(pieces))
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b':')
}

impl Text {
    /// The text with something in each place; `{place:json}` is written as a string of JSON.
    fn fill(&self, ready: &Ready, job: &Job<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Place { place, json } => {
                    let value = ready.value(*place, job);
                    if *json {
                        write!(text, "{}", serde_json::Value::from(value))
                            .expect("because writing to a string cannot fail");
                    } else {
                        text.push_str(&value);
                    }
                }
            }
        }
        text
    }
}

/// A program that is there.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) agent: Agent,
    /// Where it is in a jail.
    pub(crate) directory: String,
    /// The program itself, in a jail.
    pub(crate) program: String,
}

impl Ready {
    /// `directory` is the name of the installation, `program` a path in it.
    pub(crate) fn new(name: &str, agent: &Agent, directory: &str, program: &Path) -> Self {
        let directory = format!("{AGENTS}/{directory}");
        let program = format!("{directory}/{}", program.display());
        Self { name: name.to_owned(), agent: agent.clone(), directory, program }
    }

    fn value(&self, place: Place, job: &Job<'_>) -> String {
        match place {
            Place::Prompt => job.prompt.to_owned(),
            Place::Model => job.model.to_owned(),
            Place::Proxy => job.proxy.to_owned(),
            Place::Token => job.token.to_owned(),
            Place::Home => job.home.to_owned(),
            Place::Turns => job.turns.to_string(),
            Place::Directory => self.directory.clone(),
            Place::Program => self.program.clone(),
            Place::Version => self.agent.version.clone(),
        }
    }
}

impl Program for Ready {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        &self.agent.version
    }

    fn model(&self) -> &str {
        &self.agent.model
    }

    fn spare_calls(&self) -> u32 {
        self.agent.spare_calls
    }

    fn invoke(&self, job: &Job<'_>) -> Invocation {
        let env: BTreeMap<String, String> =
            self.agent.env.iter().map(|(name, text)| (name.clone(), text.fill(self, job))).collect();
        Invocation {
            command: self.agent.command.iter().map(|text| text.fill(self, job)).collect(),
            env,
            stdin: Bytes::from(self.agent.stdin.fill(self, job)),
        }
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::new(self.agent.output.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn job(prompt: &str) -> Job<'_> {
        Job {
            prompt,
            model: "mo\"del",
            proxy: "http://127.0.0.1:8080",
            token: "tok",
            home: "/home/agent",
            turns: 7,
        }
    }

    fn ready(name: &str) -> Ready {
        let catalogue = Catalogue::read(&toml::Table::new()).unwrap();
        let agent = catalogue.agents[name].agent.clone().unwrap();
        Ready::new(name, &agent, "there", Path::new("bin/it"))
    }

    /// A task can hold anything; none of it is taken for a place or an option.
    #[test]
    fn what_is_put_in_a_place_stays_as_it_is() {
        let text = Text::try_from("a {prompt} b {token} {} {x y} {\"k\":{model:json}}".to_owned()).unwrap();
        let filled = text.fill(&ready("codex"), &job("say {token} \"x\" --yes"));
        assert_eq!(filled, "a say {token} \"x\" --yes b tok {} {x y} {\"k\":\"mo\\\"del\"}");
    }

    #[test]
    fn each_agent_is_run_like_this() {
        let mut shown = String::new();
        for name in Catalogue::read(&toml::Table::new()).unwrap().names() {
            let Invocation { command, env, stdin } = ready(&name).invoke(&job("Mend it."));
            let env = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
            let stdin = String::from_utf8_lossy(&stdin);
            write!(shown, "# {name}\n{env}{}\n<<< {stdin}\n\n", command.join("\n")).unwrap();
        }
        insta::assert_snapshot!(shown);
    }
}
