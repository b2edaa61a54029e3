//! What came of the tests as JUnit XML, which continuous integration reads: one suite a daemon
//! (`testmoapp/junitxml` describes what the readers have in common).

use std::fmt::Write;

use super::report::{Report, Verdict};

/// The document.
pub(super) fn document(report: &Report) -> String {
    let seconds = |verdicts: &[&Verdict]| -> f64 { verdicts.iter().map(|one| one.took.as_secs_f64()).sum() };
    let failures = |verdicts: &[&Verdict]| {
        verdicts.iter().filter(|one| !one.all_faults(report.strict).is_empty()).count()
    };
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all: Vec<&Verdict> = report.verdicts.iter().collect();
    let mut line = |line: String| text.push_str(&line);
    line(format!(
        "<testsuites name=\"spellbook\" tests=\"{}\" failures=\"{}\" time=\"{:.3}\">\n",
        all.len(),
        failures(&all),
        seconds(&all)
    ));
    for suite in report.verdicts.chunk_by(|one, other| one.daemon == other.daemon) {
        let suite: Vec<&Verdict> = suite.iter().collect();
        let name = suite.first().map(|verdict| attribute(&verdict.daemon)).unwrap_or_default();
        line(format!(
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">\n",
            suite.len(),
            failures(&suite),
            seconds(&suite)
        ));
        for verdict in suite {
            line(case(verdict, report.strict));
        }
        line("  </testsuite>\n".to_owned());
    }
    line("</testsuites>\n".to_owned());
    text
}

fn case(verdict: &Verdict, strict: bool) -> String {
    let (daemon, test, file) =
        (attribute(&verdict.daemon), attribute(&verdict.test), attribute(&verdict.file));
    let time = verdict.took.as_secs_f64();
    let mut text =
        format!("    <testcase classname=\"{daemon}\" name=\"{test}\" file=\"{file}\" time=\"{time:.3}\"");
    let faults = verdict.all_faults(strict);
    if faults.is_empty() {
        return text + "/>\n";
    }
    text.push_str(">\n");
    // Many readers take one failure a test; the first says why, its text has all of them.
    let first = &faults[0];
    let whole: Vec<String> = faults
        .iter()
        .map(|fault| {
            let more = [fault.detail.as_deref(), fault.help.as_deref()];
            let parts = std::iter::once(fault.message.as_str()).chain(more.into_iter().flatten());
            parts.map(str::trim_end).collect::<Vec<_>>().join("\n")
        })
        .collect();
    let (code, message) = (attribute(&first.code), attribute(&first.message));
    let whole = escaped(&whole.join("\n\n"));
    // Writing to a text cannot fail.
    let _ = writeln!(text, "      <failure type=\"{code}\" message=\"{message}\">{whole}</failure>");
    text + "    </testcase>\n"
}

/// An attribute keeps its lines only when they are spelt out.
fn attribute(text: &str) -> String {
    escaped(text).replace('\n', "&#10;")
}

/// Text in XML 1.0: what it cannot hold at all becomes a replacement character.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\t' | '\r' => format!("&#{};", c as u32),
            c if c != '\n' && c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => "\u{fffd}".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Fault;
    use super::*;

    #[test]
    fn a_report_is_well_formed_whatever_is_in_it() {
        let fault = Fault {
            detail: Some("-<b>\n+\"x\" & ]]>\u{1b}[31m".to_owned()),
            ..Fault::new("output", "`a` is 'b'\u{0}".to_owned())
        };
        let verdict = |daemon: &str, test: &str, faults: Vec<Fault>| Verdict {
            daemon: daemon.to_owned(),
            test: test.to_owned(),
            file: format!("daemons/{daemon}/tests/{test}.yaml"),
            faults,
            took: Duration::from_millis(1_250),
            ..Verdict::default()
        };
        let verdicts = vec![
            verdict("one", "a", Vec::new()),
            verdict("one", "b", vec![fault]),
            verdict("two", "c", Vec::new()),
        ];
        let report = Report { verdicts, untested: Vec::new(), strict: false };
        insta::assert_snapshot!(document(&report));
    }
}
