use proptest::prelude::*;

use super::*;

const RUN: &str = "run_018f0000000070008000000000000001";

/// What a comment asks for, a line each.
fn read_by(comment: &str) -> Vec<Line> {
    let daemons: Vec<DaemonId> = ["review", "fix-tests"].map(|id| id.parse().unwrap()).into();
    let words = ["review".to_owned()];
    read(
        comment,
        &Language { prefix: "/spellbook", bot: Some("Spellbook-App"), daemons: &daemons, words: &words },
    )
}

fn check(comment: &str, expect: &[&str]) {
    let shown: Vec<String> = read_by(comment)
        .into_iter()
        .map(|line| match line.command {
            Ok(command) => format!("{command:?}"),
            Err(mistake) => mistake.to_string(),
        })
        .collect();
    assert_eq!(shown, expect, "{comment:?}");
}

const HELP: &[&str] = &["Help"];
const NOTHING: &[&str] = &[];

#[test]
fn a_command_is_a_whole_line() {
    check("/spellbook help", HELP);
    check("Hello.\n/spellbook help\nBye.", HELP);
    check("Hello.\r\n/spellbook help\r\nBye.", HELP);
    check("Hello.\r/spellbook help\rBye.", HELP);
    check("   /spellbook help  ", HELP);
    check("/spellbook help\\\nmore", HELP);
    check("/spellbook", HELP);
    check("/Spellbook HELP", HELP);
    check("@spellbook-app help", HELP);
    check("@Spellbook-App: help", HELP);
    check("please /spellbook help", NOTHING);
    check("@other help", NOTHING);
    check("/spellbookhelp", NOTHING);
    check("/help", NOTHING);
    check("", NOTHING);
}

