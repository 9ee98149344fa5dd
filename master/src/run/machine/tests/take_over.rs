//! A master dies, the next one goes on.

use super::*;

#[test]
fn the_next_master_goes_on_where_the_last_commit_was() {
    let mut old = Bench::running(open_plan(10, 6, json!({})), &["a", "b"]);
    old.at_ms(1_010);
    old.delta("a", 1, &delta(0, 1_000, 5));
    old.delta("b", 1, &delta(0, 1_000, 5));
    // Received and not committed: gone with the old master.
    old.store_answers = false;
    old.at_ms(2_010);
    old.delta("a", 2, &delta(1_000, 2_000, 5));

    let mut b = old.taken_over(2_000);
    assert_eq!(b.machine.status(), RunStatus::Running);
    assert_eq!(b.streams[&"a".into()].1.last_seq, Seq(1));
    assert_eq!(b.streams[&"a".into()].1.epoch, Epoch(4));
    b.open("a", ShardState::Running);
    b.open("b", ShardState::Running);
    b.delta("a", 2, &delta(1_000, 2_000, 5));
    b.delta("b", 2, &delta(1_000, 2_000, 5));
    b.at_ms(6_010);
    for agent in ["a", "b"] {
        b.delta(agent, 3, &delta(2_000, 6_000, 20));
        b.finished(agent, 3);
    }
    b.at_ms(8_000);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let m = &b.ending().metrics;
    assert_eq!((m.total_requests, m.completeness.complete, m.missed_iterations), (60, true, 0));
    assert_eq!(m.agents.iter().map(|agent| agent.requests).collect::<Vec<_>>(), [30, 30]);
}

#[test]
fn an_agent_that_died_with_the_master_leaves_a_gap_from_the_last_commit() {
    let mut old = Bench::running(open_plan(10, 6, json!({})), &["a", "b"]);
    old.at_ms(1_010);
    old.delta("a", 1, &delta(0, 1_000, 5));
    old.delta("b", 1, &delta(0, 1_000, 5));
    let mut b = old.taken_over(1_990);
    b.gone("b");
    b.open("a", ShardState::Running);
    b.at_ms(6_010);
    b.delta("a", 2, &delta(1_000, 6_000, 25));
    b.finished("a", 2);
    b.at_ms(8_000);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let m = &b.ending().metrics;
    // What the last master said to it is not known: it may have loaded for 4.5 s more.
    assert_eq!((m.completeness.gaps[0].from_ms, m.completeness.gaps[0].to_ms), (1_000.0, 7_500.0));
    assert_eq!(m.total_requests + m.missed_iterations + m.completeness.gaps[0].at_most_requests, 60);
}

#[test]
fn what_was_missed_before_lost_lanes_are_taken_is_counted_once_by_a_master_whose_clock_is_behind() {
    let mut old = Bench::running(open_plan(100, 10, json!({ "on_agent_loss": "redistribute" })), &["a", "b"]);
    old.at_ms(2_010);
    old.delta("a", 1, &delta(0, 2_000, 100));
    old.delta("b", 1, &delta(0, 2_000, 100));
    // By the next one's wall clock the run is a second and a half younger than it is.
    old.now.unix_ms -= 1_500;
    let mut b = old.taken_over(0);
    b.gone("b");
    b.lost("b");
    b.open("a", ShardState::Running);
    b.at_ms(4_900);
    b.delta("a", 2, &delta(2_000, 6_000, 200));
    // It is given up, and with what the other has said everything up to 6 s is closed.
    b.at_ms(5_100);
    let order = b.stored.moves[&1].order.clone();
    assert_eq!(order.from, RunTime(6_000_000), "what was due before is counted as missed");
    b.report("a", Report::Moved(Moved { number: 1, from: RunTime(7_000_000) }));
    b.at_ms(10_010);
    b.delta("a", 3, &delta(6_000, 10_000, 350));
    b.finished("a", 3);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let m = &b.ending().metrics;
    let gap = &m.completeness.gaps[0];
    assert_eq!(m.iterations + m.missed_iterations + gap.at_most_requests, 1_000, "{m:?}");
}

