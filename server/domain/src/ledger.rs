//! The ledger: every call of a model, as it is charged. An entry begins as a reservation where money is
//! bounded, and as what it cost where it is not; its id makes writing it twice the same as once.

use serde::{Deserialize, Serialize};

use crate::budget::Payers;
use crate::id::{CallId, RunId};
use crate::money::NanoUsd;
use crate::stage::{ModelUsage, StagePath, Tokens};
use crate::time::Timestamp;

/// A call of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: CallId,
    /// For which run.
    pub run: RunId,
    /// In which attempt at that run.
    pub run_attempt: u32,
    /// For which stage of it.
    pub stage: StagePath,
    /// Whose spending it is.
    pub payers: Payers,
    /// What it was. Of a reservation the cost is the most that it may come to, and the model is the one
    /// that is to be asked.
    pub call: ModelUsage,
    /// How it is charged.
    pub standing: Standing,
    /// When it began.
    pub at: Timestamp,
}

/// How a call is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is under way: what it may cost at most is set aside.
    Reserved,
    /// By what the provider said of it.
    Final,
    /// By its size, or by what was set aside for it when nobody learned what became of it.
    Estimated,
}

impl Standing {
    /// The word in the store and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Final => "final",
            Self::Estimated => "estimated",
        }
    }

    /// Of a call that is over.
    pub const fn of(call: &ModelUsage) -> Self {
        if call.estimated { Self::Estimated } else { Self::Final }
    }
}

impl Entry {
    /// What it is charged with, within what a store can add up.
    pub fn charged(&self) -> NanoUsd {
        self.call.cost.min(crate::budget::LARGEST)
    }

    /// The same at the reserved sum, for good: nobody learned what became of it.
    #[must_use]
    pub fn given_up(mut self) -> Self {
        self.standing = Standing::Estimated;
        self.call.estimated = true;
        self.call.failure = Some(LOST.to_owned());
        self
    }
}

/// The failure of a call whose end nobody saw: the server died meanwhile.
pub const LOST: &str = "lost";

/// What entries are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// By daemon.
    Daemon,
    /// By the model that answered, with its provider.
    Model,
    /// By repository.
    Repository,
    /// By who made the runs happen.
    Author,
}

impl Grouping {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Daemon, Self::Model, Self::Repository, Self::Author];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Model => "model",
            Self::Repository => "repository",
            Self::Author => "author",
        }
    }

    /// The grouping that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grouping| grouping.as_str() == word)
    }

    /// What an entry falls under.
    pub fn key(self, entry: &Entry) -> String {
        match self {
            Self::Daemon => entry.payers.daemon.clone(),
            Self::Model => format!("{}/{}", entry.call.provider, entry.call.served),
            Self::Repository => entry.payers.repository.clone(),
            Self::Author => entry.payers.author.clone(),
        }
    }
}

/// What entries come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spend {
    /// What they have in common.
    pub key: String,
    /// How many there are; those under way are none.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many have no price: what they cost is not known, and counted as nothing.
    pub unpriced: u64,
    /// How many are charged by an estimate.
    pub estimated: u64,
    /// What they read and wrote.
    pub tokens: Tokens,
    /// What they cost.
    pub cost: NanoUsd,
    /// What the failed ones cost.
    pub failed_cost: NanoUsd,
    /// How many could have gone to a dearer or an equal model of their group whose price is known.
    pub compared: u64,
    /// What these did cost.
    pub compared_cost: NanoUsd,
    /// What the same tokens had cost with the dearest model of the group.
    pub dearest_cost: NanoUsd,
}

impl Spend {
    /// Adds an entry. One that is under way counts for nothing.
    pub fn add(&mut self, entry: &Entry) {
        if entry.standing == Standing::Reserved {
            return;
        }
        let (call, cost) = (&entry.call, entry.charged());
        self.calls += 1;
        self.unpriced += u64::from(call.price.is_none());
        self.estimated += u64::from(entry.standing == Standing::Estimated);
        self.tokens = self.tokens.plus(&call.tokens);
        self.cost = self.cost.plus(cost);
        if call.failure.is_some() {
            self.failed += 1;
            self.failed_cost = self.failed_cost.plus(cost);
        }
        if let Some(dearest) = call.dearest {
            self.compared += 1;
            self.compared_cost = self.compared_cost.plus(cost);
            self.dearest_cost = self.dearest_cost.plus(dearest.min(crate::budget::LARGEST));
        }
    }

    /// Both together, under this key.
    #[must_use]
    pub fn plus(self, more: &Self) -> Self {
        Self {
            key: self.key,
            calls: self.calls + more.calls,
            failed: self.failed + more.failed,
            unpriced: self.unpriced + more.unpriced,
            estimated: self.estimated + more.estimated,
            tokens: self.tokens.plus(&more.tokens),
            cost: self.cost.plus(more.cost),
            failed_cost: self.failed_cost.plus(more.failed_cost),
            compared: self.compared + more.compared,
            compared_cost: self.compared_cost.plus(more.compared_cost),
            dearest_cost: self.dearest_cost.plus(more.dearest_cost),
        }
    }

    /// What routing and fallbacks saved against the dearest model, where that can be told.
    pub fn saved(&self) -> NanoUsd {
        self.dearest_cost.plus(NanoUsd::from_nanos(-self.compared_cost.nanos()))
    }
}
