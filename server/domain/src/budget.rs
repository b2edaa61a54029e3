//! Budgets: what may be spent on models over a scope and a period, and which of them a call has to fit.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};
use crate::id::{BudgetId, RunId};
use crate::money::NanoUsd;
use crate::name::RepositoryPath;
use crate::run::Run;
use crate::time::Timestamp;

/// The largest budget: a billion dollars. Sums of what is below it cannot overflow a store's integers.
pub const LARGEST: NanoUsd = NanoUsd::from_nanos(1_000_000_000_000_000_000);

/// Of what spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The owner of repositories: `ada`.
    Owner,
    /// A repository: `ada/book`.
    Repository,
    /// A daemon on all its branches: `ada/book/review`.
    Daemon,
    /// A branch, and so a fork: `ada/book@try-it`.
    Branch,
    /// Who made the runs happen: `ada`.
    Author,
    /// A pull request: `ada/book#7`.
    PullRequest,
}

impl Scope {
    /// All of them, the widest first.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Repository, Self::Daemon, Self::Branch, Self::Author, Self::PullRequest];

    /// The word in the store, the API and the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Repository => "repository",
            Self::Daemon => "daemon",
            Self::Branch => "branch",
            Self::Author => "author",
            Self::PullRequest => "pull_request",
        }
    }

    /// The scope that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    /// How a subject of it is written, for people.
    pub const fn form(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Repository => "OWNER/NAME",
            Self::Daemon => "OWNER/NAME/ID",
            Self::Branch => "OWNER/NAME@BRANCH",
            Self::Author => "NAME",
            Self::PullRequest => "OWNER/NAME#NUMBER",
        }
    }

    /// Whether text can name something of this scope.
    pub fn admits(self, subject: &str) -> bool {
        let path = |text: &str| text.parse::<RepositoryPath>().is_ok();
        match self {
            Self::Owner => path(&format!("{subject}/x")),
            Self::Repository => path(subject),
            Self::Daemon => subject.rsplit_once('/').is_some_and(|(repository, id)| {
                path(repository) && id.parse::<crate::name::DaemonId>().is_ok()
            }),
            Self::Branch => subject.split_once('@').is_some_and(|(repository, branch)| {
                path(repository) && branch.parse::<crate::name::Branch>().is_ok()
            }),
            Self::Author => {
                (1..=200).contains(&subject.len())
                    && !subject.chars().any(|c| c.is_control() || c.is_whitespace())
            }
            Self::PullRequest => subject
                .split_once('#')
                .is_some_and(|(repository, number)| path(repository) && number.parse::<u64>().is_ok()),
        }
    }
}

impl Scope {
    /// The repository that a subject is in.
    pub fn repository_of(self, subject: &str) -> Option<&str> {
        match self {
            Self::Owner | Self::Author => None,
            Self::Repository => Some(subject),
            Self::Daemon => subject.rsplit_once('/').map(|(repository, _)| repository),
            Self::Branch => subject.split_once('@').map(|(repository, _)| repository),
            Self::PullRequest => subject.split_once('#').map(|(repository, _)| repository),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PullRequest => "pull request",
            other => other.as_str(),
        })
    }
}

/// Over which time spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Each run.
    Run,
    /// A day of the calendar, UTC.
    Day,
    /// A month of the calendar, UTC.
    Month,
    /// Since ever.
    Total,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Run, Self::Day, Self::Month, Self::Total];

    /// The word in the store, the API and the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The period that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == word)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One period: this day, that month, a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Of which kind.
    pub period: Period,
    /// Which: `2026-11-30`, `2026-11`, `total`, `run_…`.
    pub key: String,
    /// Its first moment.
    pub from: Timestamp,
    /// The moment after its last; `None` has no end.
    pub until: Option<Timestamp>,
}

impl Window {
    /// The one that a call at this moment, for this run, falls into.
    pub fn of(period: Period, run: RunId, at: Timestamp) -> Self {
        let each = || Self { period, key: run.to_string(), from: FIRST, until: None };
        Self::calendar(period, at).unwrap_or_else(each)
    }

    /// The one that a moment falls into; a run's is none of the calendar.
    pub fn calendar(period: Period, at: Timestamp) -> Option<Self> {
        let date = date(at);
        let days = |key: String, from: Date, until: Date| Self {
            period,
            key,
            from: midnight(from).unwrap_or(FIRST),
            until: midnight(until),
        };
        Some(match period {
            Period::Run => return None,
            Period::Total => Self { period, key: "total".to_owned(), from: FIRST, until: None },
            Period::Day => days(date.to_string(), date, date.saturating_add(1.day())),
            Period::Month => {
                let from = date.first_of_month();
                days(from.strftime("%Y-%m").to_string(), from, from.saturating_add(1.month()))
            }
        })
    }
}

