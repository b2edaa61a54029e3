//! `hybrid`: a script, then a model on what came of it. The model is asked also when the script
//! failed, that being the point; a script that failed still makes the stage fail.

use manifest::model::HybridStage;
use ports::sandbox::JailEnd;

use super::ask::{Asked, about, ask};
use super::jail::Ran;
use super::script;
use super::{At, Made, Trouble};

/// How much of each stream a model is shown, bytes: the end, where the result stands.
const SHOWN: usize = 6 << 10;

/// How much of the script itself a model is shown, bytes.
const LONGEST_SCRIPT: usize = 1 << 10;

const ANALYZE_FAILURES: &str = include_str!("roles/analyze_failures.md");
const REVIEWER: &str = include_str!("roles/reviewer.md");
const SUMMARIZER: &str = include_str!("roles/summarizer.md");

/// Runs the script, asks about it, and hands on the answer.
pub(super) async fn run(stage: &HybridStage, at: &At<'_>) -> Made {
    let ran = match script::execute(&stage.script, at).await {
        Ok(ran) => ran,
        Err(trouble) => return trouble.into(),
    };
    let script_trouble = ran.trouble(at);
    let mut made = match question(stage, &ran, at) {
        Ok(_) if ran.end == JailEnd::Cancelled => Made::default(),
        Ok(asked) => ask(&stage.question, asked, at).await,
        Err(trouble) => trouble.into(),
    };
    made.usage.add(ran.usage);
    made.trouble = script_trouble.or(made.trouble);
    made.work = ran.work;
    made
}

fn question(stage: &HybridStage, ran: &Ran, at: &At<'_>) -> Result<Asked, Trouble> {
    let own = at.text(stage.question.prompt.as_ref())?.map(|(text, _)| text);
    let input = at.text(stage.question.input.as_ref())?.map(|(text, _)| text);
    let question = about(own.as_deref().unwrap_or("What came of this command?"), input.as_deref());
    let how = match &ran.end {
        JailEnd::Exited(status) => format!("It exited with status {status}."),
        JailEnd::TimedOut => "It took too long and was ended.".to_owned(),
        JailEnd::OutOfMemory => "It used too much memory and was ended.".to_owned(),
        other => format!("It was ended: {other:?}."),
    };
    let shown = format!(
        "$ {}\n\n{how}\n\nstandard output:\n{}\n\nstandard error:\n{}",
        head(stage.script.script.trim()),
        tail(&ran.stdout),
        tail(&ran.stderr)
    );
    let system = match at.text(stage.question.system.as_ref())? {
        Some((own, _)) => format!("{}\n\n{own}", role(&stage.role)),
        None => role(&stage.role).to_owned(),
    };
    Ok(Asked { system: Some(system), prompt: about(&question, Some(&shown)) })
}

/// The words for a role; a role in free words is its own.
fn role(name: &str) -> &str {
    match name {
        "analyze_failures" => ANALYZE_FAILURES,
        "reviewer" => REVIEWER,
        "summarizer" => SUMMARIZER,
        words => words,
    }
}

/// The beginning of a script: enough to know what was run.
fn head(script: &str) -> &str {
    &script[..script.floor_char_boundary(LONGEST_SCRIPT)]
}

/// The end of a text, whole lines where that is possible.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let cut = text.ceil_char_boundary(text.len() - SHOWN);
    let rest = &text[cut..];
    let rest = rest.split_once('\n').map_or(rest, |(_, whole)| whole);
    format!("… {} bytes before are left out\n{rest}", text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_shown_from_its_end() {
        let text = (0..2_000).map(|n| format!("line {n}\n")).collect::<String>();
        let shown = tail(text.as_bytes());
        assert!(shown.len() < SHOWN + 64);
        assert!(shown.ends_with("line 1999"));
        assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with("line ")), "{shown}");
    }
}
