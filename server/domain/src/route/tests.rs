use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn candidate(target: &str) -> Candidate {
    Candidate {
        target: target.to_owned(),
        model: format!("house/{target}"),
        abilities: Some(vec![Ability::Tools, Ability::Json]),
        in_region: false,
        context: Some(100_000),
        weight: 1,
        cost: Some(NanoUsd::from_nanos(1_000)),
        funds: Funds::Enough,
        quality: 0,
        pace: Some(Duration::from_secs(1)),
        health: Health::Well,
    }
}

fn wish(route: Route) -> Wish {
    Wish { route, needs: Vec::new(), read: 1_000, written: None, stays_with: None, dice: 1 }
}

fn three(change: impl Fn(&mut Candidate, u64)) -> Vec<Candidate> {
    let named = ["a", "b", "c"].into_iter().map(candidate).zip(0..);
    named
        .map(|(mut one, at)| {
            change(&mut one, at);
            one
        })
        .collect()
}

/// The targets in order, then those that are left out with the reason.
#[track_caller]
fn check(candidates: &[Candidate], wish: &Wish, expect: &[&str]) {
    let ranking = Ranking::of(candidates, wish);
    let asked = ranking.order().into_iter().map(|at| ranking.verdicts[at].target.clone());
    let not = ranking.verdicts.iter().filter(|verdict| verdict.place.is_none());
    let not = not.map(|verdict| format!("{}: {}", verdict.target, verdict.reason));
    let found: Vec<String> = asked.chain(not).collect();
    assert_eq!(found, expect);
}

#[test]
fn they_are_ordered_by_the_wish() {
    let cost = |one: &mut Candidate, at: u64| {
        one.cost = [Some(3), Some(1), None][at as usize].map(NanoUsd::from_nanos);
    };
    check(&three(cost), &wish(Route::Cheapest), &["b", "a", "c"]);
    let pace = |one: &mut Candidate, at: u64| {
        one.pace = [Some(3), Some(2), None][at as usize].map(Duration::from_secs);
    };
    check(&three(pace), &wish(Route::Fastest), &["c", "b", "a"]);
    let quality = |one: &mut Candidate, at: u64| one.quality = [1, 3, 2][at as usize];
    check(&three(quality), &wish(Route::Quality), &["b", "c", "a"]);
    check(&three(|_, _| ()), &wish(Route::Order), &["a", "b", "c"]);
}

#[test]
fn who_cannot_or_may_not_is_left_out() {
    let all = |change: fn(&mut Candidate)| {
        three(|one, at| {
            if at == 0 {
                change(one);
            }
        })
    };
    let order = wish(Route::Order);
    let tools = Wish { needs: vec![Ability::Tools], ..order.clone() };
    check(&all(|one| one.abilities = Some(Vec::new())), &tools, &["b", "c", "a: it cannot call tools"]);
    check(&all(|one| one.abilities = None), &tools, &["a", "b", "c"]);
    let long = Wish { read: 90_000, written: Some(20_000), ..order.clone() };
    check(
        &all(|one| one.context = None),
        &long,
        &[
            "a",
            "b: it reads 100000 tokens, and question and answer may have 110000",
            "c: it reads 100000 tokens, and question and answer may have 110000",
        ],
    );
    let context = Wish { needs: vec![Ability::Context], ..order.clone() };
    check(&all(|one| one.context = None), &context, &["b", "c", "a: it is not known how much it reads"]);
    let region = Wish { needs: vec![Ability::Region], ..order.clone() };
    let outside = "it is not known to run in a region that the operator allows";
    check(
        &all(|one| one.in_region = true),
        &region,
        &["a", &format!("b: {outside}"), &format!("c: {outside}")],
    );
    check(&all(|one| one.funds = Funds::Short), &order, &["b", "c", "a: it may cost more than is left"]);
    check(
        &all(|one| one.funds = Funds::Unpriced),
        &order,
        &["b", "c", "a: nobody knows what it costs, and money is limited"],
    );
    check(
        &all(|one| one.health = Health::Open(Duration::from_millis(29_001))),
        &order,
        &["b", "c", "a: it failed too often; it rests for 30 s more"],
    );
    check(
        &all(|one| one.health = Health::Limited(Duration::from_secs(3))),
        &order,
        &["b", "c", "a: it was asked as much as it may be in a minute; again in 3 s"],
    );
}

#[test]
fn when_nobody_is_well_the_one_that_is_soonest_well_is_asked() {
    let health = |one: &mut Candidate, at: u64| {
        one.health = [
            Health::Cooling(Duration::from_secs(300)),
            Health::Open(Duration::from_secs(9)),
            Health::Limited(Duration::from_secs(1)),
        ][at as usize];
    };
    check(
        &three(health),
        &wish(Route::Cheapest),
        &["b", "a", "c: it was asked as much as it may be in a minute; again in 1 s"],
    );
    let ranking = Ranking::of(&three(health), &wish(Route::Cheapest));
    assert_eq!(ranking.verdicts[1].reason, Reason::LastResort { wait_ms: 9_000 });
}

