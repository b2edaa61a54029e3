//! The dashboard in Markdown. Nothing in it changes by itself, as an age would.

use std::fmt::Write as _;

use domain::money::NanoUsd;
use domain::neutral::{Leave, neutral};
use domain::revision::Health;
use domain::run::{Run, RunState};
use domain::suggest::code;

use super::{Board, Daemon, Waiting};
use crate::report::minute;

/// The board, harmless wherever it is shown.
pub(super) fn markdown(board: &Board) -> String {
    let mut text = format!("**{}** Models cost {} this month.\n", opening(board), dollars(board.cost));
    if board.is_away {
        text.push_str(
            "\n⚠ The server cannot fetch this repository: what was pushed lately is not deployed.\n",
        );
    }
    if !board.daemons.is_empty() {
        text.push_str("\n| daemon | health | last run | cost this month |\n| --- | --- | --- | ---: |\n");
    }
    for daemon in &board.daemons {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            name(board, daemon),
            health(daemon),
            daemon.last.as_ref().map_or_else(|| "none yet".to_owned(), last),
            dollars(daemon.cost),
        );
    }
    if let more @ 1.. = board.count.saturating_sub(board.daemons.len()) {
        let _ = write!(text, "\n… and {more} more.\n");
    }
    if !board.waiting.is_empty() {
        text.push_str("\n**Waiting for approval** by somebody who may write:\n\n");
        for (number, waiting) in &board.waiting {
            let _ = writeln!(text, "- {}", pull(*number, waiting, &board.prefix));
        }
    }
    let _ = write!(
        text,
        "\nThis is kept up to date, at most every few minutes; what is written into it by hand is lost. Commands work in \
         a comment below: `{} help`. It ends with `dashboard` in `spellbook.yaml`.\n",
        board.prefix
    );
    let urls = board.waiting.values().filter_map(|waiting| waiting.url.as_deref());
    let hosts = urls.filter_map(|url| url.split('/').nth(2)).map(str::to_owned).collect();
    neutral(&text, &Leave { hosts, thread: None })
}

fn opening(board: &Board) -> String {
    match (board.count, board.degraded) {
        (0, _) => "There are no daemons.".to_owned(),
        (1, 0) => "One daemon, and it is fine.".to_owned(),
        (1, _) => "One daemon, and it needs a look.".to_owned(),
        (count, 0) => format!("{count} daemons, and none needs a look."),
        (count, 1) => format!("One of {count} daemons needs a look."),
        (count, degraded) => format!("{degraded} of {count} daemons need a look."),
    }
}

fn name(board: &Board, daemon: &Daemon) -> String {
    let name = code(daemon.id.as_str());
    if daemon.branch == board.default_branch {
        name
    } else {
        format!("{name} on {}", code(daemon.branch.as_str()).replace('|', "\\|"))
    }
}

fn health(daemon: &Daemon) -> String {
    match (daemon.health, &daemon.pause) {
        (Health::Degraded, _) if daemon.is_invalid => "⚠ Degraded: its manifest is invalid".to_owned(),
        (Health::Degraded, _) => "⚠ Degraded: its last run failed".to_owned(),
        (Health::Suspended, Some(pause)) => {
            format!("Suspended: paused by {} since {}", cell(&pause.by), minute(pause.at))
        }
        (health, _) => health.to_string(),
    }
}

fn last(run: &Run) -> String {
    let word = run.state.status().as_str().replace('_', " ");
    match &run.state {
        RunState::Ended { at, .. } => format!("{word}, {}, `{}`", minute(*at), run.id),
        _ => word,
    }
}

fn pull(number: u64, waiting: &Waiting, prefix: &str) -> String {
    let names = waiting.daemons.iter().map(|daemon| code(daemon.as_str())).collect::<Vec<_>>().join(", ");
    let place = waiting.url.clone().unwrap_or_else(|| format!("pull request {number}"));
    let approval = waiting.commit.as_ref().map_or_else(String::new, |commit| {
        format!(", where `{prefix} approve {}` lets it begin", &commit.as_str()[..12])
    });
    format!("{names} at {place}{approval}")
}

/// Text of others in a cell: code, in which only the bar would end it.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// An amount at a glance, in whole cents.
fn dollars(amount: NanoUsd) -> String {
    let cents = amount.nanos() / NanoUsd::CREDIT.nanos();
    match (amount, cents) {
        (NanoUsd::ZERO, _) => "$0".to_owned(),
        (_, ..1) => "less than $0.01".to_owned(),
        (_, cents) => format!("${}.{:02}", cents / 100, cents % 100),
    }
}
