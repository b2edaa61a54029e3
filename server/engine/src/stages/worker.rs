//! `agent` with a model in place of a program, and `prompt` with tools: a loop of questions. The model
//! calls tools, they are done in the sandbox, the model is told what came of it, until it calls none; what
//! is different in the workspace then is the stage's commit.

use std::path::PathBuf;

use domain::run::Failure;
use domain::stage::StageUsage;
use domain::value::{Taint, Value};
use manifest::model::{AgentStage, PromptStage, Tool};
use ports::models::{Answer, Message, ModelError, Question};
use serde_json::Value as Json;

use super::ask::{Asked, aloud, choice};
use super::jail;
use super::servers::{self, All, Wanted};
use super::tools::Tools;
use super::{At, Made, Trouble, prompt};
use crate::session::{self, Said, Session, With};
use crate::workspace::{Desk, Work};

const WORKER: &str = include_str!("roles/worker.md");

/// What is said besides where tools are offered that are not ours.
const FOREIGN: &str = include_str!("roles/foreign.md");

/// With so few turns left the model is told at each.
const LAST_TURNS: u32 = 3;
/// How much of a conversation a model is shown, bytes: about a hundred thousand tokens.
const REMEMBERED: usize = 400 << 10;
/// How often a conversation that is too long for its model is shortened by half.
const SHORTENED: u32 = 3;

/// Lets a model work with all tools, or those that the stage names.
pub(super) async fn run(stage: &AgentStage, at: &At<'_>) -> Made {
    let directory = match at.text(stage.working_directory.as_ref()) {
        Ok(None) => Ok(PathBuf::from(".")),
        Ok(Some((text, _))) => jail::inside(&text).map_err(Trouble::from),
        Err(error) => Err(error.into()),
    };
    let (tools, wanted) = if stage.task.tools.is_empty() && stage.task.mcp.is_empty() {
        (&Tool::ALL[..], servers::wanted(&[], All::Yes, at))
    } else {
        (&stage.task.tools[..], servers::wanted(&stage.task.mcp, All::No, at))
    };
    match directory {
        Ok(directory) => work(&stage.task, (tools, wanted), directory, at).await,
        Err(trouble) => trouble.into(),
    }
}

/// Asks a question that a model may use tools for.
pub(super) async fn ask(stage: &PromptStage, at: &At<'_>) -> Made {
    let wanted = servers::wanted(&stage.mcp, All::No, at);
    work(stage, (&stage.tools, wanted), PathBuf::from("."), at).await
}

async fn work<'a>(
    stage: &PromptStage,
    (allowed, wanted): (&[Tool], Wanted<'a>),
    directory: PathBuf,
    at: &At<'a>,
) -> Made {
    let asked = match prompt::asked(stage, at).await {
        Ok(asked) => asked,
        Err(trouble) => return trouble.into(),
    };
    let session = match Session::begin(stage.session.as_ref(), at).await {
        Ok(session) => session,
        Err(trouble) => return trouble.into(),
    };
    let desk = match jail::take(at).await {
        Ok(desk) => desk,
        Err(failure) => return Made::failed(failure),
    };
    let mut usage = StageUsage::default();
    let (said, used) = servers::with(wanted, (&desk, &directory), at, async |servers| {
        let tools = Tools::new(at, (&desk, directory.clone()), allowed, servers);
        let mut talk = Talk::begin(stage, asked, tools.all(), (session, at));
        let said = talk.until_done(&tools, at).await;
        let (servers, used) = tools.end();
        usage.add(used);
        usage.add(talk.usage);
        (said, servers)
    })
    .await;
    usage.add(used);
    made(said, usage, desk, at).await
}

/// What the stage made of what the model said at last, with the commit of what it left.
async fn made(
    said: Result<(Json, Option<Said>), Trouble>,
    usage: StageUsage,
    desk: Desk,
    at: &At<'_>,
) -> Made {
    let (work, unkept) = jail::keep(desk, &usage, &[], at).await;
    let judged = match (said, unkept) {
        (Err(trouble), _) => Err(trouble),
        (Ok(_), Some(failure)) => Err(failure.into()),
        (Ok((json, said)), None) => spoken(json, work.as_ref(), at).await.map(|value| (value, said)),
    };
    let made = Made { usage, work, ..Made::default() };
    match judged {
        Ok((value, said)) => Made { result: Some(value), said, ..made },
        Err(trouble) => Made { trouble: Some(trouble), ..made },
    }
}

/// The last answer as a value, which is never trusted. One that says nothing is good enough for who has
/// changed something.
async fn spoken(json: Json, work: Option<&Work>, at: &At<'_>) -> Result<Value, Trouble> {
    let silent = json.as_str().is_some_and(|text| text.trim().is_empty());
    if silent {
        let changed = match work {
            Some(work) => at.run.workspace.is_changed(at.run.world, at.run.run, work).await?,
            None => false,
        };
        if !changed {
            return Err(Failure::new("agent_idle", "the model changed nothing and said nothing").into());
        }
    }
    Ok(Value { json, taint: Taint::External })
}

/// A conversation under way.
struct Talk {
    question: Question,
    /// Where it is kept, if it is, once it is over.
    session: Option<Session>,
    turns: u32,
    usage: StageUsage,
}

