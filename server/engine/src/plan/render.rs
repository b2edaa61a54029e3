//! A plan in words: as Markdown under a pull request, as text on a terminal. What was written by those who
//! made the change stands as code only.

use std::fmt::Write as _;

use domain::money::NanoUsd;
use domain::neutral::{Leave, neutral};

use super::changes::code;
use super::{Bearing, Change, Cost, DaemonPlan, Fate, Plan};
use crate::estimate::Basis;

/// So many daemons are described; of more the names are said.
const MOST_DAEMONS: usize = 20;
/// So many differences of a daemon are said.
const MOST_CHANGES: usize = 60;
/// The longest that they are together, bytes.
const LONGEST_CHANGES: usize = 12_000;
/// When a plan is this long, bytes, it describes no further daemon: forges take no longer texts.
const LONGEST: usize = 24_000;
/// The longest code frames of one daemon, bytes.
const LONGEST_PROBLEMS: usize = 4_000;

/// The plan as Markdown, harmless wherever it is shown.
pub fn markdown(plan: &Plan) -> String {
    let mut text = format!("### Plan\n\n{}\n", opening(plan));
    if !plan.problems.is_empty() {
        let _ = write!(text, "\n`spellbook.yaml` has problems:\n\n{}\n", fenced(&plan.problems));
    }
    let mut described = 0;
    for daemon in plan.daemons.iter().take(MOST_DAEMONS) {
        if text.len() > LONGEST {
            break;
        }
        described += 1;
        let _ = write!(text, "\n#### {}: {}\n", code(&daemon.name), fate(daemon));
        text.push_str(if daemon.changes.is_empty() { "" } else { "\n" });
        for change in told(daemon) {
            let heading = change.heading.as_str();
            let _ = match (change.bearing, change.bearing.as_str()) {
                (Bearing::Wider, Some(word)) => writeln!(text, "- ⚠ **{heading}, {word}:** {}", change.text),
                (_, Some(word)) => writeln!(text, "- **{heading}, {word}:** {}", change.text),
                (_, None) => writeln!(text, "- **{heading}:** {}", change.text),
            };
        }
        for sentence in closing(daemon) {
            let _ = write!(text, "\n{sentence}\n");
        }
        if !daemon.problems.is_empty() {
            let _ = write!(text, "\n{}\n", fenced(&daemon.problems));
        }
    }
    if let Some(rest) = rest(plan, described) {
        let _ = write!(text, "\n{rest}\n");
    }
    neutral(&text, &Leave::default())
}

/// The plan as text for a terminal; code frames are left out, as they are shown by themselves.
pub fn text(plan: &Plan) -> String {
    let mut text = format!("{}\n", opening(plan).replace("**", "").replace("⚠ ", ""));
    for daemon in plan.daemons.iter().take(MOST_DAEMONS) {
        let _ = write!(text, "\n{}: {}\n", shown(&daemon.name), fate(daemon).replace("⚠ ", ""));
        for change in told(daemon) {
            let sign = match change.bearing {
                Bearing::Wider => '!',
                Bearing::Narrower | Bearing::Neither => ' ',
            };
            let (word, heading) = (change.bearing.as_str().unwrap_or_default(), change.heading.as_str());
            let _ = writeln!(text, "  {sign} {word:8}  {heading:11}  {}", change.text);
        }
        for sentence in closing(daemon) {
            let _ = writeln!(text, "    {sentence}");
        }
    }
    if let Some(rest) = rest(plan, MOST_DAEMONS) {
        let _ = write!(text, "\n{rest}\n");
    }
    text
}

/// What is said of the whole.
fn opening(plan: &Plan) -> String {
    let wider: Vec<String> =
        plan.daemons.iter().filter(|daemon| daemon.is_wider()).map(|daemon| code(&daemon.name)).collect();
    let broken = plan.daemons.iter().filter(|daemon| daemon.fate == Fate::Invalid).count();
    let mut text = match plan.daemons.len() {
        0 => "This changes no daemon.".to_owned(),
        1 => "This changes one daemon.".to_owned(),
        count => format!("This changes {count} daemons."),
    };
    match wider.len() {
        0 => {}
        1..=5 => {
            let _ = write!(text, " **⚠ {} may do more than before.**", wider.join(", "));
        }
        count => {
            let _ = write!(text, " **⚠ {count} of them may do more than before.**");
        }
    }
    match broken {
        0 if plan.is_valid() => {}
        0 => text.push_str(" **The repository's own file is invalid.**"),
        1 => text.push_str(" **One cannot run as it is.**"),
        count => {
            let _ = write!(text, " **{count} cannot run as they are.**");
        }
    }
    text
}