/// Before everything that was ever recorded.
const FIRST: Timestamp = Timestamp::from_millis(i64::MIN);

fn date(at: Timestamp) -> Date {
    let moment = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Zoned::new(moment, TimeZone::UTC).date()
}

fn midnight(date: Date) -> Option<Timestamp> {
    let zoned = date.to_zoned(TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

/// Whose spending a run's calls are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payers {
    /// `ada`
    pub owner: String,
    /// `ada/book`
    pub repository: String,
    /// `ada/book/review`
    pub daemon: String,
    /// `ada/book@main`
    pub branch: String,
    /// Who made the run happen.
    pub author: String,
    /// `ada/book#7`, when the run is about one.
    pub pull_request: Option<String>,
}

impl Payers {
    /// Of a run, started by an event, of a repository at this path.
    pub fn of(run: &Run, path: &str, event: Option<&Event>) -> Self {
        let repository = path.to_owned();
        let about = event.filter(|event| match event.kind {
            EventKind::PullRequest => true,
            EventKind::Comment | EventKind::Label => event.payload.get("pull_request").is_some(),
            _ => false,
        });
        let owner = repository.split('/').next().unwrap_or_default().to_owned();
        Self {
            owner,
            daemon: format!("{repository}/{}", run.daemon),
            branch: format!("{repository}@{}", run.branch),
            author: run.cause.actor.name.clone(),
            pull_request: about.and_then(Event::thread).map(|number| format!("{repository}#{number}")),
            repository,
        }
    }

    /// What a scope means for them.
    pub fn subject(&self, scope: Scope) -> Option<&str> {
        match scope {
            Scope::Owner => Some(&self.owner),
            Scope::Repository => Some(&self.repository),
            Scope::Daemon => Some(&self.daemon),
            Scope::Branch => Some(&self.branch),
            Scope::Author => Some(&self.author),
            Scope::PullRequest => self.pull_request.as_deref(),
        }
    }

    /// Everything that a call at this moment is added to: scope, subject, window.
    pub fn accounts(&self, run: RunId, at: Timestamp) -> Vec<(Scope, &str, Window)> {
        let of = |scope| self.subject(scope).map(|subject| (scope, subject));
        let each = |(scope, subject)| Period::ALL.map(|period| (scope, subject, Window::of(period, run, at)));
        Scope::ALL.into_iter().filter_map(of).flat_map(each).collect()
    }
}

/// A rule about spending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Of what.
    pub scope: Scope,
    /// Of which one; `None` is each one for itself.
    pub subject: Option<String>,
    /// Over which time.
    pub period: Period,
    /// How much.
    pub limit: NanoUsd,
    /// Who says so.
    pub origin: Origin,
}

/// Who says that there is a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The operator's configuration.
    Configured,
    /// An administrator.
    Set {
        /// Which of those that were ever set.
        id: BudgetId,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
        /// Who ended it and when: it was removed, or another took its place.
        ended: Option<(String, Timestamp)>,
    },
}

/// A budget that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Nothing of its scope is named so.
    #[error("`{subject}` is no {scope}; write {}", scope.form())]
    Subject {
        /// What was meant.
        scope: Scope,
        /// What was written.
        subject: String,
    },
    /// It is less than nothing, or more than can be counted.
    #[error("a budget is from $0 to {LARGEST}")]
    Limit,
}

impl Budget {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self) -> Result<(), BudgetError> {
        if let Some(subject) = self.subject.as_ref().filter(|subject| !self.scope.admits(subject)) {
            let subject = subject.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(BudgetError::Subject { scope: self.scope, subject });
        }
        let may = NanoUsd::ZERO..=LARGEST;
        if may.contains(&self.limit) { Ok(()) } else { Err(BudgetError::Limit) }
    }

    /// It in words: `$5.00 a day for each author`.
    pub fn words(&self) -> String {
        let each = match self.period {
            Period::Run => "for each run of",
            Period::Day => "a day for",
            Period::Month => "a month for",
            Period::Total => "in all for",
        };
        let whom = match &self.subject {
            Some(subject) => format!("{} {subject}", self.scope),
            None => format!("each {}", self.scope),
        };
        format!("{} {each} {whom}", self.limit)
    }

    /// Whether it is in force.
    pub const fn holds(&self) -> bool {
        !matches!(self.origin, Origin::Set { ended: Some(_), .. })
    }

    /// Which of two about the same thing counts: one for this very subject, then one that was set.
    fn rank(&self) -> (bool, bool) {
        (self.subject.is_some(), matches!(self.origin, Origin::Set { .. }))
    }
}

