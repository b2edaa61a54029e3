//! The rules of ARCHITECTURE.md and CONTRIBUTING.md that no other tool can hold: which crate may
//! depend on which, how large a file may grow, what must not lie around. Formatting, lints, licences
//! and the users of each third-party crate are `./x check`'s.
//!
//! A failure lists every place at once and says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom; a new edge is an architectural change and belongs in ARCHITECTURE.md too.
/// `testkit` is added to everyone's tests, and `app` may use everything.
const EDGES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("ports", &["domain"]),
    ("manifest", &["domain"]),
    ("engine", &["domain", "ports", "manifest", "git"]),
    ("agents", &["domain", "ports"]),
    ("gateway", &["domain", "ports"]),
    ("cassettes", &["domain", "ports"]),
    ("mcp", &["domain", "ports"]),
    ("git", &["domain", "ports"]),
    ("sandbox", &["domain", "ports"]),
    ("store-sqlite", &["domain", "ports"]),
    ("objects", &["domain", "ports"]),
    ("vault", &["domain", "ports"]),
    ("forge-hosted", &["domain", "ports", "git"]),
    ("forge-remote", &["domain", "ports"]),
    ("forge-github", &["domain", "ports", "forge-remote"]),
    ("forge-forgejo", &["domain", "ports", "forge-remote"]),
    ("forge-gitlab", &["domain", "ports", "forge-remote"]),
    ("web", &["domain", "ports", "manifest", "engine", "gateway"]),
    ("testkit", &["domain", "ports"]),
];

/// Libraries that these crates may use in their tests only; `deny.toml` cannot tell the difference.
const TEST_ONLY: &[(&str, &str)] =
    &[("git", "axum"), ("engine", "git"), ("forge-hosted", "git"), ("app", "rmcp")];

/// Files that were too long when the limit came, with the length they may have. An entry is lowered
/// or removed when its file shrinks; none is added.
const LONG_FILES: &[(&str, usize)] = &[];
const LONGEST_FILE: usize = 800;
const LONGEST_LIB: usize = 60;
const LONGEST_ARCHITECTURE: usize = 250;

/// Tests that wait for something outside the program which tells nobody when it is done.
const POLLING_TESTS: &[&str] = &["server/git/tests/it/serve.rs"];

/// Tests that are programs for other tests, which start them by name and end them; nobody else does.
const PROGRAMS: &[&str] = &["server/gateway/src/local/tests.rs", "server/sandbox/tests/it/killed.rs"];

/// Fixtures of which it is the point that they are empty.
const EMPTY_FIXTURES: &[&str] = &["schema/fixtures/invalid/sb0005-empty/daemon.yaml"];

/// Names that say where a thing was put down instead of what it is.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "types"];

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let crates = workspace_crates();
    let all: Vec<&str> = crates.keys().map(String::as_str).collect();
    let mut table: BTreeMap<&str, Vec<&str>> = EDGES.iter().map(|(name, to)| (*name, to.to_vec())).collect();
    table.insert("app", all.iter().copied().filter(|name| *name != "testkit").collect());

    let mut wrong = Vec::new();
    for (name, edges) in &crates {
        let Some(allowed) = table.remove(name.as_str()) else {
            wrong.push(format!("{name}: not in the table of {}", file!()));
            continue;
        };
        for Edge { to, dev } in edges.iter().filter(|edge| all.contains(&edge.to.as_str())) {
            if !(allowed.contains(&to.as_str()) || *dev && to == "testkit") {
                wrong.push(format!("{name} → {to}: not an edge of the table of {}", file!()));
            }
        }
    }
    for (name, library) in TEST_ONLY {
        let mut edges = crates.get(*name).into_iter().flatten();
        if edges.any(|edge| edge.to == *library && !edge.dev) {
            wrong.push(format!("{name} → {library}: allowed in dev-dependencies only"));
        }
    }
    wrong.extend(table.keys().map(|name| format!("{name}: in the table of {} but no crate", file!())));
    assert_tidy(&wrong);
}

