//! A purse: the money that one run may spend, by several calls at the same time. Each call reserves
//! what it may cost at most before it is made, and settles what it did cost after it; so all of them
//! together never spend more than there is.

use std::sync::{Arc, Mutex, PoisonError};

use crate::money::NanoUsd;

/// Money to be spent. Clones share it.
#[derive(Debug, Clone)]
pub struct Purse(Arc<Mutex<Balance>>);

#[derive(Debug)]
struct Balance {
    limit: Option<NanoUsd>,
    spent: NanoUsd,
    reserved: NanoUsd,
}

/// There is not enough left for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{spent} of {limit} are spent and {reserved} reserved; the next call may cost {asked}")]
pub struct Overdrawn {
    /// What may be spent.
    pub limit: NanoUsd,
    /// What is spent.
    pub spent: NanoUsd,
    /// What calls under way may still cost.
    pub reserved: NanoUsd,
    /// What was asked for.
    pub asked: NanoUsd,
}

/// Money that is set aside for one call. Dropped without being settled, it goes back.
#[derive(Debug)]
#[must_use = "a reservation that is dropped sets nothing aside"]
pub struct Reservation {
    purse: Purse,
    amount: NanoUsd,
}

impl Purse {
    /// A purse of which something may be spent already; without a limit it only counts.
    pub fn new(limit: Option<NanoUsd>, spent: NanoUsd) -> Self {
        Self(Arc::new(Mutex::new(Balance { limit, spent, reserved: NanoUsd::ZERO })))
    }

    /// Sets money aside for a call.
    ///
    /// # Errors
    /// When less is left, or nothing at all: a call that costs nothing needs no purse, but one whose
    /// price is only believed to be nothing is refused by a purse that is empty.
    pub fn reserve(&self, asked: NanoUsd) -> Result<Reservation, Overdrawn> {
        let mut balance = self.balance();
        if let Some(limit) = balance.limit {
            let taken = balance.spent.plus(balance.reserved);
            if taken >= limit || taken.plus(asked) > limit {
                let Balance { spent, reserved, .. } = *balance;
                return Err(Overdrawn { limit, spent, reserved, asked });
            }
        }
        balance.reserved = balance.reserved.plus(asked);
        drop(balance);
        Ok(Reservation { purse: self.clone(), amount: asked })
    }

    /// What may be spent; `None` has no bound.
    pub fn limit(&self) -> Option<NanoUsd> {
        self.balance().limit
    }

    /// What is neither spent nor set aside; `None` has no bound.
    pub fn left(&self) -> Option<NanoUsd> {
        let balance = self.balance();
        let taken = balance.spent.plus(balance.reserved);
        balance.limit.map(|limit| limit.plus(NanoUsd::from_nanos(-taken.nanos())))
    }

    /// What has been spent.
    pub fn spent(&self) -> NanoUsd {
        self.balance().spent
    }

    fn balance(&self) -> std::sync::MutexGuard<'_, Balance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Books what the call did cost, and gives back the rest. A call can cost more than it should
    /// have: then the purse is that much emptier.
    pub fn settle(self, cost: NanoUsd) {
        let mut balance = self.purse.balance();
        balance.spent = balance.spent.plus(cost);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut balance = self.purse.balance();
        balance.reserved = balance.reserved.plus(NanoUsd::from_nanos(-self.amount.nanos()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(nanos: i64) -> NanoUsd {
        NanoUsd::from_nanos(nanos)
    }

    #[test]
    fn what_is_reserved_cannot_be_reserved_again() {
        let purse = Purse::new(Some(usd(100)), usd(10));
        let first = purse.reserve(usd(60)).unwrap();
        let refused = purse.reserve(usd(31)).unwrap_err();
        assert_eq!(refused, Overdrawn { limit: usd(100), spent: usd(10), reserved: usd(60), asked: usd(31) });
        let second = purse.reserve(usd(30)).unwrap();
        first.settle(usd(20));
        assert_eq!(purse.spent(), usd(30));
        drop(second);
        assert!(purse.reserve(usd(70)).is_ok());
        assert!(purse.reserve(usd(71)).is_err());
    }

    #[test]
    fn an_empty_purse_refuses_what_seems_to_cost_nothing() {
        assert!(Purse::new(Some(usd(5)), usd(5)).reserve(NanoUsd::ZERO).is_err());
        assert!(Purse::new(Some(usd(5)), usd(4)).reserve(NanoUsd::ZERO).is_ok());
    }

    #[test]
    fn without_a_limit_it_counts() {
        let purse = Purse::new(None, NanoUsd::ZERO);
        purse.reserve(usd(i64::MAX)).unwrap().settle(usd(7));
        assert_eq!((purse.limit(), purse.spent()), (None, usd(7)));
    }

    #[test]
    fn many_at_once_never_spend_more_than_there_is() {
        let purse = Purse::new(Some(usd(1_000)), NanoUsd::ZERO);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if let Ok(reservation) = purse.reserve(usd(7)) {
                            reservation.settle(usd(7));
                        }
                    }
                });
            }
        });
        assert_eq!(purse.spent(), usd(994));
    }
}
