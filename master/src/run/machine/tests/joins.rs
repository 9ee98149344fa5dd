//! Agents that join: durable first, prepared without a lane, given their part by moves; one that fails changes nothing.

use volcanion_common::session::Move;
use volcanion_common::shard::Shard;

use super::*;

fn running(more: Value) -> Bench {
    let mut more = more;
    more["elastic"] = json!(true);
    let mut b = Bench::running(open_plan(90, 20, more), &["a", "b"]);
    b.at_ms(3_000);
    b
}

fn candidates(b: &mut Bench, names: &[(&str, u64)]) {
    let members = names.iter().map(|(name, incarnation)| member(name, *incarnation)).collect();
    b.event(Event::Candidates { members });
}

/// Lets a joiner be prepared and start; the shard that it was sent.
fn start(b: &mut Bench, name: &str) -> Shard {
    b.open(name, ShardState::New);
    let orders = b.orders(name);
    let Some(Order::Prepare { sealed_shard, .. }) = orders.first() else { panic!("{orders:?}") };
    let shard = serde_json::from_slice(sealed_shard).expect("a shard");
    b.lost(name);
    b.at_ms(4_000);
    b.open(name, ShardState::Prepared);
    b.clock(name, 2);
    assert!(matches!(b.orders(name).last(), Some(Order::StartAt { .. })), "{:?}", b.orders(name));
    b.report(name, Report::Started { monotonic_ns: 1 });
    shard
}

fn moves(b: &Bench, name: &str) -> Vec<Move> {
    let orders = b.orders(name).into_iter();
    orders.filter_map(|order| if let Order::Move(order) = order { Some(order) } else { None }).collect()
}

#[test]
fn whoever_joins_gets_its_part_of_everybodys() {
    let mut b = running(json!({}));
    candidates(&mut b, &[("a", 100), ("c", 300)]);
    assert_eq!(b.stored.joined.iter().map(|joined| joined.id.0.as_str()).collect::<Vec<_>>(), ["c"]);
    let shard = start(&mut b, "c");
    assert!(shard.scenarios.iter().all(ScenarioShare::is_empty), "it begins without a lane");
    assert_eq!((shard.first_vu, shard.ready_for.as_slice()), (0, &[34][..]), "a third of 100");
    assert!(moves(&b, "c").is_empty(), "first the others release");
    let mut released = Vec::new();
    for name in ["a", "b"] {
        let [order] = moves(&b, name).try_into().expect("one move");
        assert!(order.take.is_empty() && order.from > RunTime(4_000_000));
        released.extend(order.release.clone());
        b.report(name, Report::Moved(Moved { number: order.number, from: order.from }));
    }
    released.sort_unstable();
    let mut taken: Vec<u32> = moves(&b, "c").into_iter().flat_map(|order| order.take).collect();
    taken.sort_unstable();
    assert_eq!((taken.len(), &taken), (32, &released), "16 of each one's 50");
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());

    // A next master knows that it is one of them.
    let next = b.taken_over(1_000);
    assert_eq!(next.streams.keys().map(|id| id.0.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn with_load_per_agent_it_begins_a_further_copy_of_the_plan() {
    let mut b = running(json!({ "load": "per_agent" }));
    candidates(&mut b, &[("c", 300)]);
    let shard = start(&mut b, "c");
    assert_eq!(shard.first_vu, 200, "after the VUs of the two that are there");
    assert_eq!(shard.plan["scenarios"]["main"]["max_vus"], 100, "once the plan");
    let [order] = moves(&b, "c").try_into().expect("one move");
    assert_eq!(order.take, (0..100).collect::<Vec<u32>>());
    assert!(moves(&b, "a").is_empty() && moves(&b, "b").is_empty(), "the others keep theirs");
}

#[test]
fn one_that_fails_before_it_had_a_part_fails_nothing() {
    let mut b = running(json!({ "on_agent_loss": "abort" }));
    candidates(&mut b, &[("c", 300)]);
    b.event(Event::MemberGone { agent: "c".into(), incarnation: Incarnation(300) });
    assert_eq!(b.warnings(), ["join_failed"]);
    candidates(&mut b, &[("c", 300)]);
    assert_eq!(b.stored.joined.len(), 1, "that process is not asked again");
    candidates(&mut b, &[("c", 301)]);
    assert_eq!(b.stored.joined.len(), 2, "the next one of that name is");
    for name in ["a", "b"] {
        b.delta(name, 1, &delta(0, 20_000, 900));
        b.finished(name, 1);
    }
    b.at_ms(30_000);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    assert!(b.ending().metrics.completeness.complete);
}

#[test]
fn nobody_joins_a_run_that_has_enough_or_is_not_elastic() {
    let mut b = running(json!({ "agents": { "count": 2 } }));
    candidates(&mut b, &[("c", 300)]);
    assert!(b.stored.joined.is_empty());
    b.lost("b");
    b.at_ms(9_000);
    b.gone("b");
    assert_eq!(b.stored.joined.len(), 1, "the place of a lost one is taken");

    let mut b = Bench::running(open_plan(90, 20, json!({})), &["a", "b"]);
    b.at_ms(3_000);
    candidates(&mut b, &[("c", 300)]);
    assert!(b.stored.joined.is_empty());
}
