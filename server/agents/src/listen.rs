//! What a program says: its last word, its conversation, why it failed, and what people are to read.

use std::collections::BTreeMap;

use domain::run::Failure;
use ports::agents::{Heard, Listener};
use serde::Deserialize;
use serde_json::Value as Json;

/// How much of a text is kept for an error, bytes.
const LONGEST_ERROR: usize = 2 << 10;
/// How much of one thing that was said is shown, bytes.
const LONGEST_SHOWN: usize = 4 << 10;
/// How much is heard as a last word, bytes.
const LONGEST_MESSAGE: usize = 1 << 20;

/// How an agent's output is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// Where the name of the conversation stands.
    #[serde(default)]
    pub session: Option<String>,
    /// Where its words stand; the last one that is found is its last word.
    #[serde(default)]
    pub message: Vec<Rule>,
    /// Whether words that come one after the other are pieces of one.
    #[serde(default)]
    pub pieces: bool,
    /// Where errors stand.
    #[serde(default)]
    pub error: Vec<Rule>,
    /// What else people are to read.
    #[serde(default)]
    pub shown: Vec<Rule>,
    /// What kinds of failure there are; the first that fits is it.
    #[serde(default)]
    pub failures: Vec<Sign>,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Text: all of it is the last word.
    Text,
}

/// Where something stands in an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the object has, by JSON pointer.
    #[serde(default)]
    when: BTreeMap<String, Json>,
    /// A list in it; then each of its objects is looked at.
    #[serde(default)]
    each: Option<String>,
    /// What such an object has.
    #[serde(default)]
    with: BTreeMap<String, Json>,
    /// What is said: `{/pointer}` stands for what is there.
    say: String,
}

/// How a failure is known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// What it is called.
    pub code: String,
    /// What the program exits with.
    #[serde(default)]
    pub exit: Vec<i32>,
    /// What stands in its errors.
    #[serde(default)]
    pub says: Vec<String>,
}

impl Output {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rules = self.message.iter().chain(&self.error).chain(&self.shown);
        let pointers = rules
            .flat_map(|rule| rule.when.keys().chain(rule.with.keys()).chain(&rule.each).map(String::as_str));
        for pointer in pointers.chain(self.session.as_deref()) {
            if !pointer.starts_with('/') {
                return Err(format!("`{pointer}` is no JSON pointer: it begins with `/`"));
            }
        }
        if self.format == Format::Jsonl && self.message.is_empty() {
            return Err("`output.message` says where its words stand".to_owned());
        }
        match self.failures.iter().find(|sign| sign.exit.is_empty() && sign.says.is_empty()) {
            Some(sign) => Err(format!("the failure `{}` has neither `exit` nor `says`", sign.code)),
            None => Ok(()),
        }
    }
}

impl Rule {
    /// What an object says by this rule.
    fn read(&self, object: &Json) -> Vec<String> {
        if !has(object, &self.when) {
            return Vec::new();
        }
        let one = std::slice::from_ref(object);
        let objects = match &self.each {
            None => one,
            Some(pointer) => object.pointer(pointer).and_then(Json::as_array).map_or(&[][..], Vec::as_slice),
        };
        let meant = objects.iter().filter(|object| has(object, &self.with));
        meant.map(|object| fill(&self.say, object)).filter(|text| !text.trim().is_empty()).collect()
    }
}

fn has(object: &Json, wanted: &BTreeMap<String, Json>) -> bool {
    wanted.iter().all(|(pointer, value)| object.pointer(pointer) == Some(value))
}