impl Talk {
    fn begin(
        stage: &PromptStage,
        asked: Asked,
        tools: Vec<ports::models::Tool>,
        (session, at): (Session, &At<'_>),
    ) -> Self {
        let foreign = tools.iter().any(|tool| tool.name.contains("__"));
        let mut system = WORKER.to_owned();
        for more in [foreign.then_some(FOREIGN), asked.system.as_deref()].into_iter().flatten() {
            system.push('\n');
            system.push_str(more);
        }
        let mut messages = session.before(With::Tools);
        messages.push(asked.message());
        let question = Question {
            choice: session.staying(choice(&stage.agent, at)),
            conversation: session.name().or_else(|| Some(session::named(&(at.run.run.id, at.path)))),
            system: Some(system),
            messages,
            tools,
            schema: stage.schema.clone(),
            max_tokens: stage.max_tokens,
            temperature: stage.temperature,
            till: at.run.till.of(at.path),
        };
        let turns = stage.turns.unwrap_or(u32::MAX).min(at.run.manifest.limits.turns);
        Self { question, session: Some(session), turns, usage: StageUsage::default() }
    }

    /// Asks, and does what the model wants, until it wants nothing more.
    async fn until_done(&mut self, tools: &Tools<'_>, at: &At<'_>) -> Result<(Json, Option<Said>), Trouble> {
        for turn in 1..=self.turns {
            let Answer { text, json, wants, target, .. } = self.answer(at).await?;
            if wants.is_empty() {
                let said = match self.session.take() {
                    Some(session) => session.end(&self.question.messages, &text, target, at).await?,
                    None => None,
                };
                return Ok((json.unwrap_or_else(|| Json::from(text.trim())), said));
            }
            let mut results = tools.call(&wants).await?;
            let left = self.turns - turn;
            if left <= LAST_TURNS
                && let Some(last) = results.last_mut()
            {
                last.text.push_str(&format!("\n\n({})", before_the_end(left)));
            }
            self.question.messages.push(Message::Assistant { text, calls: wants });
            self.question.messages.push(Message::Results(results));
            forget(&mut self.question.messages, REMEMBERED);
        }
        let why = format!("the model has used all its {} turns and is not done", self.turns);
        Err(Failure::new("turns_limit", why).into())
    }

    /// One answer. Who gave the first one gives the next ones as well, as long as it can: it knows the
    /// conversation.
    async fn answer(&mut self, at: &At<'_>) -> Result<Answer, Trouble> {
        let mut most = REMEMBERED;
        for shortened in 0.. {
            match aloud(self.question.clone(), at).await {
                Ok(mut answer) => {
                    self.usage.calls.append(&mut answer.calls);
                    self.usage.rank(answer.ranking.clone());
                    self.question.choice.stays_with = Some(answer.target.clone());
                    return Ok(answer);
                }
                Err(ModelError { failure, calls, ranking, retry }) => {
                    self.usage.calls.extend(calls);
                    ranking.into_iter().for_each(|ranking| self.usage.rank(*ranking));
                    most /= 2;
                    let too_long = failure.code == "model_incapable" && shortened < SHORTENED;
                    if !(too_long && forget(&mut self.question.messages, most)) {
                        return Err(Trouble { failure, timed_out: false, retry });
                    }
                    at.note("the conversation is too long for the model; older results are left out");
                }
            }
        }
        unreachable!("the loop has no end of its own")
    }
}

/// What a model is told that has so many answers left: the last one must call no tool.
fn before_the_end(left: u32) -> String {
    match left {
        0 | 1 => "This was the last call of tools: now answer without any.".to_owned(),
        left => format!("You have {left} answers left, and the last one must call no tool."),
    }
}

/// Leaves out old results of a conversation that has become longer than `most` bytes, so many at once that
/// it need not be done at every turn: what does not change is cheaper to read. Says whether it did.
fn forget(messages: &mut [Message], most: usize) -> bool {
    const LEFT_OUT: &str = "(left out to save room; call the tool again if you need it)";
    let length = |message: &Message| match message {
        // Its pictures stay, however long it becomes.
        Message::User { text, .. } => text.len(),
        Message::Assistant { text, calls } => {
            text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
        }
        Message::Results(results) => results.iter().map(|result| result.text.len()).sum(),
    };
    let mut long: usize = messages.iter().map(length).sum();
    if long <= most {
        return false;
    }
    let (before, newest) = (long, messages.len().saturating_sub(1));
    for message in &mut messages[..newest] {
        let Message::Results(results) = message else { continue };
        for result in results.iter_mut().filter(|result| result.text.len() > LEFT_OUT.len()) {
            long = long - result.text.len() + LEFT_OUT.len();
            LEFT_OUT.clone_into(&mut result.text);
        }
        if long <= most / 2 {
            break;
        }
    }
    long < before
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::models::ToolResult;

    #[test]
    fn the_oldest_results_are_forgotten_first_and_the_last_never() {
        let results =
            |fill: &str| Message::Results(vec![ToolResult { text: fill.repeat(1_000), failed: false }]);
        let mut messages = vec![Message::user("x".repeat(1_000))];
        messages.extend(["a", "b", "c", "d"].map(results));
        assert!(!forget(&mut messages, 5_000));
        assert!(forget(&mut messages, 4_999));
        let kept: Vec<usize> = messages[1..]
            .iter()
            .map(|message| match message {
                Message::Results(results) => results[0].text.len(),
                Message::User { .. } | Message::Assistant { .. } => 0,
            })
            .collect();
        assert_eq!(kept, [59, 59, 59, 1_000]);
        assert!(!forget(&mut messages, 100), "there is nothing left to forget");
    }
}
