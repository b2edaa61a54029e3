//! What every [`Store`] must do, one function a behaviour.

pub mod accounts;
pub mod calls;
pub mod discussions;
pub mod events;
pub mod groups;
pub mod ledger;
pub mod logs;
pub mod memos;
pub mod outbox;
pub mod queue;
pub mod repositories;
pub mod revisions;
mod scene;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ports::store::Store;

use crate::FixedClock;

/// An empty store, a clock, and whatever has to live as long as they do.
#[derive(Debug)]
pub struct Fresh {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock; it stands at [`FixedClock::START`].
    pub clock: FixedClock,
    _kept: Box<dyn Any + Send>,
}

impl Fresh {
    /// A store that needs nothing else.
    pub fn new(store: impl Store + 'static) -> Self {
        Self::keeping(store, ())
    }

    /// A store, and what it stands on: a temporary directory.
    pub fn keeping(store: impl Store + 'static, kept: impl Any + Send) -> Self {
        Self { store: Arc::new(store), clock: FixedClock::new(), _kept: Box::new(kept) }
    }
}

/// A behaviour that is being looked at.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One behaviour, for callers that choose by name.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// `queue::a_run_is_leased_once`.
    pub name: &'static str,
    /// Panics when the store does not behave so.
    pub check: for<'a> fn(&'a dyn Store, &'a FixedClock) -> Check<'a>,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All behaviours, in reading order.
pub fn all() -> Vec<Behaviour> {
    crate::store_behaviours!(store_behaviour_list())
}

/// Makes one test of each behaviour; `$fresh` is an `async fn` that gives a [`Fresh`].
#[macro_export]
macro_rules! store_conformance {
    ($fresh:ident) => {
        $crate::store_behaviours! { store_behaviour_tests($fresh) }
    };
}

