//! Packages in a jail, from where this machine's own package managers get them: a daemon names `node`, `python` or
//! `rust`, and nobody has said which hosts these are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::house::{House, SPELLBOOK, hermetic};
use crate::jail_stages::{book, ended, log};

/// Serves packages at an address that `NO_PROXY` does not name, as long as the process lives.
struct Registry {
    at: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let files: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let shared = Arc::clone(&files);
        std::thread::spawn(move || {
            for guest in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // A client may leave in the middle.
                std::thread::spawn(move || drop(answer(&guest, &shared)));
            }
        });
        Self { at, files }
    }

    fn serve(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.to_owned(), bytes.into());
    }
}

/// Answers one request.
fn answer(guest: &TcpStream, files: &Mutex<BTreeMap<String, Vec<u8>>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(guest);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let found = files.lock().unwrap().get(path).cloned();
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let kind = if path.contains("/simple/") { "text/html" } else { "application/json" };
    let body = found.unwrap_or_default();
    let length = body.len();
    let mut guest = guest;
    write!(
        guest,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    guest.write_all(&body)
}

/// What a program writes that makes a package of these files.
fn packed(files: &[(&str, &str)], program: &str, arguments: &[&str]) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut command = hermetic(Command::new(program), place.path());
    let output = command.args(arguments).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(place.path().join("packed")).unwrap()
}

/// `create-tiny`, for `npm create tiny`.
fn serve_npm(registry: &Registry) {
    let made = "#!/usr/bin/env node\nrequire('fs').writeFileSync('made.txt', 'made by npm\\n')\n";
    let package = json!({ "name": "create-tiny", "version": "1.0.0", "bin": "make.js" });
    let files = [("package/package.json", package.to_string()), ("package/make.js", made.to_owned())];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    registry
        .serve("/create-tiny/-/create-tiny-1.0.0.tgz", packed(&files, "tar", &["czf", "packed", "package"]));
    let tarball = format!("http://{}/create-tiny/-/create-tiny-1.0.0.tgz", registry.at);
    let version = json!({
        "name": "create-tiny", "version": "1.0.0", "bin": { "create-tiny": "make.js" }, "dist": { "tarball": tarball },
    });
    let versions = json!({
        "name": "create-tiny", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version },
    });
    registry.serve("/create-tiny", versions.to_string());
}