#[test]
fn a_gap_that_was_stored_stays_as_it_is() {
    let mut old = Bench::running(open_plan(10, 6, json!({})), &["a", "b"]);
    old.at_ms(10);
    old.lost("b");
    old.at_ms(4_600);
    old.gone("b");
    old.at_ms(5_010);
    old.delta("a", 1, &delta(0, 5_000, 25));
    let mut b = old.taken_over(500);
    assert!(!b.streams.contains_key(&"b".into()), "nobody looks for the dead");
    b.open("a", ShardState::Running);
    b.at_ms(6_010);
    b.delta("a", 2, &delta(5_000, 6_000, 5));
    b.finished("a", 2);
    let m = &b.ending().metrics;
    let gap = &m.completeness.gaps[0];
    assert_eq!((gap.from_ms, gap.to_ms, gap.at_most_requests), (0.0, 4_600.0, 23));
    assert_eq!((m.total_requests, m.missed_iterations), (30, 7));
}

#[test]
fn a_run_that_was_not_started_is_given_up_and_its_agents_are_released() {
    let mut old = Bench::new(open_plan(10, 6, json!({})), &["a", "b"]);
    old.open("a", ShardState::New);
    let mut b = old.taken_over(500);
    b.open("a", ShardState::Prepared);
    let stream = b.stream("b");
    b.streams.remove(&"b".into());
    b.event(Event::Refused { agent: "b".into(), stream, reason: "refused".to_owned(), fatal: false });
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Lost));
    assert!(b.ending().message.as_deref().is_some_and(|message| message.contains("before the load began")));
    assert!(b.is_released("a"));

    // Nobody answers: it ends all the same.
    let mut b = old.taken_over(500);
    b.at_ns(b.now.monotonic_ns + 5_000 * MS);
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Lost));
}

#[test]
fn a_start_that_was_fixed_and_not_sent_is_sent_by_the_next_master() {
    let mut old = Bench::new(open_plan(10, 6, json!({})), &["a"]);
    old.open("a", ShardState::New);
    old.clock("a", 1);
    old.report("a", Report::Prepared { cores: 1 });
    let mut b = old.taken_over(2_000);
    b.open("a", ShardState::Prepared);
    assert!(
        !b.orders("a").iter().any(|order| matches!(order, Order::StartAt { .. })),
        "its clock is not known yet"
    );
    b.clock("a", 1);
    assert!(b.orders("a").iter().any(|order| matches!(order, Order::StartAt { .. })));
}

#[test]
fn a_stop_survives_the_master() {
    let mut old = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    old.at_ms(1_010);
    old.delta("a", 1, &delta(0, 1_000, 10));
    old.at_ms(1_500);
    old.event(Event::StopRequested);
    let mut b = old.taken_over(500);
    assert_eq!(b.machine.status(), RunStatus::Stopping);
    b.open("a", ShardState::Running);
    assert!(b.orders("a").iter().any(|order| matches!(order, Order::Stop { why: StopWhy::Cancelled, .. })));
    b.delta("a", 2, &delta(1_000, 1_600, 6));
    b.finished("a", 2);
    assert_eq!(b.verdict(), (RunStatus::Cancelled, StopReason::Cancelled));
    assert_eq!(b.ending().metrics.total_requests, 16);
}

#[test]
fn a_wall_clock_that_was_set_meanwhile_does_not_move_the_run() {
    let mut old = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    old.at_ms(1_010);
    old.delta("a", 1, &delta(0, 1_000, 10));
    let mut b = old.taken_over(3_600_000);
    let welcome = Welcome {
        incarnation: Incarnation(100),
        state: ShardState::Running,
        run_time: RunTime(3_000_000),
        first_unacked: Seq(0),
        adjusted: 0,
        moved: Vec::new(),
        monotonic_ns: 0,
    };
    let stream = b.stream("a");
    b.event(Event::Opened { agent: "a".into(), stream, welcome });
    b.at_ns(b.now.monotonic_ns + 3_500 * MS);
    b.delta("a", 2, &delta(1_000, 6_000, 50));
    b.at_ns(b.now.monotonic_ns + 1_500 * MS);
    assert_eq!((b.machine.status(), b.acks("a")), (RunStatus::Running, vec![2]));
}

#[test]
fn readers_see_what_was_stored_as_soon_as_the_run_is_taken_up() {
    let mut old = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    old.at_ms(1_010);
    old.delta("a", 1, &delta(0, 1_000, 10));
    let b = old.taken_over(500);
    let shown = b.seen.iter().find_map(|action| match action {
        Action::Publish { metrics, .. } => Some(metrics.total_requests),
        _ => None,
    });
    assert_eq!(shown, Some(10));
}

