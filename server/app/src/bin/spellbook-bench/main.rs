//! `./x bench [AREA] [--json]`: figures as ratios against a peer or a physical limit, both measured in
//! turn in the same run, so that a slow machine slows both.

#![expect(clippy::print_stdout, reason = "printing figures is what this program is for")]

mod comment;
mod door;
mod figure;
mod gateway;
mod git;
mod intake;
mod load;
mod manifest;
mod process;
mod sandbox;
mod server;
mod thousand;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

/// What can be measured.
const AREAS: [&str; 7] = ["sandbox", "intake", "comment", "gateway", "git", "manifest", "server"];
/// What areas start this program as, besides themselves.
const ROLES: [&str; 5] = ["--provider", "--door", "--thousand", "--intake", "--load"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && ROLES.contains(&first.as_str())
    {
        return serve(first, rest);
    }
    let mut areas = Vec::new();
    let mut json = false;
    for argument in arguments {
        match argument.as_str() {
            "--json" => json = true,
            area if AREAS.contains(&area) => areas.push(argument),
            other => {
                println!("usage: ./x bench [{}] [--json]\n\nthere is no area `{other}`", AREAS.join(" | "));
                return ExitCode::from(2);
            }
        }
    }
    if areas.is_empty() {
        areas = AREAS.map(str::to_owned).to_vec();
    }
    let runtime = match runtime(&mut Builder::new_multi_thread()) {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    for area in areas {
        let figures = match area.as_str() {
            "sandbox" => runtime.block_on(async {
                let mut figures = sandbox::measure().await?;
                figures.extend(door::measure().await?);
                Ok(figures)
            }),
            "intake" => runtime.block_on(intake::measure()),
            "comment" => runtime.block_on(comment::measure()),
            "gateway" => runtime.block_on(gateway::measure()),
            "git" => runtime.block_on(git::measure()),
            "manifest" => manifest::measure(),
            _ => server::measure(),
        };
        match figures {
            Ok(figures) => figures.iter().for_each(|figure| println!("{}", figure.line(json))),
            Err(error) => {
                println!("{area}: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn runtime(builder: &mut Builder) -> std::io::Result<Runtime> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.enable_all().build()
}

/// Does one part of a measurement, in a process of its own.
fn serve(role: &str, rest: &[String]) -> ExitCode {
    // Whoever sends leaves the other processors to whoever is measured.
    let threads = if role == "--load" { Builder::new_current_thread } else { Builder::new_multi_thread };
    let served =
        runtime(&mut threads()).map_err(anyhow::Error::from).and_then(|runtime| match (role, rest) {
            ("--load", [plan]) => runtime.block_on(load::run(plan)),
            ("--door", [base]) => runtime.block_on(gateway::stand(base)),
            ("--thousand", [base]) => runtime.block_on(thousand::ask(base)),
            ("--intake", [data]) => runtime.block_on(intake::serve(data.as_ref())),
            _ => runtime.block_on(gateway::provide()),
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{role}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
