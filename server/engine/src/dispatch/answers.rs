//! What the server says in comments by itself: answers to commands, and what a pull request waits for.
//!
//! Nothing said here is a command when it is read back: commands stand in code. What others wrote stands in code
//! too, or is made harmless.

use std::fmt::Write as _;
use std::time::Duration;

use domain::command::VERBS;
use domain::effect::{Act, CommentTarget, Effect, EffectKind};
use domain::event::Event;
use domain::name::DaemonId;
use domain::revision::Pause;
use domain::run::Run;
use domain::suggest::{code, is_unseen, one_of};
use domain::time::Timestamp;
use ports::store::events::MatchRecord;

use crate::dispatch::subject::{Pull, Scene};
use crate::estimate::{Basis, Estimate};
use crate::report::span;

/// An answer among others, with what it is to.
pub(crate) fn to(command: &str, answer: &str) -> String {
    let gap = if answer.contains('\n') { "\n\n" } else { " " };
    format!("{}:{gap}{answer}", code(command))
}

/// What somebody reads who may not command here. It says neither what there is nor who may.
pub(crate) const fn refused() -> &'static str {
    "Commands here are for people who work on this repository. This is said once."
}

/// What there is to say.
pub(crate) fn help(scene: &Scene<'_>, words: &[String]) -> String {
    let prefix = &scene.world.settings.prefix;
    let mut text = "A command is a whole line of a comment:\n\n".to_owned();
    let mut row = |usage: String, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- `{usage}`: {what}");
    };
    for (verb, usage) in VERBS {
        row(format!("{prefix} {usage}"), meaning(verb));
    }
    for word in words {
        row(format!("/{word} [input=value …]"), "start the daemons of this word");
    }
    text.push_str("\nValues with spaces stand in quotation marks. At most five commands a comment.");
    text
}

fn meaning(verb: &str) -> &'static str {
    match verb {
        "run" => "start a daemon",
        "retry" => "start a run again, the newest that has ended",
        "cancel" => "end what runs here, or some of it",
        "approve" => "let daemons work on a stranger's pull request, at just this commit",
        "pause" => "let a daemon's triggers rest",
        "resume" => "let a daemon answer to its triggers again",
        "status" => "what ran and runs here",
        "why" => "which daemons answered to what happened here, which not, and why",
        "estimate" => "what a run would cost",
        _ => "this list",
    }
}

/// A run waits its turn.
pub(crate) fn queued(run: &Run, place: u32) -> String {
    format!("`{}` is queued, {} in line (`{}`).", run.daemon, ordinal(place), run.id)
}

/// A run does not wait its turn.
pub(crate) fn full(run: &Run, limit: u32) -> String {
    format!("`{}` does not run: {limit} of its group are at it already, and it does not queue.", run.daemon)
}

fn ordinal(place: u32) -> String {
    match place {
        0 | 1 => "next".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        n if !(11..=13).contains(&(n % 100)) && (1..=3).contains(&(n % 10)) => {
            format!("{n}{}", ["st", "nd", "rd"][n as usize % 10 - 1])
        }
        n => format!("{n}th"),
    }
}

/// What ran and runs in a thread.
pub(crate) fn status(runs: &[Run], most: usize, pauses: &[Pause], now: Timestamp) -> String {
    let mut text = String::new();
    if runs.is_empty() {
        text.push_str("Nothing has run here.\n");
    }
    for run in runs.iter().take(most) {
        let status = run.state.status().as_str().replace('_', " ");
        let _ = writeln!(text, "- `{}` {status}, {} (`{}`)", run.daemon, ago(run.created_at, now), run.id);
    }
    if runs.len() > most {
        let _ = writeln!(text, "- … and {} more", runs.len() - most);
    }
    for pause in pauses {
        let (daemon, branch, by) = (&pause.daemon, &pause.branch, tame(&pause.by));
        let _ = writeln!(text, "\n`{daemon}` rests on `{branch}`: {by} paused it {}.", ago(pause.at, now));
    }
    text.trim_end().to_owned()
}

