//! Models that call tools of MCP servers: the official example server, as a program in a jail and at an address on
//! loopback, and servers of our own that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use crate::house::{House, agents};
use crate::jail_stages::{Ended, book, ended, log};
use crate::upstream::{Step, Upstream};

const EVERYTHING: &str = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";

/// A program that speaks the protocol as far as it must, and misbehaves when it is asked to.
const ODD: &str = r#"
import json, os, sys, time
def say(message):
    sys.stdout.write(json.dumps(message) + "\n"); sys.stdout.flush()
long = "l" * 70
tools = [{"name": n, "description": "d" * 9000, "inputSchema": {"type": "object"}} for n in ("die", "hang", "flood", "leave", "ok", long)]
tools.append({"name": "huge", "inputSchema": {"type": "object", "description": "x" * 99999}})
sys.stderr.write("odd is here\n"); sys.stderr.flush()
for line in sys.stdin:
    message = json.loads(line)
    method, name = message.get("method"), message.get("params", {}).get("name")
    result = {"content": [{"type": "text", "text": "ok " + open("/work/shared.txt").readline()}]}
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": tools}
    elif name == "die":
        sys.stderr.write("I cannot go on\n"); sys.exit(3)
    elif name == "hang":
        time.sleep(900)
    elif name == "flood":
        while True: sys.stdout.write("x" * 65536)
    elif name == "leave":
        if os.fork() == 0:
            time.sleep(900)
        os._exit(0)
    if "id" in message:
        say({"jsonrpc": "2.0", "id": message["id"], "result": result})
"#;

/// Where `./x` puts the example server.
fn example() -> std::path::PathBuf {
    let beside = || agents().parent().unwrap().join("mcp");
    let found = std::env::var_os("SPELLBOOK_MCP").map_or_else(beside, Into::into);
    assert!(found.join(EVERYTHING).is_file(), "there is no server in {found:?}; `./x setup` installs it");
    found
}

/// A run of a daemon with this below its name, and a model that follows this script.
fn works(daemon: &str, network: &str, script: Vec<Step>) -> (House, Ended, String, String) {
    let upstream = Upstream::start(script);
    let house = House::with_config(&format!(
        r#"
        agents_directory = "{}"
        [network]
        allow_http = true
        allow_private = [{network}]
        [models.providers.openai]
        base_url = "{}/v1"
        key = {{ file = "/dev/null" }}
        "#,
        example().display(),
        upstream.url()
    ));
    let secrets = house.data.path().join("data/secrets/ada/book");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("TOKEN"), "tok-en-123456\n").unwrap();
    let tree = book(&house, &[("fix", daemon)]);
    tree.write("odd.py", ODD);
    tree.commit("Add a server");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    let ended = ended(&house, "fix", &json!({}));
    let log = log(&house, ended.id());
    let told = upstream.asked().pop().map(|asked| asked.text).unwrap_or_default();
    (house, ended, log, told)
}

fn tool(name: &str, arguments: Json) -> Step {
    Step::Tool(name.to_owned(), arguments)
}

fn done() -> Step {
    Step::Says("Done.".to_owned())
}

#[track_caller]
fn check(log: &str, told: &str, lines: &[&str], results: &[&str]) {
    for line in lines {
        assert!(log.contains(line), "{line:?} is not in the log:\n{log}");
    }
    for result in results {
        assert!(told.contains(result), "the model was not told {result:?}:\n{told}\n{log}");
    }
}

