//! A burst of events starts one run.

use std::time::Duration;

use super::house::House;
use crate::reconcile::Pushed;

async fn check(body: &str, expect: [&str; 3]) {
    let daemon = format!(
        "  on: {{ push: {{ debounce: 10m }} }}\n{body}  stages: [{{ name: Only, script: say done }}]\n"
    );
    let house = House::new(&[("late", &daemon)]).await;
    for number in 0..3 {
        let files = [(format!("{number}.txt"), "text".to_owned())];
        house.push(&files, Pushed::default()).await;
        house.dispatch().await;
        house.clock.advance(Duration::from_secs(240));
    }
    assert_eq!(house.statuses("late").await, expect, "before its time, with\n{daemon}");
    house.work().await;
    assert_eq!(house.statuses("late").await, expect, "worked on before its time, with\n{daemon}");
    house.clock.advance(Duration::from_secs(600));
    house.work().await;
    assert_eq!(house.statuses("late").await, ["skipped", "skipped", "succeeded"], "with\n{daemon}");
}

#[tokio::test]
async fn the_newest_takes_the_place_of_those_that_have_not_begun() {
    check("", ["skipped", "skipped", "queued"]).await;
    check("  concurrency: { group: g, limit: 3 }\n", ["skipped", "skipped", "queued"]).await;
    check("  concurrency: { group: g, behavior: fail }\n", ["skipped", "skipped", "queued"]).await;
}
