//! The files that a run keeps.

use super::*;

#[test]
fn files_are_listed_and_fetched() {
    let file = |path: &str, bytes: u64| json!({ "path": path, "bytes": bytes });
    let report = json!({ "id": "eff_1", "name": "report", "files": [file("report/a.txt", 4), file("b.txt", 2048)], "until": null });
    let evil = json!({ "id": "eff_2", "name": "evil", "files": [file("../out", 1)], "until": "2027-01-01T00:00:00Z" });
    let text = |body: &str| Answer {
        status: 200,
        kind: "application/octet-stream",
        header: None,
        body: body.to_owned(),
    };
    let mock = Mock::start([
        ("GET /api/v1/runs/run_0198000000007000800000000000002a/artifacts", vec![part(&[report, evil])]),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/artifacts/eff_1?path=report%2Fa.txt",
            vec![text("one\n")],
        ),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/artifacts/eff_1?path=b.txt",
            vec![text("two")],
        ),
    ]);
    let desk = Desk::new();
    let lines: [&[&str]; 6] = [
        &["artifacts", RUN],
        &["artifacts", RUN, "report", "--output", "out"],
        &["artifacts", RUN, "eff_1", "--output", "out"],
        &["artifacts", RUN, "evil"],
        &["artifacts", RUN, "none"],
        &["artifacts", RUN, "--output", "out"],
    ];
    insta::assert_snapshot!(mock.session(&desk, &lines));
    assert_eq!((desk.read("out/report/a.txt").as_str(), desk.read("out/b.txt").as_str()), ("one\n", "two"));
}
