//! `prompt`: a question for a model. One with tools is [`super::worker`]'s.

use manifest::model::PromptStage;

use super::ask::{Asked, about, ask};
use super::{At, Made, Trouble, attachments};

/// Asks, and hands on the answer.
pub(super) async fn run(stage: &PromptStage, at: &At<'_>) -> Made {
    match asked(stage, at).await {
        Ok(asked) => ask(stage, asked, at).await,
        Err(trouble) => trouble.into(),
    }
}

/// What is asked.
pub(super) async fn asked(stage: &PromptStage, at: &At<'_>) -> Result<Asked, Trouble> {
    let input = at.text(stage.input.as_ref())?.map(|(text, _)| text);
    let prompt = match at.text(stage.prompt.as_ref())? {
        Some((prompt, _)) => about(&prompt, input.as_deref()),
        None => input.unwrap_or_default(),
    };
    let system = at.text(stage.system.as_ref())?.map(|(text, _)| text);
    let attached = attachments::read(&stage.attachments, &at.run.workspace.tip().await, at).await?;
    Ok(Asked { system, prompt, pictures: Vec::new() }.with(attached))
}
