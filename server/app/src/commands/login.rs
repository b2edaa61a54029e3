//! `spellbook login`: signs in to a server and remembers it.

use std::io::{self, BufRead, IsTerminal, Read};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::cli::LoginArgs;
use crate::client::answers::{Me, SignedIn};
use crate::client::{Client, ServerUrl, server_url, understood};
use crate::credentials::Credentials;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// The longest token, bytes.
const LONGEST: u64 = 1_000;

/// Exchanges the one-time token for one that lasts, or checks one that lasts already, and keeps it.
pub(crate) async fn run(args: &LoginArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let server = server_url(&args.url)?;
    // What is wrong with the file is said before the one-time token is spent.
    let mut credentials = Credentials::read()?;
    if server.is_open() {
        ui.warn(format_args!("{server} is not encrypted: whoever is on the way can read the token"));
    }
    let token = match &args.token {
        Some(token) => token.clone(),
        None => ask(&server, ui)?,
    };
    let (token, account, role) = exchange(&server, token).await?;
    let path = credentials.store(&server, &account, &token)?.display().to_string();
    if ui.is_json() {
        ui.document(
            &json!({ "server": server.to_string(), "account": account, "role": role, "credentials": path }),
        )?;
        return Ok(Exit::Ok);
    }
    let name = |text: &str| ui.paint(Tone::Name, text);
    ui.line(format_args!(
        "signed in to {} as {} ({})",
        name(&server.to_string()),
        name(&account),
        ui.paint(Tone::Plain, &role)
    ))?;
    ui.note(format_args!("the token is in {path}; next: spellbook list"));
    Ok(Exit::Ok)
}

/// Reads the token from standard input.
fn ask(server: &ServerUrl, ui: &Ui) -> Result<SecretString, CommandError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        ui.note(format_args!("The sign-in token of {server}, which it printed when it was started, or an administrator has given you:"));
    }
    let mut line = String::new();
    stdin.lock().take(LONGEST).read_line(&mut line).map_err(|error| {
        CommandError::usage("token_unreadable", "the token cannot be read from standard input").because(error)
    })?;
    let token = line.trim();
    if token.is_empty() {
        let error = CommandError::usage("token_missing", "no token was given");
        return Err(error.help("give it on standard input, or by --token"));
    }
    Ok(token.to_owned().into())
}

/// A token that lasts, and whose it is.
async fn exchange(
    server: &ServerUrl,
    token: SecretString,
) -> Result<(SecretString, String, String), CommandError> {
    let stranger = Client::new(server.clone(), None)?;
    let order = json!({ "token": token.expose_secret().trim(), "label": label() });
    match stranger.post(&["sign-in"], &order).await {
        Ok(answer) => {
            let SignedIn { secret, account } = understood(answer)?;
            Ok((secret, account.name, account.role))
        }
        Err(error) if error.code() == "token_lasting" => {
            let client = Client::new(server.clone(), Some(token.clone()))?;
            let Me { account, role } = understood(client.get(&["me"], &[]).await?)?;
            Ok((token, account.name, role))
        }
        Err(error) if error.exit() == Exit::Denied => {
            Err(error.help("a sign-in token is good once; the server's administrator makes a new one"))
        }
        Err(error) => Err(error),
    }
}

/// What the new token is called in the list of tokens: by this machine's name.
fn label() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if host.is_empty() { "spellbook login".to_owned() } else { format!("spellbook login on {host}") }
}