/// A budget as it binds a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub scope: Scope,
    /// Of which one.
    pub subject: String,
    /// The repository of the call, in which all calls of a daemon, a branch or a pull request are.
    pub repository: String,
    /// When.
    pub window: Window,
    /// How much.
    pub amount: NanoUsd,
}

/// The budgets that bind a call at this moment: of each scope and period one.
pub fn binding(budgets: &[Budget], payers: &Payers, run: RunId, at: Timestamp) -> Vec<Limit> {
    let limit = |scope: Scope, period: Period| {
        let subject = payers.subject(scope)?;
        let about = |budget: &&Budget| {
            budget.holds()
                && (budget.scope, budget.period) == (scope, period)
                && budget.subject.as_deref().is_none_or(|own| own.eq_ignore_ascii_case(subject))
        };
        let budget = budgets.iter().filter(about).max_by_key(|budget| budget.rank())?;
        Some(Limit {
            scope,
            subject: subject.to_owned(),
            repository: payers.repository.clone(),
            window: Window::of(period, run, at),
            amount: budget.limit,
        })
    };
    let scopes = Scope::ALL.into_iter();
    scopes.flat_map(|scope| Period::ALL.into_iter().filter_map(move |period| limit(scope, period))).collect()
}

/// What of a budget is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// What calls did cost.
    pub spent: NanoUsd,
    /// What calls under way may still cost.
    pub reserved: NanoUsd,
}

impl Balance {
    /// Whether so much more fits. An empty budget has no room for what is only believed to cost nothing.
    pub fn has_room(&self, limit: NanoUsd, asked: NanoUsd) -> bool {
        let taken = self.spent.plus(self.reserved);
        taken < limit && taken.plus(asked) <= limit
    }

    /// What is left.
    pub fn left(&self, limit: NanoUsd) -> NanoUsd {
        let taken = self.spent.plus(self.reserved).nanos();
        NanoUsd::from_nanos(limit.nanos().saturating_sub(taken).max(0))
    }

    /// The thresholds that were passed by what is spent.
    pub fn passed(&self, limit: NanoUsd) -> impl Iterator<Item = u8> {
        let (spent, limit) = (i128::from(self.spent.nanos()), i128::from(limit.nanos()));
        THRESHOLDS.into_iter().filter(move |percent| spent * 100 >= limit * i128::from(*percent))
    }
}

/// The parts of a budget at which someone is told, percent.
pub const THRESHOLDS: [u8; 2] = [80, 100];

/// Someone was told how much of a budget is gone; once for each period and threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Of which budget.
    pub limit: Limit,
    /// Which threshold, percent.
    pub percent: u8,
    /// What was spent then.
    pub spent: NanoUsd,
    /// The run that passed it.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, subject, window, amount, .. } = self;
        match window.period {
            Period::Run => write!(f, "the budget of {amount} for each run of {scope} {subject}"),
            Period::Day | Period::Month => {
                write!(f, "the budget of {amount} a {} for {scope} {subject}", window.period)
            }
            Period::Total => write!(f, "the budget of {amount} in all for {scope} {subject}"),
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, percent, spent, .. } = self;
        write!(f, "{percent} % of {limit} are spent: {spent}{}", Anew(&limit.window))
    }
}

/// There is no room for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// In which budget.
    pub limit: Limit,
    /// What of it is gone.
    pub balance: Balance,
    /// What was asked for.
    pub asked: NanoUsd,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, balance: Balance { spent, reserved }, asked } = self;
        write!(
            f,
            "{limit} has no room: {spent} are spent and {reserved} set aside for calls under way, and this \
             call may cost {asked}{}",
            Anew(&limit.window)
        )
    }
}

/// When a budget begins anew.
struct Anew<'a>(&'a Window);

impl fmt::Display for Anew<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.period, self.0.until) {
            (Period::Run, _) => f.write_str("; the next run begins anew"),
            (_, Some(until)) => {
                let text = until.to_string();
                write!(f, "; it begins anew on {} at 00:00 UTC", text.split('T').next().unwrap_or_default())
            }
            (_, None) => f.write_str("; it does not begin anew, an administrator can raise it"),
        }
    }
}

#[cfg(test)]
mod tests;