fn serve_pip(registry: &Registry) {
    let files = [
        ("tiny.py", "said = 'installed by pip'\n"),
        ("tiny-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0.0\n"),
        ("tiny-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("tiny-1.0.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.0.dist-info/METADATA,,\n"),
    ];
    let zip = ["-m", "zipfile", "-c", "packed", "tiny.py", "tiny-1.0.0.dist-info"];
    registry.serve("/files/tiny-1.0.0-py3-none-any.whl", packed(&files, "python3", &zip));
    registry.serve(
        "/simple/tiny/",
        "<a href=\"/files/tiny-1.0.0-py3-none-any.whl\">tiny-1.0.0-py3-none-any.whl</a>",
    );
}

fn serve_cargo(registry: &Registry) {
    let files = [
        ("tiny-1.0.0/Cargo.toml", "[package]\nname = 'tiny'\nversion = '1.0.0'\nedition = '2021'\n"),
        ("tiny-1.0.0/src/lib.rs", "pub const SAID: &str = \"built by cargo\";\n"),
    ];
    let krate = packed(&files, "tar", &["czf", "packed", "tiny-1.0.0"]);
    let line = json!({
        "name": "tiny", "vers": "1.0.0", "deps": [], "cksum": hex::encode(Sha256::digest(&krate)), "features": {},
        "yanked": false,
    });
    registry.serve("/crates/tiny-1.0.0.crate", krate);
    registry.serve("/index/ti/ny/tiny", format!("{line}\n"));
    let dl = format!("http://{}/crates/{{crate}}-{{version}}.crate", registry.at);
    registry.serve("/index/config.json", json!({ "dl": dl }).to_string());
}

/// The files in which a person tells their package managers of a mirror.
fn configure(home: &Path, at: &str) -> String {
    let source = format!(
        "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+http://{at}/index/'\n"
    );
    for (path, text) in [
        (".npmrc", format!("registry=http://{at}/\n//{at}/:_authToken=s3cret\n")),
        (
            ".config/pip/pip.conf",
            format!("[global]\nindex-url = http://{at}/simple\ntrusted-host = 127.0.0.2\n"),
        ),
        (".cargo/config.toml", source.clone()),
    ] {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    source
}

/// A directory with the Rust that this test was built with, for jails, which see none below a person's home.
fn toolchain() -> tempfile::TempDir {
    let shown = tempfile::Builder::new().prefix("sb-").tempdir().unwrap();
    std::fs::set_permissions(shown.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let from = Path::new(env!("CARGO")).ancestors().nth(2).unwrap();
    // Links where they can be, since it is large.
    let script = r#"mkdir -p bin lib/rustlib
put() { cp -al "$1" "$2" 2>/dev/null || cp -a "$1" "$2"; }
put "$0/bin/cargo" bin; put "$0/bin/rustc" bin
for file in "$0"/lib/*.so*; do put "$file" lib; done
for part in "$0"/lib/rustlib/*-linux-*; do put "$part" lib/rustlib; done"#;
    let mut command = hermetic(Command::new("sh"), shown.path());
    let made = command.args(["-ec", script]).arg(from).current_dir(shown.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    shown
}

const DAEMON: &str = r#"
  permissions: { network: { allowed: [node, python, rust] } }
  stages:
    - name: Npm
      needs: []
      script: |
        npm create --yes tiny >&2
        npm install --no-audit --no-fund create-tiny >&2
        cat made.txt; ls node_modules
    - name: Pip
      needs: []
      script: |
        python3 -m pip install --quiet --disable-pip-version-check --target lib tiny >&2
        PYTHONPATH=lib python3 -c 'import tiny; print(tiny.said)'
    - name: Cargo
      needs: []
      script: |
        export PATH="/opt/agents/bin:$PATH" CARGO_TARGET_DIR="$HOME/target"
        cargo run --quiet --manifest-path tool/Cargo.toml
    - { name: Other, needs: [], script: 'env; curl --silent --show-error https://other.example/', continue_on_error: true }
"#;

#[test]
fn packages_come_from_where_this_machine_gets_them() {
    let registry = Registry::start();
    serve_npm(&registry);
    serve_pip(&registry);
    serve_cargo(&registry);
    let shown = toolchain();
    let at = &registry.at;
    let house = House::with_config(&format!(
        "agents_directory = '{}'\n[network]\nallow_private = ['{at}']\n",
        shown.path().display()
    ));
    let source = configure(house.data.path(), at);
    let tree = book(&house, &[("packages", DAEMON)]);
    // No variable tells cargo of another source.
    tree.write(".cargo/config.toml", &source);
    tree.write(
        "tool/Cargo.toml",
        "[package]\nname = 'tool'\nversion = '0.0.0'\nedition = '2021'\n[dependencies]\ntiny = '1'\n",
    );
    tree.write("tool/src/main.rs", "fn main() { println!(\"{}\", tiny::SAID); }\n");
    tree.commit("Add a crate");
    assert!(tree.push(&["-o", "skip", "main"]).0);

    let ended = ended(&house, "packages", &json!({}));
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{}", house.logged());
    assert_eq!(ended.output("Npm"), "made by npm\ncreate-tiny");
    assert_eq!(ended.output("Pip"), "installed by pip");
    assert_eq!(ended.output("Cargo"), "built by cargo");
    let other = ended.stage("Other").to_string();
    assert!(other.contains("other.example:443 is not among the hosts"), "{other}");
    assert!(log.contains(&format!("NPM_CONFIG_REGISTRY=http://{at}/")), "{log}");
    assert!(!format!("{ended:?}{log}{}", house.logged()).contains("s3cret"));
    check_doctor(&house, at);
}

/// The person at the machine sees where packages come from.
fn check_doctor(house: &House, at: &str) {
    let mut doctor = hermetic(Command::new(SPELLBOOK), house.data.path());
    doctor.args(["doctor", "--json", "--data"]).arg(house.data.path().join("data"));
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let findings: Vec<Json> = serde_json::from_str(&said).unwrap();
    for (set, whose) in [("node", "npm"), ("python", "pip"), ("rust", "cargo")] {
        let finding = findings.iter().find(|finding| finding["name"] == format!("set {set}")).unwrap();
        let expect = format!("{at} ({whose}'s configuration)");
        assert!(finding["detail"].as_str().unwrap().starts_with(&expect), "{finding}");
    }
}
