//! `spellbook state`: what a daemon keeps from run to run on a branch.

use domain::name::{Address, At};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::cli::{Global, StateArgs, StateCommand};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui, visible, visible_lines};

/// What a list says of a variable or a session.
#[derive(Debug, Deserialize)]
struct Entry {
    kind: String,
    name: String,
    version: u64,
    size: u64,
    run: Option<String>,
    person: Option<String>,
    written_at: Option<String>,
}

/// Lists, shows, sets or removes.
pub(crate) async fn run(args: &StateArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    match &args.command {
        StateCommand::List(args) => list(&client, &args.daemon, ui).await,
        StateCommand::Get(args) => get(&client, &args.daemon, &args.name, ui).await,
        StateCommand::Set(args) => {
            // What is not JSON is text: nobody likes to quote twice.
            let value = serde_json::from_str(&args.value).unwrap_or_else(|_| Json::from(args.value.as_str()));
            let body = json!({ "value": value, "version": args.version });
            let answer =
                at(&args.daemon, Some(&args.name), async |path, query| client.put(path, query, &body).await);
            said(&answer.await?, format_args!("`{}` is set", args.name), ui)
        }
        StateCommand::Remove(args) => {
            let kind = if args.session { "session" } else { "variable" };
            at(&args.daemon, Some(&args.name), async |path, query| {
                client.delete(path, &[query, &[("kind", kind)]].concat()).await
            })
            .await?;
            said(&json!({ "removed": args.name }), format_args!("`{}` is removed", args.name), ui)
        }
    }
}

async fn list(client: &Client, daemon: &Address, ui: &Ui) -> Result<Exit, CommandError> {
    let items = at(daemon, None, async |path, query| client.get(path, query).await).await?["items"].take();
    if ui.is_json() {
        ui.document(&json!({ "items": items }))?;
        return Ok(Exit::Ok);
    }
    let entries: Vec<Entry> = understood(items)?;
    if entries.is_empty() {
        ui.note(format_args!("{daemon} keeps nothing; it has no `state`, and no session was begun"));
        return Ok(Exit::Ok);
    }
    ui.table(["NAME", "KIND", "VERSION", "BYTES", "WRITTEN BY", "WRITTEN"], entries.iter().map(row))?;
    Ok(Exit::Ok)
}

fn row(entry: &Entry) -> [(Tone, String); 6] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        (Tone::Name, entry.name.clone()),
        (Tone::Plain, entry.kind.clone()),
        (Tone::Plain, entry.version.to_string()),
        (Tone::Plain, entry.size.to_string()),
        (Tone::Plain, or_dash(&entry.run.clone().or_else(|| entry.person.clone()))),
        (Tone::Dim, or_dash(&entry.written_at)),
    ]
}

async fn get(client: &Client, daemon: &Address, name: &str, ui: &Ui) -> Result<Exit, CommandError> {
    let answer = at(daemon, Some(name), async |path, query| client.get(path, query).await).await?;
    if ui.is_json() {
        ui.document(&answer)?;
        return Ok(Exit::Ok);
    }
    let text = serde_json::to_string_pretty(&answer["value"]).map_err(anyhow::Error::from)?;
    ui.line(visible_lines(&text))?;
    Ok(Exit::Ok)
}

fn said(answer: &Json, words: std::fmt::Arguments<'_>, ui: &Ui) -> Result<Exit, CommandError> {
    if ui.is_json() {
        ui.document(answer)?;
    } else {
        ui.line(visible(&words.to_string()))?;
    }
    Ok(Exit::Ok)
}

/// Asks for the state of a daemon, or for one entry of it.
async fn at(
    daemon: &Address,
    name: Option<&str>,
    ask: impl AsyncFnOnce(&[&str], &[(&str, &str)]) -> Result<Json, CommandError>,
) -> Result<Json, CommandError> {
    let Address { repository, daemon: id, at } = daemon;
    let mut path = vec![
        "repositories",
        repository.owner.as_str(),
        repository.name.as_str(),
        "daemons",
        id.as_str(),
        "state",
    ];
    path.extend(name);
    let at = match at {
        At::Deployed => None,
        At::Named(name) => Some(name.as_str()),
        At::Commit(commit) => Some(commit.as_str()),
    };
    let query: Vec<(&str, &str)> = at.map(|at| ("at", at)).into_iter().collect();
    ask(&path, &query).await
}
