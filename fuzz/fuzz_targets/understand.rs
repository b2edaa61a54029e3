//! Any body of any webhook is understood, or ignored with a reason.
#![no_main]

use domain::time::Timestamp;
use forge_github::Reader;
use libfuzzer_sys::fuzz_target;
use ports::forge::Understood;

const NAMES: [&str; 10] = [
    "issue_comment",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "issues",
    "release",
    "check_suite",
    "repository",
    "installation",
    "installation_repositories",
];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let forge = "github".parse().unwrap();
    let reader = Reader { forge: &forge, web_url: "https://github.com", own: Some(1), app: Some("spellbook") };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    match reader.understand(name, body, Timestamp::EPOCH) {
        Understood::Ignored(reason) => assert!(!reason.is_empty()),
        Understood::About { place, facts, .. } => {
            assert!(place.path.contains('/'));
            assert!(facts.iter().all(|fact| !fact.key.is_empty()));
        }
        Understood::Installed { .. } => {}
    }
});
