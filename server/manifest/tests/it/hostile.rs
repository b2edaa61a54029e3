//! Input that means harm: an answer in words, soon, and nothing read that should not be.

use std::time::{Duration, Instant};

use domain::files::{File, Files};
use manifest::{Checked, DaemonSource, Diagnostic, Manifest, Style, check_daemon, check_spellbook, render};

use crate::fixtures::RULES;

fn check_files(files: &Files) -> Checked<Manifest> {
    check_daemon(DaemonSource { id: "test", directory: "daemons/test", files }, &RULES)
}

fn check_text(text: impl Into<Vec<u8>>) -> Checked<Manifest> {
    check_files(&[("daemon.yaml", File::Regular(text.into()))].into_iter().collect())
}

fn codes(checked: &Checked<Manifest>) -> Vec<&'static str> {
    codes_of(&checked.diagnostics)
}

fn codes_of(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|one| one.code).collect()
}

const GOOD: &str = "daemon:\n  name: A\n  stages: [{ name: A, script: ls }]\n";

#[test]
fn what_is_no_regular_file_is_not_read() {
    for (file, code) in
        [(File::Symlink, "SB0002"), (File::Submodule, "SB0002"), (File::Large(2 << 20), "SB0003")]
    {
        assert_eq!(codes(&check_files(&[("daemon.yaml", file.clone())].into_iter().collect())), [code]);
        for stage in ["agent: gpt-5, prompt_file: p.md", "script_file: p.md"] {
            let files = [("daemon.yaml", File::Regular(staged(stage).into())), ("p.md", file.clone())];
            assert_eq!(codes(&check_files(&files.into_iter().collect())), [code], "{stage}");
        }
        assert_eq!(codes_of(&check_spellbook("spellbook.yaml", &file, "1.0.0").diagnostics), [code]);
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

/// A daemon with this stage.
fn staged(stage: &str) -> String {
    format!("daemon: {{ name: A, stages: [{{ name: A, {stage} }}] }}")
}

/// A daemon that may also do this.
fn with(keys: &str) -> String {
    format!("daemon: {{ name: A, {keys}, stages: [{{ name: A, script: ls }}] }}")
}

/// Each is wrong in one way, and has these codes and no other.
#[test]
fn what_means_harm_is_told_in_our_words() {
    let nots = format!("{}true{}", "{ not: ".repeat(3_000), " }".repeat(3_000));
    let patterns: String = (0..10_000).map(|n| format!("{{ pattern: a{n} }}, ")).collect();
    let rows = [
        ("unknown field", with("stagse: []"), "SB0101", "unknown key `stagse`"),
        ("duplicate key", with("name: B"), "SB0006", "the key `name` stands here twice"),
        (
            "permissions twice",
            with("permissions: {}, permissions: {}"),
            "SB0006",
            "`permissions` stands here twice",
        ),
        ("wrong type", with("tags: {}"), "SB0103", "this is a map, not a list"),
        ("two documents", format!("{GOOD}---\n{GOOD}"), "SB0007", "more than one YAML document"),
        ("a tag", with("description: !env HOME"), "SB0007", "tags"),
        ("a merge key", with("<<: { tags: [] }"), "SB0007", "merge keys"),
        ("self alias, list", with("tags: &t [*t]"), "SB0007", "inside its own anchor"),
        (
            "self alias, map",
            "daemon: &d { name: A, stages: *d }".to_owned(),
            "SB0007",
            "inside its own anchor",
        ),
        (
            "pattern with a back-reference",
            staged(r#"script: ls, schema: { pattern: "(a*)*\\1b" }"#),
            "SB0508",
            "pattern",
        ),
        ("3000 nested not", staged(&format!("script: ls, schema: {nots}")), "SB0008", "more than 48 levels"),
        (
            "$ref to a server",
            staged(r#"script: ls, schema: { $ref: "http://127.0.0.1:1/x" }"#),
            "SB0508",
            "stay inside",
        ),
        (
            "$ref to a file",
            staged(r#"script: ls, schema: { $ref: "file:///etc/passwd" }"#),
            "SB0508",
            "stay inside",
        ),
        (
            "$dynamicRef",
            staged(r#"script: ls, schema: { $dynamicRef: "http://127.0.0.1:1/x" }"#),
            "SB0508",
            "stay inside",
        ),
        (
            "10k patterns",
            staged(&format!("script: ls, schema: {{ anyOf: [{patterns}] }}")),
            "SB0508",
            "64 KiB",
        ),
        ("script above", staged("script_file: ../x"), "SB0602", "leaves the daemon's directory"),
        (
            "script inside and out",
            staged("script_file: a/../../x"),
            "SB0602",
            "leaves the daemon's directory",
        ),
        ("script at the root", staged("script_file: /etc/passwd"), "SB0602", "leaves the daemon's directory"),
        ("script at home", staged("script_file: ~/x"), "SB0602", "leaves the daemon's directory"),
        ("script with NUL", staged(r#"script_file: "a\0b""#), "SB0105", "control characters"),
        ("memory above the ceiling", with("limits: { memory: 999TiB }"), "SB0401", "above the ceiling"),
        ("memory of nothing", with("limits: { memory: 0B }"), "SB0403", "nothing can run"),
        ("processes of nothing", with("limits: { processes: 0 }"), "SB0403", "nothing can run"),
        ("negative", with("limits: { processes: -1 }"), "SB0106", "-1 is out of range"),
        ("infinite", with("limits: { processes: 1e309 }"), "SB0005", "no finite number"),
        ("infinite time", with("limits: { timeout: 1e309 }"), "SB0005", "no finite number"),
        ("a size with spaces", with(r#"limits: { disk: "10 GB " }"#), "SB0402", "`10 GB `"),
        ("every second", with(r#"on: { schedule: { cron: "* * * * * *" } }"#), "SB0302", "five fields"),
        (
            "a day that never comes",
            with(r#"on: { schedule: { cron: "0 0 30 2 *" } }"#),
            "SB0302",
            "never strikes",
        ),
        (
            "a million schedules",
            with(&format!("on: [{}]", r#"{ schedule: "0 9 * * 1" }, "#.repeat(20_000))),
            "SB0008",
            "50000 values",
        ),
        (
            "many schedules",
            with(&format!("on: {{ schedule: [{}] }}", r#"{ cron: "0 9 * * 1" }, "#.repeat(51))),
            "SB0109",
            "51 items",
        ),
    ];
    let wrong = rows.into_iter().filter_map(|(name, text, code, part)| {
        let checked = check_text(text);
        let said: Vec<String> = checked.diagnostics.iter().map(ToString::to_string).collect();
        let right = codes(&checked) == [code] && said[0].contains(part);
        (!right).then(|| format!("{name}: not {code} with {part:?} but {said:?}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A byte order mark and ends of lines of another system change nothing, nor does a time that a clock leaves out.
#[test]
fn what_is_only_unusual_is_taken() {
    for text in [
        format!("\u{feff}{GOOD}"),
        GOOD.replace('\n', "\r\n"),
        format!("---\n{GOOD}...\n"),
        with(r#"on: { schedule: { cron: "30 2 * * *", timezone: Europe/Berlin } }"#),
        with(r#"on: { schedule: { cron: "0 0 29 2 *" } }"#),
        with("tags: &t [a, b]"),
        // Which draft is meant is not asked of anybody.
        staged(r#"script: ls, schema: { $schema: "http://127.0.0.1:1/x" }"#),
    ] {
        assert!(check_text(text.as_str()).is_valid(), "{text:?}");
    }
}

#[test]
fn bombs_are_refused_soon_and_in_little_memory() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let mut chain = format!("a0: &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
    for level in 1..60 {
        chain.push_str(&format!("a{level}: &a{level} {}*a{}{}\n", "[".repeat(40), level - 1, "]".repeat(40)));
    }
    let half = "x".repeat(1 << 19);
    let many = |unit: &str, count: usize| unit.repeat(count);
    let inputs = [
        ("aliases of aliases", bomb, "SB0008"),
        ("a chain of aliases", chain, "SB0008"),
        ("many aliases", format!("a: &a x\nb: [{}]", many("*a, ", 20_000)), "SB0008"),
        (
            "many anchors",
            format!("a: [{}]", (0..60_000).map(|n| format!("&a{n} x, ")).collect::<String>()),
            "SB0008",
        ),
        (
            "anchors in anchors",
            format!(
                "a: {}[{}]",
                (0..40).map(|n| format!("[&a{n} ")).collect::<String>(),
                many("x, ", 49_000)
            ),
            "SB0008",
        ),
        ("lists", many("[", 20_000), "SB0008"),
        ("maps", many("{a: ", 20_000), "SB0008"),
        ("closed lists", format!("{}{}", many("[", 300), many("]", 300)), "SB0008"),
        ("dashes", many("- ", 20_000), "SB0008"),
        ("questions", many("? ", 20_000), "SB0008"),
        ("keys", (0..60_000).map(|n| format!("k{n}: 1\n")).collect(), "SB0008"),
        ("half a megabyte", format!("daemon: {half}"), "SB0103"),
        ("fifty megabytes", format!("daemon: {}", many("x", 50 << 20)), "SB0003"),
        (
            "many unknown keys",
            format!("daemon:\n{}", (0..20_000).map(|n| format!("  stage{n}: 1\n")).collect::<String>()),
            "SB0101",
        ),
        ("many names", format!("{GOOD}  tags: [{}]\n", many("\"${a}\", ", 20_000)), "SB0109"),
        ("one long line", format!("daemon: {{ name: \"{half}\", stagse: 1, stages: [] }}"), "SB0101"),
        ("expressions", staged(&format!("agent: gpt-5, input: \"{}\"", many("${a.b}", 80_000))), ""),
        ("open expression", staged(&format!("agent: gpt-5, input: \"${{{half}\"")), "SB0701"),
        ("quotes", many("'", 1 << 19), "SB0103"),
        ("double anchors", many("&a ", 100_000), "SB0005"),
        ("comments", many("# x\n", 200_000), "SB0005"),
        ("nul", "daemon: \0".to_owned(), "SB0005"),
    ];
    for (name, text, code) in inputs {
        let before = most_memory();
        let begun = begin();
        let checked = check_text(text);
        let shown = render(&checked.diagnostics, &("daemons/test/daemon.yaml", ""), Style::Plain);
        // Far more than it takes, also unoptimised on a busy machine; what grows too fast takes minutes.
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
        let grown = most_memory() - before;
        assert!(grown < 50 << 10, "{name} took {grown} KiB");
        if code.is_empty() {
            assert!(checked.is_valid(), "{name} is refused");
        } else {
            assert!(codes(&checked).contains(&code), "{name} gives {:?}", checked.diagnostics.first());
        }
        assert!(checked.diagnostics.len() <= 101 && shown.len() < 200_000, "{name} says too much");
    }
}

/// The most memory that this process ever had, KiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the high-water mark");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
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

#[test]
fn a_variable_may_not_begin_too_large() {
    let daemon = |size: usize| {
        let large = "x".repeat(size);
        format!("daemon:\n  name: A\n  state: {{ large: {large} }}\n  stages: [{{ name: A, script: ls }}]\n")
    };
    // The quotes count.
    assert!(check_text(daemon((256 << 10) - 2)).is_valid());
    assert_eq!(codes(&check_text(daemon((256 << 10) - 1))), ["SB0517"]);
}