#[test]
fn a_take_over_does_not_break_a_rate_that_is_kept() {
    let rule = json!({ "thresholds": [{ "expr": "rps > 8", "abort": true, "window": "10s" }] });
    let mut old = Bench::running(open_plan(10, 60, rule), &["a"]);
    for second in 1..=20 {
        old.at_ms(second * 1_000 + 10);
        old.delta("a", second, &delta((second - 1) * 1_000, second * 1_000, 10));
    }
    let mut b = old.taken_over(1_000);
    b.open("a", ShardState::Running);
    for second in 21..=40 {
        b.at_ms(second * 1_000 + 10);
        b.delta("a", second, &delta((second - 1) * 1_000, second * 1_000, 10));
        assert_eq!(b.machine.status(), RunStatus::Running, "in second {second}");
    }
    // Where the new window is full, the rule is judged again.
    for second in 41..=50 {
        b.at_ms(second * 1_000 + 10);
        b.delta("a", second, &delta((second - 1) * 1_000, second * 1_000, 1));
    }
    assert_eq!(b.machine.status(), RunStatus::Stopping);
}

#[test]
fn what_was_said_of_the_run_and_how_late_its_agents_were_outlives_the_master() {
    let late = |from_ms: u64, us: u64| {
        let mut delta = delta(from_ms, from_ms + 1_000, 5);
        let scenario = delta.scenarios.get_mut(&0).unwrap();
        (0..100).for_each(|_| scenario.schedule_lag.record(Micros(us)));
        delta
    };
    let mut old = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    old.at_ms(500);
    old.report("a", Report::Draining);
    old.at_ms(1_010);
    old.delta("a", 1, &late(0, 700));
    old.delta("b", 1, &late(0, 20));
    let b = old.taken_over(500).taken_over(500);
    let shown = b.seen.iter().find_map(|action| match action {
        Action::Publish { metrics, .. } => Some(Arc::clone(metrics)),
        _ => None,
    });
    let shown = shown.unwrap();
    let said: Vec<_> =
        shown.warnings.iter().map(|w| (w.code.as_str(), w.agent.as_deref(), w.since_ms)).collect();
    assert_eq!(said, [("draining", Some("a"), 500.0)]);
    let lags: Vec<f64> = shown.agents.iter().map(|agent| agent.schedule_lag_p99_ms).collect();
    assert_eq!(lags, [0.7, 0.02]);
    assert!(!b.seen.iter().any(|action| matches!(action, Action::Warn(_))), "it is not said twice");
}

#[test]
fn what_was_started_by_one_that_ended_early_is_nobody_elses_though_the_new_masters_clock_is_behind() {
    // A taker that is heard first has intervals closed, and with them what is missed counted, up to 8 s.
    for (is_taker_first, from) in [(false, RunTime(7_000_000)), (true, RunTime(8_000_000))] {
        let mut old = Bench::running(open_plan(10, 20, json!({ "elastic": true })), &["a", "b"]);
        old.at_ms(1_010);
        old.delta("a", 1, &delta(0, 1_000, 5));
        old.delta("b", 1, &delta(0, 1_000, 5));
        let mut b = old.taken_over(500);
        // Nobody is reached until it is too late to go by the agents' run time. There 8 s are over, here it is 4.6 s.
        b.at_ns(b.now.monotonic_ns + 3_100 * MS);
        b.open("a", ShardState::Running);
        if is_taker_first {
            b.delta("a", 2, &delta(1_000, 8_000, 35));
        }
        b.open("b", ShardState::Finished);
        let warning = Warning { code: "orphaned".to_owned(), ..Warning::default() };
        b.delta("b", 2, &Delta { warnings: vec![warning], ..delta(1_000, 7_000, 30) });
        b.finished("b", 2);
        let orders = b.orders("a").into_iter();
        let moves: Vec<_> = orders
            .filter_map(|order| if let Order::Move(order) = order { Some(order) } else { None })
            .collect();
        assert_eq!(moves.iter().map(|order| order.from).collect::<Vec<_>>(), [from]);
        let moved = Moved { number: moves[0].number, from: RunTime(8_200_000) };
        b.report("a", Report::Moved(moved));
        if !is_taker_first {
            b.delta("a", 2, &delta(1_000, 8_000, 35));
        }
        b.delta("a", 3, &delta(8_000, 20_000, 119));
        b.finished("a", 3);
        let m = &b.ending().metrics;
        assert_eq!((m.iterations, m.missed_iterations), (194, 6), "200 were planned");
    }
}
