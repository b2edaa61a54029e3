//! Where GitHub is, and what this server is there.

use std::sync::Arc;
use std::time::Duration;

use domain::name::ForgeName;
use ports::clock::Clock;
use ports::source::{RemotePolicy, Source};
use secrecy::SecretString;

/// One GitHub: github.com, or an Enterprise server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The operator's name for it.
    pub name: ForgeName,
    /// Where its API is: `https://api.github.com`, `https://ghe.example.com/api/v3`.
    pub api_url: String,
    /// Where people and git find its repositories: `https://github.com`, `https://ghe.example.com`.
    pub web_url: String,
    /// What this server is there.
    pub access: Access,
    /// What signs its webhooks: one secret, or two while the new one takes the other's place. Without any,
    /// no webhook is let in.
    pub webhook_secrets: Vec<SecretString>,
    /// What the operator allows beyond https to it: plain http, for the API too, and private addresses.
    pub allow: RemotePolicy,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a push may take.
    pub push_timeout: Duration,
}

impl Config {
    /// github.com, with nothing allowed beyond https.
    ///
    /// # Panics
    /// Never: the name is a good one.
    pub fn new(access: Access) -> Self {
        Self {
            name: "github".parse().expect("because it is a forge's name"),
            api_url: "https://api.github.com".to_owned(),
            web_url: "https://github.com".to_owned(),
            access,
            webhook_secrets: Vec::new(),
            allow: RemotePolicy::default(),
            timeout: Duration::from_secs(20),
            push_timeout: Duration::from_secs(45),
        }
    }
}

/// What this server is on a GitHub.
#[derive(Debug, Clone)]
pub enum Access {
    /// An app, which is installed in accounts and gets a token for each thing that it does.
    App {
        /// The app's number or its client id.
        id: String,
        /// Its private key, as GitHub gives it out: PEM, PKCS#1 or PKCS#8.
        key: SecretString,
    },
    /// An account with a token: best one of its own, since whatever it does is a program's doing.
    Token {
        /// The token.
        token: SecretString,
        /// The account's name, for tokens that may not ask whose they are.
        account: Option<String>,
    },
}

/// What the forge needs beside its configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// What pushes.
    pub source: Arc<dyn Source>,
}

/// The configuration makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An address is none, or is not allowed.
    #[error("`{url}` {rule}")]
    Address {
        /// The address.
        url: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// The private key cannot be used.
    #[error("the app's private key {0}")]
    Key(&'static str),
    /// The token could not be sent.
    #[error("the token holds characters that no token has; is there a line break at its end?")]
    Token,
    /// The client could not be made.
    #[error("the client for GitHub could not be made: {0}")]
    Client(String),
}
