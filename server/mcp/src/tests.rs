//! Servers that follow a script, over both kinds of lines. A real one is met in `server/app/tests/it/jail_mcp.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ports::Retry;
use ports::mcp::{Line, MOST_TOOLS, Mcp, McpError, McpServer};
use ports::models::ToolResult;
use ports::web::{WebRequest, WebResponse};
use serde_json::{Map, Value, json};
use testkit::ScriptedWeb;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a server says to a message: lines, or its end.
type Script = dyn Fn(&Value) -> Option<String>;

fn answer(message: &Value, result: &Value) -> Option<String> {
    Some(format!("{}\n", json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })))
}

/// A server with these tools, whose calls go as `call` says.
fn server(message: &Value, tools: &[Value], call: impl Fn(&Value) -> Option<String>) -> Option<String> {
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => answer(message, &initialized()),
        "tools/list" => answer(message, &json!({ "tools": tools })),
        "tools/call" => call(message),
        // Notifications.
        _ => Some(String::new()),
    }
}

fn initialized() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "test", "version": "1" },
    })
}

fn tool(name: &str) -> Value {
    json!({ "name": name, "description": "Looks.", "inputSchema": { "type": "object" } })
}

/// Meets a program that says what the script says; gives what became of it.
async fn with_program<T>(
    script: &Script,
    client: impl AsyncFnOnce(Result<Box<dyn McpServer>, McpError>) -> T,
) -> T {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (reader, writer) = tokio::io::split(ours);
    let talk = async {
        let (reader, mut writer) = tokio::io::split(theirs);
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap();
            let Some(said) = script(&message) else { return };
            if writer.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let met = async {
        let line = Line::Pipes(Box::new(reader), Box::new(writer));
        client(Client.meet(line, PATIENCE).await).await
    };
    tokio::join!(talk, met).1
}

/// The result of one call, of a program that answers it so.
async fn called(call: impl Fn(&Value) -> Option<String> + 'static) -> Result<ToolResult, McpError> {
    let script = move |message: &Value| server(message, &[tool("look")], &call);
    with_program(&script, async |met| {
        let met = met.unwrap();
        let result = met.call("look", Map::new(), PATIENCE).await;
        met.leave().await;
        result
    })
    .await
}

async fn code_of_meeting(script: &Script) -> &'static str {
    with_program(script, async |met| met.unwrap_err().code).await
}

#[tokio::test]
async fn a_program_has_tools_and_is_called() {
    let script = |message: &Value| {
        // Noise, and something unasked, are no answers.
        let noise = "starting…\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n";
        let said = server(message, &[tool("look"), tool("a.b/c")], |message| {
            let arguments = &message["params"]["arguments"];
            answer(message, &json!({ "content": [{ "type": "text", "text": format!("saw {arguments}") }] }))
        });
        said.map(|said| noise.to_owned() + &said)
    };
    with_program(&script, async |met| {
        let met = met.unwrap();
        let names: Vec<&str> = met.tools().iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!((names, met.tools()[0].description.as_str()), (vec!["look", "a.b/c"], "Looks."));
        let arguments = json!({ "at": [1] }).as_object().unwrap().clone();
        let result = met.call("look", arguments, PATIENCE).await.unwrap();
        assert_eq!(result, ToolResult { text: "saw {\"at\":[1]}".to_owned(), failed: false });
        met.leave().await;
    })
    .await;
}

