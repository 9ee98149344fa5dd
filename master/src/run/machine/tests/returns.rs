//! Agents that are heard again after they were given up, and what the signs of life say that they go by.

use super::*;

/// Of two agents `b` freezes at 2.4 s, and is given up before 8 s.
fn frozen() -> Bench {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a", "b"]);
    b.at_ms(2_010);
    b.delta("a", 1, &delta(0, 2_000, 10));
    b.delta("b", 1, &delta(0, 2_000, 10));
    b.at_ms(2_500);
    b.lost("b");
    b.at_ms(5_000);
    b.gone("b");
    b.at_ms(8_000);
    assert!(b.warnings().contains(&"agent_lost".to_owned()));
    b.seen.clear();
    b
}

fn stop_at_once() -> Order {
    Order::Stop { why: StopWhy::Failed, graceful: Micros::ZERO }
}

fn ends(b: &mut Bench) {
    b.at_ms(10_010);
    b.delta("a", 2, &delta(2_000, 10_000, 40));
    b.finished("a", 2);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
}

#[test]
fn all_that_one_did_which_was_frozen_is_counted_once_it_is_back() {
    let mut b = frozen();
    b.back("b");
    b.open("b", ShardState::Running);
    assert_eq!(b.orders("b"), [stop_at_once()], "others have its part");
    b.delta("b", 2, &delta(2_000, 2_400, 2));
    b.at_ms(9_010);
    assert_eq!(b.acks("b"), [2]);
    let kept = &b.stored.agents[&"b".into()];
    let gap = kept.gap.expect("there may be more");
    assert!(gap.from == RunTime(2_400_000) && gap.at_most_requests > 10, "{gap:?}");
    b.finished("b", 2);
    assert!(b.warnings().contains(&"agent_returned".to_owned()));
    ends(&mut b);
    let m = &b.ending().metrics;
    assert!(m.completeness.complete, "{:?}", m.completeness);
    assert_eq!((m.total_requests, m.iterations, m.missed_iterations), (62, 62, 38));
    assert_eq!(m.agents[1].state, "lost", "its part was others'");
}

#[test]
fn the_end_of_a_run_does_not_wait_for_one_that_is_back() {
    let mut b = frozen();
    b.back("b");
    b.open("b", ShardState::Running);
    b.delta("b", 2, &delta(2_000, 2_400, 2));
    ends(&mut b);
    let m = &b.ending().metrics;
    let gap = &m.completeness.gaps[0];
    assert_eq!((gap.from_ms, m.iterations), (2_400.0, 62));
    assert_eq!(m.iterations + m.missed_iterations + gap.at_most_requests, 100, "{m:?}");
}

#[test]
fn one_that_is_back_and_is_cut_off_again_tells_the_rest_later_and_to_a_next_master_too() {
    let mut old = frozen();
    old.back("b");
    old.open("b", ShardState::Running);
    old.delta("b", 2, &delta(2_000, 2_300, 1));
    old.lost("b");
    old.at_ms(8_500);
    old.open("b", ShardState::Finished);
    assert_eq!(old.orders("b").last(), Some(&stop_at_once()), "whatever it has heard before");
    old.at_ms(9_010);
    let mut b = old.taken_over(10);
    assert!(!b.streams.contains_key(&"b".into()), "nobody looks for it before it shows itself");
    b.open("a", ShardState::Running);
    b.back("b");
    assert_eq!(b.streams[&"b".into()].1.last_seq, Seq(2));
    b.open("b", ShardState::Finished);
    b.delta("b", 3, &delta(2_300, 2_400, 1));
    b.finished("b", 3);
    b.at_ns(b.now.monotonic_ns + 1_100 * MS);
    b.delta("a", 2, &delta(2_000, 10_000, 40));
    b.finished("a", 2);
    let m = &b.ending().metrics;
    assert!(m.completeness.complete, "{:?}", m.completeness);
    assert_eq!((m.iterations, m.missed_iterations), (62, 38));
}

#[test]
fn what_cannot_be_read_of_one_that_is_back_leaves_its_gap() {
    let mut b = frozen();
    b.back("b");
    b.open("b", ShardState::Running);
    b.report(
        "b",
        Report::Delta(DeltaFrame { seq: Seq(2), index: 0, count: 1, body: b"nonsense".to_vec().into() }),
    );
    assert!(b.is_released("b"));
    ends(&mut b);
    assert_eq!(b.ending().metrics.completeness.gaps[0].from_ms, 2_000.0);
}

#[test]
fn a_sign_of_life_says_what_the_agents_clock_showed_and_never_more() {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a"]);
    let said = |b: &Bench| {
        let of = |action: &Action| match action {
            Action::Send { order: Order::Alive { monotonic_ns }, .. } => Some(*monotonic_ns),
            _ => None,
        };
        b.seen.iter().rev().find_map(of).expect("a sign of life")
    };
    b.lost("a");
    b.at_ms(500);
    // Its Welcome was under way for 300 ms.
    let (stream, monotonic_ns) = (b.stream("a"), b.theirs_ns(300));
    let welcome = Welcome {
        incarnation: Incarnation(100),
        state: ShardState::Running,
        run_time: RunTime(200_000),
        first_unacked: Seq(0),
        adjusted: 0,
        moved: Vec::new(),
        monotonic_ns,
    };
    b.event(Event::Opened { agent: "a".into(), stream, welcome });
    assert_eq!(said(&b), b.theirs_ns(300));
    b.at_ms(1_500);
    assert_eq!(said(&b), b.theirs_ns(300), "each second, whatever else is said");
    let start_ns = b.theirs_ns(1_500);
    b.report("a", Report::Started { monotonic_ns: start_ns });
    b.at_ms(2_010);
    b.delta("a", 1, &delta(0, 2_000, 10));
    b.at_ms(2_500);
    assert_eq!(said(&b), b.theirs_ns(10), "what was under way for the shortest time tells most");
}