/// What was decided about what happened in a thread.
pub(crate) fn why(events: &[(Event, Vec<MatchRecord>)], daemon: Option<&DaemonId>, now: Timestamp) -> String {
    if events.is_empty() {
        return match daemon {
            None => "No daemon waits for anything that happened here.".to_owned(),
            Some(daemon) => format!("`{daemon}` waits for nothing that happened here."),
        };
    }
    let mut text = String::new();
    for (event, matches) in events {
        let action = event.action.as_deref().map(|action| format!(" {}", tame(action))).unwrap_or_default();
        let kind = event.kind.as_str().replace('_', " ");
        let (by, when) = (tame(&event.actor.name), ago(event.occurred_at, now));
        let _ = writeln!(text, "**{kind}{action}** by {by}, {when}:\n");
        for record in matches {
            let run = record.run.map(|run| format!(" (`{run}`)")).unwrap_or_default();
            let verdict = if record.run.is_some() { "ran" } else { "did not run" };
            let _ = writeln!(text, "- `{}` {verdict}: {}{run}", record.daemon, tame(&record.reason));
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// What a run will probably cost.
pub(crate) fn estimate(daemon: &DaemonId, estimate: &Estimate) -> String {
    let mut text = match &estimate.cost {
        Some(cost) => {
            format!("A run of `{daemon}` usually costs {}, nine of ten at most {}.", cost.usual, cost.high)
        }
        None => format!("What a run of `{daemon}` costs cannot be told."),
    };
    if let Some(time) = &estimate.time {
        let _ = write!(text, " It takes {}, nine of ten at most {}.", span(time.usual), span(time.high));
    }
    if let Some(limit) = estimate.limit {
        let _ = write!(text, " It may cost {limit} at most.");
    }
    let basis = match estimate.basis {
        Basis::Runs(1) => "one run of this version".to_owned(),
        Basis::Runs(count) => format!("{count} runs of this version"),
        Basis::OlderRuns(1) => "one run of an older version".to_owned(),
        Basis::OlderRuns(count) => format!("{count} runs of older versions"),
        Basis::Sizes => "the sizes of what its stages ask".to_owned(),
    };
    let _ = write!(text, "\n\nThat rests on {basis}; how sure it is: {}.", estimate.confidence.as_str());
    for note in &estimate.notes {
        let _ = write!(text, "\n- {}", tame(note));
    }
    text
}

/// A stranger's pull request waits for somebody to let daemons work on it; said in one place, whatever comes.
pub(crate) fn asks_approval(scene: &Scene<'_>, pull: &Pull, daemons: &[DaemonId]) -> Effect {
    let head = &pull.subject.commit.as_str()[..12];
    let (prefix, names) = (&scene.world.settings.prefix, one_of(daemons.iter().map(DaemonId::as_str)));
    let names = names.replace(" or ", " and ");
    let waits = if daemons.len() == 1 { "waits" } else { "wait" };
    let body = format!(
        "This pull request is not by a member, so {names} {waits}. Whoever may write here can look at `{head}` and let \
         the work begin on just that, without secrets and without the right to write: `{prefix} approve {head}`"
    );
    about_approval(scene, pull, body)
}

/// The same place, once somebody has approved.
pub(crate) fn approved(scene: &Scene<'_>, pull: &Pull) -> Effect {
    let (head, by) = (&pull.subject.commit.as_str()[..12], tame(&scene.event.actor.name));
    about_approval(
        scene,
        pull,
        format!("`{head}` was approved by {by}. A newer commit needs approval again."),
    )
}

fn about_approval(scene: &Scene<'_>, pull: &Pull, body: String) -> Effect {
    let number = pull.subject.number;
    let target = CommentTarget::Thread { number };
    let kind = EffectKind::AddComment { target, body, sticky: true };
    scene.wish(Act::Answer, format!("approval/{number}"), kind)
}

/// How long ago something was.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let since = now.since(at);
    match since.as_secs() {
        0..60 => "just now".to_owned(),
        60..7_200 => format!("{} min ago", since.as_secs() / 60),
        7_200..172_800 => format!("{} h ago", since.as_secs() / 3_600),
        _ => format!("{} days ago", since.as_secs() / Duration::from_secs(86_400).as_secs()),
    }
}

/// Text of others outside code: one line, that calls nobody and holds no HTML.
pub(crate) fn tame(text: &str) -> String {
    let plain = text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect::<String>();
    plain.replace('@', "@\u{200b}").replace('<', "&lt;").replace("](", "]\u{200b}(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_line_has_its_word() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 101, 111].map(ordinal).into();
        assert_eq!(
            said,
            [
                "next", "second", "third", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st",
                "111th"
            ]
        );
    }

    #[test]
    fn text_of_others_calls_nobody() {
        assert_eq!(tame("@all <b>\n[x](y)"), "@\u{200b}all &lt;b> [x]\u{200b}(y)");
    }
}
