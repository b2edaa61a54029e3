//! `hybrid`: a script, then a model on what came of it. The model is asked also when the script
//! failed, that being the point; a script that failed still makes the stage fail.

use manifest::model::HybridStage;
use ports::sandbox::JailEnd;

use super::ask::{Asked, about, ask};
use super::excerpt::{head, tail};
use super::jail::Ran;
use super::script;
use super::{At, Made, Trouble, attachments};
use crate::workspace::Work;

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
    let asked = match question(stage, &ran, at) {
        Ok(asked) => attached(asked, stage, ran.work.as_ref(), at).await,
        Err(trouble) => Err(trouble),
    };
    let mut made = match asked {
        Ok(_) if ran.done.end == JailEnd::Cancelled => Made::default(),
        Ok(asked) => ask(&stage.question, asked, at).await,
        Err(trouble) => trouble.into(),
    };
    made.usage.add(ran.done.usage);
    made.trouble = script_trouble.or(made.trouble);
    made.work = ran.work;
    made
}

fn question(stage: &HybridStage, ran: &Ran, at: &At<'_>) -> Result<Asked, Trouble> {
    let own = at.text(stage.question.prompt.as_ref())?.map(|(text, _)| text);
    let input = at.text(stage.question.input.as_ref())?.map(|(text, _)| text);
    let question = about(own.as_deref().unwrap_or("What came of this command?"), input.as_deref());
    let how = match &ran.done.end {
        JailEnd::Exited(status) => format!("It exited with status {status}."),
        JailEnd::TimedOut => "It took too long and was ended.".to_owned(),
        JailEnd::OutOfMemory => "It used too much memory and was ended.".to_owned(),
        other => format!("It was ended: {other:?}."),
    };
    let shown = format!(
        "$ {}\n\n{how}\n\nstandard output:\n{}\n\nstandard error:\n{}",
        head(stage.script.script.trim(), LONGEST_SCRIPT),
        shown(&ran.done.stdout),
        shown(&ran.done.stderr)
    );
    let system = match at.text(stage.question.system.as_ref())? {
        Some((own, _)) => format!("{}\n\n{own}", role(&stage.role)),
        None => role(&stage.role).to_owned(),
    };
    Ok(Asked { system: Some(system), prompt: about(&question, Some(&shown)), pictures: Vec::new() })
}

/// The question with its files, as the script left them.
async fn attached(
    asked: Asked,
    stage: &HybridStage,
    work: Option<&Work>,
    at: &At<'_>,
) -> Result<Asked, Trouble> {
    let commit = match work {
        Some(work) => work.commit().clone(),
        None => at.run.workspace.tip().await,
    };
    Ok(asked.with(attachments::read(&stage.question.attachments, &commit, at).await?))
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

fn shown(bytes: &[u8]) -> String {
    tail(&String::from_utf8_lossy(bytes), SHOWN)
}
