//! Real programs in real jails. Everything here needs nsjail and fails without it.
//!
//! What a hostile program may try, and the tests of it (in prepared jails by
//! `prepared::they_are_jails_like_any_other`, as an ordinary user by `host::an_ordinary_user_gets_a_sandbox_too`):
//!
//! | it | tests |
//! | --- | --- |
//! | is a fork bomb | `limits::fork_bombs_fill_their_own_jail_only`, `limits::processes_are_as_many_as_allowed` |
//! | uses up memory in a child and exits well | `ends::memory_of_a_child_counts_though_the_program_exits_well` |
//! | fills `/tmp`, `/dev/shm`, memory files, pipes, System V memory | `limits::scratch_space_is_memory`, `limits::what_the_kernel_keeps_for_a_program_is_its_memory` |
//! | fills the workspace with one file, a million, holes, `fallocate`, nameless ones | `limits::a_full_workspace_has_its_own_end`, `limits::a_million_files_are_a_full_workspace_too`, `probe::every_call_gets_its_answer` |
//! | sleeps, stops itself, blocks or ignores signals, spins | `ends::nothing_outlives_its_time` |
//! | leaves daemons behind that hold its output | `ends::what_stays_behind_ends_with_the_program` |
//! | is there when nsjail or the server is killed | `killed::*`, `prepared::one_that_died_is_replaced` |
//! | calls what only an attack calls, also by the 32-bit and x32 doors | `probe::every_call_gets_its_answer`, `probe::a_forbidden_call_has_its_own_end` |
//! | looks for a way out: TCP, UDP, ICMP, IPv6, names, netlink, vsock, packets, crypto, abstract sockets | `probe::nothing_answers_on_any_network`, `door::only_the_door_answers`, `door::two_at_once_have_a_door_each`, `probe::every_call_gets_its_answer` |
//! | takes the place of the door | `door::nobody_inside_takes_the_place_of_the_door` |
//! | looks for the server's descriptors and environment | `inside::descriptors_are_three`, `inside::the_environment_is_the_list_and_no_more` |
//! | writes to what is read-only, below it, to `/proc/sys`; reads what tells of the machine | `inside::what_is_read_only_stays_so`, `inside::mounts_below_usr_are_read_only_too`, `inside::what_tells_of_the_machine_is_empty` |
//! | floods its output, with no line ends, odd bytes, or byte by byte | `ends::a_flood_is_ended`, `ends::output_is_counted_and_its_head_kept`, `ends::a_reader_that_is_slow_or_gone_holds_nothing_up`, `output::tests` |
//! | looks for another run, at once or before | `inside::two_at_once_share_nothing`, `prepared::nothing_of_a_run_is_in_the_next` |
//! | shares a workspace with another, while both run | `inside::two_at_once_may_have_one_workspace`, `tenancy::tests` |
//! | is an image | `image::hostile_archives_stay_inside`, `image::what_is_not_as_its_digest_says_is_refused` |
//!
//! | the machine lacks | tests |
//! | --- | --- |
//! | nsjail, user namespaces, an unmasked `/proc`, control groups, a sound policy file | `refused::without_*`, `refused::with_a_masked_proc_nothing_runs`, `refused::a_broken_policy_is_no_policy` |
//! | time: three hundred runs, eight at once; cancelled at any moment, twice, after the end | `host::three_hundred_runs_eight_at_a_time`, `ends::cancelling_ends_it_once_whenever_it_comes` |

#![expect(clippy::unwrap_used, reason = "tests, and what they have in common")]

mod heard;
mod jail;
mod probe;

mod door;
mod ends;
mod host;
mod image;
mod inside;
mod killed;
mod limits;
mod prepared;
mod refused;
