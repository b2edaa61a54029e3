//! `spellbook models update`: a newer catalogue, checked whole, shown, and put where servers read it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use gateway::{CATALOGUE_MAX, CatalogueError, Change, Changes, ModelInfo, Update};
use serde_json::{Value as Json, json};

use super::{described, open};
use crate::cli::models::ModelsUpdateArgs;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};
use crate::wiring;

/// Reads, compares and writes. A catalogue with anything wrong in it changes nothing.
pub(super) async fn run(args: &ModelsUpdateArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    let from = args.from.as_ref().or(config.models.catalogue.as_ref()).ok_or_else(|| {
        CommandError::usage("catalogue_unnamed", "nobody says where the newer catalogue is")
            .help("name a file or an https:// address with --from, or as `catalogue` under [models]")
    })?;
    let text = read(from, ui).await?;
    let refused = |why: String| {
        CommandError::new(Exit::Invalid, "catalogue_invalid", format!("{from} is not taken: {why}"))
            .help("nothing was changed")
    };
    let update = Update::read(&text, &SystemClock).map_err(|error| refused(error.to_string()))?;
    let data = wiring::data_directory(args.data.data.as_deref(), config);
    let changes = open(Some(&data), config)?.changes(&update).map_err(refused)?;
    let file = data.join(wiring::CATALOGUE);
    let is_written = !args.check && std::fs::read(&file).ok().as_ref() != Some(&text);
    if is_written {
        write(&data, &file, &text)?;
    }
    if ui.is_json() {
        ui.document(&document(&changes, is_written))?;
    } else {
        show(&changes, ui)?;
        if is_written {
            ui.line(format_args!("written to {}; servers take it within seconds", file.display()))?;
        }
    }
    let is_same = changes.models.is_empty() && changes.aliases.is_empty();
    Ok(if args.check && !is_same { Exit::Failed } else { Exit::Ok })
}

async fn read(from: &str, ui: &Ui) -> Result<Vec<u8>, CommandError> {
    if from.contains("://") {
        let progress = ui.spinner(format!("fetching {from}"));
        let fetched = gateway::fetch(from).await;
        drop(progress);
        return fetched.map_err(|error: CatalogueError| {
            CommandError::unavailable("catalogue_unavailable", format!("{from}: {error}"))
        });
    }
    let mut text = Vec::new();
    // One byte more than is allowed is enough to be refused.
    let read = File::open(from).and_then(|file| file.take(CATALOGUE_MAX as u64 + 1).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(CommandError::unavailable("catalogue_unavailable", format!("{from} cannot be read"))
                .because(error))
        }
    }
}

/// Whoever reads it meanwhile reads the old one or the new one.
fn write(data: &Path, file: &Path, text: &[u8]) -> Result<(), CommandError> {
    let written = || -> anyhow::Result<()> {
        DirBuilder::new().recursive(true).mode(0o711).create(data)?;
        let mut new = tempfile::NamedTempFile::new_in(data)?;
        new.write_all(text)?;
        // Nothing in it is a secret, and the server may be another user.
        new.as_file().set_permissions(Permissions::from_mode(0o644))?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(File::open(data)?.sync_all()?)
    };
    Ok(written().with_context(|| format!("{} cannot be written", file.display()))?)
}

fn show(changes: &Changes, ui: &Ui) -> Result<(), CommandError> {
    let rows: Vec<_> = changes.models.iter().map(model).chain(changes.aliases.iter().map(alias)).collect();
    if rows.is_empty() {
        ui.line(format_args!("the catalogue of {} changes nothing", changes.date))?;
    } else {
        ui.table(["", "NAME", "BEFORE", "AFTER"], rows)?;
    }
    if changes.older > 0 {
        let older = changes.older;
        ui.note(format_args!(
            "{older} of its models are not newer than what this program ships, and stay so"
        ));
    }
    Ok(())
}

fn model(change: &Change<ModelInfo>) -> [(Tone, String); 4] {
    let (before, after) = match (&change.before, &change.after) {
        (Some(before), Some(after)) => differences(before, after),
        (before, after) => (before.as_ref().map(price), after.as_ref().map(price)),
    };
    row(&change.name, before, after)
}

fn alias(change: &Change<String>) -> [(Tone, String); 4] {
    let target = |target: &Option<String>| target.as_ref().map(|target| format!("→ {target}"));
    row(&change.name, target(&change.before), target(&change.after))
}

fn row(name: &str, before: Option<String>, after: Option<String>) -> [(Tone, String); 4] {
    let (tone, word) = match (&before, &after) {
        (None, _) => (Tone::Good, "new"),
        (_, None) => (Tone::Bad, "gone"),
        (Some(_), Some(_)) => (Tone::Odd, "changed"),
    };
    [
        (tone, word.to_owned()),
        (Tone::Name, name.to_owned()),
        (Tone::Plain, before.unwrap_or_default()),
        (Tone::Plain, after.unwrap_or_default()),
    ]
}

fn price(model: &ModelInfo) -> String {
    model.prices.as_ref().map_or_else(
        || "price not known".to_owned(),
        |prices| format!("{} in, {} out", prices.input, prices.output),
    )
}

/// What is different of two rows about one model, the price first.
fn differences(before: &ModelInfo, after: &ModelInfo) -> (Option<String>, Option<String>) {
    let facts = |model: &ModelInfo| {
        let tokens = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let more = model.prices.as_ref().map(|prices| {
            format!(
                "{:?}",
                (prices.cache_read, prices.cache_write, &prices.tiers, prices.image, prices.cache_write_1h)
            )
        });
        [
            (price(model), true),
            (format!("reads {}", tokens(model.context)), true),
            (format!("writes {}", tokens(model.output)), true),
            (format!("asked in {}", model.dialect), true),
            (format!("can {}", super::words(&model.capabilities)), true),
            (more.unwrap_or_default(), false),
        ]
    };
    let (mut was, mut is) = (Vec::new(), Vec::new());
    for ((before, is_shown), (after, _)) in facts(before).into_iter().zip(facts(after)) {
        match (before == after, is_shown) {
            (true, _) => {}
            (false, true) => {
                was.push(before);
                is.push(after);
            }
            (false, false) => is.push("other rates of caches, tiers or pictures".to_owned()),
        }
    }
    (Some(was.join(", ")), Some(is.join(", ")))
}

fn document(changes: &Changes, is_written: bool) -> Json {
    let models = changes.models.iter().map(|change| {
        json!({
            "name": change.name,
            "before": change.before.as_ref().map(described),
            "after": change.after.as_ref().map(described),
        })
    });
    let aliases = changes.aliases.iter();
    let aliases =
        aliases.map(|change| json!({ "name": change.name, "before": change.before, "after": change.after }));
    json!({
        "date": changes.date,
        "models": models.collect::<Vec<_>>(),
        "aliases": aliases.collect::<Vec<_>>(),
        "older": changes.older,
        "written": is_written,
    })
}
