//! What GitHub tells the server: webhooks, signed, sent once each. Some are lost; those that did not arrive
//! are in the log, from which they are sent again when the server asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::signature::Signature;
use serde_json::{Value as Json, json};
use testkit::Asked;
use testkit::hub::{Answer, BOT, Hub, account};

use super::fate::{Deed, Moment};
use super::front::Front;

/// What signs them.
pub(crate) const SECRET: &str = "a secret of thirty-two characters";
/// So long GitHub waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// One try to deliver something.
pub(crate) struct Delivery {
    id: u64,
    guid: String,
    name: String,
    body: String,
    again: bool,
}

impl Delivery {
    pub(super) fn new(front: &Front, name: &str, body: &Json) -> Self {
        let id = front.hub().id();
        let body = body.to_string();
        Self {
            id,
            guid: format!("00000000-0000-0000-0000-{id:012}"),
            name: name.to_owned(),
            body,
            again: false,
        }
    }

    /// What was to be delivered before.
    pub(super) fn again(front: &Front, id: u64) -> Option<Self> {
        let mut hub = front.hub();
        let known = hub.deliveries.iter().find(|known| known["id"] == id)?.clone();
        let text = |key: &str| known[key].as_str().map(str::to_owned);
        Some(Self {
            id: hub.id(),
            guid: text("guid")?,
            name: text("event")?,
            body: text("body")?,
            again: true,
        })
    }
}

pub(super) async fn send(front: Arc<Front>, delivery: Delivery) {
    let lost = front.fate().loses();
    let label = format!("webhook {} {}", delivery.name, delivery.id);
    if let Some(span) = lost.filter(|_| !delivery.again) {
        front.note(&format!("{label} is lost"));
        record(&front, &delivery, 504);
        front.kill_within(span, format!("{span:?} after {label} was lost"));
        return;
    }
    let moment = front.fate().meets(Deed::Write);
    if moment == Some(Moment::Before) {
        front.kill(&format!("before {label}"));
    }
    let status = post(&front, &delivery).await;
    front.note(&format!("{label}: {status}"));
    match moment {
        Some(Moment::After) => front.kill(&format!("after {label}")),
        Some(Moment::Within(span)) => front.kill_within(span, format!("{span:?} after {label}")),
        Some(Moment::Before) | None => {}
    }
    // Whoever dies while answering was not heard.
    record(&front, &delivery, if moment == Some(Moment::After) { 502 } else { status });
}

/// The status that it was answered with; 502 when it was not.
async fn post(front: &Front, delivery: &Delivery) -> u16 {
    let url = format!("{}/hooks/forges/github", front.fate().url);
    let request = front
        .http
        .post(url)
        .timeout(PATIENCE)
        .header("content-type", "application/json")
        .header("x-github-event", &delivery.name)
        .header("x-github-delivery", &delivery.guid)
        .header("x-hub-signature-256", Signature::of(SECRET, &[delivery.body.as_bytes()]).written())
        .body(delivery.body.clone());
    request.send().await.map_or(502, |answer| answer.status().as_u16())
}

fn record(front: &Front, delivery: &Delivery, status: u16) {
    let mut hub = front.hub();
    let tried = json!({
        "id": delivery.id, "guid": delivery.guid, "event": delivery.name, "body": delivery.body,
        "delivered_at": hub.time(), "redelivery": delivery.again, "status_code": status,
    });
    hub.deliveries.insert(0, tried);
}

/// The newest deliveries that never arrived.
pub(crate) fn is_all_delivered(hub: &Hub) -> bool {
    let arrived = |guid: &Json| {
        hub.deliveries.iter().any(|tried| tried["guid"] == *guid && tried["status_code"] == 202)
    };
    hub.deliveries.iter().all(|tried| arrived(&tried["guid"]))
}

fn about(hub: &Hub, sender: &Json, mut body: Json) -> Json {
    body["repository"] = hub.repository();
    body["sender"] = sender.clone();
    body["installation"] = json!({ "id": 100 });
    body
}

/// What is told of a push.
pub(super) fn of_push(
    hub: &mut Hub,
    before: &BTreeMap<String, String>,
    by: &Json,
) -> Vec<(&'static str, Json)> {
    let none = "0".repeat(40);
    let mut told = Vec::new();
    for (branch, tip) in hub.branches.clone() {
        let was = before.get(&branch);
        if was == Some(&tip) {
            continue;
        }
        let push =
            json!({ "ref": format!("refs/heads/{branch}"), "before": was.unwrap_or(&none), "after": tip });
        told.push(("push", about(hub, by, push)));
        let open = |number: &u64| {
            let pull = hub.pull(*number)?;
            (pull["state"] == "open" && pull["head"]["ref"] == branch).then_some(*number)
        };
        let numbers: Vec<u64> = hub.pulls.keys().filter_map(open).collect();
        for number in numbers {
            let now = hub.time();
            hub.threads.get_mut(&number).unwrap()["updated_at"] = json!(now);
            let pull = hub.pull(number);
            let moved = json!({ "action": "synchronize", "number": number, "pull_request": pull });
            told.push(("pull_request", about(hub, by, moved)));
        }
    }
    told
}

/// What is told of what the server itself did.
pub(super) fn of_request(hub: &mut Hub, asked: &Asked, answer: &Answer) -> Vec<(&'static str, Json)> {
    let path: Vec<&str> = asked.path.trim_start_matches('/').split('/').skip(3).collect();
    let made = answer.1.clone();
    if !(200..300).contains(&answer.0) {
        return Vec::new();
    }
    let sender = account(BOT);
    match (asked.method.as_str(), path.as_slice()) {
        ("POST", ["issues", number, "comments"]) => {
            vec![of_comment(hub, number.parse().unwrap(), &made, &sender)]
        }
        ("PATCH", ["issues", "comments", _]) => {
            let body = json!({ "action": "edited", "comment": made, "issue": {} });
            vec![("issue_comment", about(hub, &sender, body))]
        }
        ("POST", ["pulls"]) => vec![of_pull(hub, made["number"].as_u64().unwrap(), "opened", &sender)],
        ("POST", ["check-runs"]) => {
            vec![("check_run", about(hub, &sender, json!({ "action": "completed", "check_run": made })))]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn of_comment(hub: &Hub, number: u64, comment: &Json, by: &Json) -> (&'static str, Json) {
    let body = json!({ "action": "created", "issue": hub.threads[&number], "comment": comment });
    ("issue_comment", about(hub, by, body))
}

pub(crate) fn of_pull(hub: &Hub, number: u64, action: &str, by: &Json) -> (&'static str, Json) {
    let body = json!({ "action": action, "number": number, "pull_request": hub.pull(number) });
    ("pull_request", about(hub, by, body))
}
