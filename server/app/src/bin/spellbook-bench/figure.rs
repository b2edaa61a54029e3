//! One measured figure and its goal.

use std::time::Duration;

use serde_json::json;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// A figure.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// What it was measured against, in the same run.
    pub(crate) against: &'static str,
}

impl Figure {
    fn met(&self) -> bool {
        match self.goal {
            Goal::AtMost(bound) => self.value <= bound,
            Goal::AtLeast(bound) => self.value >= bound,
        }
    }

    /// A line for people, or an object for programs.
    pub(crate) fn line(&self, as_json: bool) -> String {
        let goal = match self.goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
        };
        let value = (self.value * 1_000.0).round() / 1_000.0;
        if as_json {
            let object = json!({
                "name": self.name, "value": value, "unit": self.unit,
                "goal": goal, "met": self.met(), "against": self.against,
            });
            return object.to_string();
        }
        let mark = if self.met() { "ok" } else { "--" };
        format!("{mark}  {:28} {value:>9} {:6} goal {goal:8} against {}", self.name, self.unit, self.against)
    }
}

/// The middle of several spans, in seconds.
pub(crate) fn median(mut spans: Vec<Duration>) -> f64 {
    spans.sort();
    spans.get(spans.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

/// The time within which such a share of calls was done, in seconds.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let at = ((sorted.len() - 1) as f64 * share) as usize;
    sorted[at].as_secs_f64()
}
