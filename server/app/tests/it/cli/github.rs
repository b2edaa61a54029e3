//! `spellbook github setup`: a browser that a person leads, and a GitHub that knows one code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::*;

/// What a browser gets.
fn visit(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What stands between two texts.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).unwrap_or_else(|| panic!("{text}")).0
}

#[test]
fn an_app_is_made_with_a_browser() {
    let desk = Desk::new();
    let made = json!({
        "id": 4_711, "slug": "acme-spells", "html_url": "https://github.example/apps/acme-spells",
        "pem": "-----BEGIN RSA PRIVATE KEY-----\n", "webhook_secret": "made-by-github",
    });
    let github = Mock::start([("POST /api/v3/app-manifests/the-code/conversions", vec![ok(made)])]);
    let url = github.url();
    let arguments = [
        "github",
        "setup",
        "--site",
        "https://spells.example.com",
        "--name",
        "Acme's spells",
        "--organization",
        "acme",
        "--url",
        url.as_str(),
    ];
    let mut command = desk.spellbook(&arguments);
    let mut setup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut notes = BufReader::new(setup.stderr.take().unwrap());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    let address = between(&note, "http://", "/");

    // It asks nothing, for as long as the test takes.
    let _ahead = TcpStream::connect(address).unwrap();
    let page = visit(address, "/");
    let manifest =
        between(&page, "name=\"manifest\" value=\"", "\"").replace("&quot;", "\"").replace("&#39;", "'");
    let manifest: Json = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["redirect_url"], format!("http://{address}/done"));
    assert_eq!(manifest["hook_attributes"]["url"], "https://spells.example.com/hooks/forges/github");
    assert_eq!(manifest["name"], "Acme's spells");
    let state = between(&page, "/organizations/acme/settings/apps/new?state=", "\"");

    for path in
        ["/done?code=the-code&state=guessed", "/done?code=../x&state=STATE", "/done?state=STATE", "/other"]
    {
        let answer = visit(address, &path.replace("STATE", state));
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    let done = visit(address, &format!("/done?code=the-code&state={state}"));
    assert!(done.starts_with("HTTP/1.1 200") && done.contains("go back to the terminal"), "{done}");
    let mut output = setup.wait_with_output().unwrap();
    notes.read_to_end(&mut output.stderr).unwrap();
    insta::assert_snapshot!(format!("{}{}", without_ports(&note), desk.seen(&output)));
    for (name, text) in [("github.private-key.pem", "BEGIN RSA"), ("github.webhook-secret", "made-by-github")]
    {
        assert!(desk.read(name).contains(text));
        let mode = fs::metadata(desk.book().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let sent = github.sent();
    assert!(sent.iter().all(|sent| !sent.headers.contains_key("authorization")), "{sent:?}");

    let again =
        desk.session(&[&arguments, &["github", "setup", "--site", "https://a.example", "--directory", "no"]]);
    insta::assert_snapshot!("an_app_is_not_made_for_nothing", again);
}
