//! Which of several models is asked, and in which order the others are when it fails. Pure: whoever asks
//! brings what is known of the models, and a number in place of dice.
//!
//! First whoever cannot or may not answer is left out, then the rest is ordered by the wish. Every
//! candidate gets a verdict, so that a person can be told why it was asked or not.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

/// How one of several models is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// The first that works.
    #[default]
    Order,
    /// The one that is expected to cost least.
    Cheapest,
    /// The one that is expected to be done soonest.
    Fastest,
    /// By share.
    Weighted,
    /// The best.
    Quality,
}

impl Route {
    /// The word in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Cheapest => "cheapest",
            Self::Fastest => "fastest",
            Self::Weighted => "weighted",
            Self::Quality => "quality",
        }
    }
}

/// Something that a model can do, or that its provider warrants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// It calls tools.
    Tools,
    /// It answers in JSON of a schema.
    Json,
    /// It reads pictures.
    Vision,
    /// It makes pictures.
    ImageOut,
    /// It looks things up on the web.
    Web,
    /// It is known how much it reads, and that is enough.
    Context,
    /// It runs in a region that the operator allows.
    Region,
}

impl Ability {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Tools, Self::Json, Self::Vision, Self::ImageOut, Self::Web, Self::Context, Self::Region];

    /// The word in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Json => "json",
            Self::Vision => "vision",
            Self::ImageOut => "image_out",
            Self::Web => "web",
            Self::Context => "context",
            Self::Region => "region",
        }
    }
}

/// What is wanted of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// How one is chosen.
    pub route: Route,
    /// What it must be able to do.
    pub needs: Vec<Ability>,
    /// Tokens that it is to read, about.
    pub read: u64,
    /// Tokens that it may write at most, when that is bounded.
    pub written: Option<u64>,
    /// The target that the conversation is with.
    pub stays_with: Option<String>,
    /// Any number, another each time: it stands for dice.
    pub dice: u64,
}

/// What is known of a model that could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The name under which it is asked for.
    pub target: String,
    /// `provider/model`.
    pub model: String,
    /// What it can do; `None` when nobody knows.
    pub abilities: Option<Vec<Ability>>,
    /// Whether it runs in a region that the operator allows.
    pub in_region: bool,
    /// Tokens of question and answer together, at most.
    pub context: Option<u64>,
    /// Its share, against the sum of all.
    pub weight: u32,
    /// What the question is expected to cost; `None` when nobody knows its price.
    pub cost: Option<NanoUsd>,
    /// Whether there is money for what it may cost at most.
    pub funds: Funds,
    /// How good it is, against others; higher is better.
    pub quality: i64,
    /// From the question to the end of an answer, as seen lately; `None` when it was not asked lately.
    pub pace: Option<Duration>,
    /// How it does.
    pub health: Health,
}

/// Whether there is money for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Funds {
    /// There is, or none is counted.
    Enough,
    /// There is less.
    Short,
    /// Money is limited, and nobody knows what it costs.
    Unpriced,
}

/// How a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As far as is known, well.
    Well,
    /// It failed too often, and is left alone for so long.
    Open(Duration),
    /// It asked to be left alone for so long, or its account or name was refused.
    Cooling(Duration),
    /// It may be asked again after so long: so much a minute was allowed.
    Limited(Duration),
}

/// Why a candidate is asked, or is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// It is the only one.
    Only,
    /// The order of the targets.
    InOrder,
    /// The conversation is with it.
    Kept,
    /// What it is expected to cost.
    Cost,
    /// How long it is expected to take.
    Pace,
    /// It was not asked lately: nobody knows how fast it is.
    Untried,
    /// The dice: by its share, or to see how it does.
    Drawn,
    /// How good it is.
    Quality,
    /// It does not do well, but nobody else is left.
    LastResort {
        /// For how long it should be left alone, milliseconds.
        wait_ms: u64,
    },
    /// It cannot do something.
    Lacks {
        /// What.
        ability: Ability,
    },
    /// It reads less than the question and its answer have.
    TooSmall {
        /// Tokens that it reads.
        context: u64,
        /// Tokens of the question and the answer, about.
        asked: u64,
    },
    /// It failed too often.
    Open {
        /// For how long it is left alone, milliseconds.
        wait_ms: u64,
    },
    /// It asked to be left alone, or its account or name was refused.
    Cooling {
        /// For how long, milliseconds.
        wait_ms: u64,
    },
    /// It was asked as much as may be in a minute.
    Limited {
        /// How long until it may be asked again, milliseconds.
        wait_ms: u64,
    },
    /// This server does not know it.
    Unknown,
    /// It is not asked in the language of the program that asks.
    Language,
    /// It may cost more than is left.
    TooDear,
    /// Nobody knows what it costs, and money is limited.
    Unpriced,
}

/// What is decided of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The name under which it was asked for.
    pub target: String,
    /// `provider/model`.
    pub model: String,
    /// In which place it is asked, from 1; `None` when it is not.
    pub place: Option<u32>,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
    /// What the question is expected to cost there.
    pub cost: Option<NanoUsd>,
    /// How long an answer took there lately, milliseconds.
    pub pace_ms: Option<u64>,
}

