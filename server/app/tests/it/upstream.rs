//! A provider of models that follows a script, in the language in which it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value as Json, json};

/// What is answered next to whoever brings tools; others are answered `ok`.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A tool is to be used.
    Tool(String, Json),
    /// The last word.
    Says(String),
}

/// The language of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Anthropic,
    Responses,
    Chat,
    Gemini,
    /// Pictures, as OpenAI makes them.
    Images,
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) dialect: Dialect,
    pub(crate) has_tools: bool,
    /// The whole of it, head and body, with what JSON escapes undone.
    pub(crate) text: String,
}

/// Whoever sees each question before it is answered.
type Watch = dyn Fn(&Asked) + Send + Sync;

/// The provider; it stops when it is dropped.
pub(crate) struct Upstream {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: Option<JoinHandle<()>>,
}

struct State {
    steps: std::vec::IntoIter<Step>,
    /// Whether every answer breaks off in the middle.
    breaks: bool,
    asked: Vec<Asked>,
    over: bool,
}

impl Upstream {
    pub(crate) fn start(script: Vec<Step>) -> Self {
        Self::watched(script, |_| ())
    }

    /// One whose answers all break off in the middle.
    pub(crate) fn breaking() -> Self {
        let upstream = Self::start(Vec::new());
        upstream.state.lock().unwrap().breaks = true;
        upstream
    }

    /// The same; no question is answered before `watch` has seen it.
    pub(crate) fn watched(script: Vec<Step>, watch: impl Fn(&Asked) + Send + Sync + 'static) -> Self {
        let watch: Arc<Watch> = Arc::new(watch);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let state = State { steps: script.into_iter(), breaks: false, asked: Vec::new(), over: false };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let serving = std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if shared.lock().unwrap().over {
                    return;
                }
                let (shared, watch) = (Arc::clone(&shared), Arc::clone(&watch));
                // A client may leave in the middle.
                std::thread::spawn(move || drop(serve(&connection, &shared, &*watch)));
            }
        });
        Self { at, state, serving: Some(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.lock().unwrap().over = true;
        // Whoever waits for a connection gets one, and sees that it is over.
        let _ = TcpStream::connect(self.at);
        let _ = self.serving.take().unwrap().join();
    }
}

/// Answers the questions of one connection.
fn serve(connection: &TcpStream, state: &Mutex<State>, watch: &Watch) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(connection), connection);
    while let Some((path, head, body)) = read(&mut reader)? {
        let dialect = [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/responses", Dialect::Responses),
            ("/v1/chat/completions", Dialect::Chat),
            (":streamGenerateContent", Dialect::Gemini),
            ("/v1/images/", Dialect::Images),
        ];
        let dialect = dialect.into_iter().find(|(part, _)| path.contains(part)).map(|(_, dialect)| dialect);
        let Some(dialect) = dialect else {
            write!(writer, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        // A picture from other pictures is asked for by a form.
        let json: Json = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Json::from(String::from_utf8_lossy(&body).into_owned()));
        let has_tools = json["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let asked = Asked { dialect, has_tools, text: format!("{head}{}", strings(&json)) };
        watch(&asked);
        let mut state = state.lock().unwrap();
        state.asked.push(asked);
        let number = state.asked.len();
        let step = if has_tools { state.steps.next() } else { None };
        let breaks = state.breaks;
        drop(state);
        let answer = answer(dialect, &step.unwrap_or_else(|| Step::Says("ok".to_owned())), number);
        let kind = if dialect == Dialect::Images { "application/json" } else { "text/event-stream" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n");
        if breaks {
            let begun = answer.split_inclusive("\n\n").next().unwrap_or_default();
            return write!(writer, "{head}content-length: {}\r\n\r\n{begun}", answer.len());
        }
        write!(writer, "{head}content-length: {}\r\n\r\n{answer}", answer.len())?;
    }
    Ok(())
}

/// One request: path, head, body.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<(String, String, Vec<u8>)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some((path, head, body)))
}

/// Every string in it, one a line.
fn strings(json: &Json) -> String {
    match json {
        Json::String(text) => format!("{text}\n"),
        Json::Array(list) => list.iter().map(strings).collect(),
        Json::Object(map) => map.values().map(strings).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) => String::new(),
    }
}

