//! `spellbook artifacts`: the files that a run keeps, listed or fetched.

use std::fs;
use std::path::{Component, Path};

use anyhow::Context;

use crate::cli::{ArtifactsArgs, Global};
use crate::client::answers::{Artifact, Part};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Lists them, or fetches those of one name.
pub(crate) async fn run(args: &ArtifactsArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    let run = args.run.to_string();
    let answer = client.get(&["runs", &run, "artifacts"], &[]).await?;
    let artifacts = understood::<Part<Artifact>>(answer.clone())?.items;
    let Some(name) = &args.name else {
        if ui.is_json() {
            ui.document(&answer)?;
        } else {
            listed(&artifacts, ui)?;
        }
        return Ok(Exit::Ok);
    };
    let named = artifacts.iter().find(|artifact| artifact.name == *name || artifact.id == *name);
    let artifact = named.ok_or_else(|| {
        let message = format!("the run keeps nothing called {name}");
        CommandError::failed("artifact_not_found", message)
            .help("`spellbook artifacts RUN` lists what it keeps")
    })?;
    let directory = args.output.clone().unwrap_or_else(|| ".".into());
    let progress = ui.steps("fetching", artifact.files.len());
    for file in &artifact.files {
        // The server knows no other; this machine does not rely on it.
        if !Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(CommandError::failed("path_unsafe", format!("{} is no path below here", file.path)));
        }
        let target = directory.join(&file.path);
        let path = [("path", file.path.as_str())];
        let bytes = client.bytes(&["runs", &run, "artifacts", &artifact.id], &path).await?;
        write(&target, &bytes)?;
        progress.step();
    }
    drop(progress);
    let count = artifact.files.len();
    ui.line(format_args!(
        "fetched {count} {} to {}",
        if count == 1 { "file" } else { "files" },
        directory.display()
    ))?;
    Ok(Exit::Ok)
}

/// Writes a file that is not there yet: nothing of this machine's is lost.
fn write(target: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    use std::io::Write;
    let shown = target.display();
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    }
    let mut file = match fs::File::create_new(target) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("{shown} is there already");
            return Err(
                CommandError::failed("file_exists", message).help("name another directory by --output")
            );
        }
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("{shown} cannot be written")).into());
        }
    };
    file.write_all(bytes).with_context(|| format!("{shown} cannot be written"))?;
    Ok(())
}

fn listed(artifacts: &[Artifact], ui: &Ui) -> Result<(), CommandError> {
    if artifacts.is_empty() {
        return ui.line("the run keeps no files");
    }
    let rows = artifacts.iter().flat_map(|artifact| {
        let until = artifact.until.clone().unwrap_or_else(|| "with the run".to_owned());
        artifact.files.iter().map(move |file| {
            [
                (Tone::Name, artifact.name.clone()),
                (Tone::Plain, file.path.clone()),
                (Tone::Plain, engine::report::size(file.bytes)),
                (Tone::Dim, until.clone()),
            ]
        })
    });
    ui.table(["ARTIFACT", "FILE", "SIZE", "KEPT UNTIL"], rows)
}