#[test]
fn crates_take_versions_and_lints_from_the_workspace() {
    let mut wrong = Vec::new();
    for name in workspace_crates().keys() {
        let path = format!("server/{name}/Cargo.toml");
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            wrong.push(format!("{path}: missing; a crate's directory has the crate's name"));
            continue;
        };
        let manifest: toml::Table = text.parse().expect("cargo has read this file before");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (dependency, value) in dependencies {
                if !inherits(value) {
                    wrong.push(format!("{path}: {dependency} should be `{dependency}.workspace = true`"));
                }
            }
        }
        if !manifest.get("lints").is_some_and(inherits) {
            wrong.push(format!("{path}: `[lints] workspace = true` is missing"));
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn crates_open_with_their_purpose() {
    let mut wrong = Vec::new();
    for name in workspace_crates().keys() {
        let opening = ["lib.rs", "main.rs"].map(|file| format!("server/{name}/src/{file}"));
        for path in opening.iter().filter(|path| root().join(path).exists()) {
            let text = read(path);
            if !text.starts_with("//!") {
                wrong.push(format!("{path}: the first line should be `//!` and the crate's purpose"));
            }
            if path.ends_with("lib.rs") && text.lines().count() > LONGEST_LIB {
                wrong.push(format!("{path}: longer than {LONGEST_LIB} lines; it is a table of contents"));
            }
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn files_are_short_and_named_after_what_they_hold() {
    let mut allowed: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources(&["rs", "ts", "tsx"]) {
        let parts: Vec<&str> = path.split(['/', '.']).collect();
        if path.ends_with("/mod.rs") {
            wrong.push(format!("{path}: a module `name` is `name.rs` beside the directory `name/`"));
        }
        if let Some(name) = parts.iter().find(|part| EMPTY_NAMES.contains(part)) {
            wrong.push(format!("{path}: `{name}` says nothing; name it after its noun or verb"));
        }
        if is_test_file(&path) {
            continue;
        }
        let lines = split_tests(&read(&path)).0.lines().count();
        match allowed.remove(path.as_str()) {
            Some(limit) if lines > limit => wrong.push(format!("{path}: grew from {limit} to {lines} lines")),
            Some(limit) if lines < limit => {
                wrong.push(format!("{path}: shrank to {lines} lines; lower its entry in LONG_FILES"));
            }
            None if lines > LONGEST_FILE => {
                wrong.push(format!("{path}: {lines} lines without tests; more than {LONGEST_FILE}"));
            }
            _ => {}
        }
    }
    wrong.extend(allowed.keys().map(|path| format!("{path}: gone; remove its entry in LONG_FILES")));
    assert_tidy(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let ignored = concat!("#[ig", "nore");
    let mut wrong = Vec::new();
    for path in sources(&["rs", "ts", "tsx", "sh", "py", "sql"]) {
        for (number, line) in read(&path).lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if let Some(mark) = words.find(|word| marks.contains(word)) {
                wrong.push(format!("{path}:{}: {mark}; do it now or open an issue", number + 1));
            }
            if path.ends_with(".rs") && line.contains(ignored) && !PROGRAMS.contains(&path.as_str()) {
                wrong.push(format!("{path}:{}: an ignored test; mend or remove it", number + 1));
            }
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn tests_do_not_sleep() {
    let sleep = concat!("::sle", "ep(");
    let mut wrong = Vec::new();
    for path in sources(&["rs"]).iter().filter(|path| !POLLING_TESTS.contains(&path.as_str())) {
        let text = read(path);
        let whole = is_test_file(path) || path.starts_with("server/testkit/");
        let tests = if whole { text.as_str() } else { split_tests(&text).1 };
        if tests.contains(sleep) {
            wrong.push(format!(
                "{path}: a test sleeps; wait for the event, or pause tokio's clock and advance it"
            ));
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn snapshots_belong_to_a_test() {
    let mut wrong = Vec::new();
    let fixtures: BTreeSet<String> =
        files("schema/fixtures").iter().filter_map(|path| fixture(path)).collect();
    for path in files("server") {
        if path.ends_with(".snap.new") {
            wrong.push(format!("{path}: accept or delete it"));
        }
        if !path.ends_with(".snap") {
            continue;
        }
        let text = read(&path);
        let source = text.lines().find_map(|line| line.strip_prefix("source: ")).unwrap_or_default();
        let source = source.trim_matches('"');
        match fs::read_to_string(root().join(source)) {
            Ok(code) if is_named_in(&snapshot_name(&path), &code, &fixtures) => {}
            Ok(_) => wrong.push(format!("{path}: no test in {source} takes this snapshot; delete it")),
            Err(_) => wrong.push(format!("{path}: its source `{source}` is gone; delete it")),
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn lock_files_name_no_other_registry() {
    let expected = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    let lock = read("Cargo.lock");
    let mut wrong: Vec<String> = lock
        .lines()
        .filter(|line| line.starts_with("source = ") && *line != expected)
        .map(|line| format!("Cargo.lock: {line}"))
        .collect();
    for path in files("").into_iter().filter(|path| path.ends_with("package-lock.json")) {
        if read(&path).contains(r#""resolved": "http"#) {
            wrong.push(format!(
                "{path}: names addresses; write it with `omit-lockfile-registry-resolved=true`"
            ));
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let mut engines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files("migrations") {
        let (engine, file) = path["migrations/".len()..].split_once('/').unwrap_or(("", &path));
        engines.entry(engine.to_owned()).or_default().push(file.to_owned());
    }
    let mut wrong = Vec::new();
    if !engines.contains_key("sqlite") {
        wrong.push("migrations/sqlite: empty".to_owned());
    }
    for (engine, files) in engines {
        for (number, file) in (1..).zip(files) {
            if !file.starts_with(&format!("{number:04}_")) || !file.ends_with(".sql") {
                wrong.push(format!("migrations/{engine}/{file}: expected {number:04}_….sql here"));
            }
        }
    }
    assert_tidy(&wrong);
}

#[test]
fn fixtures_hold_something() {
    let mut wrong = Vec::new();
    for directory in ["schema/fixtures/valid", "schema/fixtures/invalid"] {
        let fixtures = files(directory);
        if fixtures.is_empty() {
            wrong.push(format!("{directory}: empty"));
        }
        let blank = |path: &String| {
            let empty = fs::metadata(root().join(path)).is_ok_and(|file| file.len() == 0);
            empty && !EMPTY_FIXTURES.contains(&path.as_str())
        };
        wrong.extend(fixtures.into_iter().filter(blank).map(|path| format!("{path}: an empty file")));
    }
    assert_tidy(&wrong);
}

#[test]
fn documents_are_in_step_with_the_code() {
    let mut wrong = Vec::new();
    let architecture = read("ARCHITECTURE.md");
    if architecture.lines().count() > LONGEST_ARCHITECTURE {
        wrong
            .push(format!("ARCHITECTURE.md: longer than {LONGEST_ARCHITECTURE} lines; it is read in one go"));
    }
    for name in workspace_crates().keys() {
        if !architecture.contains(&format!("`{name}`")) && !architecture.contains(&format!("server/{name}")) {
            wrong.push(format!("ARCHITECTURE.md: does not name the crate `{name}`"));
        }
    }
    if read("CHANGELOG.md").lines().find(|line| line.starts_with("## ")) != Some("## Unreleased") {
        wrong.push("CHANGELOG.md: the first section should be `## Unreleased`".to_owned());
    }
    assert_tidy(&wrong);
}

struct Edge {
    to: String,
    dev: bool,
}

/// The workspace's crates by name, each with all its direct dependencies.
#[expect(clippy::disallowed_methods, reason = "cargo alone knows the workspace")]
fn workspace_crates() -> BTreeMap<String, Vec<Edge>> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let edge = |it: &serde_json::Value| Edge { to: text(&it["name"]), dev: it["kind"] == "dev" };
    list(&metadata["packages"])
        .iter()
        .map(|it| (text(&it["name"]), list(&it["dependencies"]).iter().map(edge).collect()))
        .collect()
}

fn inherits(value: &toml::Value) -> bool {
    value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
}

/// Splits a source file into its code and its `#[cfg(test)]` module, which comes last.
fn split_tests(text: &str) -> (&str, &str) {
    let start = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(|at| {
        let declaration = text[*at..].lines().nth(1).unwrap_or_default();
        declaration.ends_with('{')
    });
    text.split_at(start.unwrap_or(text.len()))
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains(".test.")
        || path.contains(".spec.")
}

/// `server/x/src/snapshots/x__module__name-2.snap` → `name`; insta adds `-2` to the second unnamed
/// snapshot of a test and `@suffix` where a test sets one.
fn snapshot_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = stem.rsplit("__").next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    match name.rsplit_once('-') {
        Some((base, count)) if !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()) => {
            base.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// A snapshot is named by its test's function, by a literal, or by the fixture that it shows.
fn is_named_in(name: &str, code: &str, fixtures: &BTreeSet<String>) -> bool {
    let patterns = [format!("fn {name}("), format!("fn test_{name}("), format!("\"{name}\"")];
    patterns.iter().any(|pattern| code.contains(pattern)) || fixtures.contains(name)
}

/// The name of the snapshot of a fixture: `schema/fixtures/invalid/tab/…` has `invalid-tab`.
fn fixture(path: &str) -> Option<String> {
    let (kind, rest) = path.strip_prefix("schema/fixtures/")?.split_once('/')?;
    let name = rest.split('/').next()?;
    Some(format!("{kind}-{}", name.rsplit_once('.').map_or(name, |(stem, _)| stem)))
}

/// The files under `server/`, `tools/` and `migrations/` with one of these extensions.
fn sources(extensions: &[&str]) -> Vec<String> {
    let mut paths: Vec<String> =
        ["server", "tools", "migrations"].iter().flat_map(|top| files(top)).collect();
    paths.retain(|path| path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension)));
    paths
}

/// Every file under `directory`, relative to the repository, in order; none when it does not exist.
fn files(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let entry = entry.expect("a directory that opens can be read");
            let name = entry.file_name();
            let skipped =
                ["target", "node_modules", "dist", ".git", ".spellbook"].iter().any(|it| name == *it);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(relative(&entry.path())),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("the walk starts at the root").to_string_lossy().into_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    let app = Path::new(env!("CARGO_MANIFEST_DIR"));
    app.ancestors().nth(2).expect("app is at server/app").to_owned()
}

#[track_caller]
fn assert_tidy(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
