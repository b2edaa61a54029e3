//! The provider's key is searched in jails: in the environments, arguments, files and memory of whatever runs
//! there, from inside and from the machine, while the provider is asked with it.
//!
//! `search.py` searches. It is shown to find what is there: a marker that is planted, and the key in the server's
//! own memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use serde::Deserialize;
use serde_json::json;

use crate::house::{House, WorkTree, agents, hermetic};
use crate::jail_agents::{installed, says, tool};
use crate::jail_stages::{book, ended, log};
use crate::upstream::{Asked, Upstream};

/// It has signs that stand for themselves in no two encodings.
const KEY: &str = "sk-live/9Qz+Vf7=Lk3&pX0wRt8~Uu5";
const MARKER: &str = "marker/4Jh+Wd2=Gs6&nB9cEy1~Oo7";
const SEARCH: &str = include_str!("search.py");

/// A secret in every form in which it could stand somewhere, by `name`.
fn forms(name: &str, secret: &str) -> BTreeMap<String, String> {
    let mut forms = BTreeMap::from([("plain".to_owned(), secret.to_owned())]);
    forms.insert("hex".to_owned(), hex::encode(secret));
    forms.insert("HEX".to_owned(), hex::encode_upper(secret));
    let percent = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    forms.insert("url".to_owned(), secret.bytes().map(percent).collect());
    for (alphabet, called) in [(STANDARD, "base64"), (URL_SAFE, "base64url")] {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        for before in 0..3 {
            let text = engine.encode([&vec![0; before], secret.as_bytes()].concat());
            // The signs at the ends hold bits of what stands beside it.
            let (from, whole) = ([0, 2, 3][before], (before + secret.len()) / 3 * 4);
            forms.insert(format!("{called} after {before}"), text[from..whole].to_owned());
        }
    }
    forms.into_iter().map(|(form, text)| (format!("{name}: {form}"), text)).collect()
}

/// What is searched for, so that it cannot be found there itself.
fn needles() -> String {
    let mask = |text: &String| hex::encode(text.bytes().map(|byte| byte ^ 0xa5).collect::<Vec<_>>());
    let all = forms("key", KEY).into_iter().chain(forms("marker", MARKER));
    json!(all.map(|(name, text)| (name, mask(&text))).collect::<BTreeMap<_, _>>()).to_string()
}

/// What a search says.
#[derive(Debug, Deserialize)]
struct Found {
    /// Of what, in a place of which kind, where.
    found: BTreeSet<(String, String, String)>,
    looked: BTreeMap<String, u64>,
    programs: Vec<String>,
    /// Whose memory could not be read.
    closed: Vec<String>,
}

impl Found {
    fn read(text: &str) -> Self {
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The marker is found wherever it is, and the key nowhere.
    #[track_caller]
    fn check(&self, programs: &[&str], marker_in: &[&str]) {
        let key: Vec<_> = self.found.iter().filter(|(what, ..)| what.starts_with("key")).collect();
        assert!(key.is_empty(), "the key is in the jail: {key:#?}");
        for program in programs {
            assert!(self.programs.iter().any(|known| known == program), "{program}: {self:#?}");
        }
        for kind in marker_in {
            let is_there = |(what, of, _): &(String, String, String)| what == "marker: plain" && of == kind;
            assert!(self.found.iter().any(is_there), "the marker is not found in {kind}: {self:#?}");
        }
        for form in forms("marker", MARKER).into_keys() {
            assert!(self.found.iter().any(|(what, ..)| *what == form), "{form} is not found: {self:#?}");
        }
        for kind in ["environ", "cmdline", "file", "memory"] {
            assert!(self.looked[kind] > 0, "{self:#?}");
        }
    }
}

/// The machine's own look at a server's jails.
#[derive(Debug, Clone, Default)]
struct Lookout {
    server: Arc<OnceLock<u32>>,
    seen: Arc<Mutex<Vec<Found>>>,
}

impl Lookout {
    /// Searches whatever descends from the server and is not the server: jails, and nsjail around them. What
    /// shares the server's memory and is in another namespace is among it.
    fn look(&self) {
        let server = *self.server.get().unwrap();
        let space = |pid: u32| {
            let of = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
            ["exe", "ns/pid", "ns/mnt", "ns/net", "ns/user"].map(of)
        };
        let own = space(server);
        let guests: Vec<u32> = descendants(server).into_iter().filter(|pid| space(*pid) != own).collect();
        self.seen.lock().unwrap().push(search(&guests));
    }

