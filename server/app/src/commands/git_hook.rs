//! `spellbook git-hook`: what git runs when somebody pushes.

use std::io::{Read, Write};

use crate::cli::GitHookArgs;
use crate::exit::{CommandError, Exit};
use crate::hook;
use crate::tools;

/// Passes on what git says, and prints what the server answers; git shows it with `remote:` before
/// each line.
pub(crate) async fn run(args: &GitHookArgs) -> Result<Exit, CommandError> {
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).map_err(anyhow::Error::from)?;
    let (accepted, text) = hook::ask(args.hook, &stdin, tools::variable).await?;
    let mut out = std::io::stdout().lock();
    // Nobody is left to be told when git has gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(if accepted { Exit::Ok } else { Exit::Failed })
}