#[tokio::test]
async fn a_result_is_words() {
    let result = called(|message| {
        let content = json!([
            { "type": "text", "text": "one" },
            { "type": "image", "data": "aGk=", "mimeType": "image/png" },
            { "type": "audio", "data": "aGk=", "mimeType": "audio/wav" },
            { "type": "resource", "resource": { "uri": "a://b", "text": "two" } },
            { "type": "resource", "resource": { "uri": "a://c", "blob": "aGk=" } },
            { "type": "resource_link", "uri": "a://d", "name": "three" },
        ]);
        answer(message, &json!({ "content": content, "isError": true }))
    });
    let expect = "one\n\n(a picture, image/png, which cannot be shown here)\n\n(a sound, audio/wav, which cannot be \
                  played here)\n\na://b:\ntwo\n\n(a://c, which is not text and cannot be shown here)\n\n(see a://d: three)";
    assert_eq!(result.await.unwrap(), ToolResult { text: expect.to_owned(), failed: true });
    let result =
        called(|message| answer(message, &json!({ "content": [], "structuredContent": { "a": 1 } })));
    assert_eq!(result.await.unwrap().text, "{\"a\":1}");
    let result = called(|message| answer(message, &json!({ "content": [] })));
    assert_eq!(result.await.unwrap().text, "(it said nothing)");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_result_says_why() {
    let code = |result: Result<ToolResult, McpError>| result.unwrap_err().code;
    assert_eq!(code(called(|_| Some(String::new())).await), "mcp_timed_out");
    assert_eq!(code(called(|_| None).await), "mcp_gone");
    assert_eq!(code(called(|message| answer(message, &json!({ "tools": [] }))).await), "mcp_not_understood");
    // A line that never ends is not kept.
    assert_eq!(code(called(|_| Some("x".repeat(9 << 20))).await), "mcp_timed_out");
    let refused = called(|message| {
        let error = json!({ "code": -32602, "message": "no\u{1b}[31m such tool" });
        Some(format!("{}\n", json!({ "jsonrpc": "2.0", "id": message["id"], "error": error })))
    });
    let error = refused.await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("mcp_refused", "it refused: no [31m such tool"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_speak_the_protocol_is_not_met() {
    assert_eq!(code_of_meeting(&|_| None).await, "mcp_gone");
    assert_eq!(code_of_meeting(&|_| Some("hello\n".to_owned())).await, "mcp_timed_out");
    assert_eq!(
        code_of_meeting(&|message| answer(message, &json!({ "tools": [] }))).await,
        "mcp_not_understood"
    );
}

#[tokio::test]
async fn tools_without_end_are_looked_at_up_to_a_bound() {
    let pages = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&pages);
    let script = move |message: &Value| match message["method"].as_str().unwrap_or_default() {
        "tools/list" => {
            let mut page = counted.lock().unwrap();
            *page += 1;
            let tools: Vec<Value> = (0..40).map(|n| tool(&format!("t{page}-{n}"))).collect();
            answer(message, &json!({ "tools": tools, "nextCursor": page.to_string() }))
        }
        _ => server(message, &[], |_| None),
    };
    let count = with_program(&script, async |met| met.unwrap().tools().len()).await;
    assert_eq!((count, *pages.lock().unwrap()), (MOST_TOOLS, MOST_TOOLS / 40));
}

fn request() -> WebRequest {
    WebRequest {
        method: "GET".to_owned(),
        url: "https://mcp.example.org/mcp".to_owned(),
        headers: vec![
            ("Authorization".to_owned(), "Bearer x".to_owned()),
            ("Accept".to_owned(), "*/*".to_owned()),
        ],
        body: Bytes::new(),
        allowed: vec!["mcp.example.org".to_owned()],
        timeout: PATIENCE,
        max_bytes: 1 << 20,
    }
}

fn said(status: u16, kind: &str, body: &str) -> WebResponse {
    let headers = [("content-type", kind), ("mcp-session-id", "s-1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    WebResponse { headers, ..ScriptedWeb::answer(status, body) }
}

fn header<'a>(request: &'a WebRequest, name: &str) -> Vec<&'a str> {
    let headers = request.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    headers.map(|(_, value)| value.as_str()).collect()
}

/// An address whose calls of tools are answered so.
fn address(call: impl Fn(&Value) -> WebResponse + Send + Sync + 'static) -> Arc<ScriptedWeb> {
    Arc::new(ScriptedWeb::new(move |request| {
        let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if message["method"] == "tools/call" {
            return Ok(call(&message));
        }
        let body = server(&message, &[tool("look")], |_| None).unwrap();
        Ok(if body.is_empty() { ScriptedWeb::answer(202, "") } else { said(200, "application/json", &body) })
    }))
}

async fn called_at(web: &Arc<ScriptedWeb>) -> Result<ToolResult, McpError> {
    let met = Client.meet(Line::Web(web.clone(), request()), PATIENCE).await?;
    let result = met.call("look", Map::new(), PATIENCE).await;
    met.leave().await;
    result
}

#[tokio::test]
async fn an_address_is_called_by_the_web_that_comes_with_it() {
    let web = address(|message| {
        let result = answer(message, &json!({ "content": [{ "type": "text", "text": "saw" }] })).unwrap();
        let note = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": 1 } });
        said(
            200,
            "text/event-stream; charset=utf-8",
            &format!(": hi\n\ndata: {note}\n\nid: 1\ndata: {result}\n\n"),
        )
    });
    assert_eq!(called_at(&web).await.unwrap().text, "saw");
    let requests = web.requests();
    let methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["POST", "POST", "POST", "POST", "DELETE"]);
    let sessions: Vec<Vec<&str>> = requests.iter().map(|request| header(request, "mcp-session-id")).collect();
    assert_eq!(
        (&sessions[0], &sessions[1..]),
        (&vec![], &[vec!["s-1"], vec!["s-1"], vec!["s-1"], vec!["s-1"]][..])
    );
    for request in &requests {
        assert_eq!(header(request, "authorization"), ["Bearer x"]);
        assert_eq!(header(request, "accept"), ["application/json, text/event-stream"]);
    }
    assert_eq!(header(&requests[3], "mcp-protocol-version"), ["2025-06-18"]);
}

#[tokio::test]
async fn an_address_that_does_not_answer_so_says_why() {
    let check = async |response: WebResponse, code: &str, message: &str| {
        let web = address(move |_| response.clone());
        let error = called_at(&web).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(message), "{error}");
    };
    check(said(307, "text/plain", ""), "mcp_refused", "redirects are not followed").await;
    check(said(401, "text/plain", ""), "mcp_refused", "`headers`").await;
    check(said(500, "text/plain", "oh\nno"), "mcp_refused", "status 500: oh no").await;
    check(said(200, "text/html", "<p>"), "mcp_not_understood", "text/html that is not a message").await;
    let refused = json!({ "jsonrpc": "2.0", "id": 2, "error": { "code": -32602, "message": "no" } });
    check(said(400, "application/json", &refused.to_string()), "mcp_refused", "it refused: no").await;

    let closed = WebRequest { allowed: Vec::new(), ..request() };
    let error = Client.meet(Line::Web(address(|_| unreachable!()), closed), PATIENCE).await.unwrap_err();
    assert_eq!((error.code, error.retry), ("host_not_allowed", Retry::Never), "{error}");
}

#[tokio::test]
async fn a_session_that_expired_is_begun_anew() {
    let first = Mutex::new(true);
    let web = address(move |message| {
        if std::mem::take(&mut *first.lock().unwrap()) {
            return ScriptedWeb::answer(404, "");
        }
        said(200, "application/json", &answer(message, &json!({ "content": [] })).unwrap())
    });
    assert!(called_at(&web).await.is_ok());
    let begun = web
        .requests()
        .iter()
        .filter(|request| request.body.windows(10).any(|part| part == b"initialize"))
        .count();
    assert!(begun >= 2, "{begun}");
}
