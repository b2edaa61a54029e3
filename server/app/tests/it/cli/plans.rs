//! What a change would make of daemons, and why one ran or did not.

use super::*;

const REVIEW: &str = "daemon:
  name: Review
  permissions: { network: { allowed: [api.example.com] } }
  stages:
    - { name: Look, type: script, script: ls }
  outcomes:
    - add-comment: { body: Fine }
";

/// A repository with two daemons, committed with the real git.
fn desk() -> Desk {
    let desk = Desk::new();
    git(&desk, &["init", "--quiet", "--initial-branch", "main"]);
    desk.write("daemons/review/daemon.yaml", REVIEW);
    desk.write("daemons/other/daemon.yaml", &REVIEW.replace("Review", "Other"));
    commit(&desk);
    desk
}

fn git(desk: &Desk, arguments: &[&str]) {
    let mut command = desk.command("git");
    for who in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        command.env(who, "test@localhost");
    }
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn commit(desk: &Desk) {
    git(desk, &["add", "--all"]);
    git(desk, &["commit", "--quiet", "--message", "Write"]);
}

#[test]
fn a_change_is_planned_without_a_server() {
    let desk = desk();
    let wider = REVIEW.replace("api.example.com", "api.example.com, cdn.example.com").replace("ls", "ls -l");
    desk.write("daemons/review/daemon.yaml", &wider);
    desk.write("daemons/other/daemon.yaml", BROKEN);
    let broken = desk.session(&[&["plan"]]);
    fs::remove_dir_all(desk.book().join("daemons/other")).unwrap();
    let lines: [&[&str]; 3] = [&["plan"], &["plan", "daemons/review", "--json"], &["plan", "README.md"]];
    let changed = desk.session(&lines);
    commit(&desk);
    let lines: [&[&str]; 4] =
        [&["plan"], &["plan", "HEAD~1..HEAD"], &["plan", "HEAD...main~1"], &["plan", "--base", "nowhere"]];
    insta::assert_snapshot!(format!("{broken}\n{changed}\n{}", desk.session(&lines)));
}

#[test]
fn a_plan_needs_a_repository() {
    let desk = Desk::new();
    desk.write("daemons/review/daemon.yaml", REVIEW);
    insta::assert_snapshot!(desk.session(&[&["plan"]]));
}

#[test]
fn every_decision_about_an_event_is_told() {
    let event = |id: &str, kind: &str| {
        json!({
            "id": id, "kind": kind, "action": (kind == "pull_request").then_some("opened"), "thread": 7, "branch": "main", "commit": null,
            "paths": [], "actor": "ada", "actor_role": (kind == "comment").then_some("write"), "occurred_at": "2026-01-01T00:00:00Z",
        })
    };
    let decision = |daemon: &str, run: Option<&str>, reason: &str| json!({ "daemon": daemon, "branch": "main", "run": run, "reason": reason });
    let id = "evt_0198000000007000800000000000002a";
    let mock = Mock::start([
        ("GET /api/v1/events/evt_0198000000007000800000000000002a", vec![ok(event(id, "comment"))]),
        (
            "GET /api/v1/events/evt_0198000000007000800000000000002a/matches",
            vec![part(&[
                decision("review", Some(RUN), "`comment` matches"),
                decision("triage", None, "`command` wants triage; the event has review"),
            ])],
        ),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/effects",
            vec![part(&[
                json!({ "kind": "add-comment", "status": "refused", "message": "it is not wanted", "url": null }),
            ])],
        ),
        (
            "GET /api/v1/events?about=acme%2Fapp%237&limit=5",
            vec![part(&[event(id, "comment"), event("evt_1", "pull_request")])],
        ),
        ("GET /api/v1/events/evt_1/matches", vec![part(&[])]),
        (
            "GET /api/v1/events?about=https%3A%2F%2Fgithub.com%2Facme%2Fapp%2Fpull%2F8&limit=5",
            vec![part(&[])],
        ),
        (
            "GET /api/v1/events?about=acme%2Fnone%231&limit=2",
            vec![problem(404, "repository_not_found", "this server knows no repository `acme/none`")],
        ),
    ]);
    let lines: [&[&str]; 5] = [
        &["why", id],
        &["why", "acme/app#7"],
        &["why", id, "--json"],
        &["why", "https://github.com/acme/app/pull/8"],
        &["why", "acme/none#1", "--last", "2"],
    ];
    insta::assert_snapshot!(mock.session(&desk(), &lines));
}
