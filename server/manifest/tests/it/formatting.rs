//! `spellbook fmt`.

use manifest::format::fmt;
use manifest::schema::yaml_to_json;
use proptest::prelude::*;

fn check(text: &str, expect: &str) {
    assert_eq!(fmt(text).as_deref(), Ok(expect));
    assert_eq!(fmt(expect).as_deref(), Ok(expect), "formatting twice");
}

#[test]
fn one_way_to_write() {
    check("daemon:\r\n    name: A  \r\n    stages: []", "daemon:\n  name: A\n  stages: []\n");
    check(
        "# head\ndaemon:\n    # the stages\n    stages:\n    -   name: A # first\n        script: |\n            ls\n              -l\n\n    name: B\n\n\n",
        "# head\ndaemon:\n  name: B\n  # the stages\n  stages:\n  - name: A # first\n    script: |\n      ls\n        -l\n",
    );
    check(
        "daemon:\n  stages:\n      - name: A\n        needs:\n            - B\n  name: x\n",
        "daemon:\n  name: x\n  stages:\n    - name: A\n      needs:\n        - B\n",
    );
}

#[test]
fn what_would_change_the_meaning_is_left() {
    // Spaces at the end of a line of a text are part of it.
    check("daemon:\n  name: |\n    a  \n    b\n", "daemon:\n  name: |\n    a  \n    b\n");
    check("daemon: { stages: [], name: A }\n", "daemon: { stages: [], name: A }\n");
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    let error = fmt("daemon:\n  name: [a\n").expect_err("it is no YAML");
    assert!(error.line >= 2, "{error}");
}

#[test]
fn every_fixture_keeps_its_meaning_and_settles() {
    for (name, text) in crate::fixtures::texts() {
        let Some(meaning) = yaml_to_json(&text) else { continue };
        let once = fmt(&text).expect("a fixture that is YAML");
        assert_eq!(yaml_to_json(&once), Some(meaning), "{name}");
        assert_eq!(fmt(&once), Ok(once), "{name}");
    }
}

proptest! {
    #[test]
    fn formatting_settles_and_keeps_the_meaning(text in yaml(), noise in "[a-c:\\-#|>'\" \n]{0,60}") {
        for text in [text, noise] {
            if let Ok(once) = fmt(&text) {
                prop_assert_eq!(yaml_to_json(&once), yaml_to_json(&text));
                prop_assert_eq!(fmt(&once), Ok(once));
            }
        }
    }
}

/// Texts that are YAML more often than not.
fn yaml() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "daemon:",
        "name: a",
        "stages:",
        "- name: x",
        "-   y",
        "- - z",
        "script: |",
        "script: >-",
        "# remark",
        "",
        "text",
        "limits: { a: 1,",
        "  b: 2 }",
        "on: [a,",
        "b]",
        "'quoted",
        "end'",
        "price: free  ",
        "? a",
        ": b",
    ]);
    prop::collection::vec((0_usize..7, line), 0..12).prop_map(|lines| {
        lines.iter().map(|(indent, line)| format!("{}{line}\n", " ".repeat(*indent))).collect()
    })
}
