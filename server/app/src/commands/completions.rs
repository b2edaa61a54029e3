//! `spellbook completions`: what shells need to complete a command line.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{CommandError, Exit};

/// Prints the completions of a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "spellbook", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CommandError::reader_gone()),
        Err(error) => {
            Err(CommandError::failed("output_unwritable", "the output cannot be written").because(error))
        }
        Ok(()) => Ok(Exit::Ok),
    }
}