/// The program stays between the calls, sees what other tools do in the workspace, and is ended with the stage.
#[test]
fn a_real_server_runs_in_a_jail() {
    let daemon = format!(
        "
  mcp_servers:
    everything:
      command: node
      args: [/opt/agents/{EVERYTHING}]
      env: {{ GREETING: hello }}
      allowed: [echo, 'get-*']
  stages:
    - {{ name: Fix, type: agent, agent: gpt-5, input: Use it., output: said }}
    - {{ name: After, script: 'cat new.txt; ps -e | grep -c node || true', output: after }}
"
    );
    let script = vec![
        tool("everything__echo", json!({ "message": "good day" })),
        tool("write", json!({ "path": "new.txt", "content": "new\n" })),
        tool("everything__get-sum", json!({ "a": 2, "b": 40 })),
        tool("everything__get-env", json!({})),
        tool("everything__get-tiny-image", json!({})),
        tool("everything__trigger-long-running-operation", json!({})),
        tool("everything__get-sum", json!({ "a": "two" })),
        done(),
    ];
    let (_house, ended, log, told) = works(&daemon, "", script);
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}");
    assert_eq!(ended.output("After"), "new\n0");
    let lines = [
        "▸ everything/echo {\"message\":\"good day\"}\n",
        "▸ everything/get-sum {\"a\":2,\"b\":40}\n",
        "Starting default (STDIO) server",
    ];
    let results = [
        "Echo: good day",
        "42",
        "\"GREETING\": \"hello\"",
        "(a picture, image/png, which cannot be shown here)",
        "there is no tool `everything__trigger-long-running-operation`",
    ];
    check(&log, &told, &lines, &results);
    assert!(!told.contains("tok-en"), "{told}");
}

/// The same server at an address, with a session and answers in streams.
#[test]
fn a_real_server_answers_at_an_address() {
    let (server, port) = Http::start();
    let daemon = format!(
        "
  permissions:
    network: {{ allowed: ['127.0.0.1:{port}'] }}
    secrets: [TOKEN]
  mcp_servers:
    everything:
      url: http://127.0.0.1:{port}/mcp
      headers: {{ Authorization: 'Bearer ${{secrets.TOKEN}}' }}
  stages:
    - {{ name: Ask, agent: gpt-5, input: Use it., tools: [everything/echo, 'everything/get-*', everything/trigger-*], output: said }}
"
    );
    let script = vec![
        tool("everything__echo", json!({ "message": "good day" })),
        tool("everything__get-structured-content", json!({ "location": "Chicago" })),
        tool("everything__trigger-long-running-operation", json!({ "duration": 0.2, "steps": 2 })),
        done(),
    ];
    let (_house, ended, log, told) = works(&daemon, &format!("\"127.0.0.1:{port}\""), script);
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}");
    check(
        &log,
        &told,
        &["▸ everything/echo"],
        &["Echo: good day", "temperature", "Long running operation completed"],
    );
    drop(server);
}

/// The example server, in a process of its own.
struct Http(Child);

impl Http {
    fn start() -> (Self, u16) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("node");
        command.arg(example().join(EVERYTHING)).arg("streamableHttp").env("PORT", port.to_string());
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("listening on port")), "the example server did not start");
        // What it says must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), port)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn odd(timeout: &str) -> String {
    format!(
        "
  limits: {{ output: 1MiB }}
  mcp_servers:
    odd: {{ command: python3, args: [/work/odd.py], timeout: {timeout} }}
  stages:
    - {{ name: Fix, type: agent, agent: gpt-5, input: Use it., output: said }}
    - {{ name: After, script: cat shared.txt }}
"
    )
}

/// Whatever a program does, the model is told, and goes on.
#[test]
fn a_program_that_misbehaves_is_told_of() {
    let misbehaves = |name: &str, timeout: &str, why: &str| {
        let script = vec![
            tool("odd__ok", json!({})),
            tool(name, json!({})),
            tool("odd__ok", json!({})),
            tool("read", json!({ "path": "shared.txt" })),
            done(),
        ];
        let (_house, ended, log, told) = works(&odd(timeout), "", script);
        ended.succeeded();
        check(&log, &told, &["odd is here\n"], &["ok one", why, "one\ntwo\nthree\n"]);
        for left_out in ["the tool `huge` of `odd` is left out", "offers 5 of its 7 tools"] {
            assert!(log.contains(left_out), "{log}");
        }
    };
    misbehaves("odd__die", "30s", "gave no result: it exited with status 3: I cannot go on");
    misbehaves("odd__hang", "2s", "gave no result: it did not answer within 2s");
    misbehaves("odd__flood", "60s", "gave no result: it said more than 1 MiB");
    misbehaves("odd__leave", "30s", "gave no result: it has ended by itself");
}

