//! A whole question: targets in order, the one retry loop, and one repair of a structured answer.

use std::time::Duration;

use domain::route::{Ranking, Reason, Verdict};
use domain::run::Failure;
use ports::Retry;
use ports::models::{Choice, Drawing, Message, Question, ToolCall};
use ports::picture::Picture;
use rand::RngExt;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::budget::{Paid, tokens_at_most};
use crate::call::{self, Tools};
use crate::class::{Class, Fault, Next, Same};
use crate::config::RetryConfig;
use crate::dialect::{Draft, Prompt, Stop};
use crate::gateway::Target;
use crate::health::{Measured, Ward};
use crate::ledger::Ledger;
use crate::pieces::Pieces;
use crate::structured::{SchemaCheck, Shape, cut, quote};

/// What questions are asked with.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) tools: Tools,
    pub(crate) retry: RetryConfig,
    pub(crate) check: SchemaCheck,
    /// Regions in which models may run that must be in one.
    pub(crate) regions: Vec<String>,
    pub(crate) ward: Ward,
}

/// What comes of a question on the way to its answer. It lives outside the work, so that a cancelled
/// question still says what it cost and whom it was put to.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) ledger: Ledger,
    pub(crate) pieces: Pieces,
    pub(crate) ranking: Option<Ranking>,
}

/// Who may be asked: names, and what each stands for, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) choice: &'a Choice,
    pub(crate) targets: &'a [Option<Target>],
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) struct NoAnswer {
    pub(crate) failure: Failure,
    pub(crate) retry: Retry,
}

impl NoAnswer {
    pub(crate) fn never(code: &str, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(code, message), retry: Retry::Never }
    }
}

/// An answer, before the ledger is added.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) json: Option<Value>,
    pub(crate) wants: Vec<ToolCall>,
    pub(crate) target: String,
}

impl Given {
    fn new(target: &Target, mut draft: Draft, json: Option<Value>) -> Self {
        let wants = std::mem::take(&mut draft.calls).into_iter().map(ToolCall::from).collect();
        // What is to be JSON is that and nothing else.
        let text = if json.is_some() { draft.text } else { draft.cited() };
        Self { text, json, wants, target: target.requested.clone() }
    }
}

