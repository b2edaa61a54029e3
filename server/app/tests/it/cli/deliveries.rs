//! `spellbook deliveries`.

use super::*;

fn delivery(id: &str, name: Option<&str>, verdict: Option<&str>) -> Json {
    json!({
        "id": id, "source": if name.is_some() { "forge/github" } else { "remote" }, "repository": null, "name": name,
        "external_id": name.map(|_| "72d3162e-cc78-11e3-81ab-4c9367dc0958"), "bytes": 13_177, "verdict": verdict,
        "received_at": "2026-01-01T00:00:00Z",
    })
}

#[test]
fn what_others_told_is_listed() {
    let all = part(&[
        delivery("dlv_3", Some("issue_comment"), None),
        delivery("dlv_2", Some("ping"), Some("GitHub tries whether the webhook works; it does")),
        delivery("dlv_1", None, Some("it is looked at soon")),
    ]);
    let mock = Mock::start([
        ("GET /api/v1/deliveries?limit=20", vec![all]),
        ("GET /api/v1/deliveries?source=forge%2Facme&limit=50", vec![part(&[])]),
        (
            "GET /api/v1/deliveries?source=remote&limit=20",
            vec![problem(403, "not_allowed", "this is for administrators")],
        ),
    ]);
    insta::assert_snapshot!(mock.session(
        &Desk::new(),
        &[
            &["deliveries"],
            &["deliveries", "forge/acme", "--last", "50"],
            &["deliveries", "remote"],
            &["deliveries", "--json"],
        ]
    ));
}