#[test]
fn a_conversation_stays_where_it_is_while_that_is_well() {
    let stays = Wish { stays_with: Some("c".to_owned()), ..wish(Route::Order) };
    check(&three(|_, _| ()), &stays, &["c", "a", "b"]);
    let ill = three(|one, at| {
        if at == 2 {
            one.health = Health::Open(Duration::from_secs(1));
        }
    });
    check(&ill, &stays, &["a", "b", "c: it failed too often; it rests for 1 s more"]);
}

#[test]
fn shares_are_kept_in_the_long_run() {
    let candidates = three(|one, at| one.weight = [1, 2, 7][at as usize]);
    let mut first = [0_u32; 3];
    for dice in 0..10_000_u64 {
        let dice = dice.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let order = Ranking::of(&candidates, &Wish { dice, ..wish(Route::Weighted) }).order();
        first[order[0]] += 1;
    }
    for (found, share) in first.into_iter().zip([1_000, 2_000, 7_000]) {
        assert!(found.abs_diff(share) < 300, "{first:?}");
    }
}

/// One question in twenty looks how another does.
#[test]
fn the_slow_ones_are_tried_now_and_then() {
    let candidates = three(|one, at| one.pace = Some(Duration::from_secs(1 + at)));
    let first = |dice| Ranking::of(&candidates, &Wish { dice, ..wish(Route::Fastest) }).order()[0];
    let others = (0..2_000).filter(|dice| first(*dice) != 0).count();
    assert_eq!(others, 100);
    assert!((0..200).any(|dice| first(dice) == 1) && (0..200).any(|dice| first(dice) == 2));
}

#[test]
fn a_verdict_is_stored_by_its_word() {
    let ranking = Ranking::of(&[candidate("a")], &wish(Route::Cheapest));
    let json = serde_json::to_value(&ranking).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "route": "cheapest", "verdicts": [{
            "target": "a", "model": "house/a", "place": 1, "reason": "only", "cost": 1000, "pace_ms": 1000
        }] })
    );
    assert_eq!(serde_json::from_value::<Ranking>(json).unwrap(), ranking);
    for reason in [Reason::InOrder, Reason::LastResort { wait_ms: 1 }, Reason::TooDear] {
        assert_eq!(serde_json::to_value(&reason).unwrap()["reason"], reason.as_str());
    }
}

prop_compose! {
    fn any_candidate()(
        tools in any::<bool>(), context in prop::option::of(0..3_000_u64), weight in 0..5_u32,
        cost in prop::option::of(0..9_i64), funds in 0..3_usize, quality in 0..3_i64,
        pace in prop::option::of(0..5_u64), health in 0..4_usize, wait in 0..9_u64,
    ) -> Candidate {
        let wait = Duration::from_secs(wait);
        Candidate {
            abilities: tools.then(|| vec![Ability::Tools]),
            context, weight, quality,
            cost: cost.map(NanoUsd::from_nanos),
            pace: pace.map(Duration::from_secs),
            funds: [Funds::Enough, Funds::Short, Funds::Unpriced][funds],
            health: [Health::Well, Health::Open(wait), Health::Cooling(wait), Health::Limited(wait)][health],
            ..candidate("x")
        }
    }
}

proptest! {
    /// Each is asked once or not at all, nobody who cannot or may not, and somebody when anybody can.
    #[test]
    fn an_order_holds_whoever_may_be_asked(
        mut candidates in prop::collection::vec(any_candidate(), 0..6), route in 0..5_usize, dice: u64, needs: bool,
    ) {
        for (at, one) in candidates.iter_mut().enumerate() {
            one.target = at.to_string();
        }
        let route = [Route::Order, Route::Cheapest, Route::Fastest, Route::Weighted, Route::Quality][route];
        let needs = if needs { vec![Ability::Tools] } else { Vec::new() };
        let wish = Wish { needs, dice, stays_with: Some("2".to_owned()), ..wish(route) };
        let ranking = Ranking::of(&candidates, &wish);
        let mut asked = ranking.order();
        let places: Vec<u32> = asked.iter().filter_map(|at| ranking.verdicts[*at].place).collect();
        prop_assert_eq!(places, (1..).take(asked.len()).collect::<Vec<_>>());
        asked.sort_unstable();
        let rejected = |at: usize| candidates[at].rejected(&wish);
        let well: Vec<usize> = (0..candidates.len()).filter(|at| rejected(*at).is_none()).collect();
        let ill = |at: &usize| matches!(rejected(*at), Some(Reason::Open { .. } | Reason::Cooling { .. }));
        let expect = if well.is_empty() { (0..candidates.len()).filter(ill).collect() } else { well };
        prop_assert_eq!(asked, expect);
    }
}