#[test]
fn a_program_that_never_starts_fails_the_stage() {
    let fails = |server: &str, why: &str| {
        let daemon = format!(
            "
  mcp_servers:
    odd: {{ {server}, timeout: 2s }}
  stages:
    - {{ name: Fix, type: agent, agent: gpt-5, input: Use it. }}
"
        );
        let (_house, ended, _, _) = works(&daemon, "", vec![]);
        ended.check("failed", Some("mcp_unavailable"), why);
    };
    fails("command: no-such-program", "the MCP server `odd` does not work: it ");
    fails("command: sleep, args: ['900']", "it did not answer within 2s");
    fails("command: cat, args: [/nowhere]", "No such file or directory");
}

/// An address of ours answers each POST as it is told to.
struct Address {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Address {
    fn start(answer: impl Fn(&Json, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let (kept, answer) = (Arc::clone(&heard), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || drop(one(&connection, &kept, &*answer)));
            }
        });
        Self { port, heard }
    }

    fn daemon(&self) -> String {
        format!(
            "
  permissions:
    network: {{ allowed: ['127.0.0.1:{0}'] }}
    secrets: [TOKEN]
  mcp_servers:
    odd: {{ url: 'http://127.0.0.1:{0}/mcp', headers: {{ X-Key: '${{secrets.TOKEN}}' }} }}
  stages:
    - {{ name: Ask, agent: gpt-5, input: Use it., tools: ['odd/*'] }}
",
            self.port
        )
    }
}

fn one(
    connection: &TcpStream,
    heard: &Mutex<Vec<String>>,
    answer: &dyn Fn(&Json, &str) -> String,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    heard.lock().unwrap().push(head.clone());
    let message: Json = serde_json::from_slice(&body).unwrap_or_default();
    let mut writer = connection;
    writer.write_all(answer(&message, &head).as_bytes())
}

fn json_answer(body: &Json) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn speaks(message: &Json, result: &Json) -> String {
    let info = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "odd", "version": "1" } });
    let tools = json!({ "tools": [{ "name": "look", "inputSchema": { "type": "object" } }] });
    let result = match message["method"].as_str() {
        Some("initialize") => &info,
        Some("tools/list") => &tools,
        Some("tools/call") => result,
        _ => return "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    json_answer(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
}

/// A secret goes where it is declared, and comes back to nobody.
#[test]
fn an_address_that_echoes_a_secret_tells_nobody() {
    let address = Address::start(|message, head| {
        speaks(message, &json!({ "content": [{ "type": "text", "text": format!("you said {head}") }] }))
    });
    let network = format!("\"127.0.0.1:{}\"", address.port);
    let (_house, ended, log, told) =
        works(&address.daemon(), &network, vec![tool("odd__look", json!({})), done()]);
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}");
    assert!(
        address.heard.lock().unwrap().iter().all(|head| head.to_lowercase().contains("x-key: tok-en-123456"))
    );
    check(&log, &told, &["▸ odd/look"], &["you said POST /mcp", "${secrets.TOKEN}"]);
    assert!(!told.contains("tok-en") && !log.contains("tok-en"), "{told}\n{log}");
}

/// Nothing is sent to where a server says that it has moved, and a closed network stays closed.
#[test]
fn an_address_leads_nowhere_else() {
    let other = Address::start(|message, _| speaks(message, &json!({ "content": [] })));
    let port = other.port;
    let address = Address::start(move |_, _| {
        format!(
            "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{port}/mcp\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
    });
    let network = format!("\"127.0.0.1:{}\", \"127.0.0.1:{port}\"", address.port);
    let (_house, ended, _, _) = works(&address.daemon(), &network, vec![]);
    ended.check("failed", Some("mcp_unavailable"), "redirects are not followed");
    assert!(other.heard.lock().unwrap().is_empty());

    let (_house, ended, _, _) = works(&other.daemon(), "", vec![]);
    ended.check("failed", Some("address_refused"), "is at a loopback address");
    assert!(other.heard.lock().unwrap().is_empty());
}
