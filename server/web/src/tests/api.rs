//! Repositories, daemons, revisions, discussions: what is stored is what is shown.

use domain::access::Role;
use domain::effect::{Author, CheckConclusion, CommentTarget};
use domain::event::Event;
use domain::id::{CheckId, CommentId, ProposalId};
use domain::proposal::{Check, Comment, Proposal, ProposalStatus};
use domain::repository::{BranchRole, Origin, Repository};
use domain::revision::RevisionContent;
use ports::clock::Clock;
use ports::source::{ChangeKind, Diff, PathChange};
use ports::store::{Discussions, Events, Repositories};
use serde_json::{Value as Json, json};
use testkit::build;

use super::house::{House, Move};

const MANIFEST: &str = r#"
daemon:
  name: Code review
  version: 1.2.0
  inputs:
    - { name: depth, type: enum, options: [quick, thorough], default: quick }
    - { name: key, type: secret }
  stages:
    - { name: Look, agent: small, prompt_template: "Look at it" }
    - { name: Say, type: script, script: echo hi, output: said }
"#;

#[tokio::test]
async fn lists_are_walked_part_by_part() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.insert(0, house.repository(&format!("ada/book{number}"), &[]).await.path.to_string());
    }
    let mut seen: Vec<String> = Vec::new();
    let mut next = "/api/v1/repositories?limit=3".to_owned();
    let mut parts = 0;
    loop {
        let answer = house.get(&next, &viewer).await;
        let part = answer.json();
        seen.extend(
            part["items"].as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap().to_owned()),
        );
        parts += 1;
        let Some(cursor) = part["next"].as_str() else {
            assert_eq!(answer.header("link"), "");
            break;
        };
        assert_eq!(
            answer.header("link"),
            format!("</api/v1/repositories?limit=3&after={cursor}>; rel=\"next\"")
        );
        next = answer.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!((seen, parts), (made, 3));
}

#[tokio::test]
async fn a_repository_is_added_shown_and_synced() {
    let house = House::new();
    let maintainer = house.token("mia", Role::Maintainer).await;
    let made = house.post("/api/v1/repositories", &maintainer, &json!({ "path": "ada/book" })).await;
    assert_eq!(made.verdict(), "201");
    let shown = house.get("/api/v1/repositories/ADA/Book", &maintainer).await.json();
    assert_eq!(shown, made.json());
    assert_eq!(shown["clone_url"], "http://spellbook.test/git/ada/book.git");
    let watched = json!({ "path": "ada/far", "origin": { "kind": "watched", "url": "https://git.example.com/far.git" } });
    let made = house.post("/api/v1/repositories", &maintainer, &watched).await.json();
    assert_eq!(
        made["hook_url"],
        format!("http://spellbook.test/hooks/remotes/{}", made["id"].as_str().unwrap())
    );
    let synced = house.post("/api/v1/repositories/ada/far/sync", &maintainer, &json!({})).await;
    assert_eq!(synced.json()["sync"]["status"], "Unreachable");
    let branches = house.get("/api/v1/repositories/ada/book/branches", &maintainer).await;
    assert_eq!(branches.json(), json!({ "items": [], "next": null }));
}

