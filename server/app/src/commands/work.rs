//! `spellbook work`: a worker without doors.

use tokio_util::sync::CancellationToken;

use crate::cli::WorkArgs;
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::telemetry::{self, LogFormat};
use crate::{server, wiring};

/// Works on runs until it is told to stop.
pub(crate) async fn run(args: &WorkArgs, config: &Config) -> Result<Exit, CommandError> {
    telemetry::start(LogFormat::Text, "info");
    let data = wiring::data_directory(args.data.data.as_deref(), config);
    let until = CancellationToken::new();
    let signalled = until.clone();
    let waiting = async move {
        super::serve::stopped().await;
        signalled.cancel();
    };
    let working = server::work(config, &data, until);
    let ((), worked) = tokio::join!(waiting, working);
    worked?;
    Ok(Exit::Ok)
}
