//! Jails prepared ahead of need.
//!
//! A few cells are kept in which nsjail has done everything but the program: a run that fits takes one,
//! has its workspace mounted there, and starts at once. Each makes a new jail for the next run while the
//! server records the last one. What does not fit, or finds none at rest, gets a cell of its own.
//!
//! They fit when toolchain and memory are the same: these are in the mounts. All other limits are
//! written when a run begins. A cell at rest has its first process waiting on its socket and nsjail stopped:
//! it costs memory and no time.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use domain::limits::Limits;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use tokio::sync::Notify;

use crate::cell::{Cell, Making, Turn};
use crate::descriptor;
use crate::group::Groups;
use crate::jails::{Fit, Task};
use crate::runtime::{Prepared, Toolchain};
use crate::supervise::moment;
use crate::user::Users;

/// A cell that nobody took is made anew after so long.
const OLD: Duration = Duration::from_secs(300);
/// After so many failures in a row nothing more is prepared.
const FAILURES: usize = 3;

/// The cells of a sandbox.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    nsjail: CString,
    groups: Groups,
    users: Users,
    state: Mutex<State>,
    /// A cell came to rest, or went.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    seats: Vec<Seat>,
    next: u64,
    failures: usize,
    closed: bool,
    threads: Vec<JoinHandle<()>>,
}

/// One cell, from the outside.
#[derive(Debug)]
struct Seat {
    number: u64,
    shape: Shape,
    rest: Rest,
    /// Wakes its thread.
    bell: OwnedFd,
}

#[derive(Debug)]
enum Rest {
    /// Its next jail is being made.
    Coming,
    /// It waits, with this policy in force, since then.
    Ready(Arc<Prepared>, Instant),
    /// It was given this and has not begun.
    Given(Box<Task>),
    /// It has a run.
    Busy,
}

/// What runs must have in common to use the same cells.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    toolchain: Toolchain,
    /// The root file system tells toolchains apart.
    root: PathBuf,
    memory: u64,
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root && self.memory == other.memory
    }
}

impl Shape {
    pub(crate) fn new(toolchain: &Toolchain, limits: &Limits) -> Self {
        let root = toolchain.home().map(PathBuf::from).unwrap_or_default();
        Self { toolchain: toolchain.clone(), root, memory: limits.memory }
    }

    /// What a cell at rest may use.
    fn limits(&self) -> Limits {
        Limits { memory: self.memory, ..Limits::DEFAULT }
    }
}

