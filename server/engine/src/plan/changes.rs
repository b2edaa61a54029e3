//! What differs between two versions of a daemon, by what each may do, when it runs and what it does. What a
//! reviewer must not overlook comes first. Pure.

mod capabilities;
mod stages;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use domain::limits::Limits;
use domain::money::Price;
use manifest::Manifest;
use manifest::model::Permissions;

/// The longest value that is shown, characters.
const LONGEST: usize = 120;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub heading: Heading,
    /// Whether the daemon may do more by it.
    pub bearing: Bearing,
    /// A sentence without its full stop; values stand in backticks.
    pub text: String,
}

/// What a difference is about, the weightiest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heading {
    /// Hosts that it may reach.
    Network,
    /// Secrets that it may use.
    Secrets,
    /// What the server does for it.
    Outcomes,
    /// What it may touch of the repository, and whom it asks before.
    Permissions,
    /// Servers whose tools its models may call.
    Servers,
    /// What a run may use.
    Limits,
    /// What a user pays.
    Price,
    /// The licence.
    Licence,
    /// When it runs.
    Triggers,
    /// Which models are asked.
    Models,
    /// What it does.
    Stages,
    /// What it does when a run failed.
    OnFailure,
    /// What a run may be given.
    Inputs,
    /// What it keeps from run to run.
    State,
    /// How many runs at once.
    Concurrency,
    /// What it says of itself.
    About,
}

impl Heading {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Secrets => "secrets",
            Self::Outcomes => "outcomes",
            Self::Permissions => "permissions",
            Self::Servers => "MCP servers",
            Self::Limits => "limits",
            Self::Price => "price",
            Self::Licence => "licence",
            Self::Triggers => "triggers",
            Self::Models => "models",
            Self::Stages => "stages",
            Self::OnFailure => "on failure",
            Self::Inputs => "inputs",
            Self::State => "state",
            Self::Concurrency => "concurrency",
            Self::About => "about",
        }
    }
}

/// Whether a daemon may do more by a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearing {
    /// It may do more.
    Wider,
    /// It may do less.
    Narrower,
    /// Neither, or nobody can tell.
    Neither,
}

impl Bearing {
    /// The word for it; none when there is nothing to say.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Wider => Some("wider"),
            Self::Narrower => Some("narrower"),
            Self::Neither => None,
        }
    }

    /// More is wider, less is narrower.
    fn of<T: PartialOrd>(before: &T, after: &T) -> Self {
        if after > before {
            Self::Wider
        } else if after < before {
            Self::Narrower
        } else {
            Self::Neither
        }
    }
}

/// What differs between two versions of a daemon; a new one is compared with a daemon that declares nothing.
pub fn between(before: Option<&Manifest>, after: &Manifest) -> Vec<Change> {
    let nothing = nothing();
    let mut differences = Differences {
        is_new: before.is_none(),
        before: before.unwrap_or(&nothing),
        after,
        found: Vec::new(),
    };
    differences.capabilities();
    differences.triggers();
    differences.models();
    differences.work();
    differences.interface();
    differences.about();
    // The order within a heading stays.
    differences.found.sort_by_key(|change| change.heading);
    differences.found
}

/// A daemon that declares nothing.
fn nothing() -> Manifest {
    Manifest {
        name: String::new(),
        version: None,
        author: None,
        description: None,
        category: None,
        tags: Vec::new(),
        license: None,
        price: Price::Free,
        inputs: Vec::new(),
        state: BTreeMap::new(),
        triggers: Vec::new(),
        permissions: Permissions::default(),
        limits: Limits::DEFAULT,
        concurrency: None,
        models: BTreeMap::new(),
        mcp_servers: BTreeMap::new(),
        stages: Vec::new(),
        on_failure: Vec::new(),
        outcomes: Vec::new(),
        outcomes_read: BTreeSet::new(),
        reads_diff: false,
    }
}

/// What was found so far.
struct Differences<'m> {
    is_new: bool,
    before: &'m Manifest,
    after: &'m Manifest,
    found: Vec<Change>,
}

