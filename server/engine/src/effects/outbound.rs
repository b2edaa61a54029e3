//! What leaves the server in its own name: no secret goes with it, in no form, and what somebody else had a
//! hand in calls nobody and leads nowhere unexpected.

use std::sync::LazyLock;

use domain::event::Event;
use domain::neutral::{Leave, neutral};
use domain::repository::Origin;
use domain::scrub::Scrub;
use domain::value::Taint;
use regex::Regex;
use secrecy::{ExposeSecret, SecretString};

use super::Unwanted;
use crate::execution::Execution;

/// The longest text of one effect, bytes; a forge splits what is too long for it.
const LONGEST_BODY: usize = 400_000;

/// What keys of known services look like, and what to call them.
#[expect(clippy::unwrap_used, reason = "the expressions are written here")]
static KEYS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    [
        ("a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
        ("a token of GitLab", r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_-]{20,}"),
        ("a key of Anthropic", r"\bsk-ant-[A-Za-z0-9_-]{32,}"),
        ("a key of OpenAI", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
        ("a key of Google", r"\bAIza[A-Za-z0-9_-]{35}"),
        ("a key of AWS", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        ("a token of Slack", r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"),
        ("a key of Stripe", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
        ("a token of npm", r"\bnpm_[A-Za-z0-9]{36}"),
        ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    ]
    .map(|(what, source)| (what, Regex::new(source).unwrap()))
    .into()
});

/// What is known of a run's texts before they leave.
#[derive(Debug)]
pub(super) struct Outbound {
    scrub: Scrub,
    leave: Leave,
}

impl Outbound {
    /// For the run of an execution. A secret that cannot be read now was not read by the run either.
    pub(super) async fn of(execution: &Execution<'_>, event: Option<&Event>) -> Self {
        let Execution { world, run, manifest, .. } = execution;
        let mut secrets: Vec<(String, SecretString)> = Vec::new();
        for name in &manifest.permissions.secrets {
            if let Ok(Some(secret)) = world.secrets.secret(run.repository, name).await {
                secrets.push((name.to_string(), secret));
            }
        }
        let inputs = manifest.inputs.iter().filter(|input| input.kind == manifest::model::InputKind::Secret);
        for input in inputs {
            if let Some(secret) = run.inputs.get(&input.name).and_then(serde_json::Value::as_str) {
                secrets.push((input.name.clone(), secret.to_owned().into()));
            }
        }
        let mut hosts = manifest.permissions.hosts();
        if let Ok(Some(repository)) = world.store.repository_get(run.repository).await
            && let Origin::Watched { url, .. } = &repository.origin
        {
            hosts.extend(host(url).map(str::to_owned));
        }
        let subject = run.subject.as_ref().map(|subject| subject.number);
        let thread = subject.or_else(|| event?.thread());
        let scrub = Scrub::new(secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret())));
        Self { scrub, leave: Leave { hosts, thread } }
    }

    /// Refuses a text with a secret in it.
    pub(super) fn check(&self, field: &str, text: &str) -> Result<(), Unwanted> {
        if let Some(name) = self.scrub.find(text) {
            return Err(Unwanted::Refused(format!("`{field}` holds the secret `{name}`")));
        }
        match KEYS.iter().find(|(_, key)| key.is_match(text)) {
            Some((what, _)) => Err(Unwanted::Refused(format!("`{field}` holds what looks like {what}"))),
            None => Ok(()),
        }
    }

    /// Markdown as it may leave: of bearable length, checked, and harmless when it is not the daemon's own.
    pub(super) fn prose(&self, field: &str, text: &str, taint: Taint) -> Result<String, Unwanted> {
        self.check(field, text)?;
        let mut text = match taint {
            Taint::Trusted => text.to_owned(),
            Taint::External => neutral(text, &self.leave),
        };
        if text.len() > LONGEST_BODY {
            text.truncate(text.floor_char_boundary(LONGEST_BODY));
            text.push_str("\n\n… the rest is on the page of the run");
        }
        Ok(text)
    }
}

/// The host of an https address.
fn host(url: &str) -> Option<&str> {
    url.strip_prefix("https://")?.split(['/', ':', '?', '#']).next()
}
