use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn run() -> RunId {
    RunId::new(Uuid::from_u128(7))
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn usd(cents: i64) -> NanoUsd {
    NanoUsd::CREDIT.times(cents)
}

fn payers() -> Payers {
    Payers {
        owner: "ada".to_owned(),
        repository: "ada/book".to_owned(),
        daemon: "ada/book/review".to_owned(),
        branch: "ada/book@main".to_owned(),
        author: "bob".to_owned(),
        pull_request: None,
    }
}

fn budget(scope: Scope, subject: Option<&str>, period: Period, cents: i64) -> Budget {
    let subject = subject.map(str::to_owned);
    Budget { scope, subject, period, limit: usd(cents), origin: Origin::Configured }
}

fn set(budget: Budget, ended: Option<(String, Timestamp)>) -> Budget {
    let (id, by) = (BudgetId::new(Uuid::from_u128(1)), "ada".to_owned());
    Budget { origin: Origin::Set { id, by, at: Timestamp::EPOCH, ended }, ..budget }
}

#[test]
fn windows_are_of_the_calendar() {
    for (period, moment, key, from, until) in [
        (
            Period::Day,
            "2026-11-30T23:59:59.999Z",
            "2026-11-30",
            "2026-11-30T00:00:00Z",
            "2026-12-01T00:00:00Z",
        ),
        (Period::Day, "2026-12-01T00:00:00Z", "2026-12-01", "2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"),
        (Period::Month, "2026-12-31T12:00:00Z", "2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        (Period::Month, "2028-02-29T00:00:00Z", "2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
    ] {
        let window = Window::of(period, run(), at(moment));
        assert_eq!((window.key.as_str(), window.from, window.until), (key, at(from), Some(at(until))));
    }
    assert_eq!(Window::of(Period::Run, run(), at("2026-12-01T00:00:00Z")).key, run().to_string());
    assert_eq!(Window::of(Period::Total, run(), at("2026-12-01T00:00:00Z")).until, None);
}

#[test]
fn of_budgets_about_the_same_the_nearest_counts() {
    let now = at("2026-11-30T12:00:00Z");
    let amounts = |budgets: &[Budget]| -> Vec<NanoUsd> {
        binding(budgets, &payers(), run(), now).into_iter().map(|limit| limit.amount).collect()
    };
    let each = budget(Scope::Author, None, Period::Day, 1);
    let own = budget(Scope::Author, Some("Bob"), Period::Day, 2);
    let other = budget(Scope::Author, Some("eve"), Period::Day, 3);
    assert_eq!(amounts(&[each.clone(), own.clone(), other]), [usd(2)]);
    let raised = set(budget(Scope::Author, Some("bob"), Period::Day, 9), None);
    assert_eq!(amounts(&[raised.clone(), own.clone(), each]), [usd(9)]);
    let ended = set(raised, Some(("ada".to_owned(), now)));
    assert_eq!(amounts(&[ended, own.clone()]), [usd(2)]);
    // Different periods and scopes bind side by side; what has no pull request has no budget for it.
    let others =
        [own, budget(Scope::Author, None, Period::Month, 5), budget(Scope::Owner, None, Period::Run, 6)];
    assert_eq!(amounts(&others), [usd(6), usd(2), usd(5)]);
    assert_eq!(amounts(&[budget(Scope::PullRequest, None, Period::Total, 5)]), []);
}

#[test]
fn subjects_are_checked_by_their_form() {
    for (scope, good, bad) in [
        (Scope::Owner, "ada", "ada/book"),
        (Scope::Repository, "ada/book", "ada"),
        (Scope::Daemon, "ada/book/review", "ada/book"),
        (Scope::Branch, "ada/book@feature/x", "ada/book"),
        (Scope::Author, "dependabot[bot]", "a b"),
        (Scope::PullRequest, "ada/book#7", "ada/book#x"),
    ] {
        assert!(scope.admits(good), "{scope}: {good}");
        assert!(!scope.admits(bad) && !scope.admits(""), "{scope}: {bad}");
        assert_eq!(Scope::parse(scope.as_str()), Some(scope));
    }
}

#[test]
fn a_budget_that_makes_no_sense_is_refused() {
    assert_eq!(budget(Scope::Author, None, Period::Day, 0).check(), Ok(()));
    assert_eq!(budget(Scope::Author, None, Period::Day, -1).check(), Err(BudgetError::Limit));
    assert!(
        Budget { limit: LARGEST.plus(usd(1)), ..budget(Scope::Author, None, Period::Day, 1) }
            .check()
            .is_err()
    );
    let error = budget(Scope::Daemon, Some("ada/book"), Period::Day, 1).check().unwrap_err();
    assert_eq!(error.to_string(), "`ada/book` is no daemon; write OWNER/NAME/ID");
    let words = |subject, period| budget(Scope::PullRequest, subject, period, 500).words();
    assert_eq!(words(None, Period::Month), "$5.00 a month for each pull request");
    assert_eq!(words(Some("ada/book#7"), Period::Run), "$5.00 for each run of pull request ada/book#7");
    assert_eq!(Scope::PullRequest.repository_of("ada/book#7"), Some("ada/book"));
}

#[test]
fn a_refusal_says_everything() {
    let limit = |period| {
        let budgets = [budget(Scope::Repository, None, period, 500)];
        binding(&budgets, &payers(), run(), at("2026-11-30T12:00:00Z")).remove(0)
    };
    let words = |period| {
        let balance = Balance { spent: usd(420), reserved: usd(70) };
        Exhausted { limit: limit(period), balance, asked: usd(30) }.to_string()
    };
    assert_eq!(
        words(Period::Day),
        "the budget of $5.00 a day for repository ada/book has no room: $4.20 are spent and $0.70 set aside \
         for calls under way, and this call may cost $0.30; it begins anew on 2026-12-01 at 00:00 UTC"
    );
    assert!(words(Period::Run).contains("for each run of repository ada/book"));
    assert!(words(Period::Total).ends_with("it does not begin anew, an administrator can raise it"));
}

#[test]
fn thresholds_are_passed_by_what_is_spent() {
    let passed =
        |spent: i64| Balance { spent: usd(spent), reserved: usd(90) }.passed(usd(100)).collect::<Vec<_>>();
    assert_eq!(
        [79, 80, 99, 100, 300].map(passed),
        [vec![], vec![80], vec![80], vec![80, 100], vec![80, 100]]
    );
}

proptest! {
    /// Whatever fits keeps what is taken below the limit, and what is left always fits.
    #[test]
    fn what_fits_never_passes_the_limit(limit in 1_i64..1_000, asked in proptest::collection::vec(0_i64..200, 0..50)) {
        let limit = NanoUsd::from_nanos(limit);
        let mut balance = Balance::default();
        for asked in asked.into_iter().map(NanoUsd::from_nanos) {
            if balance.has_room(limit, asked) {
                balance.reserved = balance.reserved.plus(asked);
            }
            prop_assert!(balance.spent.plus(balance.reserved) <= limit);
            let left = balance.left(limit);
            prop_assert_eq!(balance.has_room(limit, left), left > NanoUsd::ZERO);
        }
    }

    /// Every moment is in its own window, and windows of a kind do not overlap.
    #[test]
    fn a_moment_is_in_its_window(millis in 0_i64..4_000_000_000_000) {
        let at = Timestamp::from_millis(millis);
        for period in [Period::Day, Period::Month] {
            let window = Window::of(period, run(), at);
            let until = window.until.unwrap();
            prop_assert!(window.from <= at && at < until);
            prop_assert_eq!(Window::of(period, run(), until).from, until);
            prop_assert_eq!(&Window::of(period, run(), window.from), &window);
        }
    }
}