fn answer(dialect: Dialect, step: &Step, number: usize) -> String {
    match dialect {
        Dialect::Anthropic => anthropic(step, number),
        Dialect::Responses => responses(step, number),
        Dialect::Chat => chat(step, number),
        Dialect::Gemini => gemini(step),
        Dialect::Images => picture(),
    }
}

fn event(data: &Json) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// A picture of one dot, which nobody looks at but for its first bytes.
pub(crate) const PICTURE: &str = "iVBORw0KGgpkb3Q=";

fn picture() -> String {
    let usage = json!({ "input_tokens": 10, "output_tokens": 1056, "total_tokens": 1066 });
    json!({ "created": 1, "data": [{ "b64_json": PICTURE }], "usage": usage }).to_string()
}

fn anthropic(step: &Step, number: usize) -> String {
    let (block, delta, reason) = match step {
        Step::Says(text) => {
            (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": text }), "end_turn")
        }
        Step::Tool(name, arguments) => (
            json!({ "type": "tool_use", "id": format!("toolu_{number}"), "name": name, "input": {} }),
            json!({ "type": "input_json_delta", "partial_json": arguments.to_string() }),
            "tool_use",
        ),
    };
    let message = json!({
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": "claude-opus-5-5",
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": 10, "output_tokens": 1 },
    });
    let events = [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": null },
            "usage": { "output_tokens": 20 },
        }),
        json!({ "type": "message_stop" }),
    ];
    events.iter().map(event).collect()
}

fn responses(step: &Step, number: usize) -> String {
    let item = match step {
        Step::Says(text) => json!({
            "type": "message", "id": format!("msg_{number}"), "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }),
        Step::Tool(name, arguments) => json!({
            "type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"),
            "name": name, "arguments": arguments.to_string(), "status": "completed",
        }),
    };
    let response = |status: &str, output: Json| {
        json!({
            "id": format!("resp_{number}"), "object": "response", "status": status, "output": output,
            "model": "gpt-5",
            "usage": {
                "input_tokens": 10, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": 20,
                "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 30,
            },
        })
    };
    let events = [
        json!({ "type": "response.created", "response": response("in_progress", json!([])) }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": item }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": response("completed", json!([item])) }),
    ];
    events.iter().map(event).collect()
}

fn chat(step: &Step, number: usize) -> String {
    let (delta, reason) = match step {
        Step::Says(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Step::Tool(name, arguments) => {
            let function = json!({ "name": name, "arguments": arguments.to_string() });
            let call = json!({
                "index": 0, "id": format!("call_{number}"), "type": "function", "function": function,
            });
            (json!({ "role": "assistant", "tool_calls": [call] }), "tool_calls")
        }
    };
    let chunk = |choices: Json, usage: Json| {
        json!({
            "id": format!("chat_{number}"), "object": "chat.completion.chunk", "created": 1, "model": "gpt-5",
            "choices": choices, "usage": usage,
        })
    };
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30 });
    let chunks = [
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Json::Null),
        chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]), Json::Null),
        chunk(json!([]), usage),
    ];
    chunks.iter().map(event).chain(["data: [DONE]\n\n".to_owned()]).collect()
}

fn gemini(step: &Step) -> String {
    let part = match step {
        Step::Says(text) => json!({ "text": text }),
        Step::Tool(name, arguments) => json!({ "functionCall": { "name": name, "args": arguments } }),
    };
    event(&json!({
        "candidates": [{
            "content": { "role": "model", "parts": [part] }, "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 20, "totalTokenCount": 30 },
        "modelVersion": "gemini-pro-latest",
    }))
}
