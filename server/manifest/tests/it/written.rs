//! Data that is written as YAML.

use manifest::schema::{json_to_yaml, yaml_to_json};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

#[test]
fn texts_of_several_lines_are_blocks() {
    let long = "x".repeat(300);
    let data = json!({ "b": "one\n\ntwo\n", "a": [long, 1, 1.5, null, true, "true", "1", ""], "": {} });
    let data = json!({ "z": data["b"], "list": data["a"], "none": [], "of": {} });
    let text = json_to_yaml(&data);
    assert!(
        text.starts_with("z: |\n  one\n\n  two\nlist:\n- >-\n  xxx")
            && text.lines().any(|line| line.len() > 300),
        "{text}"
    );
    assert_eq!(yaml_to_json(&text), Some(data));
}

#[test]
fn every_text_comes_back() {
    for text in [
        " leading",
        "trailing ",
        "a \nb",
        "\ttab",
        "a\r\nb",
        "\n",
        "\n\nx",
        "x\n\n\n",
        "#",
        "- x",
        "a: b",
        "|",
        "'",
        "\"",
        "\u{0}",
        "\u{1b}[31m",
        "\u{feff}x",
        "\u{2028}",
        "---",
        "...",
        "%YAML",
        "null",
        "~",
        "0x1",
        "1e3",
        "yes",
        "2026-01-01",
        "  indented\nless",
        "\u{85}",
        "!tag",
        "&a",
        "*a",
        "${x}",
        "ü𝄞",
    ] {
        let data = json!([{ "key": text }, text]);
        assert_eq!(yaml_to_json(&json_to_yaml(&data)), Some(data), "{text:?}");
    }
}

fn value() -> impl Strategy<Value = Json> {
    let text = prop_oneof![any::<String>(), "[ -~\n\t#:|>-]{0,40}", "([a-z ]{0,9}\n){1,4}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9..1e9).prop_map(Json::from),
        text.prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec(("[a-z$. -]{1,12}", inner), 0..4)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_again(data in value()) {
        let text = json_to_yaml(&data);
        prop_assert_eq!(yaml_to_json(&text), Some(data), "{}", text);
    }
}