impl Asker {
    /// Asks until there is an answer that fits, or nobody is left to ask.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn answer(
        &self,
        question: &Question,
        targets: &[Option<Target>],
        course: &mut Course,
    ) -> Result<Given, NoAnswer> {
        let mut prompt = Prompt {
            conversation: question.conversation.clone(),
            system: question.system.clone(),
            messages: question.messages.clone(),
            tools: question.tools.clone(),
            shape: question.schema.as_ref().map(Shape::of),
            max_tokens: question.max_tokens,
            temperature: question.temperature,
            draws: false,
        };
        let Course { ledger, pieces, ranking } = course;
        let group: Vec<Target> = targets.iter().flatten().cloned().collect();
        let mut paid = Paid { till: &*question.till, group: &group, ledger };
        let wanted = Wanted { choice: &question.choice, targets };
        let asked = self.chosen(wanted, &prompt, &paid, ranking).await?;
        let (draft, at) = self.draft(&asked, &prompt, &mut paid, pieces).await?;
        let target = &asked[at];
        let shape = match prompt.shape.clone() {
            Some(shape) if draft.calls.is_empty() => shape,
            // Who calls a tool has not answered yet.
            Some(_) | None => return Ok(Given::new(target, draft, None)),
        };
        let problems = match shape.read(&draft.text, &self.check) {
            Ok(json) => return Ok(Given::new(target, draft, Some(json))),
            Err(problems) => problems,
        };
        // A longer answer would be cut off again.
        if draft.stop == Some(Stop::Length) {
            let why = format!("{target}: the answer was cut off at the limit of tokens; raise `max_tokens`");
            return Err(NoAnswer::never("answer_invalid", why));
        }
        tracing::info!(model = %target, model.problems = problems.len(), "model {target} is asked to mend its answer");
        pieces.restart("the answer did not fit its schema; it is being mended");
        prompt.messages.push(Message::Assistant { text: quote(&draft.text), calls: Vec::new() });
        prompt.messages.push(Message::user(shape.repair(&problems)));
        let (draft, _) = self.draft(&asked[at..=at], &prompt, &mut paid, pieces).await?;
        if !draft.calls.is_empty() {
            return Ok(Given::new(target, draft, None));
        }
        match shape.read(&draft.text, &self.check) {
            Ok(json) => Ok(Given::new(target, draft, Some(json))),
            Err(problems) => Err(unmended(target, &problems)),
        }
    }

    /// Has a picture made.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn draw(
        &self,
        drawing: &Drawing,
        targets: &[Option<Target>],
        course: &mut Course,
    ) -> Result<(Vec<Picture>, String), NoAnswer> {
        let message = Message::User { text: drawing.prompt.clone(), pictures: drawing.from.clone() };
        let prompt = Prompt {
            conversation: None,
            system: None,
            messages: vec![message],
            tools: Vec::new(),
            shape: None,
            max_tokens: None,
            temperature: None,
            draws: true,
        };
        let Course { ledger, pieces, ranking } = course;
        let group: Vec<Target> = targets.iter().flatten().cloned().collect();
        let mut paid = Paid { till: &*drawing.till, group: &group, ledger };
        let wanted = Wanted { choice: &drawing.choice, targets };
        let asked = self.chosen(wanted, &prompt, &paid, ranking).await?;
        let (draft, at) = self.draft(&asked, &prompt, &mut paid, pieces).await?;
        let target = &asked[at];
        if draft.pictures.is_empty() {
            let said = cut(draft.text.trim(), 300);
            let why = match said {
                "" => format!("{target} answered without a picture"),
                said => format!("{target} answered with words and no picture: {said}"),
            };
            return Err(NoAnswer::never("answer_invalid", why));
        }
        Ok((draft.pictures, target.requested.clone()))
    }

    /// Whom to ask, in order. Waits where all have been asked too much just now, and not for long.
    async fn chosen(
        &self,
        wanted: Wanted<'_>,
        prompt: &Prompt,
        paid: &Paid<'_>,
        ranking: &mut Option<Ranking>,
    ) -> Result<Vec<Target>, NoAnswer> {
        loop {
            let (decided, asked) = self.rank(wanted, prompt, paid).await;
            let wait = Self::limited_for(&decided).filter(|wait| *wait <= self.retry.max_wait);
            let decided = ranking.insert(decided);
            match (asked.is_empty(), wait) {
                (false, _) => return Ok(asked),
                (true, Some(wait)) => sleep(wait).await,
                (true, None) => return Err(nobody(decided, prompt, paid).await),
            }
        }
    }

    /// Gets one whole answer: the loop. Returns it with the place of the target that gave it.
    async fn draft(
        &self,
        targets: &[Target],
        prompt: &Prompt,
        paid: &mut Paid<'_>,
        pieces: &mut Pieces,
    ) -> Result<(Draft, usize), NoAnswer> {
        let mut faults: Vec<(&Target, Fault)> = Vec::new();
        let mut too_small = None;
        let mut left = self.retry.attempts.max(1);
        for (at, target) in targets.iter().enumerate() {
            if target.reads_no_more_than(too_small) {
                continue;
            }
            let mut repeated = 0;
            let fault = loop {
                if left == 0 {
                    return Err(no_answer(&faults));
                }
                left -= 1;
                pieces.restart("the answer broke off; it is asked for again");
                let fault = match self.attempt(target, prompt, paid, pieces).await {
                    Ok(draft) => return Ok((draft, at)),
                    Err(fault) => fault,
                };
                // Providers quote what they were sent: their words are for the run's report.
                tracing::warn!(model = %target, model.class = ?fault.class, "model {target} failed: {:?}", fault.class);
                let wait = self.retry.wait(&fault, repeated);
                let Some(wait) = wait.filter(|_| left > 0) else { break fault };
                repeated += 1;
                sleep(wait).await;
            };
            let next = fault.class.policy().next;
            faults.push((target, fault));
            match next {
                Next::Stop => break,
                Next::Any => {}
                Next::Larger => too_small = too_small.max(target.context()),
            }
        }
        Err(no_answer(&faults))
    }

    async fn attempt(
        &self,
        target: &Target,
        prompt: &Prompt,
        paid: &mut Paid<'_>,
        pieces: &mut Pieces,
    ) -> Result<Draft, Fault> {
        let (prompt, reservation) = paid.reserve(target, prompt).await?;
        // What is not bounded by its limit is bounded by the model's.
        let written = prompt.max_tokens.map_or(0, u64::from);
        let tokens = tokens_at_most(prompt.bytes()).saturating_add(written);
        let asking = self.ward.asks(&target.provider.name, &target.key(), tokens);
        let call = paid.ledger.open(target, paid.group, prompt.bytes(), reservation);
        let begun = Instant::now();
        let result = call::ask(&self.tools, target, &prompt, call, pieces).await;
        call.bill.failure = result.as_ref().err().map(|fault| fault.class);
        let draft = call.draft.clone();
        paid.ledger.close();
        pieces.flush();
        match result {
            Ok(()) => {
                asking.answered(measured(begun, &draft));
                Ok(draft)
            }
            Err(fault) => {
                asking.failed(&fault);
                Err(fault)
            }
        }
    }
}