#[tokio::test]
async fn a_daemon_is_shown_with_its_manifest_and_its_health() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let repository = build::repository(&*house.clock, "ada/book");
    let _ = ports::store::Repositories::repository_create(&*house.store, &repository).await.unwrap();
    let review = build::revision(&*house.clock, &repository, "review", 1);
    let mut broken = build::revision(&*house.clock, &repository, "broken", 1);
    broken.content = RevisionContent::Invalid {
        digest: build::digest(9),
        directory: "daemons/broken".to_owned(),
        problems: "error[SB0101]: unknown key `stagse`".to_owned(),
    };
    let files =
        [("daemons/review/daemon.yaml", MANIFEST), ("daemons/broken/daemon.yaml", "daemon: { stagse: [] }")];
    let moved = Move {
        branch: "main",
        role: BranchRole::Deploy,
        at: 1,
        files: &files,
        revisions: vec![review, broken],
    };
    house.advance(&repository, moved).await;

    let list = house.get("/api/v1/daemons", &viewer).await.json();
    let rows: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|row| (&row["address"], &row["health"])).collect();
    assert_eq!(
        rows,
        [(&json!("ada/book/broken"), &json!("Degraded")), (&json!("ada/book/review"), &json!("Healthy"))]
    );

    let broken = house.get("/api/v1/repositories/ada/book/daemons/broken", &viewer).await.json();
    assert_eq!(broken["manifest"], Json::Null);
    assert!(broken["daemon"]["revision"]["problems"].as_str().unwrap().contains("stagse"));
    let shown = house.get("/api/v1/repositories/ada/book/daemons/review", &viewer).await.json();
    insta::assert_snapshot!(format!("{:#}", shown["manifest"]));
    let at = format!("/api/v1/repositories/ada/book/daemons/review?at={}", build::commit(1));
    assert_eq!(house.get(&at, &viewer).await.json()["manifest"], shown["manifest"]);
    // A commit of which nothing is recorded is shown all the same.
    house.source.put(repository.id, &build::commit(7), &files);
    let at = format!("/api/v1/repositories/ada/book/daemons/review?at={}", build::commit(7));
    let unrecorded = house.get(&at, &viewer).await.json();
    assert_eq!(
        (&unrecorded["daemon"]["revision"]["id"], &unrecorded["daemon"]["health"]),
        (&Json::Null, &json!("Suspended"))
    );
    let inputs = house.get("/api/v1/repositories/ada/book/daemons/review/inputs", &viewer).await;
    assert_eq!(inputs.header("content-type"), "application/schema+json");
    insta::assert_snapshot!(format!("{:#}", inputs.json()));

    for (path, expect) in [
        ("review?at=nowhere", "404 ref_not_found"),
        ("review?at=-x", "400 invalid_parameter"),
        ("none", "404 daemon_not_found"),
        ("Review", "404 not_found"),
        ("broken/inputs", "422 daemon_invalid"),
    ] {
        let path = format!("/api/v1/repositories/ada/book/daemons/{path}");
        assert_eq!(house.get(&path, &viewer).await.verdict(), expect, "{path}");
    }
}

#[tokio::test]
async fn revisions_are_listed_and_compared_within_their_directory() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let repository = house.repository("ada/book", &[]).await;
    let revisions: Vec<_> =
        (2..5).map(|at| build::revision(&*house.clock, &repository, "review", at)).collect();
    let ids: Vec<String> = revisions.iter().map(|revision| revision.id.to_string()).collect();
    let moved = Move { branch: "dev", role: BranchRole::Fork, at: 4, files: &[], revisions };
    house.advance(&repository, moved).await;

    let path = "/api/v1/repositories/ada/book/daemons/review/revisions";
    let history = house.get(path, &viewer).await.json();
    let listed: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids.iter().rev().collect::<Vec<_>>());
    let change = |path: &str| PathChange { path: path.to_owned(), kind: ChangeKind::Modified };
    *house.source.diff.lock().unwrap() = Some(Diff {
        files: vec![change("daemons/review/daemon.yaml"), change("README.md")],
        patch: "diff --git a/README.md b/README.md\n-x\ndiff --git a/daemons/review/daemon.yaml b/daemons/review/daemon.yaml\n-a\n+b\n".to_owned(),
        truncated: false,
    });
    let diff = house.get(&format!("/api/v1/revisions/{}/diff?from={}", ids[1], ids[0]), &viewer).await.json();
    assert_eq!(diff["files"], json!([{ "path": "daemons/review/daemon.yaml", "change": "modified" }]));
    assert!(!diff["patch"].as_str().unwrap().contains("README"));
    assert_eq!(
        house.get(&format!("/api/v1/revisions/{}/diff", ids[1]), &viewer).await.verdict(),
        "400 invalid_query"
    );

    let other = house.repository("ada/other", &[]).await;
    let far = build::revision(&*house.clock, &other, "review", 2);
    let far_id = far.id;
    let moved = Move { branch: "dev", role: BranchRole::Fork, at: 2, files: &[], revisions: vec![far] };
    house.advance(&other, moved).await;
    let across = format!("/api/v1/revisions/{}/diff?from={far_id}", ids[0]);
    assert_eq!(house.get(&across, &viewer).await.verdict(), "400 other_repository");
    let across = across.replace("/diff", "/plan");
    assert_eq!(house.get(&across, &viewer).await.verdict(), "400 other_repository");
}

