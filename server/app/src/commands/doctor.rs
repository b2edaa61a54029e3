//! `spellbook doctor`: what this machine offers, what it lacks, and what to do about it.

use futures::future::join_all;
use gateway::web::Found;
use ports::sandbox::{Protection, ProtectionState};
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};
use crate::registries::{Registries, SETS};
use crate::tools::{self, Tools};
use crate::wiring::{self, SecretSource};

/// Looks at everything that the server uses. Exits with 69 when runs would be refused.
pub(crate) async fn run(args: &DoctorArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    let data = wiring::data_directory(args.data.data.as_deref(), config);
    let mut findings = programs();
    let wired = wiring::wire(config, &data, SecretSource::Files).await;
    match &wired {
        Ok(wired) => {
            findings.push(active("store", format!("{}", data.join("spellbook.db").display())));
            findings.extend(wired.world.sandbox.protections().await);
            findings.push(active("runtimes", wired.world.sandbox.runtimes().join(", ")));
            findings.push(active("models", format!("{} known by name", wired.world.models.names().len())));
        }
        Err(error) => findings.push(Protection {
            name: "server".to_owned(),
            state: ProtectionState::Required,
            detail: format!("{error:#}"),
            remedy: None,
        }),
    }
    findings.extend(sets(config).await);
    show(&findings, ui)?;
    let broken = findings.iter().any(|finding| finding.state == ProtectionState::Required);
    Ok(if broken { Exit::Unavailable } else { Exit::Ok })
}

fn programs() -> Vec<Protection> {
    let tools = Tools::from_environment(tools::variable);
    let git = match tools.find("git") {
        Some(path) => active("git", path.display().to_string()),
        None => Protection {
            name: "git".to_owned(),
            state: ProtectionState::Required,
            detail: "not on the PATH".to_owned(),
            remedy: Some("install git 2.39 or later".to_owned()),
        },
    };
    vec![git]
}

/// The named sets of hosts that daemons may ask for, and who says what they are.
async fn sets(config: &Config) -> Vec<Protection> {
    let listed = config.network.sets.iter().map(|(name, hosts)| {
        active(&format!("set {name}"), format!("{} (listed under [network.sets])", hosts.join(", ")))
    });
    let mut findings: Vec<Protection> = listed.collect();
    let registries = Registries::of_this_machine(&Tools::from_environment(tools::variable));
    let names = SETS.into_iter().filter(|name| !config.network.sets.contains_key(*name));
    let found = names.map(async |name| registries.find(name).await.map(|found| set(name, &found)));
    findings.extend(join_all(found).await.into_iter().flatten());
    findings
}

fn set(name: &str, found: &Found) -> Protection {
    let mut said: Vec<String> = Vec::new();
    if !found.hosts.is_empty() {
        said.push(format!("{} ({})", found.hosts.join(", "), found.from));
    }
    said.extend(found.left_out.iter().cloned());
    let is_there = !found.hosts.is_empty();
    Protection {
        name: format!("set {name}"),
        state: if is_there { ProtectionState::Active } else { ProtectionState::Missing },
        detail: said.join("; "),
        remedy: (!is_there).then(|| "list its hosts under [network.sets], when daemons need it".to_owned()),
    }
}

fn active(name: &str, detail: String) -> Protection {
    Protection { name: name.to_owned(), state: ProtectionState::Active, detail, remedy: None }
}

fn show(findings: &[Protection], ui: &Ui) -> Result<(), CommandError> {
    if ui.is_json() {
        let rows = findings.iter().map(|finding| {
            json!({
                "name": finding.name,
                "state": word(finding.state),
                "detail": finding.detail,
                "remedy": finding.remedy,
            })
        });
        return ui.document(&rows.collect::<Vec<_>>());
    }
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    for (finding, next) in findings.iter().zip(findings.iter().skip(1).map(Some).chain([None])) {
        let (tone, mark) = match finding.state {
            ProtectionState::Active => (Tone::Good, "ok"),
            ProtectionState::Missing => (Tone::Odd, "--"),
            ProtectionState::Required => (Tone::Bad, "!!"),
        };
        ui.line(format_args!("{}  {:width$}  {}", ui.paint(tone, mark), finding.name, finding.detail))?;
        // What helps several in a row is said once, after the last.
        let same = next.is_some_and(|next| next.remedy == finding.remedy);
        if let Some(remedy) = finding.remedy.as_ref().filter(|_| !same) {
            ui.line(format_args!("    {:width$}  {}", "", ui.paint(Tone::Dim, format!("→ {remedy}"))))?;
        }
    }
    ui.line(format_args!("\n{}", verdict(findings)))
}

/// What it comes to.
fn verdict(findings: &[Protection]) -> String {
    let names = |state| {
        let with = findings.iter().filter(|finding| finding.state == state);
        with.map(|finding| finding.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (required, missing) = (names(ProtectionState::Required), names(ProtectionState::Missing));
    if !required.is_empty() {
        format!("Nothing can run here until this is mended: {required}.")
    } else if !missing.is_empty() {
        format!("Runs work here, without: {missing}.")
    } else {
        "Runs work here, with every protection.".to_owned()
    }
}

fn word(state: ProtectionState) -> &'static str {
    match state {
        ProtectionState::Active => "active",
        ProtectionState::Missing => "missing",
        ProtectionState::Required => "required",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(states: &[(&str, ProtectionState)], expect: &str) {
        let finding = |&(name, state): &(&str, ProtectionState)| Protection {
            name: name.to_owned(),
            state,
            detail: String::new(),
            remedy: None,
        };
        assert_eq!(verdict(&states.iter().map(finding).collect::<Vec<_>>()), expect);
    }

    #[test]
    fn the_last_line_says_what_it_comes_to() {
        use ProtectionState::{Active, Missing, Required};
        check(&[("git", Active)], "Runs work here, with every protection.");
        check(&[("git", Active), ("a", Missing), ("b", Missing)], "Runs work here, without: a, b.");
        check(&[("a", Missing), ("jail", Required)], "Nothing can run here until this is mended: jail.");
    }
}