fn fate(daemon: &DaemonPlan) -> String {
    let wider = if daemon.is_wider() { ", ⚠ may do more than before" } else { "" };
    format!("{}{wider}", daemon.fate.as_str())
}

/// The differences that are said. Where there are too many, those by which it may do more come first, so that
/// nobody hides one behind others.
fn told(daemon: &DaemonPlan) -> Vec<&Change> {
    let mut changes: Vec<&Change> = daemon.changes.iter().collect();
    let mut length = 0;
    let long: usize = changes.iter().map(|change| change.text.len()).sum();
    if changes.len() > MOST_CHANGES || long > LONGEST_CHANGES {
        changes.sort_by_key(|change| change.bearing != Bearing::Wider);
    }
    let fits = |change: &&Change| {
        length += change.text.len();
        length <= LONGEST_CHANGES
    };
    changes.into_iter().take(MOST_CHANGES).take_while(fits).collect()
}

/// What is said of a daemon behind its differences.
fn closing(daemon: &DaemonPlan) -> Vec<String> {
    let mut said = Vec::new();
    let left = daemon.changes.len() - told(daemon).len();
    if left > 0 {
        said.push(format!("… and {left} more differences."));
    }
    match daemon.fate {
        Fate::Removed => said.push("It answers to nothing any more; what its runs left stays.".to_owned()),
        Fate::Invalid => {
            said.push("It cannot run as it is; a push of it to a deploy branch is refused.".to_owned());
        }
        Fate::Changed if daemon.changes.is_empty() => {
            said.push(
                "Its files differ; what it may do, when it runs and what it does are the same.".to_owned(),
            );
        }
        Fate::Mended => said.push("It could not run before.".to_owned()),
        Fate::New | Fate::Changed => {}
    }
    said.extend(costs(&daemon.cost));
    said
}

fn costs(cost: &Cost) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(deployed) = &cost.deployed
        && let Some(spread) = deployed.cost
        && (spread.high != NanoUsd::ZERO || deployed.basis != Basis::Sizes)
    {
        let by = match deployed.basis {
            Basis::Runs(1) => "by its one run".to_owned(),
            Basis::Runs(count) => format!("by its last {count} runs"),
            Basis::OlderRuns(count) => format!("by {count} runs of older versions"),
            Basis::Sizes => "by the sizes of what it asks, as it never ran".to_owned(),
        };
        said.push(format!(
            "A run of the deployed version costs {} usually, {} at the ninetieth percentile, {by}.",
            spread.usual, spread.high
        ));
    }
    if let Some(spread) = cost.expected.filter(|spread| spread.high != NanoUsd::ZERO) {
        said.push(format!(
            "A run of this version is expected to cost {} to {}, by the sizes of what it asks.",
            spread.usual, spread.high
        ));
    }
    said
}

/// The names of the daemons that are not described.
fn rest(plan: &Plan, described: usize) -> Option<String> {
    const MOST: usize = 100;
    let rest = plan.daemons.get(described..).filter(|rest| !rest.is_empty())?;
    let name = |daemon: &DaemonPlan| format!("{} ({})", code(&daemon.name), fate(daemon));
    let names = rest.iter().take(MOST).map(name).collect::<Vec<_>>().join(", ");
    let more = rest.len().saturating_sub(MOST);
    Some(if more == 0 { format!("Also: {names}.") } else { format!("Also: {names} and {more} more.") })
}

/// A name on a terminal.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

/// Text that nobody reads as Markdown, cut where it is too long.
fn fenced(text: &str) -> String {
    let mut end = text.len().min(LONGEST_PROBLEMS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "\n…" } else { "" };
    let text = &text[..end];
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}{cut}\n{fence}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::Heading;
    use super::*;

    fn change(bearing: Bearing, text: &str) -> Change {
        Change { heading: Heading::Stages, bearing, text: text.to_owned() }
    }

    #[test]
    fn what_widens_is_hidden_behind_nothing() {
        let mut changes = vec![change(Bearing::Neither, &"x".repeat(1_000)); 100];
        changes.push(change(Bearing::Wider, "it may do everything"));
        let daemon = |name: &str| DaemonPlan::new(name, "", Fate::Changed, changes.clone());
        let plan =
            Plan { daemons: (0..200).map(|at| daemon(&format!("d{at}"))).collect(), ..Plan::default() };
        let text = markdown(&plan);
        assert!(text.len() < 60_000, "{} bytes", text.len());
        assert!(text.contains("- ⚠ **stages, wider:** it may do everything"), "{text}");
        assert!(text.contains("… and 89 more differences."), "{text}");
        assert!(
            text.contains("Also: `d3` (changed, ⚠ may do more than before), ") && text.contains(" more."),
            "{text}"
        );
    }
}
