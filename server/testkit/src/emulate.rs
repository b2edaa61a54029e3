//! `emulate` of npm: GitHub's API as somebody else understood it. It is a program of its own, ends when it is
//! dropped, and forgets everything then.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// The key of the app that it knows, PEM (PKCS#8).
pub const KEY: &str = include_str!("emulate.pem");
/// The number of the app, which is installed in all repositories of `acme`.
pub const APP_ID: u64 = 12;
/// What Ada, who is a member of `acme`, is known by.
pub const ADAS_TOKEN: &str = "tok_ada";

/// The emulator, with an organisation `acme` and its repositories.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    /// Where its API is.
    pub address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    /// Starts it, with private repositories of these names.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub fn start(repositories: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let seed = directory.path().join("seed.json");
        std::fs::write(&seed, seed_text(repositories)).expect("there is room");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let port = listener.local_addr().expect("it listens").port();
        drop(listener);
        let modules = installed().join("node_modules");
        let program = modules.join("emulate/dist/index.js");
        assert!(program.exists(), "{} is missing: `./x setup` installs it", program.display());
        #[expect(clippy::disallowed_methods, reason = "whoever starts the emulator ends it")]
        let mut command = Command::new(modules.join(".bin/node"));
        command.arg(program).args(["start", "--service", "github", "--port", &port.to_string(), "--seed"]);
        let child = command.arg(seed).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready.")));
        assert!(ready, "the emulator did not start");
        Self { child, address: format!("http://127.0.0.1:{port}"), _directory: directory }
    }
}

/// Where `./x setup` put it.
#[expect(clippy::disallowed_methods, reason = "tests are told where tools are by the environment")]
fn installed() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(own) = named("SPELLBOOK_EMULATE") {
        return own;
    }
    let tools = named("SPELLBOOK_TOOLS").or_else(|| {
        let data = named("XDG_DATA_HOME").or_else(|| Some(named("HOME")?.join(".local/share")))?;
        Some(data.join("spellbook/tools"))
    });
    tools.expect("HOME is set").join("emulate")
}

fn seed_text(repositories: &[&str]) -> String {
    let permissions = json!({
        "contents": "write", "issues": "write", "pull_requests": "write", "checks": "write", "metadata": "read",
    });
    let app = json!({
        "app_id": APP_ID, "slug": "spellbook", "name": "Spellbook", "private_key": KEY,
        "permissions": permissions, "events": [], "installations": [
            { "installation_id": 100, "account": "acme", "repository_selection": "all" },
        ],
    });
    let repository =
        |name: &&str| json!({ "owner": "acme", "name": name, "private": true, "auto_init": true });
    // Whose token it does not know is the first of the users there: one who may do nothing.
    let seed = json!({
        "tokens": { ADAS_TOKEN: { "login": "ada", "scopes": ["repo", "user"] } },
        "github": {
            "users": [{ "login": "nobody" }, { "login": "ada" }],
            "orgs": [{ "login": "acme", "name": "Acme", "members": [{ "login": "ada", "role": "admin" }] }],
            "repos": repositories.iter().map(repository).collect::<Vec<_>>(),
            "apps": [app],
        },
    });
    seed.to_string()
}
