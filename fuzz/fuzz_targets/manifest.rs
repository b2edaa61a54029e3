//! Any bytes as a daemon's and as a repository's file: an answer, never a panic; formatting keeps the meaning.
#![no_main]

use domain::files::{File, Files};
use domain::limits::Limits;
use libfuzzer_sys::fuzz_target;
use manifest::{DaemonSource, Rules, Style, check_daemon, check_spellbook, format, render, schema};

fuzz_target!(|bytes: &[u8]| {
    let files: Files = [("daemon.yaml", File::Regular(bytes.to_vec()))].into_iter().collect();
    let source = DaemonSource { id: "fuzz", directory: "daemons/fuzz", files: &files };
    let rules = Rules { ceiling: &Limits::CEILING, models: &["gpt-5"], runtimes: &["bash"], spellbook: None, siblings: None };
    let checked = check_daemon(source, &rules);
    assert_eq!(checked.is_valid(), checked.diagnostics.iter().all(|one| !one.is_error()));
    render(&checked.diagnostics, &source, Style::Plain);
    check_spellbook("spellbook.yaml", &File::Regular(bytes.to_vec()), "1.0.0");
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(once) = format::fmt(text)
    {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        assert_eq!(schema::yaml_to_json(&once), schema::yaml_to_json(text));
        assert_eq!(format::fmt(&once).as_ref(), Ok(&once));
    }
});