impl Differences<'_> {
    fn say(&mut self, heading: Heading, bearing: Bearing, text: String) {
        self.found.push(Change { heading, bearing, text });
    }

    /// Says what one value was and what it is.
    fn turned(&mut self, heading: Heading, bearing: Bearing, what: &str, [before, after]: [&str; 2]) {
        if before != after {
            self.say(heading, bearing, format!("{what}: {before} → {after}"));
        }
    }

    /// Says something of values, if there are any.
    fn listed(
        &mut self,
        heading: Heading,
        bearing: Bearing,
        values: &[String],
        text: impl FnOnce(String) -> String,
    ) {
        if !values.is_empty() {
            self.say(heading, bearing, text(codes(values)));
        }
    }

    /// What a run may be given, what it keeps, and how many go at once.
    fn interface(&mut self) {
        let (before, after) = (self.before, self.after);
        let inputs = |manifest: &Manifest| -> BTreeMap<String, String> {
            manifest.inputs.iter().map(|input| (input.name.clone(), format!("{input:?}"))).collect()
        };
        self.keyed(Heading::Inputs, &inputs(before), &inputs(after));
        let state = |manifest: &Manifest| -> BTreeMap<String, String> {
            manifest.state.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
        };
        self.keyed(Heading::State, &state(before), &state(after));
        let concurrency = |manifest: &Manifest| {
            manifest.concurrency.as_ref().map_or_else(
                || "no bound".to_owned(),
                |spec| {
                    let group = spec
                        .group
                        .as_ref()
                        .map_or(String::new(), |group| format!(" in each group {}", code(group.source())));
                    format!(
                        "{} at once{group}, then {}",
                        spec.limit,
                        code(&format!("{:?}", spec.behavior).to_lowercase())
                    )
                },
            )
        };
        self.turned(
            Heading::Concurrency,
            Bearing::Neither,
            "runs",
            [&concurrency(before), &concurrency(after)],
        );
    }

    /// Says which of some named things came, went or changed.
    fn keyed(
        &mut self,
        heading: Heading,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) {
        for name in after.keys().filter(|name| !before.contains_key(*name)) {
            self.say(heading, Bearing::Neither, format!("{} is new", code(name)));
        }
        for (name, value) in before {
            match after.get(name) {
                None => self.say(heading, Bearing::Neither, format!("{} is gone", code(name))),
                Some(now) if now != value => {
                    self.say(heading, Bearing::Neither, format!("{} is declared differently", code(name)));
                }
                Some(_) => {}
            }
        }
    }

    /// What it says of itself; of a new one that is no difference.
    fn about(&mut self) {
        if self.is_new {
            return;
        }
        let (before, after) = (self.before, self.after);
        let none = || "none".to_owned();
        let shown = |text: &Option<String>| text.as_deref().map_or_else(none, code);
        self.turned(Heading::About, Bearing::Neither, "name", [&code(&before.name), &code(&after.name)]);
        let [was, is] = [before, after].map(|manifest| shown(&manifest.version));
        self.turned(Heading::About, Bearing::Neither, "version", [&was, &is]);
        if before.description != after.description {
            self.say(Heading::About, Bearing::Neither, "the description differs".to_owned());
        }
        let others =
            |manifest: &Manifest| (manifest.author.clone(), manifest.category, manifest.tags.clone());
        if others(before) != others(after) {
            self.say(Heading::About, Bearing::Neither, "author, category or tags differ".to_owned());
        }
    }
}

/// A value as it stands in a sentence: one line, in backticks, harmless wherever it is shown.
pub(super) fn code(value: &str) -> String {
    let mut line: String =
        value.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    let line = line.trim();
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    match (line.is_empty(), longest) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => format!("{fence}{line}{fence}"),
        (false, _) => format!("{fence} {line} {fence}"),
    }
}

/// Values in a sentence: `a`, `b` and 3 more.
fn codes(values: &[String]) -> String {
    const MOST: usize = 8;
    let shown = values.iter().take(MOST).map(|value| code(value)).collect::<Vec<_>>().join(", ");
    if values.len() > MOST { format!("{shown} and {} more", values.len() - MOST) } else { shown }
}

/// The values of a list that another has not, in their order.
fn missing<T: PartialEq + Clone>(list: &[T], other: &[T]) -> Vec<T> {
    list.iter().filter(|value| !other.contains(value)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_backticks() {
        for (value, expect) in [
            ("api.example.com", "`api.example.com`"),
            (" a\n\tb ", "`a  b`"),
            ("a`b", "`` a`b ``"),
            ("``", "``` `` ```"),
            ("\u{1b}[31mred", "`[31mred`"),
            ("", "nothing"),
            ("\n", "nothing"),
        ] {
            assert_eq!(code(value), expect);
        }
        assert_eq!(code(&"x".repeat(500)).chars().count(), LONGEST + 2);
    }
}
