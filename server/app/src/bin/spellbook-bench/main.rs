//! `./x bench [AREA] [--json]`: figures as ratios against a peer or a physical limit, both measured in
//! turn in the same run, so that a slow machine slows both.

#![expect(clippy::print_stdout, reason = "printing figures is what this program is for")]

mod figure;
mod git;
mod manifest;
mod sandbox;
mod server;

use std::process::ExitCode;

/// What can be measured.
const AREAS: [&str; 4] = ["sandbox", "git", "manifest", "server"];

fn main() -> ExitCode {
    let mut areas = Vec::new();
    let mut json = false;
    for argument in std::env::args().skip(1) {
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
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    for area in areas {
        let figures = match area.as_str() {
            "sandbox" => runtime.block_on(sandbox::measure()),
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
