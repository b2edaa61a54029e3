//! Who works in a workspace at the moment. Several jails may at the same time; they are the same user on
//! the machine then, for a file has one owner.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::user::Lodger;

/// All workspaces that jails have.
#[derive(Debug, Default)]
pub(crate) struct Tenancies(BTreeMap<PathBuf, Weak<Tenancy>>);

/// The jails of one workspace.
#[derive(Debug, Default)]
struct Tenancy {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whose it is, as long as a jail works in it.
    owner: Option<Arc<Lodger>>,
    jails: usize,
    /// The first jail has yet to say whose it is.
    awaited: bool,
}

/// One jail that has a workspace, or is to have it.
#[derive(Debug)]
pub(crate) struct Tenant {
    tenancy: Arc<Tenancy>,
    first: bool,
}

/// A jail at work in its workspace.
#[derive(Debug)]
pub(crate) struct Stay<'a> {
    tenancy: Option<&'a Tenancy>,
    /// Whose the workspace is.
    pub owner: Arc<Lodger>,
}

impl Tenancies {
    /// A jail is to work in this workspace.
    pub(crate) fn join(&mut self, workspace: PathBuf) -> Tenant {
        self.0.retain(|_, tenancy| tenancy.strong_count() > 0);
        if let Some(tenancy) = self.0.get(&workspace).and_then(Weak::upgrade) {
            return Tenant { tenancy, first: false };
        }
        let tenancy = Arc::new(Tenancy::default());
        tenancy.lock().awaited = true;
        self.0.insert(workspace, Arc::downgrade(&tenancy));
        Tenant { tenancy, first: true }
    }
}

impl Tenancy {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    /// Whether it may come as anybody: no other jail has the workspace.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// Begins as whoever the other jails in there are, or as somebody new. Waits until the first of them has
    /// said who that is. `None` when there is nobody new.
    pub(crate) fn enter(&self, new: impl FnOnce() -> Option<Lodger>) -> Option<Stay<'_>> {
        let state = self.tenancy.lock();
        let others = |state: &mut State| state.awaited && !self.first;
        let mut state =
            self.tenancy.settled.wait_while(state, others).unwrap_or_else(PoisonError::into_inner);
        let owner = match &state.owner {
            Some(owner) => Arc::clone(owner),
            None => Arc::new(new()?),
        };
        Some(self.settle(&mut state, owner))
    }

    /// Begins as this one; `None` when the workspace is somebody else's.
    pub(crate) fn enter_as(&self, owner: &Arc<Lodger>) -> Option<Stay<'_>> {
        let mut state = self.tenancy.lock();
        let free = state.owner.as_ref().is_none_or(|other| Arc::ptr_eq(other, owner));
        free.then(|| self.settle(&mut state, Arc::clone(owner)))
    }

    fn settle(&self, state: &mut State, owner: Arc<Lodger>) -> Stay<'_> {
        state.owner = Some(Arc::clone(&owner));
        state.jails += 1;
        if self.first {
            state.awaited = false;
            self.tenancy.settled.notify_all();
        }
        Stay { tenancy: Some(&self.tenancy), owner }
    }
}

/// One that never began says nothing more.
impl Drop for Tenant {
    fn drop(&mut self) {
        if self.first {
            self.tenancy.lock().awaited = false;
            self.tenancy.settled.notify_all();
        }
    }
}

impl Stay<'_> {
    /// Ends it. When nobody else is in there, `last` is done before anybody can come.
    pub(crate) fn leave<E>(mut self, last: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.tenancy.take().map_or(Ok(()), |tenancy| leave(tenancy, last))
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if let Some(tenancy) = self.tenancy.take() {
            let _ = leave(tenancy, || Ok::<_, ()>(()));
        }
    }
}

fn leave<E>(tenancy: &Tenancy, last: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    let mut state = tenancy.lock();
    state.jails -= 1;
    if state.jails > 0 {
        return Ok(());
    }
    state.owner = None;
    last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::Users;

    #[test]
    fn who_comes_while_others_are_there_is_the_same_user() {
        let users = Users::discover();
        let mut tenancies = Tenancies::default();
        let one = tenancies.join("/a".into());
        let other = tenancies.join("/a".into());
        assert!(one.is_first() && !other.is_first() && tenancies.join("/b".into()).is_first());

        // The second waits until the first is in.
        let both = std::thread::scope(|scope| {
            let second = scope.spawn(|| other.enter(|| users.take()).unwrap());
            let first = one.enter(|| users.take()).unwrap();
            (first, second.join().unwrap())
        });
        assert!(Arc::ptr_eq(&both.0.owner, &both.1.owner));
        let stranger = Arc::new(users.take().unwrap());
        assert!(one.enter_as(&stranger).is_none() && one.enter_as(&both.0.owner).is_some());

        both.0.leave(|| Err("it was not the last")).unwrap();
        assert_eq!(both.1.leave(|| Err("it was the last")), Err("it was the last"));
        assert!(other.enter_as(&stranger).is_some(), "it is nobody's now");
    }

    #[test]
    fn nobody_waits_for_one_that_never_came() {
        let users = Users::discover();
        let mut tenancies = Tenancies::default();
        let (one, other) = (tenancies.join("/a".into()), tenancies.join("/a".into()));
        drop(one);
        assert!(other.enter(|| users.take()).is_some());
    }
}
