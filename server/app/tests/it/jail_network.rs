//! Which hosts a script reaches, and what is said of it.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::{book, ended, log};

/// Serves one request at an address that `NO_PROXY` does not name.
fn server() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut guest, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = guest.read(&mut head).unwrap();
        guest.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
    });
    (port, serving)
}

#[test]
fn a_script_reaches_what_its_daemon_may_reach_and_nothing_else() {
    let (port, serving) = server();
    let at = format!("127.0.0.2:{port}");
    let house = House::with_config(&format!("[network]\nallow_http = true\nallow_private = ['{at}']\n"));
    let get = |address: &str| {
        format!(
            "python3 -c \"import urllib.request as u; print(u.urlopen('http://{address}/').read().decode())\""
        )
    };
    let body = format!(
        "
  permissions: {{ network: {{ allowed: ['{at}'] }} }}
  stages:
    - {{ name: Fetch, script: {:?} }}
    - {{ name: Refused, needs: [], continue_on_error: true, script: {:?} }}
    - {{ name: Tunnel, needs: [], continue_on_error: true, script: 'curl --silent --show-error https://other.example/' }}
",
        get(&at),
        get("elsewhere.example")
    );
    book(&house, &[("fetch", &body)]);
    let ended = ended(&house, "fetch", &json!({}));
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}");
    serving.join().unwrap();
    assert_eq!(ended.output("Fetch"), "hello");
    let host = |stage: &str| ended.stage(stage)["hosts"][0].clone();
    let fetched = host("Fetch");
    assert_eq!((&fetched["host"], &fetched["port"]), (&json!("127.0.0.2"), &json!(port)));
    assert_eq!((&fetched["requests"], &fetched["refused"]), (&json!(1), &Json::Null));
    for (stage, name) in [("Refused", "elsewhere.example"), ("Tunnel", "other.example")] {
        let refused = host(stage);
        assert_eq!(refused["host"], name, "{log}");
        assert!(refused["refused"].is_string(), "{refused}");
        assert!(log.contains(&format!("asked {name}:")), "{log}");
    }
}
