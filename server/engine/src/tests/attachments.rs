//! Files of the workspace that go with a question.

use std::sync::Arc;

use ports::models::{Message, Question};
use ports::picture::PictureKind;
use serde_json::json;
use testkit::ScriptedModels;

use super::house::{Ended, House};

/// What a script made before the question is asked: a text, a picture, a link, a PDF, a large file.
const MAKE: &str = r#"
  stages:
    - name: Make
      script: |
        mkdir a
        printf 'two\n' > a/b.md
        printf '\211PNG\r\n\032\n...' > shot.png
        printf 'GIF89a...' > shot.txt
        ln -s /etc/passwd link
        printf '%%PDF-1.4' > paper.pdf
        head -c 5242881 /dev/zero > large
        printf '["a/b.md","shot.png"]'
      shell: [sh, -c]
      schema: { type: array }
      output: made
"#;

async fn asked(stage: &str) -> (Ended, Vec<Question>) {
    let models = Arc::new(ScriptedModels::saying("I see.").with_names(&["small"]));
    let house = House::asking(&[("test", &format!("{MAKE}    - {stage}\n"))], models.clone()).await;
    (house.ended("test", &json!({})).await, models.questions())
}

#[tokio::test]
async fn texts_and_pictures_go_with_a_question() {
    let (ended, questions) =
        asked("{ name: Look, agent: small, prompt_template: Look., input: x, attachments: [shared.txt, ./a/b.md, shot.png, shot.txt] }").await;
    assert_eq!(ended.to_string(), "succeeded (Make succeeded, Look succeeded)");
    let [Message::User { text, pictures }] = &questions[0].messages[..] else { panic!("{questions:?}") };
    let expect = "Look.\n\n<input>\nx\n</input>\n\n<file path=\"shared.txt\">\none\n</file>\n\n<file path=\"a/b.md\">\ntwo\n</file>";
    assert_eq!(text, expect);
    // What a file is says its content, whatever its name.
    let kinds: Vec<PictureKind> = pictures.iter().map(ports::picture::Picture::kind).collect();
    assert_eq!(kinds, [PictureKind::Png, PictureKind::Gif]);
}

#[tokio::test]
async fn a_list_of_files_may_come_from_a_stage_and_go_to_a_model_with_tools() {
    for stage in [
        "{ name: Look, agent: small, input: x, attachments: [\"${made}\"] }",
        "{ name: Look, agent: small, input: x, tools: [read], attachments: [\"${made}\"] }",
        "{ name: Look, type: hybrid, agent: small, script: say x, attachments: [\"${made}\"] }",
    ] {
        let (ended, questions) = asked(stage).await;
        assert_eq!(ended.to_string(), "succeeded (Make succeeded, Look succeeded)", "{stage}");
        let [Message::User { text, pictures }] = &questions[0].messages[..] else { panic!("{questions:?}") };
        assert!(text.ends_with("<file path=\"a/b.md\">\ntwo\n</file>"), "{text}");
        assert_eq!(pictures.len(), 1, "{stage}");
    }
}

#[tokio::test]
async fn a_hybrid_sees_the_files_that_its_script_left() {
    let (ended, questions) =
        asked("{ name: Look, type: hybrid, agent: small, script: put new.md three, attachments: [new.md] }")
            .await;
    assert_eq!(ended.to_string(), "succeeded (Make succeeded, Look succeeded)");
    let [Message::User { text, .. }] = &questions[0].messages[..] else { panic!("{questions:?}") };
    assert!(text.ends_with("<file path=\"new.md\">\nthree\n</file>"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_attached_is_said() {
    let eleven = format!("[{}]", ["shared.txt"; 11].join(", "));
    for (attachments, code, words) in [
        ("[nowhere.txt]", "attachment_missing", "`nowhere.txt` is no file of the workspace"),
        ("[a]", "attachment_missing", "`a` is no file"),
        ("[link]", "attachment_missing", "`link` is a symbolic link"),
        ("[paper.pdf]", "attachment_unsupported", "`paper.pdf` is neither text nor a picture"),
        ("[large]", "attachment_too_large", "`large` has"),
        ("[\"${made[0]}/../../x\"]", "attachment_invalid", "not a path of a file inside"),
        (&eleven, "attachments_too_many", "11 files"),
    ] {
        let (ended, questions) =
            asked(&format!("{{ name: Look, agent: small, input: x, attachments: {attachments} }}")).await;
        assert!(questions.is_empty(), "{attachments}");
        let failure = format!("{:?}", ended.journal[1].end);
        assert!(failure.contains(words) && failure.contains(code), "{attachments}: {failure}");
    }
}