/// What an answer says about the next one's time and cost.
fn measured(begun: Instant, draft: &Draft) -> Option<Measured> {
    let tokens = draft.tokens?;
    Some(Measured {
        first: draft.first_at? - begun,
        whole: begun.elapsed(),
        read: tokens.input.saturating_add(tokens.cache_read).saturating_add(tokens.cache_write),
        cached: tokens.cache_read,
        written: tokens.output,
    })
}

/// Why nobody is asked at all. Where it is the money, the purse says it best.
async fn nobody(ranking: &Ranking, prompt: &Prompt, paid: &Paid<'_>) -> NoAnswer {
    let mut faults = Vec::new();
    for target in paid.group {
        let verdict = ranking.verdicts.iter().find(|verdict| verdict.target == target.requested);
        let Some(Verdict { reason, .. }) = verdict else { continue };
        let fault = match reason {
            Reason::TooDear | Reason::Unpriced => match paid.reserve(target, prompt).await {
                Err(fault) => fault,
                Ok(_) => Fault::new(Class::Transient, "is not asked: there was no money a moment ago"),
            },
            Reason::Limited { .. } => Fault::new(Class::RateLimited, format!("is not asked: {reason}")),
            _ => Fault::new(Class::Capability, format!("is not asked: {reason}")),
        };
        faults.push((target, fault));
    }
    no_answer(&faults)
}

impl RetryConfig {
    /// How long to wait before the same target is asked again; `None` leaves it. Exponential, with
    /// full jitter (AWS, "Exponential Backoff And Jitter").
    fn wait(&self, fault: &Fault, repeated: u32) -> Option<Duration> {
        if repeated >= self.same_target {
            return None;
        }
        let asked = fault.retry_after.unwrap_or_default();
        let bearable = asked <= self.max_wait;
        match fault.class.policy().same {
            Same::Backoff if bearable => {
                let most = self.first.saturating_mul(1 << repeated.min(16)).min(self.longest);
                Some(most.mul_f64(rand::rng().random_range(0.0..=1.0)).max(asked))
            }
            Same::RetryAfter if bearable => fault.retry_after,
            Same::Never | Same::Backoff | Same::RetryAfter => None,
        }
    }
}

/// Why nobody answered: the failure of the last, with the words of all.
fn no_answer(faults: &[(&Target, Fault)]) -> NoAnswer {
    let words: Vec<String> =
        faults.iter().map(|(target, fault)| format!("{target} {}", fault.message)).collect();
    let last = faults.last().map(|(_, fault)| fault);
    let class = last.map_or(Class::Unavailable, |fault| fault.class);
    let later = faults.iter().any(|(_, fault)| fault.class.policy().retry == Retry::Later);
    // A question that is wrong stays wrong, even if someone before was only busy.
    let policy = class.policy();
    let retry = if later && policy.next != Next::Stop { Retry::Later } else { policy.retry };
    let code = last.map_or(policy.code, |fault| fault.code);
    NoAnswer { failure: Failure::new(code, words.join("; ")), retry }
}

fn unmended(target: &Target, problems: &[String]) -> NoAnswer {
    let shown: Vec<&str> = problems.iter().take(5).map(|problem| cut(problem, 300)).collect();
    let more = problems.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let why = format!(
        "{target}: the answer does not fit its schema, also after one repair: {}{rest}",
        shown.join("; ")
    );
    NoAnswer::never("answer_invalid", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let config = RetryConfig::default();
        let fault = |class, retry_after: Option<u64>| Fault {
            retry_after: retry_after.map(Duration::from_secs),
            ..Fault::new(class, "")
        };
        for (repeated, most) in [(0, 500), (1, 1_000)] {
            let wait = config.wait(&fault(Class::Transient, None), repeated).unwrap();
            assert!(wait <= Duration::from_millis(most), "{wait:?}");
        }
        assert_eq!(config.wait(&fault(Class::Transient, None), 2), None);
        assert_eq!(config.wait(&fault(Class::Transient, Some(20)), 0), Some(Duration::from_secs(20)));
        assert_eq!(config.wait(&fault(Class::Transient, Some(21)), 0), None);
        assert_eq!(config.wait(&fault(Class::RateLimited, Some(3)), 0), Some(Duration::from_secs(3)));
        assert_eq!(config.wait(&fault(Class::RateLimited, None), 0), None);
        for class in [
            Class::Account,
            Class::Unavailable,
            Class::Capability,
            Class::Content,
            Class::Request,
            Class::Local,
        ] {
            assert_eq!(config.wait(&fault(class, Some(0)), 0), None, "{class:?}");
        }
    }
}