#[tokio::test]
async fn what_a_version_may_do_more_is_told() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let repository = house.repository("ada/book", &[]).await;
    let revisions: Vec<_> =
        (2..4).map(|at| build::revision(&*house.clock, &repository, "review", at)).collect();
    let ids: Vec<String> = revisions.iter().map(|revision| revision.id.to_string()).collect();
    let before = "daemon: { name: Review, stages: [{ name: A, type: script, script: ls }] }\n";
    let after = before.replace("stages", "permissions: { network: { allowed: [api.example.com] } }, stages");
    let path = "daemons/review/daemon.yaml";
    house.source.put(repository.id, &build::commit(2), &[(path, before)]);
    let files = &[(path, after.as_str())];
    house.advance(&repository, Move { branch: "dev", role: BranchRole::Fork, at: 3, files, revisions }).await;
    let plan = async |to: &str, from: &str| {
        house.get(&format!("/api/v1/revisions/{to}/plan?from={from}"), &viewer).await.json()
    };
    insta::assert_snapshot!(format!("{:#}", plan(&ids[1], &ids[0]).await));
    let same = json!({ "daemon": "review", "fate": "unchanged", "wider": false, "changes": [], "text": "" });
    assert_eq!(plan(&ids[0], &ids[0]).await, same);
}

#[tokio::test]
async fn events_of_a_thread_are_found_by_how_people_name_it() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let repository = house.repository("ada/book", &[]).await;
    let watched = build::watched(&*house.clock, "mirrors/app");
    let url = "https://github.com/Acme/App.git".to_owned();
    let origin = Origin::Watched { url, credential: None, place: None };
    let watched = Repository { origin, ..watched };
    let _ = house.store.repository_create(&watched).await.unwrap();
    let mut ids = Vec::new();
    for (repository, number) in [(&repository, 7), (&watched, 7), (&watched, 7), (&watched, 8)] {
        let payload = json!({ "pull_request": { "number": number } });
        let event = Event { payload, ..build::event(&*house.clock, repository) };
        house.store.event_record(&event, None).await.unwrap();
        ids.push(event.id.to_string());
    }
    let listed = async |about: &str| {
        let answer = house.get(&format!("/api/v1/events?about={about}"), &viewer).await;
        let items = answer.json()["items"].as_array().cloned();
        items.map_or_else(
            || vec![answer.verdict()],
            |items| items.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect(),
        )
    };
    assert_eq!(listed("ada/book%237").await, [ids[0].as_str()]);
    let pull = "https://github.com/acme/app/pull";
    assert_eq!(listed(&format!("{pull}/7")).await, [ids[2].as_str(), ids[1].as_str()]);
    assert_eq!(listed(&format!("{pull}/7&limit=1")).await, [ids[2].as_str()]);
    assert_eq!(listed(&format!("{pull}/9")).await, [""; 0]);
    // Another forge's repository of the same name is another one, and so is one of the built-in host.
    assert_eq!(listed("https://git.example.com/acme/app/pull/7").await, ["404 repository_not_found"]);
    assert_eq!(listed("https://github.com/ada/book/pull/7").await, ["404 repository_not_found"]);
    assert_eq!(listed("ada/book").await, ["400 invalid_parameter"]);
    assert_eq!(house.get("/api/v1/events", &viewer).await.verdict(), "400 invalid_parameter");
}

