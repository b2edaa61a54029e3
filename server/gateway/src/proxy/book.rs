//! What passed during a visit. It lives outside the connections, so that the end of a visit settles
//! what they have under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::route::Ranking;
use domain::stage::{HostUsage, ModelUsage, StageUsage, Tokens};
use ports::proxy::VisitReport;

use super::meter::Meter;
use crate::class::Class;
use crate::ledger::{Bill, Charge};
use crate::sse::TooLarge;

/// Rows of calls that are kept apart; further ones are added to the last of their kind.
const ROWS: usize = 10_000;

/// Hosts that are kept apart; further ones are counted together.
const HOSTS: usize = 500;

/// The name under which hosts beyond [`HOSTS`] are counted.
const OTHERS: &str = "(others)";

/// The calls and hosts of a visit.
#[derive(Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    open: HashMap<u64, Shared>,
    next: u64,
    /// Calls that are over, and how models were chosen.
    usage: StageUsage,
    hosts: Vec<Arc<Host>>,
    over: bool,
}

struct Entry {
    bill: Bill,
    meter: Meter,
}

/// A call's entry, until either its own end or the visit's settles it.
type Shared = Arc<Mutex<Option<Entry>>>;

/// A call that is under way. Dropped, it is settled.
pub(super) struct OpenCall {
    book: Arc<Book>,
    id: u64,
    entry: Shared,
}

/// One host.
pub(super) struct Host {
    name: String,
    port: u16,
    requests: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    refused: Mutex<Option<String>>,
}

impl Book {
    /// Begins a call; it is not sent yet. `None` when the visit is over.
    pub(super) fn open(self: &Arc<Self>, bill: Bill, meter: Meter) -> Option<OpenCall> {
        let mut pages = self.pages();
        if pages.over {
            return None;
        }
        let id = pages.next;
        pages.next += 1;
        let entry = Arc::new(Mutex::new(Some(Entry { bill, meter })));
        pages.open.insert(id, Arc::clone(&entry));
        Some(OpenCall { book: Arc::clone(self), id, entry })
    }

    /// Notes how one of several models was chosen, where it is not as before.
    pub(super) fn ranked(&self, ranking: Ranking) {
        let mut pages = self.pages();
        if !pages.over {
            pages.usage.rank(ranking);
        }
    }

    /// Counts a request to a host, and why it is refused, if it is.
    pub(super) fn host(&self, name: &str, port: u16, refused: Option<String>) -> Arc<Host> {
        let mut pages = self.pages();
        let known =
            |name: &str, port| pages.hosts.iter().position(|host| host.name == name && host.port == port);
        let found = known(name, port).or_else(|| known(OTHERS, 0).filter(|_| pages.hosts.len() > HOSTS));
        let host = match found {
            Some(at) => Arc::clone(&pages.hosts[at]),
            None => {
                let is_full = pages.hosts.len() >= HOSTS;
                let (name, port) = if is_full { (OTHERS, 0) } else { (name, port) };
                let host = Arc::new(Host::new(name.to_owned(), port));
                pages.hosts.push(Arc::clone(&host));
                host
            }
        };
        drop(pages);
        host.requests.fetch_add(1, Ordering::Relaxed);
        if refused.is_some() {
            *host.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        }
        host
    }

    /// Settles what is under way, and says what passed.
    pub(super) fn close(&self) -> VisitReport {
        let mut pages = self.pages();
        pages.over = true;
        let mut open: Vec<(u64, Shared)> = pages.open.drain().collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        for entry in open.iter().filter_map(|(_, entry)| locked(entry).take()) {
            pages.settle(entry);
        }
        VisitReport {
            calls: pages.usage.calls.clone(),
            rankings: pages.usage.rankings.clone(),
            hosts: pages.hosts.iter().map(|host| host.report()).collect(),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn settle(&mut self, entry: Entry) {
        let Some(row) = entry.bill.settle(entry.meter.finish()) else { return };
        let is_kind = |other: &&mut ModelUsage| {
            other.requested == row.requested && other.served == row.served && other.provider == row.provider
        };
        let is_full = self.usage.calls.len() >= ROWS;
        match self.usage.calls.iter_mut().rev().find(is_kind).filter(|_| is_full) {
            Some(last) => {
                last.tokens = last.tokens.plus(&row.tokens);
                last.cost = last.cost.plus(row.cost);
                last.estimated |= row.estimated;
            }
            None => self.usage.calls.push(row),
        }
    }
}

impl OpenCall {
    /// Says whether the provider charges for it.
    pub(super) fn charge(&self, charge: Charge) {
        if let Some(entry) = locked(&self.entry).as_mut() {
            entry.bill.charge = charge;
        }
    }

    /// Says how it failed.
    pub(super) fn failed(&self, class: Class) {
        if let Some(entry) = locked(&self.entry).as_mut() {
            entry.bill.failure = Some(class);
        }
    }

    /// Says what kind of answer comes.
    pub(super) fn begins(&self, is_stream: bool) {
        if let Some(entry) = locked(&self.entry).as_mut() {
            entry.meter.begins(is_stream);
        }
    }

    /// What the provider has said so far that was used.
    pub(super) fn used(&self) -> Option<Tokens> {
        locked(&self.entry).as_ref().and_then(|entry| entry.meter.used())
    }

    /// Reads a piece of the answer that passes.
    ///
    /// # Errors
    /// When an event of the stream has no end.
    pub(super) fn passes(&self, piece: &[u8]) -> Result<(), TooLarge> {
        locked(&self.entry).as_mut().map_or(Ok(()), |entry| entry.meter.push(piece))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut pages = self.book.pages();
        pages.open.remove(&self.id);
        if let Some(entry) = locked(&self.entry).take() {
            pages.settle(entry);
        }
    }
}

/// Locked after the pages, where both are.
fn locked(entry: &Shared) -> MutexGuard<'_, Option<Entry>> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    fn new(name: String, port: u16) -> Self {
        Self {
            name,
            port,
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: Mutex::new(None),
        }
    }

    /// Says why it was refused after all.
    pub(super) fn refuse(&self, why: &str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    fn report(&self) -> HostUsage {
        HostUsage {
            host: self.name.clone(),
            port: self.port,
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