/// Puts what is in an object into a text; what is not there is nothing.
fn fill(say: &str, object: &Json) -> String {
    let (mut text, mut rest) = (String::new(), say);
    while let Some((before, pointer, after)) = rest
        .split_once("{/")
        .and_then(|(before, more)| more.split_once('}').map(|(pointer, after)| (before, pointer, after)))
    {
        text.push_str(before);
        match object.pointer(&format!("/{pointer}")) {
            None | Some(Json::Null) => {}
            Some(Json::String(found)) => text.push_str(found),
            Some(found) => text.push_str(&found.to_string()),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Listens to one program.
#[derive(Debug)]
pub(crate) struct Hearing {
    output: Output,
    message: String,
    /// Whether what is said next goes on with the message.
    goes_on: bool,
    session: Option<String>,
    errors: String,
    /// What was shown last: the last word is often said twice.
    shown: String,
}

impl Hearing {
    pub(crate) fn new(output: Output) -> Self {
        let nothing = String::new;
        Self {
            output,
            message: nothing(),
            goes_on: false,
            session: None,
            errors: nothing(),
            shown: nothing(),
        }
    }

    fn object(&mut self, object: &Json) -> Vec<String> {
        let read = |rules: &[Rule]| rules.iter().flat_map(|rule| rule.read(object)).collect::<Vec<_>>();
        if self.session.is_none() {
            let session = self.output.session.as_deref().and_then(|pointer| object.pointer(pointer));
            self.session = session.and_then(Json::as_str).map(str::to_owned);
        }
        let (said, errors, shown) =
            (read(&self.output.message), read(&self.output.error), read(&self.output.shown));
        let is_silent = said.is_empty();
        for text in &said {
            self.say(text);
        }
        self.goes_on = self.output.pieces && !is_silent;
        for error in &errors {
            self.err(error);
        }
        let mut told = Vec::new();
        for text in said.into_iter().chain(errors).chain(shown) {
            if text != self.shown {
                told.extend(lines(&text));
                self.shown = text;
            }
        }
        told
    }

    fn say(&mut self, text: &str) {
        if !self.goes_on {
            self.message.clear();
        }
        self.goes_on = self.output.pieces;
        let room = LONGEST_MESSAGE.saturating_sub(self.message.len());
        self.message.push_str(&text[..text.floor_char_boundary(room.min(text.len()))]);
    }

    /// What was said last matters most.
    fn err(&mut self, text: &str) {
        if !self.errors.is_empty() {
            self.errors.push('\n');
        }
        self.errors.push_str(text);
        let surplus = self.errors.len().saturating_sub(LONGEST_ERROR);
        self.errors.drain(..self.errors.ceil_char_boundary(surplus));
    }
}

/// A text as lines for people, the end of a long one left out.
fn lines(text: &str) -> Vec<String> {
    let cut = text.floor_char_boundary(LONGEST_SHOWN.min(text.len()));
    let mut lines: Vec<String> = text[..cut].trim_end().lines().map(str::to_owned).collect();
    if cut < text.len() {
        lines.push(format!("… {} bytes more", text.len() - cut));
    }
    lines
}

impl Listener for Hearing {
    fn line(&mut self, line: &str) -> Vec<String> {
        match self.output.format {
            Format::Text => {
                if !self.message.is_empty() {
                    self.goes_on = true;
                    self.message.push('\n');
                }
                let room = LONGEST_MESSAGE.saturating_sub(self.message.len());
                self.message.push_str(&line[..line.floor_char_boundary(room.min(line.len()))]);
                lines(line)
            }
            Format::Jsonl => match serde_json::from_str::<Json>(line) {
                Ok(object) if object.is_object() => self.object(&object),
                // Whatever it is, people can read it.
                _ if line.trim().is_empty() => Vec::new(),
                _ => lines(line),
            },
        }
    }

    fn end(self: Box<Self>, exit: i32, stderr: &str) -> Heard {
        let message = Some(self.message.trim().to_owned()).filter(|text| !text.is_empty());
        let failed = exit != 0 || !self.errors.is_empty() && message.is_none();
        let failure = failed.then(|| {
            let said = if self.errors.is_empty() { stderr } else { &self.errors };
            let sign = self.output.failures.iter().find(|sign| {
                sign.exit.contains(&exit) || sign.says.iter().any(|words| said.contains(words.as_str()))
            });
            let code = sign.map_or("agent_failed", |sign| sign.code.as_str());
            let words = last_words(said);
            let words = if words.is_empty() { String::new() } else { format!(": {words}") };
            Failure::new(code, format!("ended with status {exit}{words}"))
        });
        Heard { message, session: self.session, failure }
    }
}

/// The last line that says something, as one printable line.
fn last_words(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    /// What an agent's output comes to: what people read, then what was heard.
    fn hear(agent: &str, exit: i32, output: &str) -> String {
        let catalogue = Catalogue::read(&toml::Table::new()).unwrap();
        let output_of = catalogue.agents[agent].agent.clone().unwrap().output;
        let mut listener: Box<dyn Listener> = Box::new(Hearing::new(output_of));
        let mut shown: Vec<String> = output.lines().flat_map(|line| listener.line(line)).collect();
        let Heard { message, session, failure } = listener.end(exit, "");
        let failure = failure.map(|failure| format!("{}: {}", failure.code, failure.message));
        shown.push(format!("= {message:?} of {session:?}, {failure:?}"));
        shown.join("\n")
    }

    /// Outputs as the programs wrote them, shortened.
    #[test]
    fn what_the_programs_say_is_understood() {
        let outputs = [
            ("claude-code", 0, include_str!("outputs/claude-code.jsonl")),
            ("claude-code-turns", 1, include_str!("outputs/claude-code-turns.jsonl")),
            ("claude-code-spent", 1, include_str!("outputs/claude-code-spent.jsonl")),
            ("codex", 0, include_str!("outputs/codex.jsonl")),
            ("codex-spent", 1, include_str!("outputs/codex-spent.jsonl")),
            ("gemini-cli", 0, include_str!("outputs/gemini-cli.jsonl")),
            ("gemini-cli-spent", 146, include_str!("outputs/gemini-cli-spent.jsonl")),
            ("opencode", 0, include_str!("outputs/opencode.jsonl")),
            ("opencode-spent", 1, include_str!("outputs/opencode-spent.jsonl")),
        ];
        for (name, exit, output) in outputs {
            let agent = name.trim_end_matches("-turns").trim_end_matches("-spent");
            insta::assert_snapshot!(name, hear(agent, exit, output));
        }
    }

    #[test]
    fn what_is_no_json_is_shown_as_it_is() {
        let heard = hear("codex", 1, "Segmentation fault\n\n[1,2]\n{\"type\":");
        assert!(heard.starts_with("Segmentation fault\n[1,2]\n{\"type\":\n= None of None"), "{heard}");
    }

    #[test]
    fn pieces_of_one_word_are_put_together() {
        let piece = |text: &str| format!(r#"{{"type":"message","role":"assistant","content":"{text}"}}"#);
        let tool = r#"{"type":"tool_use","tool_name":"replace","parameters":{}}"#;
        let output = [piece("I look."), tool.to_owned(), piece("It is "), piece("done.")].join("\n");
        assert!(hear("gemini-cli", 0, &output).contains("Some(\"It is done.\")"), "{output}");
    }

    #[test]
    fn a_long_thing_is_cut_for_people_and_not_for_the_stage() {
        let long = "x".repeat(LONGEST_SHOWN + 10);
        let line =
            format!(r#"{{"type":"item.completed","item":{{"type":"agent_message","text":"{long}"}}}}"#);
        let heard = hear("codex", 0, &line);
        assert!(heard.contains("… 10 bytes more") && heard.contains(&format!("Some(\"{long}\")")));
    }
}
