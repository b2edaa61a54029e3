//! Any text as a comment: reading it ends well, and quoted it commands nothing.
#![no_main]

use domain::command::{Language, read};
use domain::name::DaemonId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|comment: &str| {
    let daemons: Vec<DaemonId> = vec!["review".parse().expect("an id")];
    let words = vec!["review".to_owned()];
    let language = Language { prefix: "/spellbook", bot: Some("bot"), daemons: &daemons, words: &words };
    for line in read(comment, &language) {
        assert!(line.text.is_empty() || comment.contains(&line.text));
        if let Err(mistake) = line.command {
            assert!(!mistake.to_string().contains('\n'));
        }
    }
    let quoted: String = comment.split(['\n', '\r']).map(|line| format!("> {line}\n")).collect();
    assert_eq!(read(&quoted, &language), []);
});