/// A decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking {
    /// How one was chosen.
    pub route: Route,
    /// What is decided of each candidate, in their order.
    pub verdicts: Vec<Verdict>,
}

/// One in so many questions looks how another than the fastest does.
const EXPLORE: u64 = 20;

impl Ranking {
    /// Decides in which order the candidates are asked.
    pub fn of(candidates: &[Candidate], wish: &Wish) -> Self {
        let mut rejected: Vec<Option<Reason>> = candidates.iter().map(|one| one.rejected(wish)).collect();
        let eligible = |rejected: &[Option<Reason>]| -> Vec<usize> {
            (0..candidates.len()).filter(|at| rejected[*at].is_none()).collect()
        };
        let well = eligible(&rejected);
        let order = if well.is_empty() { last_resort(&rejected) } else { ordered(candidates, well, wish) };
        let verdicts = candidates.iter().enumerate().map(|(at, candidate)| {
            let place = order.iter().position(|(other, _)| *other == at);
            let reason = place.map(|place| order[place].1.clone()).or_else(|| rejected[at].take());
            Verdict {
                target: candidate.target.clone(),
                model: candidate.model.clone(),
                place: place.and_then(|place| u32::try_from(place + 1).ok()),
                reason: reason.unwrap_or(Reason::InOrder),
                cost: candidate.cost,
                pace_ms: candidate.pace.map(millis),
            }
        });
        Self { route: wish.route, verdicts: verdicts.collect() }
    }

    /// Whether the same was decided for the same reasons, whatever it was expected to cost.
    pub fn is_like(&self, other: &Self) -> bool {
        let told = |ranking: &Self| -> Vec<_> {
            ranking.verdicts.iter().map(|one| (one.model.clone(), one.place, one.reason.clone())).collect()
        };
        self.route == other.route && told(self) == told(other)
    }

    /// The places of the candidates that are asked, in the order in which they are.
    pub fn order(&self) -> Vec<usize> {
        let mut asked: Vec<usize> =
            (0..self.verdicts.len()).filter(|at| self.verdicts[*at].place.is_some()).collect();
        asked.sort_by_key(|at| self.verdicts[*at].place);
        asked
    }
}

impl Candidate {
    /// Why it is left out, if it is.
    fn rejected(&self, wish: &Wish) -> Option<Reason> {
        let can = |ability: &Ability| match (ability, &self.abilities) {
            (Ability::Context, _) => self.context.is_some(),
            (Ability::Region, _) => self.in_region,
            // Who is in no list may well be able to; it says so itself when it is not.
            (_, None) => true,
            (_, Some(known)) => known.contains(ability),
        };
        if let Some(ability) = wish.needs.iter().find(|ability| !can(ability)) {
            return Some(Reason::Lacks { ability: *ability });
        }
        let asked = wish.read.saturating_add(wish.written.unwrap_or(0));
        if let Some(context) = self.context.filter(|context| *context < asked) {
            return Some(Reason::TooSmall { context, asked });
        }
        match self.funds {
            Funds::Enough => {}
            Funds::Short => return Some(Reason::TooDear),
            Funds::Unpriced => return Some(Reason::Unpriced),
        }
        match self.health {
            Health::Well => None,
            Health::Open(wait) => Some(Reason::Open { wait_ms: millis(wait) }),
            Health::Cooling(wait) => Some(Reason::Cooling { wait_ms: millis(wait) }),
            Health::Limited(wait) => Some(Reason::Limited { wait_ms: millis(wait) }),
        }
    }
}

/// Those that only do not do well, the one that is soonest well first. A limit that is ours stays one.
fn last_resort(rejected: &[Option<Reason>]) -> Vec<(usize, Reason)> {
    let resting = rejected.iter().enumerate().filter_map(|(at, reason)| match reason {
        Some(Reason::Open { wait_ms } | Reason::Cooling { wait_ms }) => Some((at, *wait_ms)),
        _ => None,
    });
    let mut left: Vec<(usize, u64)> = resting.collect();
    left.sort_by_key(|(_, wait)| *wait);
    left.into_iter().map(|(at, wait_ms)| (at, Reason::LastResort { wait_ms })).collect()
}