/// The one list of behaviours; `$render` is the macro that makes something of it.
#[doc(hidden)]
#[macro_export]
macro_rules! store_behaviours {
    ($render:ident $given:tt) => {
        $crate::$render! { $given
            repositories:
                a_path_is_taken_once,
                a_place_belongs_to_one_repository,
                repositories_are_listed_newest_first,
                watched_repositories_become_due,
                a_look_is_recorded,
                a_hint_is_not_lost,
                a_branch_moves_from_where_it_is,
                branches_are_listed_by_name,
                a_branch_is_moved_by_one_of_many,
                an_advance_wakes_who_waits_for_events;
            revisions:
                nothing_is_current_on_a_branch_that_is_gone,
                the_newest_revision_is_current,
                an_invalid_daemon_is_known,
                going_back_makes_the_old_revision_current,
                a_removed_daemon_is_current_as_removed,
                a_revision_is_found_by_its_commit,
                what_waits_for_an_event_is_found_by_its_kind,
                an_advance_is_all_or_nothing,
                only_deployed_schedules_are_scheduled,
                daemons_are_listed_in_order,
                a_listed_daemon_shows_its_last_run;
            events:
                events_are_listed_newest_first,
                a_delivery_is_recorded_once,
                a_delivery_without_a_repository_is_recorded_once,
                a_delivery_is_recorded_by_one_of_many,
                many_deliveries_at_once_are_kept_apart,
                a_delivery_is_given_out_until_it_is_settled,
                deliveries_are_listed_newest_first,
                a_sweep_comes_back_as_it_was,
                an_event_comes_back_as_it_was,
                an_event_is_recorded_once,
                an_event_can_be_postponed,
                an_event_is_dispatched_once,
                an_event_is_dispatched_by_one_of_many,
                a_dispatch_is_all_or_nothing,
                what_is_said_once_is_said_once,
                an_event_is_learned_with_its_dispatch,
                a_daemon_rests_until_it_goes_on,
                a_thread_has_its_runs;
            queue:
                a_run_comes_back_as_it_was,
                an_idempotency_key_queues_one_run,
                a_run_is_leased_once,
                the_queue_is_in_order,
                a_run_is_given_out_when_it_is_ready,
                a_lapsed_run_is_given_out_again,
                a_late_worker_is_refused,
                a_released_run_is_leased_again,
                an_end_comes_back_as_it_was,
                the_journal_keeps_each_stage_once,
                the_last_stage_comes_with_the_end_of_its_run,
                runs_are_listed_newest_first,
                the_depth_counts_what_is_under_way,
                many_workers_share_the_queue,
                many_writers_lose_nothing,
                a_stage_calls_one_run,
                a_run_without_a_group_waits_for_nobody,
                the_time_at_work_adds_up,
                what_a_gone_worker_held_is_given_out_at_once;
            groups:
                a_full_group_is_passed_over,
                a_group_runs_up_to_its_limit,
                many_workers_keep_to_the_limit,
                a_lapsed_run_keeps_its_place,
                a_waiting_run_takes_no_place,
                a_newer_run_cancels_the_older,
                a_newer_run_cancels_no_more_than_it_must,
                a_run_is_skipped_when_its_group_is_full,
                a_child_does_not_contend_with_its_parents,
                a_newer_run_takes_the_place_of_those_not_begun,
                a_group_counts_what_has_not_ended;
            calls:
                a_parent_goes_on_after_its_last_child,
                a_parent_without_children_goes_on_at_once,
                a_stage_that_is_taken_up_again_calls_once,
                a_foreign_child_is_refused,
                children_that_end_at_once_do_not_wake_too_early,
                a_queued_run_is_cancelled_at_once,
                a_running_run_is_asked_to_end,
                a_run_that_is_asked_to_end_is_not_put_off,
                a_waiting_run_is_cancelled_with_its_children,
                who_insists_is_not_let_wait,
                a_parent_goes_on_after_a_cancelled_child;
            ledger:
                calls_come_with_their_stage,
                what_is_settled_takes_the_place_of_what_was_reserved,
                what_is_released_goes_back,
                a_budget_counts_what_was_spent_before_it,
                a_call_belongs_to_the_day_in_which_it_began,
                many_at_once_fit_the_budget,
                a_late_worker_spends_nothing,
                what_no_stage_recorded_is_closed,
                spending_is_added_up,
                a_budget_is_set_and_removed,
                an_alert_is_recorded_once;
            logs:
                lines_are_numbered_on,
                lines_are_read_in_parts,
                numbers_are_never_used_twice;
            memos:
                a_memo_comes_back_as_it_was,
                a_memo_is_written_by_who_knows_it,
                a_memo_that_was_removed_is_another_one,
                a_memo_is_written_by_one_of_many,
                every_branch_has_memos_of_its_own,
                variables_are_bounded,
                the_session_written_longest_ago_is_forgotten,
                sessions_expire_and_variables_do_not,
                a_stage_and_its_memos_are_one,
                a_late_worker_writes_no_memo,
                a_stage_that_is_known_writes_nothing_again;
            outbox:
                the_newest_effects_of_a_key_are_found,
                effects_come_with_the_end_of_their_run,
                an_end_is_all_or_nothing,
                the_servers_own_effect_is_recorded_once,
                an_effect_is_held_while_it_is_performed,
                what_a_gone_performer_held_is_given_out_soon,
                effects_of_a_repository_go_one_at_a_time,
                an_effect_that_is_put_off_lets_others_pass,
                a_staged_effect_waits_to_be_promoted,
                an_effect_is_given_to_one_of_many;
            discussions:
                proposals_are_numbered_in_their_repository,
                many_proposals_get_numbers_of_their_own,
                an_open_proposal_is_changed_in_place,
                a_proposal_is_settled_once,
                proposals_are_listed_newest_first,
                a_comment_is_changed_in_place,
                comments_are_listed_by_target,
                a_check_is_replaced;
            accounts:
                a_name_is_taken_once,
                a_token_is_found_until_it_expires,
                a_token_belongs_to_an_account,
                a_token_that_is_good_once_is_used_once,
                a_revoked_token_is_gone,
                an_assertion_is_used_once,
                expired_tokens_are_forgotten;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! store_behaviour_tests {
    (($fresh:ident) $($area:ident: $($name:ident),+ $(,)?;)+) => {$(
        mod $area {
            use super::$fresh;
            $(
                #[tokio::test]
                async fn $name() {
                    let fresh = $fresh().await;
                    $crate::conformance::store::$area::$name(&*fresh.store, &fresh.clock).await;
                }
            )+
        }
    )+};
}

#[doc(hidden)]
#[macro_export]
macro_rules! store_behaviour_list {
    (() $($area:ident: $($name:ident),+ $(,)?;)+) => {
        vec![$($($crate::conformance::store::Behaviour {
            name: concat!(stringify!($area), "::", stringify!($name)),
            check: |store, clock| Box::pin($crate::conformance::store::$area::$name(store, clock)),
        }),+),+]
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// A behaviour that nobody listed would be tested by nobody.
    #[test]
    fn every_behaviour_is_listed() {
        let sources = [
            ("repositories", include_str!("store/repositories.rs")),
            ("revisions", include_str!("store/revisions.rs")),
            ("events", include_str!("store/events.rs")),
            ("queue", include_str!("store/queue.rs")),
            ("groups", include_str!("store/groups.rs")),
            ("calls", include_str!("store/calls.rs")),
            ("ledger", include_str!("store/ledger.rs")),
            ("logs", include_str!("store/logs.rs")),
            ("memos", include_str!("store/memos.rs")),
            ("outbox", include_str!("store/outbox.rs")),
            ("discussions", include_str!("store/discussions.rs")),
            ("accounts", include_str!("store/accounts.rs")),
        ];
        let written: BTreeSet<String> = sources
            .iter()
            .flat_map(|(area, source)| {
                let functions = source.lines().filter_map(|line| line.strip_prefix("pub async fn "));
                functions.filter_map(move |rest| Some(format!("{area}::{}", rest.split_once('(')?.0)))
            })
            .collect();
        let listed: BTreeSet<String> =
            super::all().iter().map(|behaviour| behaviour.name.to_owned()).collect();
        assert_eq!(listed, written);
    }
}