    /// What was seen; a search that panicked is missed here.
    fn seen(&self) -> Vec<Found> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Searches processes from the machine.
fn search(pids: &[u32]) -> Found {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("search.py"), SEARCH).unwrap();
    std::fs::write(place.path().join("needles.json"), needles()).unwrap();
    let mut command = hermetic(Command::new("python3"), place.path());
    command.args(["-B", "search.py", "needles.json"]).args(pids.iter().map(u32::to_string));
    let output = command.current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Found::read(&String::from_utf8(output.stdout).unwrap())
}

/// The children of a process, and theirs.
fn descendants(of: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// A server whose provider has the key, and a book with the search and the marker in all its forms.
fn house(
    upstream: &Upstream,
    lookout: &Lookout,
    more: &str,
    place: &Path,
    daemon: &str,
) -> (House, WorkTree) {
    let key = place.join("key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let house = House::with_config(&format!(
        r#"
        agents_directory = "{}"
        [models.providers.anthropic]
        base_url = "{}"
        key = {{ file = "{}" }}
        {more}
        "#,
        agents().display(),
        upstream.url(),
        key.display()
    ));
    lookout.server.set(house.pid()).unwrap();
    let tree = book(&house, &[("search", daemon)]);
    tree.write("search.py", SEARCH);
    tree.write("needles.json", &needles());
    let lines = forms("marker", MARKER).into_values().collect::<Vec<_>>();
    tree.write("planted.txt", &lines.join("\n"));
    tree.commit("Add the search");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    (house, tree)
}

/// The provider saw the key, and nobody else's memory but the server's holds it.
#[track_caller]
fn check_asked(house: &House, asked: &[Asked]) {
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.text.contains(KEY)), "{asked:#?}");
    let server = search(&[house.pid()]);
    let is_key = |(what, kind, _): &(String, String, String)| what == "key: plain" && kind == "memory";
    assert!(server.found.iter().any(is_key), "the search does not find what is there: {server:#?}");
}

/// Serves one request, after a look around.
fn watched_server(lookout: Lookout) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let (mut guest, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = guest.read(&mut head).unwrap();
        lookout.look();
        guest.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
    });
    (at, serving)
}

#[test]
fn no_key_is_in_the_jail_of_a_script_with_a_door() {
    let (lookout, place) = (Lookout::default(), tempfile::tempdir().unwrap());
    let upstream = Upstream::start(vec![]);
    let (at, serving) = watched_server(lookout.clone());
    let more = format!("[network]\nallow_http = true\nallow_private = ['{at}']\n");
    let daemon = format!(
        "
  permissions: {{ network: {{ allowed: ['{at}'] }} }}
  stages:
    - {{ name: Ask, type: prompt, agent: claude-haiku, prompt_template: 'Say ok.' }}
    - name: Search
      env: {{ PLANTED: '{MARKER}' }}
      script: |
        curl --silent --fail --show-error http://{at}/ >&2
        python3 -B search.py needles.json all \"$PLANTED\"
"
    );
    let (house, _tree) = house(&upstream, &lookout, &more, place.path(), &daemon);
    let ended = ended(&house, "search", &json!({}));
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{}", house.logged());
    serving.join().unwrap();

    let inside = Found::read(ended.output("Search").as_str().unwrap());
    inside.check(&["python3"], &["environ", "cmdline", "file", "memory"]);
    assert!(inside.closed.is_empty() || inside.closed == ["init"], "{inside:#?}");
    let [outside] = lookout.seen().try_into().unwrap();
    outside.check(&["nsjail", "curl"], &["environ", "file", "memory"]);
    assert!(outside.closed.is_empty(), "{outside:#?}");
    check_asked(&house, &upstream.asked());
}

#[test]
fn no_key_is_in_the_jail_of_a_coding_agent() {
    installed("claude-code");
    let (lookout, place) = (Lookout::default(), tempfile::tempdir().unwrap());
    let look = format!("python3 -B search.py needles.json all '{MARKER}' > found.json; echo searched");
    let script = vec![tool("Bash", json!({ "command": look, "description": "Search" })), says("Done.")];
    let watching = lookout.clone();
    let upstream = Upstream::watched(script, move |asked: &Asked| {
        if asked.has_tools && asked.text.contains("searched\n") {
            watching.look();
        }
    });
    let more = format!("[agents.claude-code.env]\nPLANTED = '{MARKER}'\n");
    let daemon = "
  stages:
    - { name: Work, agent: claude-code, prompt_template: 'Search.' }
    - { name: Show, script: cat found.json }
";
    let (house, _tree) = house(&upstream, &lookout, &more, place.path(), daemon);
    let ended = ended(&house, "search", &json!({}));
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{}", house.logged());
    assert!(matches!(upstream.asked().last(), Some(asked) if asked.text.contains(KEY)));

    let inside = Found::read(ended.output("Show").as_str().unwrap());
    inside.check(&["python3", "claude"], &["environ", "cmdline", "file", "memory"]);
    let seen = lookout.seen();
    assert!(!seen.is_empty(), "nobody looked");
    for outside in seen {
        outside.check(&["nsjail", "claude"], &["environ", "file", "memory"]);
        assert!(outside.closed.is_empty(), "{outside:#?}");
    }
    check_asked(&house, &upstream.asked());
    assert!(!log.contains(KEY) && !house.logged().contains(KEY));
}
