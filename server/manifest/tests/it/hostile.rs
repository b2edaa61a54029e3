//! Input that means harm: an answer in words, soon, and nothing read that should not be.

use std::time::{Duration, Instant};

use domain::files::{File, Files};
use manifest::{Checked, DaemonSource, Manifest, Style, check_daemon, render};

use crate::fixtures::RULES;

fn check_files(files: &Files) -> Checked<Manifest> {
    check_daemon(DaemonSource { id: "test", directory: "daemons/test", files }, &RULES)
}

fn check_text(text: impl Into<Vec<u8>>) -> Checked<Manifest> {
    check_files(&[("daemon.yaml", File::Regular(text.into()))].into_iter().collect())
}

fn codes(checked: &Checked<Manifest>) -> Vec<&'static str> {
    checked.diagnostics.iter().map(|one| one.code).collect()
}

const GOOD: &str = "daemon:\n  name: A\n  stages: [{ name: A, script: ls }]\n";

#[test]
fn what_is_no_regular_file_is_not_read() {
    for (file, code) in
        [(File::Symlink, "SB0002"), (File::Submodule, "SB0002"), (File::Large(2 << 20), "SB0003")]
    {
        assert_eq!(codes(&check_files(&[("daemon.yaml", file.clone())].into_iter().collect())), [code]);
        let prompt = "daemon:\n  name: A\n  stages: [{ name: A, agent: gpt-5, prompt_file: p.md }]\n";
        let files = [("daemon.yaml", File::Regular(prompt.into())), ("p.md", file)];
        assert_eq!(codes(&check_files(&files.into_iter().collect())), [code]);
    }
    assert_eq!(codes(&check_text(vec![b' '; (1 << 20) + 1])), ["SB0003"]);
}

#[test]
fn a_directory_that_is_no_id_is_refused() {
    let files: Files = [("daemon.yaml", File::Regular(GOOD.into()))].into_iter().collect();
    for id in ["", "Review", "a/b", "../x", "a b", "é", &"x".repeat(65)] {
        let checked = check_daemon(DaemonSource { id, directory: "d", files: &files }, &RULES);
        assert_eq!(codes(&checked), ["SB0011"], "{id:?} was accepted");
    }
    assert!(check_text(GOOD).is_valid());
}

#[test]
fn bombs_are_refused_soon() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let half = "x".repeat(1 << 19);
    let inputs = [
        ("aliases", bomb),
        ("lists", "[".repeat(20_000)),
        ("maps", "{a: ".repeat(20_000)),
        ("dashes", "- ".repeat(20_000)),
        ("keys", (0..60_000).map(|n| format!("k{n}: 1\n")).collect()),
        ("scalar", format!("daemon: {half}")),
        (
            "many unknown keys",
            format!("daemon:\n{}", (0..20_000).map(|n| format!("  stage{n}: 1\n")).collect::<String>()),
        ),
        ("many names", format!("{GOOD}  tags: [{}]\n", "\"${a}\", ".repeat(20_000))),
        ("one long line", format!("daemon: {{ name: \"{half}\", stagse: 1, stages: [] }}")),
        (
            "expressions",
            format!(
                "daemon: {{ name: A, stages: [{{ name: A, agent: gpt-5, input: \"{}\" }}] }}",
                "${a.b}".repeat(80_000)
            ),
        ),
        (
            "open expression",
            format!("daemon: {{ name: A, stages: [{{ name: A, agent: gpt-5, input: \"${{{half}\" }}] }}"),
        ),
        ("quotes", "'".repeat(1 << 19)),
        ("anchors", "&a ".repeat(100_000)),
        ("comments", "# x\n".repeat(200_000)),
        ("nul", "daemon: \0".to_owned()),
    ];
    for (name, text) in inputs {
        // Far more than it takes, also unoptimised on a busy machine; what grows too fast takes minutes.
        let begun = begin();
        let checked = check_text(text);
        let shown = render(&checked.diagnostics, &("daemons/test/daemon.yaml", ""), Style::Plain);
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} took {:?}", begun.elapsed());
        assert!(!checked.is_valid() || name == "expressions", "{name} was accepted");
        assert!(checked.diagnostics.len() <= 101 && shown.len() < 200_000, "{name} says too much");
    }
}

#[expect(clippy::disallowed_methods, reason = "the time that a check takes is what is tested")]
fn begin() -> Instant {
    Instant::now()
}

#[test]
fn a_hundred_problems_are_shown_and_the_rest_counted() {
    let keys: String = (0..250).map(|n| format!("  key{n}: 1\n")).collect();
    let checked = check_text(format!("{GOOD}{keys}"));
    assert_eq!(checked.diagnostics.len(), 101);
    let last = checked.diagnostics.last().expect("a diagnostic");
    assert_eq!((last.code, last.message.as_str()), ("SB0009", "150 more problems are not shown"));
}

#[test]
fn text_of_others_does_not_reach_the_terminal() {
    let text =
        "daemon:\n  name: A\n  \"\\x1b[2J\\u202ekey\": 1\n  stages: [{ name: A, script: ls }] # \u{1b}[31m\n";
    let source = text.replace("\u{1b}", "");
    let checked = check_text(source.clone());
    let shown = render(&checked.diagnostics, &("daemons/test/daemon.yaml", source.as_str()), Style::Plain);
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.contains("\\u{1b}"), "{shown}");
}

#[test]
fn odd_documents_are_answered() {
    for (text, code) in [
        ("", "SB0005"),
        ("# only a comment\n", "SB0005"),
        ("---\n...\n", "SB0005"),
        ("\u{feff}", "SB0005"),
        ("just text", "SB0103"),
        ("[]", "SB0103"),
        ("daemon: ~", "SB0103"),
        ("1: 2", "SB0101"),
        ("? [a]\n: b", "SB0005"),
        ("daemon: !!python/object:os.system ls", "SB0007"),
        ("%YAML 3.0\n---\ndaemon: {}", "SB0005"),
        ("daemon: *nothing", "SB0005"),
        ("daemon: { name: .nan, stages: [] }", "SB0005"),
    ] {
        let checked = check_text(text);
        assert!(codes(&checked).contains(&code), "{text:?} gives {:?}", checked.diagnostics);
    }
}
