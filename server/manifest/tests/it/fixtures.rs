//! The fixtures of `schema/fixtures`: directories with a `daemon.yaml` or a `spellbook.yaml` each. What is in
//! `valid` can be used, if with warnings; what is in `invalid` cannot, and is named after its first code. Each
//! goes through the check; the valid ones pass the published schema as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use domain::files::{File, Files};
use domain::limits::Limits;
use domain::name::DaemonId;
use manifest::model::{Input, InputKind};
use manifest::{
    DaemonSource, Diagnostic, Rules, Siblings, Style, check_daemon, check_policy, check_spellbook,
    check_test, codes, render, schema, test,
};

use crate::bless::root;

const MODELS: [&str; 6] = ["claude-opus", "gemini-pro", "gpt-4", "gpt-5", "gpt-image-2", "local"];
const RUNTIMES: [&str; 3] = ["bash", "node", "python"];

pub(crate) const RULES: Rules<'static> = Rules {
    ceiling: &Limits::CEILING,
    models: &MODELS,
    agents: &[],
    runtimes: &RUNTIMES,
    spellbook: None,
    siblings: None,
};

/// What lies beside each fixture: a daemon without inputs, and some with.
static SIBLINGS: LazyLock<Siblings> = LazyLock::new(|| {
    let input = |name: &str, required: bool| Input {
        name: name.to_owned(),
        kind: InputKind::String,
        description: None,
        default: None,
        required,
    };
    let id = |text: &str| text.parse::<DaemonId>().expect("an id");
    let asked = vec![input("text", true), input("depth", false), input("language", false)];
    let called = BTreeMap::from([
        (id("bare"), Some(Vec::new())),
        (id("minimal"), Some(vec![input("topic", true), input("list", false)])),
        (id("summarize"), Some(asked)),
    ]);
    Siblings { ids: called.keys().cloned().collect(), called }
});

/// The version of the server that checks them.
const SERVER: &str = "1.4.0";

/// Codes that no fixture can have: they need a tree, a link or a hundred mistakes. Each has a test in `hostile`.
const ELSEWHERE: [&str; 5] = ["SB0002", "SB0003", "SB0009", "SB0011", "SB0012"];

fn fixtures(kind: &str) -> Vec<(String, Files)> {
    let folder = root().join("schema/fixtures").join(kind);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a fixture").path())
        .map(|path| (name(&path), files(&path)))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(!found.is_empty(), "no fixtures in {folder:?}");
    found
}

fn name(path: &Path) -> String {
    path.file_name().expect("a directory").to_string_lossy().into_owned()
}

fn files(directory: &Path) -> Files {
    let mut files = Files::default();
    let mut open: Vec<(PathBuf, String)> = vec![(directory.to_owned(), String::new())];
    while let Some((path, inside)) = open.pop() {
        for entry in
            std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path())
        {
            let name = format!("{inside}{}", name(&entry));
            if entry.is_dir() {
                open.push((entry, format!("{name}/")));
            } else {
                files.insert(name, File::Regular(std::fs::read(entry).expect("a file")));
            }
        }
    }
    files
}

/// The files of all fixtures that are texts.
pub(crate) fn texts() -> Vec<(String, String)> {
    let all = fixtures("valid").into_iter().chain(fixtures("invalid"));
    let texts = all.flat_map(|(name, files)| {
        let texts = files.paths().filter_map(|path| String::from_utf8(files.bytes(path)?.to_vec()).ok());
        texts.map(|text| (name.clone(), text)).collect::<Vec<_>>()
    });
    texts.collect()
}