impl Pool {
    /// A pool of at most so many cells; it has none at first. To bring a workspace into a jail that is
    /// there already takes root.
    pub(crate) fn new(most: usize, nsjail: CString, groups: Groups, users: Users) -> Self {
        let most = if geteuid().is_root() { most } else { 0 };
        Self {
            shared: Arc::new(Shared {
                most,
                nsjail,
                groups,
                users,
                state: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// How many cells there may be.
    pub(crate) fn most(&self) -> usize {
        self.shared.most
    }

    /// Whether this is the name of a group of a cell that is there.
    pub(crate) fn has(&self, group: &str) -> bool {
        self.shared.lock().seats.iter().any(|seat| seat.group() == group)
    }

    /// Gives the task to a cell that fits, or back. What is missing is made meanwhile.
    pub(crate) fn give(&self, task: Box<Task>) -> Result<(), Box<Task>> {
        if self.shared.most == 0 {
            return Err(task);
        }
        let shape = Shape::new(&task.job.toolchain, &task.job.spec.limits);
        let Ok(policy) = shape.toolchain.policy() else { return Err(task) };
        let mut state = self.shared.lock();
        // The mounts of the machine changed since these were made.
        state.dismiss(|seat| {
            matches!(&seat.rest, Rest::Ready(of, _) if seat.shape == shape && !Arc::ptr_eq(of, &policy))
        });
        // One that is on its way is there sooner than one that is yet to be made.
        let fits = |seat: &&mut Seat| seat.shape == shape;
        let ready = state.seats.iter_mut().filter(fits).find(|seat| matches!(seat.rest, Rest::Ready(..)));
        let given = if let Some(seat) = ready {
            seat.rest = Rest::Given(task);
            seat.ring();
            Ok(())
        } else if let Some(seat) =
            state.seats.iter_mut().filter(fits).find(|seat| matches!(seat.rest, Rest::Coming))
        {
            seat.rest = Rest::Given(task);
            Ok(())
        } else {
            Err(task)
        };
        Shared::fill(&self.shared, &mut state, &shape, usize::from(given.is_err()));
        given
    }

    /// Prepares cells for runs of this kind; if need be, one of another kind makes room.
    pub(crate) fn prepare(&self, shape: &Shape) {
        let mut state = self.shared.lock();
        Shared::fill(&self.shared, &mut state, shape, 1);
    }

    /// Prepares cells for runs of this kind where there is room.
    pub(crate) fn fill_up(&self, shape: &Shape) {
        let mut state = self.shared.lock();
        Shared::fill(&self.shared, &mut state, shape, 0);
    }

    /// Waits until no cell of this kind is on its way. How many are at rest.
    pub(crate) async fn at_rest(&self, shape: &Shape) -> usize {
        loop {
            let changed = self.shared.changed.notified();
            {
                let state = self.shared.lock();
                let of = || state.seats.iter().filter(|seat| seat.shape == *shape);
                if !of().any(|seat| matches!(seat.rest, Rest::Coming | Rest::Given(_))) {
                    return of().filter(|seat| matches!(seat.rest, Rest::Ready(..))).count();
                }
            }
            changed.await;
        }
    }

    /// Ends all cells and waits until they are gone.
    pub(crate) fn close(&self) {
        let threads = {
            let mut state = self.shared.lock();
            state.closed = true;
            // Those that have a run see it when that is over.
            state.seats.iter().for_each(Seat::ring);
            std::mem::take(&mut state.threads)
        };
        for thread in threads {
            // One that panicked has dropped its cell.
            let _ = thread.join();
        }
    }
}

impl State {
    /// Lets cells at rest go. Their threads see that they have no seat any more.
    fn dismiss(&mut self, who: impl Fn(&Seat) -> bool) {
        self.seats.retain(|seat| {
            let goes = who(seat);
            if goes {
                seat.ring();
            }
            !goes
        });
    }
}

impl Seat {
    fn group(&self) -> String {
        group(self.number)
    }

    /// A byte that is there already wakes as well.
    fn ring(&self) {
        let _ = nix::unistd::write(&self.bell, b"!");
    }
}

/// No name of a jail has a dot.
fn group(number: u64) -> String {
    format!("cell.{number}")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts cells of this shape until there are as many as may be. When there are, and this many are
    /// missing, those of other shapes that rested longest make room.
    fn fill(shared: &Arc<Self>, state: &mut State, shape: &Shape, missing: usize) {
        if state.closed || state.failures >= FAILURES {
            return;
        }
        let of_shape = state.seats.iter().filter(|seat| seat.shape == *shape).count();
        if state.seats.len() >= shared.most && missing > 0 && of_shape < shared.most {
            let since = |seat: &Seat| match seat.rest {
                Rest::Ready(_, since) if seat.shape != *shape => Some(since),
                _ => None,
            };
            let oldest =
                state.seats.iter().filter(|seat| since(seat).is_some()).min_by_key(|seat| since(seat));
            if let Some(number) = oldest.map(|seat| seat.number) {
                state.dismiss(|seat| seat.number == number);
            }
        }
        while state.seats.len() < shared.most {
            if let Err(error) = Self::seat(shared, state, shape.clone()) {
                tracing::warn!(%error, "no thread for a prepared jail");
                return;
            }
        }
    }

    fn seat(shared: &Arc<Self>, state: &mut State, shape: Shape) -> io::Result<()> {
        let (ear, bell) = descriptor::pipe()?;
        let number = state.next;
        state.next += 1;
        state.threads.retain(|thread| !thread.is_finished());
        let mine = Arc::clone(shared);
        let of = shape.clone();
        let thread = std::thread::Builder::new().name(format!("cell-{number}")).spawn(move || {
            let place = Place { shared: mine, number };
            place.sit(&of, &ear);
        })?;
        state.threads.push(thread);
        state.seats.push(Seat { number, shape, rest: Rest::Coming, bell });
        Ok(())
    }

    fn failed(&self, error: &io::Error) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.failures += 1;
        if state.failures == FAILURES {
            tracing::warn!(%error, "no jails are prepared ahead any more; each is made when it is needed");
        } else {
            tracing::debug!(%error, "a jail could not be prepared");
        }
    }
}

/// A cell's thread's own view. Dropping gives the seat up, also when the thread panics.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = {
            let mut state = self.shared.lock();
            let at = state.seats.iter().position(|seat| seat.number == self.number);
            at.map(|at| state.seats.remove(at))
        };
        self.shared.changed.notify_waiters();
        // There is no prepared jail for it after all.
        if let Some(Seat { rest: Rest::Given(task), .. }) = seat
            && !std::thread::panicking()
        {
            task.run();
        }
    }
}

