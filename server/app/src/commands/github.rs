//! `spellbook github setup`: makes the GitHub App that this server is, by GitHub's manifest flow. A page on
//! this machine sends the person to GitHub with what the app is to be; GitHub sends them back with a code,
//! for which it gives out the app's key once.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forge_github::{Access, Config, Registered, app_manifest, register};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::github::{GitHubArgs, GitHubCommand, GitHubSetupArgs};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// How long the person may take to confirm.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Sets up.
pub(crate) async fn run(args: &GitHubArgs, ui: &Ui) -> Result<Exit, CommandError> {
    match &args.command {
        GitHubCommand::Setup(args) => setup(args, ui).await,
    }
}

async fn setup(args: &GitHubSetupArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let files = Files::below(&args.directory, args.forge.as_str());
    files.refuse_unusable()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        CommandError::unavailable(
            "address_unusable",
            format!("{} cannot be listened on: {error}", args.listen),
        )
    })?;
    let address = listener.local_addr().unwrap_or(args.listen);
    ui.note(format!("open http://{address}/ in a browser on this machine, and confirm the app there"));
    let code = confirmed(listener, address, args).await?;
    let config = config(args);
    let made = register(&config, code.expose_secret()).await;
    let made = made.map_err(|error| CommandError::failed("app_not_made", error.message))?;
    files.write(&made)?;
    report(args, &files, &made, ui)?;
    Ok(Exit::Ok)
}

/// Where GitHub is; nothing is asked there as anybody yet.
fn config(args: &GitHubSetupArgs) -> Config {
    let mut config = Config::new(Access::Token { token: SecretString::from("none"), account: None });
    let web = args.url.trim_end_matches('/');
    if web != config.web_url {
        web.clone_into(&mut config.web_url);
        config.api_url = format!("{web}/api/v3");
    }
    if let Some(api) = &args.api_url {
        api.trim_end_matches('/').clone_into(&mut config.api_url);
    }
    config.allow.plain_http = config.api_url.starts_with("http://");
    config.allow.private_addresses = config.allow.plain_http;
    config
}

/// Waits until the person comes back from GitHub; the code that they bring.
async fn confirmed(
    listener: TcpListener,
    address: SocketAddr,
    args: &GitHubSetupArgs,
) -> Result<SecretString, CommandError> {
    let state = Alphanumeric.sample_string(&mut rand::rng(), 32);
    let page = Arc::new(Page::new(args, address, &state));
    let (tell, mut told) = mpsc::channel::<SecretString>(1);
    let mut visits = JoinSet::new();
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let code = loop {
        tokio::select! {
            Some(code) = told.recv() => break code,
            // Browsers open connections ahead, and ask nothing by them for a while.
            Ok((stream, _)) = listener.accept() => {
                visits.spawn(visit(stream, Arc::clone(&page), tell.clone()));
            }
            Some(_) = visits.join_next() => {}
            () = &mut patience => {
                return Err(CommandError::failed("not_confirmed", "nobody confirmed the app; run the command again"));
            }
        }
    };
    // The page that says so is still on its way.
    let _ = tokio::time::timeout(Duration::from_secs(1), visits.join_next()).await;
    Ok(code)
}

