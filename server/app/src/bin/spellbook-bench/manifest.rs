//! Validation of many daemons by the program, against `check-jsonschema` with the published schema.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use spellbook::tools;
use tokio::time::Instant;

use crate::figure::{Figure, Goal, median};

/// Daemons of one validation.
const DAEMONS: usize = 1_000;
/// Validations by each.
const ROUNDS: usize = 3;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let peer = tools::variable("SPELLBOOK_CHECK_JSONSCHEMA")
        .context("SPELLBOOK_CHECK_JSONSCHEMA is not set; use ./x bench")?;
    let home = tempfile::tempdir()?;
    let mut files = Vec::new();
    for number in 0..DAEMONS {
        let directory = home.path().join(format!("daemons/daemon-{number}"));
        std::fs::create_dir_all(&directory)?;
        let file = directory.join("daemon.yaml");
        std::fs::write(&file, daemon(number))?;
        files.push(file);
    }
    let schema = home.path().join("daemon.v1.json");
    std::fs::write(&schema, manifest::schema::to_text(&manifest::schema::daemon()))?;
    let own = std::env::current_exe()?.with_file_name("spellbook");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(Path::new(&own), &["validate".as_ref(), home.path().as_os_str()])?);
        let mut arguments = vec!["--schemafile".as_ref(), schema.as_os_str()];
        arguments.extend(files.iter().map(|file| file.as_os_str()));
        theirs.push(timed(Path::new(&peer), &arguments)?);
    }
    Ok(vec![Figure {
        name: "manifest.vs_check_jsonschema",
        value: median(theirs) / median(ours),
        unit: "ratio",
        goal: Goal::AtLeast(20.0),
        against: "check-jsonschema, 1,000 daemons",
    }])
}

fn daemon(number: usize) -> String {
    format!(
        "daemon:\n  name: Daemon {number}\n  version: 1.0.0\n  license: MIT\n  inputs:\n    - {{ name: depth, type: enum, options: [quick, thorough], default: quick }}\n  on:\n    push: {{ branches: [main] }}\n  limits: {{ timeout: 5m, memory: 512MiB }}\n  stages:\n    - name: Count\n      type: script\n      script: wc -l *\n      output: lines\n    - name: Judge\n      type: rules\n      rules:\n        - {{ when: \"len(lines) > 0\", then: {{ verdict: some }} }}\n        - {{ then: {{ verdict: none }} }}\n      output: verdict\n  outcomes:\n    - add-comment: {{ body: \"${{verdict.verdict}}\" }}\n"
    )
}

#[expect(clippy::disallowed_methods, reason = "whole programs are compared")]
fn timed(program: &Path, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stdout));
    Ok(begun.elapsed())
}
