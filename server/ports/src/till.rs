//! What calls of models are paid from. Whoever makes calls sets money aside before each of them, retries,
//! repairs and fallbacks too, and settles it afterwards; which budgets that has to fit is not their affair.

use async_trait::async_trait;
use domain::money::NanoUsd;
use domain::purse::{self, Overdrawn, Purse};
use domain::stage::ModelUsage;

/// Money for calls of models, shared by all that are made at the same time.
#[async_trait]
pub trait Till: std::fmt::Debug + Send + Sync {
    /// What bounds what may be spent.
    async fn bound(&self) -> Bound;

    /// Whether anything does: then an answer must have a bound too.
    async fn is_bounded(&self) -> bool {
        self.bound().await != Bound::None
    }

    /// Sets money aside for a call that is about to be made.
    ///
    /// # Errors
    /// When the call must not be made.
    async fn reserve(&self, call: &Intended<'_>) -> Result<Box<dyn Reservation>, Declined>;
}

/// What bounds what may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Nothing.
    None,
    /// So much is left of the run's own money; budgets may leave less.
    Left(NanoUsd),
    /// Budgets; what they leave is found out by reserving.
    Budgets,
}

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Intended<'a> {
    /// The model as it was asked for.
    pub requested: &'a str,
    /// The model that is to answer.
    pub served: &'a str,
    /// Whose it is.
    pub provider: &'a str,
    /// What it may cost at most; `None` is not known.
    pub most: Option<NanoUsd>,
}

/// Money that is set aside for one call. Dropped without being settled, the call was not made, and it
/// goes back.
pub trait Reservation: std::fmt::Debug + Send + Sync {
    /// Takes what the call did cost and gives back the rest. The call is told its id and when it began,
    /// where the till keeps a ledger.
    fn settle(self: Box<Self>, call: &mut ModelUsage);
}

/// Why a call must not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// What may be spent has a bound, and nobody knows what the call costs.
    Unpriced,
    /// There is not enough left.
    Exhausted {
        /// `cost_limit`: of the run's own money; `budget_exhausted`: of a budget.
        code: &'static str,
        /// Of what, what of it is gone, and when it begins anew.
        message: String,
    },
    /// Nobody can tell now whether there is enough.
    Unavailable(String),
}

/// The money of one run, in memory.
#[async_trait]
impl Till for Purse {
    async fn bound(&self) -> Bound {
        self.left().map_or(Bound::None, Bound::Left)
    }

    async fn reserve(&self, call: &Intended<'_>) -> Result<Box<dyn Reservation>, Declined> {
        let reserved = take(self, call.most)?;
        Ok(Box::new(reserved))
    }
}

/// Takes what a call may cost out of a purse.
///
/// # Errors
/// When there is not enough, or nobody knows what the call costs.
pub fn take(purse: &Purse, most: Option<NanoUsd>) -> Result<purse::Reservation, Declined> {
    let asked = match (most, purse.limit()) {
        (Some(most), _) => most,
        (None, None) => NanoUsd::ZERO,
        (None, Some(_)) => return Err(Declined::Unpriced),
    };
    purse.reserve(asked).map_err(|overdrawn| {
        let Overdrawn { limit, spent, reserved, asked } = overdrawn;
        let message = format!(
            "of {limit}, {spent} are spent and {reserved} set aside for calls under way, and this call may cost {asked}"
        );
        Declined::Exhausted { code: "cost_limit", message }
    })
}

impl Reservation for purse::Reservation {
    fn settle(self: Box<Self>, call: &mut ModelUsage) {
        purse::Reservation::settle(*self, call.cost);
    }
}
