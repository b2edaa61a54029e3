//! What the sandbox tells the operator, for asserting on.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The numbers of each event that names a jail.
static HEARD: Mutex<Vec<(String, BTreeMap<&str, u64>)>> = Mutex::new(Vec::new());

/// Listens to everything that this process says from now on.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Ear).unwrap());
}

/// What was said in numbers of a jail.
pub(crate) fn number(jail: &str, field: &str) -> Option<u64> {
    let heard = HEARD.lock().unwrap();
    heard.iter().filter(|(name, _)| name == jail).find_map(|(_, numbers)| numbers.get(field).copied())
}

struct Ear;

#[derive(Default)]
struct Said {
    jail: Option<String>,
    numbers: BTreeMap<&'static str, u64>,
}

impl Visit for Said {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "jail.name" {
            self.jail = Some(value.to_owned());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.insert(field.name(), value);
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sandbox")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(jail) = said.jail {
            HEARD.lock().unwrap().push((jail, said.numbers));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
