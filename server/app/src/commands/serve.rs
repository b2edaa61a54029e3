//! `spellbook serve`: a server, until it is told to stop.

use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::demo;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;
use crate::server::{DEFAULT_LISTEN, Plan, Roles, Server};
use crate::telemetry::{self, LogFormat};
use crate::wiring;

/// Serves, and says where and how to sign in.
pub(crate) async fn run(args: &ServeArgs, config: Config, ui: &Ui) -> Result<Exit, CommandError> {
    let (format, level) = if ui.is_json() { (LogFormat::Json, "info") } else { (LogFormat::Text, "info") };
    telemetry::start(format, if args.demo { "warn" } else { level });
    let data = wiring::data_directory(args.data.data.as_deref(), &config);
    let default = DEFAULT_LISTEN.parse().expect("because it is an address");
    let listen = args.listen.or(config.listen).unwrap_or(default);
    let plan = Plan { config, data: data.clone(), listen, roles: Roles::ServeAndWork };
    let server = Server::start(plan).await.map_err(|error| {
        CommandError::unavailable("server_not_started", "the server could not be started").because(error)
    })?;
    announce(&server, &data, ui)?;
    let stopped = stopped();
    tokio::pin!(stopped);
    if args.demo {
        tokio::select! {
            shown = demo::show(&server, ui) => shown?,
            () = &mut stopped => { server.stop().await; return Ok(Exit::Ok) }
        }
    }
    stopped.await;
    ui.note("stopping; what is under way is put back");
    server.stop().await;
    Ok(Exit::Ok)
}

/// The first lines of a server: programs read one object, people read where to go.
fn announce(server: &Server, data: &std::path::Path, ui: &Ui) -> Result<(), CommandError> {
    let url = server.url();
    let token = server.sign_in.as_ref().map(ExposeSecret::expose_secret);
    if ui.is_json() {
        return ui.record(&serde_json::json!({ "url": url, "data": data, "sign_in_token": token }));
    }
    ui.line(format_args!("Spellbook {} serves {url}", env!("CARGO_PKG_VERSION")))?;
    ui.line(format_args!("  data     {}", data.display()))?;
    if let Some(token) = token {
        ui.line(format_args!("  sign in  spellbook login {url} --token {token}"))?;
        ui.line("           (good once; a new one is made at the next start until somebody has signed in)")?;
    }
    Ok(())
}

/// Returns when the program is told to stop: by SIGTERM, or by Ctrl-C.
pub(super) async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