impl Place {
    /// The life of a seat: one cell after another, each with one jail after another.
    fn sit(&self, shape: &Shape, ear: &File) {
        loop {
            let mut cell = match self.make(shape, ear) {
                Ok(cell) => cell,
                Err(error) => return self.shared.failed(&error),
            };
            loop {
                match self.rest(&cell, ear) {
                    Waking::Task(task) => {
                        let name = &task.job.spec.name;
                        tracing::debug!(
                            jail.name = name.as_str(),
                            jail.cell = self.number,
                            "{name} was prepared"
                        );
                        if let Fit::No = task.run_in(&mut cell, |fit| self.over(fit)) {
                            break;
                        }
                        if cell.is_shared() {
                            // Its next run would be the same user as who is still there.
                            break;
                        }
                    }
                    Waking::Old => break,
                    Waking::Gone => return,
                }
                if let Err(error) = cell.renew(&shape.limits(), ear) {
                    tracing::debug!(%error, "a prepared jail is made anew");
                    break;
                }
            }
            drop(cell);
            let mut state = self.shared.lock();
            if state.closed || state.failures >= FAILURES {
                return;
            }
            if let Some(seat) = state.seats.iter_mut().find(|seat| seat.number == self.number) {
                seat.rest = match std::mem::replace(&mut seat.rest, Rest::Coming) {
                    Rest::Given(task) => Rest::Given(task),
                    _ => Rest::Coming,
                };
            }
        }
    }

    /// The run is over, as is about to be told; whoever hears of it may count on the next jail.
    fn over(&self, fit: Fit) {
        if fit == Fit::No {
            self.shared.failed(&io::Error::other("it could not be entered"));
        }
        let mut state = self.shared.lock();
        if fit == Fit::Yes {
            state.failures = 0;
        }
        if let Some(seat) = state.seats.iter_mut().find(|seat| seat.number == self.number) {
            seat.rest = Rest::Coming;
        }
    }

    fn make(&self, shape: &Shape, ear: &File) -> io::Result<Cell> {
        let shared = &self.shared;
        let lodger = shared.users.take().ok_or_else(|| io::Error::other("too many jails at once"))?;
        let making = Making {
            nsjail: &shared.nsjail,
            policy: shape.toolchain.policy()?,
            group: shared.groups.create(&group(self.number), &shape.limits())?,
            lodger: Arc::new(lodger),
            memory: shape.memory,
            workspace: None,
            turn: Turn::Again,
        };
        let mut cell = Cell::start(making)?;
        cell.settle(ear)?;
        Ok(cell)
    }

    /// Waits for a run.
    fn rest(&self, cell: &Cell, ear: &File) -> Waking {
        let since = moment();
        let mut rest = Rest::Ready(Arc::clone(&cell.policy), since);
        let mut old = false;
        loop {
            {
                let mut state = self.shared.lock();
                let closed = state.closed;
                let mut seats = state.seats.iter_mut();
                let Some(seat) = seats.find(|seat| seat.number == self.number).filter(|_| !closed) else {
                    return Waking::Gone;
                };
                match std::mem::replace(&mut seat.rest, Rest::Busy) {
                    Rest::Given(task) => {
                        hush(ear);
                        self.shared.changed.notify_waiters();
                        return Waking::Task(task);
                    }
                    _ if old => {
                        seat.rest = Rest::Coming;
                        return Waking::Old;
                    }
                    _ => seat.rest = rest,
                }
            }
            self.shared.changed.notify_waiters();
            let mut polled = vec![
                PollFd::new(ear.as_fd(), PollFlags::POLLIN),
                PollFd::new(cell.jailer().as_fd(), PollFlags::POLLIN),
            ];
            polled.extend(cell.inside().map(|inside| PollFd::new(inside.as_fd(), PollFlags::POLLIN)));
            let left = OLD.saturating_sub(moment().saturating_duration_since(since));
            // Whatever it says, the state is looked at.
            let _ = poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            // Somebody ended it, or nobody wanted it.
            old = left.is_zero() || polled[1..].iter().any(|polled| polled.any() == Some(true));
            hush(ear);
            rest = Rest::Ready(Arc::clone(&cell.policy), since);
        }
    }
}

/// Takes in how often the bell rang.
fn hush(mut ear: &File) {
    let _ = ear.read(&mut [0; 16]);
}

/// Why a cell that rested does not any more.
enum Waking {
    Task(Box<Task>),
    /// It is to be made anew.
    Old,
    /// It is to go.
    Gone,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}