#[test]
fn each_verb_has_its_arguments() {
    check("/spellbook run review", &[r#"Run { daemon: DaemonId("review"), given: {} }"#]);
    check(
        r#"/spellbook run review depth=thorough note="a \"b\" c" other='it"s' empty= eq=a=b"#,
        &[concat!(
            r#"Run { daemon: DaemonId("review"), given: {"depth": String("thorough"), "#,
            r#""note": String("a \"b\" c"), "other": String("it\"s"), "empty": String(""), "eq": String("a=b")} }"#
        )],
    );
    check(
        "/spellbook run review a=“b c”",
        &[r#"Run { daemon: DaemonId("review"), given: {"a": String("b c")} }"#],
    );
    check("/review", &[r#"Own { word: "review", given: {} }"#]);
    check("/Review a=don't", &[r#"Own { word: "review", given: {"a": String("don't")} }"#]);
    check("/spellbook retry", &["Retry { run: None }"]);
    check(&format!("/spellbook retry {RUN}"), &[&format!("Retry {{ run: Some({RUN}) }}")]);
    check("/spellbook cancel review", &[r#"Cancel { what: Some(Daemon(DaemonId("review"))) }"#]);
    check(&format!("/spellbook cancel {RUN}"), &[&format!("Cancel {{ what: Some(Run({RUN})) }}")]);
    check("/spellbook approve ABCDEF1", &[r#"Approve { commit: "abcdef1" }"#]);
    check("/spellbook pause review", &[r#"Pause { daemon: DaemonId("review") }"#]);
    check("/spellbook resume review", &[r#"Resume { daemon: DaemonId("review") }"#]);
    check("/spellbook status\n\n/spellbook why", &["Status", "Why { daemon: None }"]);
    check("/spellbook estimate review", &[r#"Estimate { daemon: DaemonId("review"), given: {} }"#]);
}

#[test]
fn a_mistake_says_what_was_meant() {
    check("/spellbook rnu review", &["There is no command `rnu`; did you mean `run`?"]);
    check("/spellbook review", &["There is no command `review`; did you mean `run review`?"]);
    check("/spellbook explode", &["There is no command `explode`."]);
    check("/spellbook run", &["Something is missing: it is written `run ID [input=value …]`."]);
    check("/spellbook approve", &["Something is missing: it is written `approve SHA`."]);
    check("/spellbook run reveiw", &["There is no daemon `reveiw`; did you mean `review`?"]);
    check("/spellbook run x", &["There is no daemon `x`; there is `review` or `fix-tests`."]);
    check("/spellbook retry run_7", &["`run_7` is not the id of a run; they begin with `run_`."]);
    check(
        "/spellbook approve abcdef",
        &["`abcdef` is not a commit: give at least the first seven digits of its id."],
    );
    check(
        "/spellbook approve HEAD~1xyz",
        &["`HEAD~1xyz` is not a commit: give at least the first seven digits of its id."],
    );
    check("/review please", &["`please` is not of the form `input=value`; quote a value that has spaces."]);
    check("/review =x", &["`=x` is not of the form `input=value`; quote a value that has spaces."]);
    check("/review a=1 a=2", &["The input `a` is given twice."]);
    check("/spellbook status now", &["`now` is too much: it is written `status`."]);
    check("/review a=\"b", &["A quotation mark is opened and not closed."]);
    check(
        "/spellbook run review a=`b`",
        &["It is not plain text to its end; write it without code, emphasis and links."],
    );
    let unseen = "It holds characters that cannot be seen; type it anew.";
    check("/spellbook run re\u{200b}view", &[unseen]);
    check("/spellbook run review a=\u{202e}gnp", &[unseen]);
    check(
        "/spellbook `x`y",
        &["It is not plain text to its end; write it without code, emphasis and links."],
    );
}

#[test]
fn nothing_of_others_ends_the_code_that_it_stands_in() {
    let text = Mistake::Verb { found: "a`b\u{202e}`@all".to_owned(), near: None }.to_string();
    assert_eq!(text, "There is no command `a'b\\u{202e}'@all`.");
}

#[test]
fn talk_about_commands_is_none() {
    for comment in [
        "> /spellbook help",
        "> hello\n/spellbook help",
        "> > /spellbook help",
        "> [!NOTE]\n> /spellbook help",
        "`/spellbook help`",
        "    /spellbook help",
        "\t/spellbook help",
        "```\n/spellbook help\n```",
        "```\n/spellbook help",
        "~~~~\n```\n/spellbook help\n```",
        "# /spellbook help",
        "/spellbook help\n===",
        "- /spellbook help",
        "- a\n\n  /spellbook help",
        "1. /spellbook help",
        "- [ ] /spellbook help",
        "*/spellbook help*",
        "*a\n/spellbook help*",
        "**/spellbook help**",
        "~~/spellbook help~~",
        "~~a\n/spellbook help~~",
        "[/spellbook help](https://example.com)",
        "[a\n/spellbook help](https://example.com)",
        "![/spellbook help](x.png)",
        "[a]: /spellbook \"help\"",
        "<!-- \n/spellbook help\n-->",
        "<!-- a\n\n/spellbook help\n-->",
        "<div>\n/spellbook help\n</div>",
        "<b>/spellbook help</b>",
        "a <b title=\"\n/spellbook help\">",
        "a `b\n/spellbook help`",
        "|a|\n|-|\n|/spellbook help|",
        "[^1]: /spellbook help\n\n[^1]",
        "\\/spellbook help",
        "&#47;spellbook help",
        "\u{200b}/spellbook help",
        "\u{202e}/spellbook help",
        "∕spellbook help",
        "／spellbook help",
        "/spell\u{200b}book help",
        "/ѕpellbook help",
        "https://example.com/spellbook help",
        "@spellbook-app-evil help",
    ] {
        check(comment, NOTHING);
    }
}

#[test]
fn a_comment_holds_so_many_commands_and_no_more() {
    let many = "/spellbook help\n".repeat(9);
    let expect: Vec<&str> = std::iter::repeat_n("Help", MOST).collect();
    let expect = [expect.as_slice(), &["Only the first 5 commands of a comment are taken."]].concat();
    check(&many, &expect);
}

#[test]
fn a_comment_of_any_size_is_read() {
    for part in ["> ", "- ", "[", "*a ", "`", "<", "![", "&", "\\", "/spellbook ", "\"", "|-\n", "```\n> "] {
        read_by(&part.repeat((64 << 10) / part.len()));
    }
    check(&format!("{}\n\n/spellbook help", "a".repeat(64 << 10)), HELP);
    check(&format!("{}\n\n/spellbook help", "a".repeat(LONGEST)), NOTHING);
}

proptest! {
    /// Whatever stands in a comment, reading it ends well, and what is read stands there as a line.
    #[test]
    fn any_text_is_read(text in "(/spellbook|@spellbook-app|/review|run|review|[ \\t\\r\\n>`~*_#|=\"'\\[\\]()<!&;-]|\\PC){0,60}") {
        for line in read_by(&text) {
            prop_assert!(text.lines().flat_map(|l| l.split('\r')).any(|l| l.trim() == line.text) || line.text.is_empty());
            if let Err(mistake) = line.command {
                prop_assert!(!mistake.to_string().is_empty());
            }
        }
    }

    /// What one person quotes, another does not command.
    #[test]
    fn a_quote_commands_nothing(text in "(/spellbook help|/review|[a-z `*_#>-]|\\n){0,40}") {
        let quoted: String = text.split('\n').map(|line| format!("> {line}\n")).collect();
        prop_assert_eq!(read_by(&quoted), vec![]);
    }

    /// Nor what stands in a fence, closed or not, of a length that nothing inside ends.
    #[test]
    fn a_fence_commands_nothing(text in "(/spellbook help|/review|[a-z `*_#>-]|\\n){0,40}", end in "(\\n`{50})?") {
        prop_assert_eq!(read_by(&format!("{}\n{text}{end}", "`".repeat(50))), vec![]);
    }
}