fn ordered(candidates: &[Candidate], mut well: Vec<usize>, wish: &Wish) -> Vec<(usize, Reason)> {
    let of = |at: &usize| &candidates[*at];
    let mut explored = None;
    match wish.route {
        Route::Order => {}
        Route::Cheapest => well.sort_by(|one, other| unknown_last(of(one).cost, of(other).cost)),
        Route::Fastest => {
            // Who was not asked lately comes first, so that it is known next time.
            well.sort_by_key(|at| of(at).pace.unwrap_or(Duration::ZERO));
            let measured = well.iter().all(|at| of(at).pace.is_some());
            if measured && well.len() > 1 && wish.dice.is_multiple_of(EXPLORE) {
                let rest = (well.len() - 1) as u64;
                let drawn = 1 + usize::try_from((wish.dice / EXPLORE) % rest).unwrap_or(0);
                well[..=drawn].rotate_right(1);
                explored = well.first().copied();
            }
        }
        Route::Weighted => well = drawn(candidates, well, wish.dice),
        Route::Quality => well.sort_by_key(|at| std::cmp::Reverse(of(at).quality)),
    }
    let only = candidates.len() == 1;
    let mut order: Vec<(usize, Reason)> = well
        .into_iter()
        .map(|at| {
            let reason = match wish.route {
                _ if only => Reason::Only,
                Route::Order => Reason::InOrder,
                Route::Cheapest => Reason::Cost,
                Route::Fastest if explored == Some(at) => Reason::Drawn,
                Route::Fastest if of(&at).pace.is_none() => Reason::Untried,
                Route::Fastest => Reason::Pace,
                Route::Weighted => Reason::Drawn,
                Route::Quality => Reason::Quality,
            };
            (at, reason)
        })
        .collect();
    let kept = wish.stays_with.as_deref();
    if let Some(place) = order.iter().position(|(at, _)| Some(of(at).target.as_str()) == kept) {
        order[..=place].rotate_right(1);
        order[0].1 = if only { Reason::Only } else { Reason::Kept };
    }
    order
}

fn unknown_last(one: Option<NanoUsd>, other: Option<NanoUsd>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Draws one after the other, each by its share of what is left.
fn drawn(candidates: &[Candidate], mut well: Vec<usize>, mut dice: u64) -> Vec<usize> {
    let mut order = Vec::with_capacity(well.len());
    while !well.is_empty() {
        let weight = |at: &usize| u64::from(candidates[*at].weight.max(1));
        let sum: u64 = well.iter().map(weight).sum();
        let mut point = dice % sum;
        // Another number for the next draw (Knuth's multiplier, MMIX).
        dice = dice.rotate_left(29).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let hit = well.iter().position(|at| match point.checked_sub(weight(at)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        });
        order.push(well.remove(hit.unwrap_or(0)));
    }
    order
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Reason {
    /// A stable word for programs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::InOrder => "in_order",
            Self::Kept => "kept",
            Self::Cost => "cost",
            Self::Pace => "pace",
            Self::Untried => "untried",
            Self::Drawn => "drawn",
            Self::Quality => "quality",
            Self::LastResort { .. } => "last_resort",
            Self::Lacks { .. } => "lacks",
            Self::TooSmall { .. } => "too_small",
            Self::Open { .. } => "open",
            Self::Cooling { .. } => "cooling",
            Self::Limited { .. } => "limited",
            Self::Unknown => "unknown",
            Self::Language => "language",
            Self::TooDear => "too_dear",
            Self::Unpriced => "unpriced",
        }
    }
}

/// For people: what follows `it is asked because …` or `it is not asked: …`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| ms.div_ceil(1_000);
        match self {
            Self::Only => f.write_str("it is the only one"),
            Self::InOrder => f.write_str("by the order of the targets"),
            Self::Kept => f.write_str("the conversation is with it"),
            Self::Cost => f.write_str("by what it is expected to cost"),
            Self::Pace => f.write_str("by how long it took lately"),
            Self::Untried => f.write_str("it was not asked lately, so nobody knows how fast it is"),
            Self::Drawn => f.write_str("it was drawn"),
            Self::Quality => f.write_str("by how good it is"),
            Self::LastResort { wait_ms } => {
                write!(f, "it should rest for {} s more, but nobody else is left", seconds(wait_ms))
            }
            Self::Lacks { ability } => match ability {
                Ability::Tools => f.write_str("it cannot call tools"),
                Ability::Json => f.write_str("it does not answer in JSON of a schema"),
                Ability::Vision => f.write_str("it reads no pictures"),
                Ability::ImageOut => f.write_str("it makes no pictures"),
                Ability::Web => f.write_str("it looks nothing up on the web"),
                Ability::Context => f.write_str("it is not known how much it reads"),
                Ability::Region => f.write_str("it is not known to run in a region that the operator allows"),
            },
            Self::TooSmall { context, asked } => {
                write!(f, "it reads {context} tokens, and question and answer may have {asked}")
            }
            Self::Open { wait_ms } => {
                write!(f, "it failed too often; it rests for {} s more", seconds(wait_ms))
            }
            Self::Cooling { wait_ms } => write!(f, "it refused; it rests for {} s more", seconds(wait_ms)),
            Self::Limited { wait_ms } => {
                write!(f, "it was asked as much as it may be in a minute; again in {} s", seconds(wait_ms))
            }
            Self::Unknown => f.write_str("this server does not know it"),
            Self::Language => f.write_str("it is not asked in the language of the program"),
            Self::TooDear => f.write_str("it may cost more than is left"),
            Self::Unpriced => f.write_str("nobody knows what it costs, and money is limited"),
        }
    }
}

#[cfg(test)]
mod tests;
