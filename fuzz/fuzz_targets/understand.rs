//! Any body of any webhook of any forge is understood, or ignored with a reason.
#![no_main]

use domain::time::Timestamp;
use libfuzzer_sys::fuzz_target;
use ports::forge::Understood;

/// The names that the forges have; none minds those of the others.
const NAMES: [&str; 18] = [
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
    "pull_request_approved",
    "action_run_failure",
    "workflow_run",
    "push",
    "merge_request",
    "issue",
    "note",
    "pipeline",
];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let forge = "forge".parse().unwrap();
    let (own, app, at) = (Some(1), Some("spellbook"), Timestamp::EPOCH);
    let name = NAMES[usize::from(*first) % NAMES.len()];
    let github = forge_github::Reader { forge: &forge, web_url: "https://github.com", own, app };
    check(github.understand(name, body, at));
    check(forge_forgejo::Reader { forge: &forge, own }.understand(name, body, at));
    check(forge_gitlab::Reader { forge: &forge, own }.understand(name, body, at));
});

fn check(understood: Understood) {
    match understood {
        Understood::Ignored(reason) => assert!(!reason.is_empty()),
        Understood::About { place, facts, .. } => {
            assert!(place.path.contains('/'));
            assert!(facts.iter().all(|fact| !fact.key.is_empty()));
        }
        Understood::Installed { .. } => {}
    }
}