/// What a check says: is there a value, what are the diagnostics, how do they look.
fn check(id: &str, files: &Files) -> (bool, Vec<Diagnostic>, String) {
    if let Some(file) = files.get("spellbook.yaml") {
        let checked = check_spellbook("spellbook.yaml", file, SERVER);
        let text = String::from_utf8_lossy(files.bytes("spellbook.yaml").unwrap_or_default()).into_owned();
        let shown = render(&checked.diagnostics, &("spellbook.yaml", text.as_str()), Style::Plain);
        return (checked.is_valid(), checked.diagnostics, shown);
    }
    if let Some(file) = files.get("policy.yaml") {
        let checked = check_policy("policy.yaml", file);
        let text = String::from_utf8_lossy(files.bytes("policy.yaml").unwrap_or_default()).into_owned();
        let shown = render(&checked.diagnostics, &("policy.yaml", text.as_str()), Style::Plain);
        return (checked.is_valid(), checked.diagnostics, shown);
    }
    let source = DaemonSource { id, directory: &format!("daemons/{id}"), files };
    let checked = check_daemon(source, &Rules { siblings: Some(&SIBLINGS), ..RULES });
    let (mut valid, mut diagnostics) = (checked.is_valid(), checked.diagnostics);
    for path in test::files_of(files) {
        let checked = check_test(source, path, checked.value.as_ref());
        valid &= checked.is_valid();
        diagnostics.extend(checked.diagnostics);
    }
    let shown = render(&diagnostics, &source, Style::Plain);
    (valid, diagnostics, shown)
}

/// Whether the published schema takes the file.
fn schema_takes(files: &Files) -> bool {
    let tests = schema::test();
    let takes = |path: &str| {
        let text = files.bytes(path).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(schema::yaml_to_json).is_some_and(|json| schema::validate(&tests, &json).is_ok())
    };
    if !test::files_of(files).all(takes) {
        return false;
    }
    let (schema, bytes) = match (files.bytes("spellbook.yaml"), files.bytes("policy.yaml")) {
        (Some(bytes), _) => (schema::spellbook(), bytes),
        (None, Some(bytes)) => (schema::policy(), bytes),
        (None, None) => {
            (schema::daemon(), files.bytes("daemon.yaml").or(files.bytes("daemon.yml")).unwrap_or_default())
        }
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(json) = schema::yaml_to_json(text) else { return false };
    let json = if json.is_null() { serde_json::json!({}) } else { json };
    schema::validate(&schema, &json).is_ok()
}

#[test]
fn valid_fixtures_pass_the_check_and_the_schema() {
    for (name, files) in fixtures("valid") {
        let (valid, _, shown) = check(&name, &files);
        assert!(valid, "{name}:\n{shown}");
        assert!(schema_takes(&files), "the schema refuses {name}");
        if !shown.is_empty() {
            insta::assert_snapshot!(format!("valid-{name}"), shown);
        }
    }
}

#[test]
fn invalid_fixtures_are_refused_in_words() {
    for (name, files) in fixtures("invalid") {
        let (valid, diagnostics, shown) = check(&name, &files);
        assert!(!valid, "{name} was accepted:\n{shown}");
        let code = name.split('-').next().unwrap_or_default().to_uppercase();
        assert!(diagnostics.iter().any(|one| one.code == code), "{name} has no {code}:\n{shown}");
        insta::assert_snapshot!(format!("invalid-{name}"), shown);
    }
}

#[test]
fn every_code_has_a_fixture() {
    let mut seen: BTreeSet<&str> = ELSEWHERE.into_iter().collect();
    for kind in ["invalid", "valid"] {
        for (name, files) in fixtures(kind) {
            seen.extend(check(&name, &files).1.iter().map(|one| one.code));
        }
    }
    let missing: Vec<&str> = codes::ALL.iter().map(|code| code.id).filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "codes without a fixture: {missing:?}");
}

#[test]
fn codes_are_in_order_and_used_once() {
    let ids: Vec<&str> = codes::ALL.iter().map(|code| code.id).collect();
    let sorted: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids, sorted.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_diagnostic_has_a_place_in_its_file() {
    for kind in ["invalid", "valid"] {
        for (name, files) in fixtures(kind) {
            for one in check(&name, &files).1 {
                assert!(one.line >= 1 && one.column >= 1, "{name}: {one}");
                assert!((one.end_line, one.end_column) >= (one.line, one.column), "{name}: {one}");
            }
        }
    }
}
