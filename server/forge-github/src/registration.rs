//! Making the app: a person confirms at GitHub what this server describes, and GitHub answers with the
//! app's key ("Registering a GitHub App from a manifest").

use forge_remote::{Verb, escaped};
use ports::forge::ForgeError;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::config::Config;
use crate::shape::{number, text};
use crate::tokens::odd;

/// What the app may do where it is installed, as `docs/github.md` explains it.
pub const PERMISSIONS: [(&str, &str); 6] = [
    ("metadata", "read"),
    ("contents", "write"),
    ("pull_requests", "write"),
    ("issues", "write"),
    ("checks", "write"),
    ("statuses", "write"),
];

/// What it hears of.
pub const EVENTS: [&str; 13] = [
    "push",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "issue_comment",
    "commit_comment",
    "issues",
    "label",
    "release",
    "check_suite",
    "repository",
    "create",
    "delete",
];

/// An app that GitHub just made.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its number.
    pub id: u64,
    /// Its name in addresses.
    pub slug: String,
    /// Where people see it.
    pub url: Option<String>,
    /// Its private key, PEM.
    pub key: SecretString,
    /// What signs its webhooks.
    pub webhook_secret: Option<SecretString>,
}

/// What the app is to be, for a server at `site`. GitHub sends the person back to `redirect` with a code.
pub fn app_manifest(site: &str, name: &str, forge: &str, redirect: &str) -> Value {
    let site = site.trim_end_matches('/');
    let permissions: Map<String, Value> =
        PERMISSIONS.iter().map(|(name, level)| ((*name).to_owned(), json!(level))).collect();
    json!({
        "name": name,
        "url": site,
        "hook_attributes": { "url": format!("{site}/hooks/forges/{forge}"), "active": true },
        "redirect_url": redirect,
        "public": false,
        "default_permissions": permissions,
        "default_events": EVENTS,
    })
}

/// Takes the app that a person confirmed; the code is good once, for an hour.
///
/// # Errors
/// When GitHub does not know the code, or does not answer.
pub async fn register(config: &Config, code: &str) -> Result<Registered, ForgeError> {
    let client = Client::build(config).map_err(|error| ForgeError::refused(error.to_string()))?;
    let path = format!("/app-manifests/{}/conversions", escaped(code));
    let answer = client.send(None, Verb::Post, &path, None).await?;
    if !answer.is_success() {
        return Err(match answer.status {
            404 | 422 => ForgeError::refused("GitHub does not know this code; it is good once, for an hour"),
            500.. => ForgeError::later(format!("GitHub says {}", answer.status)),
            status => ForgeError::refused(format!("GitHub says {status}")),
        });
    }
    Ok(registered(&answer.body).ok_or_else(|| odd("the app that it made"))?)
}

fn registered(made: &Value) -> Option<Registered> {
    Some(Registered {
        id: number(made, "/id")?,
        slug: text(made, "/slug")?.to_owned(),
        url: text(made, "/html_url").map(str::to_owned),
        key: text(made, "/pem")?.into(),
        webhook_secret: text(made, "/webhook_secret").map(Into::into),
    })
}
