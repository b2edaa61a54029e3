//! What one run may use at most.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// The limits of one run; each stage is held to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time.
    pub timeout: Duration,
    /// Memory of all processes together, bytes; what is written to `/tmp` counts.
    pub memory: u64,
    /// Processor time per wall-clock time, thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes in the workspace.
    pub disk: u64,
    /// Bytes of output kept; the rest is counted and dropped.
    pub output: u64,
    /// Money for models; `None` is bounded by budgets only.
    pub cost: Option<NanoUsd>,
    /// Model turns of an agent.
    pub turns: u32,
}

impl Limits {
    /// What a daemon gets that asks for nothing.
    pub const DEFAULT: Self = Self {
        timeout: Duration::from_secs(15 * 60),
        memory: 2 * GIB,
        cpu_millis: 1_000,
        processes: 256,
        disk: 2 * GIB,
        output: 8 * MIB,
        cost: None,
        turns: 30,
    };

    /// What an operator allows who sets nothing.
    pub const CEILING: Self = Self {
        timeout: Duration::from_secs(6 * 3600),
        memory: 16 * GIB,
        cpu_millis: 16_000,
        processes: 4_096,
        disk: 64 * GIB,
        output: 64 * MIB,
        cost: None,
        turns: 500,
    };

    /// The names (as in a manifest) of the limits that are above `ceiling`.
    pub fn above(&self, ceiling: &Self) -> Vec<&'static str> {
        let over_cost = matches!((self.cost, ceiling.cost), (Some(asked), Some(allowed)) if asked > allowed);
        [
            ("timeout", self.timeout > ceiling.timeout),
            ("memory", self.memory > ceiling.memory),
            ("cpus", self.cpu_millis > ceiling.cpu_millis),
            ("processes", self.processes > ceiling.processes),
            ("disk", self.disk > ceiling.disk),
            ("output", self.output > ceiling.output),
            ("cost", over_cost),
            ("turns", self.turns > ceiling.turns),
        ]
        .into_iter()
        .filter_map(|(name, over)| over.then_some(name))
        .collect()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
