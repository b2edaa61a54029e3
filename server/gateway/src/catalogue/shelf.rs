//! The catalogue in force: made anew when the file that is laid over it changes.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use ports::clock::Clock;

use super::Catalogue;
use super::update::{CATALOGUE_MAX, Update};

/// Holds the catalogue in force.
#[derive(Debug)]
pub(crate) struct Shelf {
    file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    now: RwLock<Arc<Catalogue>>,
    seen: Mutex<Option<Stamp>>,
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// A file that takes the place of another has another number.
    number: u64,
}

impl Shelf {
    /// With what ships, and the file laid over it, if there is one.
    pub(crate) fn open(file: Option<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let shipped = RwLock::new(Arc::new(Catalogue::with(None)));
        let shelf = Self { file, clock, now: shipped, seen: Mutex::default() };
        shelf.look();
        shelf
    }

    /// The catalogue in force.
    pub(crate) fn now(&self) -> Arc<Catalogue> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks whether the file changed. One that cannot be used changes nothing.
    pub(crate) fn look(&self) {
        let Some(file) = &self.file else { return };
        let stamp = std::fs::metadata(file).ok().map(|found| Stamp::of(&found));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == stamp {
            return;
        }
        let is_there = stamp.is_some();
        *seen = stamp;
        let update = if is_there { read(file, &*self.clock).map(Some) } else { Ok(None) };
        match update {
            Ok(update) => {
                let catalogue = Catalogue::with(update.as_ref().map(|update| &update.0));
                let date = catalogue.updated.as_ref().unwrap_or(&catalogue.date).clone();
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
                tracing::info!(catalogue.date = %date, "the catalogue of models is of {date}");
            }
            Err(why) => {
                tracing::error!("{} is not taken, models stay as they were: {why}", file.display());
            }
        }
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self { length: found.len(), modified: found.modified().ok(), number: found.ino() }
    }
}

fn read(file: &Path, clock: &dyn Clock) -> Result<Update, String> {
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    // One byte more than is allowed is enough to be refused.
    opened.take(CATALOGUE_MAX as u64 + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Update::read(&text, clock).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use testkit::FixedClock;

    use super::*;

    #[test]
    fn a_file_counts_from_when_it_is_there_until_it_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("catalogue.json");
        let clock = FixedClock::new();
        clock.set(domain::time::Timestamp::from_millis(1_795_305_600_000));
        let shelf = Shelf::open(Some(file.clone()), Arc::new(clock));
        let knows = |name: &str| {
            shelf.look();
            shelf.now().find(name).is_some()
        };
        let put = |id: &str| {
            let text = format!(
                r#"{{"date":"2026-11-20","aliases":{{}},"models":[{{"provider":"openai","id":"{id}","dialect":"openai-chat","source":"here","date":"2026-11-01"}}]}}"#
            );
            let new = home.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &file).unwrap();
        };
        assert!(!knows("gpt-7"));
        put("gpt-7");
        assert!(knows("gpt-7") && knows("gpt-5"));
        std::fs::write(&file, "{").unwrap();
        assert!(knows("gpt-7"), "a broken one changes nothing");
        put("gpt-8");
        assert!(knows("gpt-8") && !knows("gpt-7"));
        std::fs::remove_file(&file).unwrap();
        assert!(!knows("gpt-8") && knows("gpt-5"));
    }
}
