//! `spellbook migrate`: brings the store up to date.

use store_sqlite::SqliteStore;

use crate::cli::MigrateArgs;
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;
use crate::wiring;

/// Opens the store, which brings it up to date.
pub(crate) async fn run(args: &MigrateArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    let data = wiring::data_directory(args.data.data.as_deref(), config);
    std::fs::create_dir_all(&data).map_err(anyhow::Error::from)?;
    let file = data.join("spellbook.db");
    SqliteStore::open(&file)
        .await
        .map_err(|error| CommandError::unavailable("store_unavailable", error.to_string()).because(error))?;
    if ui.is_json() {
        ui.document(&serde_json::json!({ "store": file, "up_to_date": true }))?;
    } else {
        ui.line(format_args!("{} is up to date", file.display()))?;
    }
    Ok(Exit::Ok)
}
