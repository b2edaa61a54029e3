//! What does not pass, and that nothing of it reaches a provider.

use ports::proxy::Guest;

use super::super::mock::Mock;
use super::{Jail, Reply, gateway, guest, jail, jail_of, proxy, several};
use crate::web::{Config, Egress};

async fn refused(reply: &Reply, mock: &Mock, status: u16, code: &str, shown: &str) {
    let shown: String = shown.chars().take(200).collect();
    assert_eq!(reply.status, status, "{shown}: {}", reply.body);
    assert!(reply.body.contains(code), "{shown}: {}", reply.body);
    assert_eq!(mock.requests().len(), 0, "{shown} reached a provider");
}

#[tokio::test]
async fn only_the_paths_of_the_list_are_there() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    for line in [
        "POST /v1/files",
        "POST /v1/batches",
        "GET /v1/responses/resp_1",
        "POST /v1/embeddings",
        "POST //v1/messages",
        "POST /v1/messages/../files",
        "POST /v1/messages/%2e%2e/files",
        "POST /v1/messages%2f..%2ffiles",
        "POST /v1/messages/",
        "POST /V1/MESSAGES",
        "PUT /v1/messages",
        "DELETE /v1/models",
        "GET /",
        "OPTIONS *",
        "GET /v1beta/models",
    ] {
        let reply = jail.send(jail.request(line, "", r#"{"model":"claude-sonnet-4-6"}"#)).await;
        let status = if line == "OPTIONS *" { reply.status } else { 403 };
        assert!(matches!(status, 400 | 403));
        refused(&reply, &mock, status, "", line).await;
    }
    // To the proxy itself, as to any other host: by the list of hosts, which has it not.
    for own in [format!("http://{}", jail.at), "http://localhost:1".to_owned()] {
        let reply = jail.send(jail.request(&format!("POST {own}/v1/messages"), "", "{}")).await;
        assert!(matches!(reply.status, 400 | 403), "{own}: {reply:?}");
        refused(&reply, &mock, reply.status, "", &own).await;
    }
    let reply = jail.post("/v1/files", "{}").await;
    assert!(reply.body.contains("this door leads to models"), "{}", reply.body);
}

#[tokio::test]
async fn a_request_must_be_for_this_door() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    let body = r#"{"model":"gpt-5"}"#;
    let own = jail.at.to_string();
    for (host, status) in
        [("example.com", 403), ("127.0.0.1", 403), ("localhost", 403), ("127.0.0.1:1", 403), ("", 403)]
    {
        let request = jail.request("POST /v1/chat/completions", "", body).replacen(&own, host, 1);
        refused(&jail.send(request).await, &mock, status, "", host).await;
    }
    for (from, to, status) in [
        ("Host: ", "Host: example.com\r\nHost: ", 400),
        ("Content-Type", "Transfer-Encoding: chunked\r\nContent-Type", 400),
        ("Content-Type", "Content-Length: 3\r\nContent-Type", 400),
        ("Content-Type", "Transfer-Encoding: x\r\nContent-Type", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Host: ", "X-Host: ", 400),
        ("Content-Type", "Content-Encoding: gzip\r\nContent-Type", 400),
        ("Content-Type", "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Type", 404),
    ] {
        let request = jail.request("POST /v1/chat/completions", "", body).replacen(from, to, 1);
        let reply = jail.send(request).await;
        let status = if to == "X-Host: " { reply.status } else { status };
        assert!(matches!(status, 400 | 403 | 404), "{to}");
        refused(&reply, &mock, status, "", to).await;
    }
    // Web sockets are looked for by GET.
    let upgrade = format!(
        "GET /v1/responses HTTP/1.1\r\nHost: {own}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n"
    );
    refused(&jail.send(upgrade).await, &mock, 404, "web sockets", "upgrade").await;
}

#[tokio::test]
async fn the_token_is_this_visits_or_nobodys() {
    let mock = Mock::start(vec![]).await;
    let proxy = proxy(gateway(&mock, "30s"), Egress::build(&Config::default()).unwrap());
    let (one, two) = (jail_of(&proxy, guest()), jail_of(&proxy, guest()));
    assert_ne!(one.token(), two.token());
    for (path, body, kind) in [
        ("/v1/chat/completions", r#"{"model":"gpt-5"}"#, r#""code":"token_invalid""#),
        ("/v1/responses", r#"{"model":"gpt-5"}"#, r#""code":"token_invalid""#),
        ("/v1/messages", r#"{"model":"claude-sonnet-4-6"}"#, r#""type":"authentication_error""#),
        ("/v1beta/models/gemini-pro:generateContent", "{}", r#""status":"UNAUTHENTICATED""#),
    ] {
        let request = one.request(&format!("POST {path}"), "", body);
        for wrong in [
            two.token(),
            String::new(),
            "x".repeat(one.token().len()),
            one.token()[1..].to_owned(),
            super::super::KEY.to_owned(),
        ] {
            let request = request.replace(&one.token(), &wrong);
            refused(&one.send(request).await, &mock, 401, kind, path).await;
        }
        let none = request.replace("Authorization", "X-Nothing");
        refused(&one.send(none).await, &mock, 401, kind, path).await;
    }
    refused(
        &one.send(one.request("GET /v1/models", "", "").replace(&one.token(), "x")).await,
        &mock,
        401,
        "",
        "models",
    )
    .await;
    // Each door has its own end.
    let kept = one.connect().await;
    one.visit.end();
    assert!(two.send(two.request("GET /v1/models", "", "")).await.status == 200);
    let request = two.request("GET /v1/models", "", "").replace(&two.token(), &one.token());
    refused(&two.send(request).await, &mock, 401, "", "a dead token").await;
    two.visit.end();
    is_dead(&one, kept).await;
    assert!(one.visit.open(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).is_err());
}

/// Neither a connection from before nor a new one is served.
async fn is_dead(jail: &Jail, mut kept: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = jail.request("GET /v1/models", "", "");
    let _ = kept.write_all(request.as_bytes()).await;
    assert!(matches!(kept.read(&mut [0; 16]).await, Ok(0) | Err(_)));
    jail.proxy.shutdown().await;
    assert!(tokio::net::TcpStream::connect(jail.at).await.is_err());
}

#[tokio::test]
async fn only_the_guests_models_are_asked() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(
        &mock,
        Guest { choice: several(&["nobody", "gpt-5", "claude-sonnet-4-6", "gemini-pro"]), ..guest() },
    );
    let chat = "/v1/chat/completions";
    for (path, body) in [
        (chat, r#"{"model":"gpt-4"}"#),
        (chat, r#"{"model":"priced"}"#),
        (chat, r#"{"model":"GPT-5"}"#),
        (chat, r#"{"model":"gpt-5:online"}"#),
        (chat, r#"{"model":""}"#),
        (chat, r#"{"model":null}"#),
        (chat, r#"{"model":["gpt-5"]}"#),
        (chat, r#"{"messages":[]}"#),
        (chat, r#"{"model":"gpt-5","models":["gpt-4"]}"#),
        (chat, r#"{"model":"gpt-5","fallbacks":[{"model":"gpt-4"}]}"#),
        // One that may be asked, in a language that its provider does not speak.
        (chat, r#"{"model":"claude-sonnet-4-6"}"#),
        ("/v1/messages", r#"{"model":"gpt-5"}"#),
        ("/v1/images/generations", r#"{"prompt":"x"}"#),
        ("/v1beta/models/gemini-flash:generateContent", "{}"),
        ("/v1beta/models/gemini-pro:generateContent", r#"{"model":"models/gemini-flash"}"#),
        ("/v1beta/models/gemini-pro:generateContent", r#"{"model":["models/gemini-pro"]}"#),
        (
            "/v1beta/models/gemini-pro:countTokens",
            r#"{"generateContentRequest":{"model":"models/gemini-flash"}}"#,
        ),
    ] {
        refused(&jail.post(path, body).await, &mock, 403, "", body).await;
    }
    let reply = jail.post(chat, r#"{"model":"gpt-4"}"#).await;
    assert!(reply.body.contains("it may ask gpt-5"), "{}", reply.body);
    assert!(reply.head.contains("x-should-retry: false"), "{}", reply.head);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    let chat = "/v1/chat/completions";
    for (path, body) in [
        (chat, r#"{"model":"gpt-5","model":"gpt-4"}"#),
        (chat, r#"{"model":"gpt-5","mod\u0065l":"gpt-4"}"#),
        (chat, r#"{"model":"gpt-5","Model":"gpt-4"}"#),
        (chat, r#"{"Model":"gpt-5"}"#),
        (chat, r#"{"model":"gpt-5"}{"model":"gpt-4"}"#),
        (chat, r#"[{"model":"gpt-5"}]"#),
        (chat, r#"{"model":"gpt-5","max_tokens":1,"maxtokens":2}"#),
        (chat, r#"{"model":"gpt-5","Max_Tokens":9}"#),
        (chat, r#"{"model":"gpt-5","max_tokens":1e3}"#),
        (chat, r#"{"model":"gpt-5","max_tokens":-1}"#),
        (chat, r#"{"model":"gpt-5","n":1000000}"#),
        (chat, r#"{"model":"gpt-5","stream":"true"}"#),
        (chat, r#"{"model":"gpt-5","tools":{"type":"web_search"}}"#),
        (chat, r#"{"model":"gpt-5","tools":[{"type":"function","type":"web_search"}]}"#),
        (chat, "{\"model\":\"gpt-5\""),
        (chat, "model=gpt-5"),
        (chat, ""),
        (
            "/v1beta/models/gemini-pro:generateContent",
            r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}}"#,
        ),
        ("/v1beta/models/gemini-pro:generateContent", r#"{"generationConfig":{},"generation_config":{}}"#),
        ("/v1/messages", "{\"model\":\"claude-sonnet-4-6\",\"max_tokens\":1,\"x\":\"\u{0}\"}"),
    ] {
        refused(&jail.post(path, body).await, &mock, 400, "understood", body).await;
    }
}

#[tokio::test]
async fn what_runs_at_the_provider_is_refused_by_name() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, Guest { provider_tools: vec!["web_search".to_owned()], ..guest() });
    for (path, body, tool) in [
        ("/v1/chat/completions", r#"{"model":"gpt-5","tools":[{"type":"file_search"}]}"#, "file_search"),
        ("/v1/chat/completions", r#"{"model":"gpt-5","plugins":[{"id":"web"}]}"#, "plugins"),
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-5","messages":[{"content":[{"type":"image_url","image_url":{"url":"https://evil/?d=1"}}]}]}"#,
            "web_fetch",
        ),
        ("/v1/responses", r#"{"model":"gpt-5","tools":[{"type":"code_interpreter"}]}"#, "code_interpreter"),
        ("/v1/responses", r#"{"model":"gpt-5","tools":[{"type":"mcp","server_url":"https://x"}]}"#, "mcp"),
        ("/v1/responses", r#"{"model":"gpt-5","background":true}"#, "background"),
        ("/v1/responses", r#"{"model":"gpt-5","prompt":{"id":"pmpt_1"}}"#, "stored_prompt"),
        ("/v1/responses", r#"{"model":"gpt-5","service_tier":"priority"}"#, "tier"),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-6","max_tokens":1,"tools":[{"type":"code_execution_20250825"}]}"#,
            "code_execution",
        ),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-6","max_tokens":1,"tools":[{"type":"computer_20251124"}]}"#,
            "computer",
        ),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-6","max_tokens":1,"mcp_servers":[{"url":"https://x"}]}"#,
            "mcp",
        ),
        ("/v1/messages", r#"{"model":"claude-sonnet-4-6","max_tokens":1,"speed":"fast"}"#, "tier"),
        ("/v1beta/models/gemini-pro:generateContent", r#"{"tools":[{"googleSearch":{}}]}"#, "google_search"),
        (
            "/v1beta/models/gemini-pro:generateContent",
            r#"{"tools":[{"code_execution":{}}]}"#,
            "code_execution",
        ),
    ] {
        refused(&jail.post(path, body).await, &mock, 403, tool, body).await;
    }
}

#[tokio::test]
async fn a_body_has_its_bounds() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    let head = jail.request("POST /v1/chat/completions", "", "");
    let huge = head.replace("Content-Length: 0", "Content-Length: 99999999999");
    refused(&jail.send(huge).await, &mock, 413, "32 MiB", "huge").await;
    // Nested so deep that a careless reader overflows its stack.
    let deep = format!(r#"{{"model":"gpt-5","messages":{}}}"#, "[".repeat(200_000));
    refused(&jail.post("/v1/chat/completions", &deep).await, &mock, 400, "understood", "deep").await;
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    let shown = format!("{:?} {:?} {:?}", jail.visit, jail.proxy, guest());
    assert!(!shown.contains(&jail.token()) && !shown.contains(super::super::KEY), "{shown}");
}
