//! What is known of models, as people see it, and a newer catalogue.

use super::*;

const CONFIG: &str = r#"
[models.providers.mine]
dialect = "openai-chat"
base_url = "http://127.0.0.1:9/v1"
[models.names]
strong = { target = "mine/large", prices = { input = "3", output = "15" }, context = 128000 }
fast = { target = "claude-haiku" }
"#;

fn row(id: &str, date: &str, input: &str, more: &str) -> String {
    format!(
        r#"{{"provider":"anthropic","id":"{id}","dialect":"anthropic-messages","prices":{{"input":"{input}","output":"50"}}{more},"source":"vendor","date":"{date}"}}"#
    )
}

fn catalogue(rows: &[String], aliases: &str) -> String {
    format!(r#"{{"date":"2026-11-20","aliases":{aliases},"models":[{}]}}"#, rows.join(","))
}

/// A desk with a configuration, and with a newer catalogue in `new.json`.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("server.toml", CONFIG);
    let rows = [
        row("claude-fable-5", "2026-11-10", "8", r#","context":2000000,"capabilities":["tools","vision"]"#),
        row("claude-fable-9", "2026-11-10", "20", ""),
        row("claude-haiku-4-5", "2020-01-01", "99", ""),
    ];
    desk.write("new.json", &catalogue(&rows, r#"{"fable":"anthropic/claude-fable-9"}"#));
    desk
}

fn models(desk: &Desk, lines: &[&[&str]]) -> String {
    let fixed = ["--config", "server.toml", "--data", "data"];
    let lines: Vec<Vec<&str>> = lines.iter().map(|line| [&["models"], *line, &fixed[..]].concat()).collect();
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    desk.session(&lines).replace(" --config server.toml --data data", "")
}

#[test]
fn models_are_listed_with_who_says_so() {
    let desk = desk();
    insta::assert_snapshot!(models(
        &desk,
        &[
            &["list", "claude-fable"],
            &["list", "--provider", "mine"],
            &["list", "--capability", "tools,image_out"],
            &["list", "HAIKU-5-5", "--json"],
            &["list", "nothing-like-it"],
            &["list", "--capability", "flying"],
        ]
    ));
}

#[test]
fn a_name_is_explained() {
    let desk = desk();
    insta::assert_snapshot!(models(
        &desk,
        &[
            &["explain", "fast"],
            &["explain", "strong"],
            &["explain", "local"],
            &["explain", "ollama/qwen3", "--json"],
            &["explain", "claude-opsu"],
        ]
    ));
}

#[test]
fn a_newer_catalogue_is_shown_and_taken_whole() {
    let desk = desk();
    let server = Mock::start([
        ("GET /new.json", vec![ok(serde_json::from_str(&desk.read("new.json")).unwrap())]),
        ("GET /gone.json", vec![problem(404, "not_found", "no")]),
        (
            "GET /moved.json",
            vec![Answer { header: Some(("location", "/new.json".to_owned())), ..problem(302, "x", "y") }],
        ),
    ]);
    desk.write(
        "acme.json",
        &catalogue(&[row("a", "2026-11-01", "1", "").replacen("anthropic", "acme", 1)], "{}"),
    );
    let at = |path: &str| format!("{}/{path}", server.url());
    let (new, gone, moved) = (at("new.json"), at("gone.json"), at("moved.json"));
    insta::assert_snapshot!(models(
        &desk,
        &[
            &["update"],
            &["update", "--from", &gone],
            &["update", "--from", &moved],
            &["update", "--from", "http://models.example.com/new.json"],
            &["update", "--from", "nowhere.json"],
            &["update", "--from", "new.json", "--check"],
            &["list", "fable"],
            &["update", "--from", &new],
            &["list", "fable"],
            &["explain", "fable"],
            &["update", "--from", "new.json", "--check"],
            // What only the older one had is gone, and what ships is back.
            &["update", "--from", "acme.json", "--json"],
            &["explain", "acme/a"],
        ]
    ));
    let kept: Vec<_> =
        fs::read_dir(desk.book().join("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, ["catalogue.json"]);
}

#[test]
fn a_broken_catalogue_changes_nothing() {
    let desk = desk();
    desk.write("good.json", &desk.read("new.json"));
    for (name, text) in [
        ("cut.json", desk.read("new.json")[..300].to_owned()),
        ("undated.json", desk.read("new.json").replacen(r#","date":"2026-11-10"}"#, "}", 1)),
        (
            "dangling.json",
            catalogue(&[row("x", "2026-11-10", "1", "")], r#"{"fable":"anthropic/claude-fable-99"}"#),
        ),
        ("twice.json", catalogue(&[row("x", "2026-11-10", "1", ""), row("x", "2026-11-10", "2", "")], "{}")),
    ] {
        desk.write(name, &text);
    }
    let seen = models(&desk, &[&["update", "--from", "good.json"]]);
    assert!(seen.starts_with("$ spellbook models update --from good.json\nexit: 0"), "{seen}");
    let before = desk.read("data/catalogue.json");
    insta::assert_snapshot!(models(
        &desk,
        &[
            &["update", "--from", "cut.json"],
            &["update", "--from", "undated.json"],
            &["update", "--from", "dangling.json"],
            &["update", "--from", "twice.json", "--json"],
        ]
    ));
    assert_eq!(desk.read("data/catalogue.json"), before);
    // A name of the configuration must not lose its model.
    desk.write("server.toml", "[models.names]\nmy = { target = 'claude-fable-9' }\n");
    desk.write("other.json", &catalogue(&[row("other", "2026-11-10", "1", "")], "{}"));
    let seen = models(&desk, &[&["update", "--from", "other.json"]]);
    assert!(
        seen.contains("`my` of your configuration stands for `claude-fable-9`, which would be gone"),
        "{seen}"
    );
    assert_eq!(desk.read("data/catalogue.json"), before);
}
