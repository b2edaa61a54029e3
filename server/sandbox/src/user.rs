//! Who a jail is on the machine.
//!
//! A server that is root gives each jail a user of its own out of a range that nobody else uses; an
//! ordinary user can only be itself. Inside, the user always has the same number.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::policy::UserMap;

/// The user in every jail.
const INSIDE: u32 = 1000;
/// Most jails at once.
const SLOTS: u32 = 4096;
/// First user of a range, the first one that this machine has is taken. 0x7000_0000 is above what
/// accounts and systemd hand out and below what signed numbers hold; containers have less.
const RANGES: [u32; 3] = [0x7000_0000, 200_001, 61_000 - SLOTS];

/// Hands out users.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    first: Option<u32>,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

/// A user, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lodger {
    slot: u32,
    map: UserMap,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

impl Users {
    /// Looks at who we are.
    pub(crate) fn discover() -> Self {
        let table = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let first = geteuid().is_root().then(|| range(&table)).flatten();
        Self { first, taken: Arc::default() }
    }

    /// Whether each jail has a user of its own.
    pub(crate) fn are_separate(&self) -> bool {
        self.first.is_some()
    }

    /// A user that no other jail of this server has; `None` when all are taken.
    pub(crate) fn take(&self) -> Option<Lodger> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (0..SLOTS).find(|slot| !taken.contains(slot))?;
        taken.insert(slot);
        let (outside_user, outside_group) = match self.first {
            Some(first) => (first + slot, first + slot),
            None => (geteuid().as_raw(), getegid().as_raw()),
        };
        Some(Lodger {
            slot,
            map: UserMap { inside: INSIDE, outside_user, outside_group },
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Lodger {
    pub(crate) fn map(&self) -> UserMap {
        self.map
    }

    pub(crate) fn user(&self) -> Uid {
        Uid::from_raw(self.map.outside_user)
    }

    pub(crate) fn group(&self) -> Gid {
        Gid::from_raw(self.map.outside_group)
    }
}

impl Drop for Lodger {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

/// The first range that is mapped whole, by a table as in user_namespaces(7).
fn range(table: &str) -> Option<u32> {
    RANGES.into_iter().find(|&first| {
        table.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or_default());
            let (start, _, count) = (numbers.next(), numbers.next(), numbers.next());
            let (start, count) = (start.unwrap_or_default(), count.unwrap_or_default());
            start <= first.into() && u64::from(first) + u64::from(SLOTS) <= start + count
        })
    })
}

/// The bound, or ours where that is lower: raising one above it fails.
pub(crate) fn clamp(resource: Resource, wanted: u64) -> u64 {
    match getrlimit(resource) {
        Ok((_, hard)) if hard != RLIM_INFINITY => wanted.min(hard),
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    fn check(table: &str, expect: Option<u32>) {
        assert_eq!(range(table), expect);
    }

    #[test]
    fn the_range_is_one_that_the_machine_has() {
        check("         0          0 4294967295\n", Some(0x7000_0000));
        check("0 100000 65536\n", Some(61_000 - 4096));
        check("0 1000 1\n1 100000 65536\n", Some(61_000 - 4096));
        check("0 100000 300000\n", Some(200_001));
        check("0 1000 1\n", None);
        check("", None);
    }
}