/// Answers one request of a browser.
async fn visit(stream: TcpStream, page: Arc<Page>, tell: mpsc::Sender<SecretString>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let (response, code) = page.answer(request.uri().path(), request.uri().query().unwrap_or_default());
        if let Some(code) = code {
            // Of two codes the first is taken.
            let _ = tell.try_send(code);
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// What the browser gets.
struct Page {
    start: String,
    state: String,
}

impl Page {
    fn new(args: &GitHubSetupArgs, address: SocketAddr, state: &str) -> Self {
        let redirect = format!("http://{address}/done");
        let manifest = app_manifest(&args.site, &args.name, args.forge.as_str(), &redirect).to_string();
        let web = args.url.trim_end_matches('/');
        let place = match &args.organization {
            Some(organization) => format!("{web}/organizations/{}/settings/apps/new", escaped(organization)),
            None => format!("{web}/settings/apps/new"),
        };
        let start = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Spellbook and GitHub</title>\
             <body style=\"font: 1.1rem/1.5 system-ui; max-width: 34rem; margin: 4rem auto; padding: 0 1rem\">\
             <h1>Make the GitHub App {}</h1><p>GitHub shows what it may do, and asks you to confirm. \
             Afterwards you come back here.</p><form action=\"{place}?state={state}\" method=\"post\">\
             <input type=\"hidden\" name=\"manifest\" value=\"{}\">\
             <button style=\"font: inherit; padding: .5rem 1rem\">Go on to GitHub</button></form>",
            escaped(&args.name),
            escaped(&manifest),
        );
        Self { start, state: state.to_owned() }
    }

    /// The answer to a request, and the code that it brought.
    fn answer(&self, path: &str, query: &str) -> (Response<Full<Bytes>>, Option<SecretString>) {
        let field = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        let is_code = |code: &str| {
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        match path {
            "/" => (html(StatusCode::OK, self.start.clone()), None),
            // Somebody else's page could send a code of an app that is theirs; it does not know the state.
            "/done" if field("state") == self.state && is_code(field("code")) => (
                html(
                    StatusCode::OK,
                    "<!doctype html><title>Done</title><p>The app is made; go back to the terminal.".into(),
                ),
                Some(field("code").to_owned().into()),
            ),
            "/done" => (
                html(
                    StatusCode::BAD_REQUEST,
                    "<!doctype html><title>No</title><p>This is not the way back from GitHub; begin again."
                        .into(),
                ),
                None,
            ),
            _ => (
                html(
                    StatusCode::NOT_FOUND,
                    "<!doctype html><title>Nothing</title><p>There is nothing here.".into(),
                ),
                None,
            ),
        }
    }
}

fn html(status: StatusCode, page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert("referrer-policy", hyper::header::HeaderValue::from_static("no-referrer"));
    headers.insert("cache-control", hyper::header::HeaderValue::from_static("no-store"));
    response
}

/// Text for HTML, in attributes too.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Where the app's secrets are kept.
struct Files {
    key: PathBuf,
    webhook: PathBuf,
}

impl Files {
    fn below(directory: &Path, forge: &str) -> Self {
        Self {
            key: directory.join(format!("{forge}.private-key.pem")),
            webhook: directory.join(format!("{forge}.webhook-secret")),
        }
    }

    /// An app is not made for nothing: its key is given out once.
    fn refuse_unusable(&self) -> Result<(), CommandError> {
        if let Some(path) = [&self.key, &self.webhook].into_iter().find(|path| path.exists()) {
            let message =
                format!("{} is there already; move it away, or name another `--directory`", path.display());
            return Err(CommandError::failed("file_exists", message));
        }
        let directory = self.key.parent().unwrap_or(Path::new("."));
        match tempfile::tempfile_in(directory) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("nothing can be written in {}", directory.display());
                Err(CommandError::failed("file_not_written", message).because(error))
            }
        }
    }

    fn write(&self, made: &Registered) -> Result<(), CommandError> {
        let empty = SecretString::from("");
        let secret = made.webhook_secret.as_ref().unwrap_or(&empty);
        for (path, text) in [(&self.key, &made.key), (&self.webhook, secret)] {
            let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).and_then(
                |mut file| file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()),
            );
            written.map_err(|error| {
                CommandError::failed(
                    "file_not_written",
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
        }
        Ok(())
    }
}

fn report(args: &GitHubSetupArgs, files: &Files, made: &Registered, ui: &Ui) -> Result<(), CommandError> {
    if ui.is_json() {
        return ui.document(&json!({
            "app_id": made.id,
            "slug": made.slug,
            "url": made.url,
            "private_key": files.key,
            "webhook_secret": files.webhook,
        }));
    }
    let absolute =
        |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
    ui.line(format_args!(
        "{} is made. Add this to the server's configuration:\n",
        ui.paint(Tone::Name, &made.slug)
    ))?;
    ui.line("[[forges]]")?;
    ui.line(format_args!("name = \"{}\"\nkind = \"github\"", args.forge))?;
    let web = args.url.trim_end_matches('/');
    if web != "https://github.com" {
        ui.line(format_args!("url = \"{web}\""))?;
    }
    ui.line(format_args!("app_id = \"{}\"", made.id))?;
    ui.line(format_args!("private_key = {{ file = \"{}\" }}", absolute(&files.key)))?;
    ui.line(format_args!("webhook_secrets = [{{ file = \"{}\" }}]", absolute(&files.webhook)))?;
    let install = made.url.as_ref().map_or_else(String::new, |url| {
        format!("\nThen install it where it is to work: {url}/installations/new")
    });
    ui.line(install)
}
