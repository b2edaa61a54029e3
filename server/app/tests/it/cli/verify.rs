//! Whether something on a forge is what the server wrote there.

use super::*;

#[test]
fn what_is_proved_exits_with_0_and_all_else_does_not() {
    let provenance = json!({ "run": RUN, "daemon": "review", "commit": COMMIT, "digest": COMMIT });
    let record = |provenance: Json| json!({ "effect": "eff_1", "kind": "add-comment", "provenance": provenance, "wanted_at": "2026-01-01T00:00:00Z" });
    let proof = |url: &str, record: Json, doubts: Json| {
        json!({
            "proved": doubts.as_array().is_some_and(Vec::is_empty), "kind": "comment", "url": url,
            "repository": "acme/app", "claim": null, "record": record, "doubts": doubts,
        })
    };
    let edited = json!([{ "code": "edited", "message": "it was edited since this server wrote it" }]);
    let unmarked = json!([{ "code": "unmarked", "message": "it does not say that this server wrote it" }]);
    let mock = Mock::start([
        (
            "GET /api/v1/verify?url=https%3A%2F%2Fx%2F1",
            vec![ok(proof("https://x/1", record(provenance.clone()), json!([])))],
        ),
        (
            "GET /api/v1/verify?url=https%3A%2F%2Fx%2F2",
            vec![ok(proof("https://x/2", record(provenance), edited))],
        ),
        ("GET /api/v1/verify?url=https%3A%2F%2Fx%2F3", vec![ok(proof("https://x/3", Json::Null, unmarked))]),
        (
            "GET /api/v1/verify?url=https%3A%2F%2Fx%2F4",
            vec![ok(proof("https://x/4", record(Json::Null), json!([])))],
        ),
        (
            "GET /api/v1/verify?url=https%3A%2F%2Fx%2F5",
            vec![problem(404, "nothing_there", "there is nothing")],
        ),
    ]);
    let lines: [&[&str]; 6] = [
        &["verify", "https://x/1"],
        &["verify", "https://x/2"],
        &["verify", "https://x/3"],
        &["verify", "https://x/3", "--json"],
        &["verify", "https://x/4"],
        &["verify", "https://x/5"],
    ];
    insta::assert_snapshot!(mock.session(&Desk::new(), &lines));
}
