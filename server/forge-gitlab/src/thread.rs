//! Numbers of threads. GitLab counts issues and merge requests apart, `#12` and `!12`; this server has one number for
//! each thread of a repository. That of a merge request is GitLab's, that of an issue is GitLab's and a billion.

/// What is added to the number of an issue. No repository has so many merge requests, and a program that counts in
/// floating point still tells these numbers apart.
const ISSUES: u64 = 1_000_000_000;

/// A thread, by GitLab's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thread {
    Issue(u64),
    MergeRequest(u64),
}

impl Thread {
    /// The thread of this server's number.
    pub(crate) const fn of(number: u64) -> Self {
        match number.checked_sub(ISSUES) {
            Some(iid) => Self::Issue(iid),
            None => Self::MergeRequest(number),
        }
    }

    /// This server's number for it.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Issue(iid) => iid.saturating_add(ISSUES),
            Self::MergeRequest(iid) => iid,
        }
    }

    /// Where it is, below its repository.
    pub(crate) fn path(self) -> String {
        match self {
            Self::Issue(iid) => format!("/issues/{iid}"),
            Self::MergeRequest(iid) => format!("/merge_requests/{iid}"),
        }
    }
}

impl std::fmt::Display for Thread {
    /// As people write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Issue(iid) => write!(f, "#{iid}"),
            Self::MergeRequest(iid) => write!(f, "!{iid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_one_number() {
        for thread in [Thread::Issue(12), Thread::MergeRequest(12), Thread::Issue(0)] {
            assert_eq!(Thread::of(thread.number()), thread);
        }
        assert_eq!((Thread::Issue(12).number(), Thread::MergeRequest(12).number()), (1_000_000_012, 12));
        assert_eq!((Thread::Issue(12).to_string(), Thread::of(12).to_string()), ("#12".into(), "!12".into()));
    }
}