#[tokio::test]
async fn comments_checks_and_proposals_stay_in_their_repository() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let (book, other) = (house.repository("ada/book", &[]).await, house.repository("ada/other", &[]).await);
    let run = build::run(&*house.clock, &book, "review");
    let now = house.clock.now();
    for (target, key) in [
        (CommentTarget::Thread { number: 1 }, "a"),
        (CommentTarget::Commit { commit: build::commit(1) }, "b"),
    ] {
        let comment = Comment {
            id: CommentId::new(house.clock.unique()),
            repository: book.id,
            target,
            key: key.to_owned(),
            author: Author::Run(build::provenance(&run)),
            body: format!("said <script>{key}</script>"),
            created_at: now,
            updated_at: now,
        };
        house.store.comment_put(&comment).await.unwrap();
    }
    let check = Check {
        id: CheckId::new(house.clock.unique()),
        repository: book.id,
        commit: build::commit(1),
        name: "review".to_owned(),
        author: Author::Run(build::provenance(&run)),
        conclusion: CheckConclusion::Neutral,
        summary: "nothing to do".to_owned(),
        annotations: Vec::new(),
        created_at: now,
    };
    house.store.check_put(&check).await.unwrap();
    let proposal = Proposal {
        id: ProposalId::new(house.clock.unique()),
        repository: book.id,
        number: 0,
        key: None,
        provenance: Some(build::provenance(&run)),
        title: "Fixes".to_owned(),
        body: String::new(),
        base: build::name("main"),
        branch: build::name("spellbook/review/1"),
        head: build::commit(2),
        draft: false,
        labels: Vec::new(),
        status: ProposalStatus::Open,
        created_at: now,
        updated_at: now,
    };
    house.store.proposal_put(&proposal).await.unwrap();

    let commit = build::commit(1);
    for (path, count) in [
        ("comments", 2),
        ("comments?thread=1", 1),
        (&*format!("comments?commit={commit}"), 1),
        ("comments?thread=2", 0),
        (&*format!("commits/{commit}/checks"), 1),
        ("proposals", 1),
        ("proposals?status=open", 1),
        ("proposals?status=merged", 0),
    ] {
        for (repository, expect) in [(&book, count), (&other, 0)] {
            let list =
                house.get(&format!("/api/v1/repositories/{}/{path}", repository.path), &viewer).await.json();
            assert_eq!(list["items"].as_array().map(Vec::len), Some(expect), "{} {path}", repository.path);
        }
    }
    for bad in ["comments?thread=x", "comments?commit=HEAD", "proposals?status=all"] {
        let answer = house.get(&format!("/api/v1/repositories/ada/book/{bad}"), &viewer).await;
        assert_eq!(answer.verdict(), "400 invalid_parameter", "{bad}");
    }
    assert_eq!(
        house.get("/api/v1/repositories/ada/other/proposals/1", &viewer).await.verdict(),
        "404 not_found"
    );
    let shown = house.get("/api/v1/repositories/ada/book/proposals/1", &viewer).await.json();
    assert_eq!((&shown["proposal"]["title"], &shown["diff"]), (&json!("Fixes"), &Json::Null));

    let maintainer = house.token("mia", Role::Maintainer).await;
    let act =
        async |path: &str| house.post(&format!("/api/v1/repositories/{path}"), &maintainer, &json!({})).await;
    assert_eq!(act("ada/other/proposals/1/close").await.verdict(), "404 not_found");
    assert_eq!(act("ada/book/proposals/1/merge").await.verdict(), "404 branch_not_found");
    let closed = act("ada/book/proposals/1/close").await.json();
    assert_eq!((&closed["status"], &closed["settled_by"]), (&json!("closed"), &json!("mia")));
    assert_eq!(act("ada/book/proposals/1/close").await.verdict(), "409 proposal_not_open");
}

#[tokio::test]
async fn files_are_checked_without_being_pushed() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let validate = async |text: &str| {
        let files = json!({ "files": [{ "path": "daemons/review/daemon.yaml", "text": text }] });
        house.post("/api/v1/validate", &viewer, &files).await.json()
    };
    assert_eq!(validate(MANIFEST).await["valid"], true);
    let broken = validate(&MANIFEST.replace("stages", "stagse")).await;
    assert_eq!(broken["valid"], false);
    let first = &broken["diagnostics"][0];
    assert!(first["code"].as_str().unwrap().starts_with("SB"), "{first}");
    assert!(first["line"].is_u64() && first["file"] == "daemons/review/daemon.yaml", "{first}");
    let many: Vec<_> = (0..1001).map(|n| json!({ "path": format!("{n}"), "text": "" })).collect();
    assert_eq!(
        house.post("/api/v1/validate", &viewer, &json!({ "files": many })).await.verdict(),
        "400 too_many_files"
    );
}
