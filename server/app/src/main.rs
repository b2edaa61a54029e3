//! The program `spellbook`.

use std::process::ExitCode;

use spellbook::{cli, commands, output::Ui};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let ui = Ui::new(&cli.global);
    match commands::run(cli, &ui) {
        Ok(exit) => exit.into(),
        Err(error) => {
            ui.error(&error);
            error.exit().into()
        }
    }
}
