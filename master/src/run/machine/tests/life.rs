//! The life of a run without faults, its refusals, its stops, its rules.

use super::*;

#[test]
fn a_run_goes_from_its_first_connection_to_its_end() {
    let mut b = Bench::new(open_plan(10, 2, json!({})), &["a", "b"]);
    b.open("a", ShardState::New);
    b.open("b", ShardState::New);
    let [Order::Prepare { sealed_shard, seal }] = &b.orders("a")[..] else {
        panic!("one Prepare: {:?}", b.orders("a"))
    };
    assert!(b.run.key.is_sealed(sealed_shard, seal));
    let shard: volcanion_common::shard::Shard = serde_json::from_slice(sealed_shard).unwrap();
    assert_eq!((shard.agent, shard.incarnation, shard.epoch), ("a".into(), Incarnation(100), Epoch(3)));
    b.report("a", Report::Prepared { cores: 1 });
    b.clock("a", 1);
    b.clock("b", 1);
    assert!(b.stored.save.is_none(), "b is still compiling");
    b.report("b", Report::Prepared { cores: 1 });

    let start_ns = b.start_ns();
    assert!(start_ns >= b.now.monotonic_ns + 500 * MS);
    let at_agent = (start_ns as i64 + OFFSET_NS) as u64;
    for agent in ["a", "b"] {
        assert_eq!(b.orders(agent).last(), Some(&Order::StartAt { monotonic_ns: at_agent }));
    }
    assert_eq!(b.machine.status(), RunStatus::Preparing);
    b.at_ms(0);
    assert_eq!(b.machine.status(), RunStatus::Running);
    b.report("a", Report::Started { monotonic_ns: at_agent });
    b.report("b", Report::Started { monotonic_ns: at_agent + 3 * MS });

    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 5));
    assert_eq!(b.acks("a"), [0; 0], "b is awaited");
    b.delta("b", 1, &delta(0, 1_000, 5));
    assert_eq!((b.acks("a"), b.acks("b")), (vec![1], vec![1]));
    let live = b
        .seen
        .iter()
        .rev()
        .find_map(|a| if let Action::Publish { metrics, .. } = a { Some(metrics) } else { None });
    let live = live.expect("live figures");
    assert_eq!((live.total_requests, live.current_rps, live.active_workers), (10, 10.0, 10));

    b.at_ms(2_010);
    b.delta("a", 2, &delta(1_000, 2_000, 5));
    b.finished("a", 2);
    b.delta("b", 2, &delta(1_000, 2_000, 5));
    assert!(b.stored.ending.is_none());
    b.finished("b", 2);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    assert!(b.is_released("a") && b.is_released("b"));
    let m = &b.ending().metrics;
    assert_eq!((m.total_requests, m.iterations, m.status_codes["200"], m.current_rps), (20, 20, 20, 0.0));
    assert_eq!((m.start_skew_ms, m.completeness.complete, m.agents.len()), (Some(3.0), true, 2));
    assert_eq!(m.agents.iter().map(|agent| agent.requests).sum::<u64>(), 20);
    assert_eq!(m.total_duration_ms, 2_000.0);
}

#[test]
fn a_long_round_trip_moves_the_start_away() {
    let mut b = Bench::new(open_plan(10, 2, json!({})), &["a"]);
    b.open("a", ShardState::New);
    b.report("a", Report::Prepared { cores: 1 });
    b.clock("a", 400);
    assert!(b.start_ns() >= b.now.monotonic_ns + 1_600 * MS);
}

#[test]
fn nobody_hears_of_a_start_that_is_not_durable() {
    let mut b = Bench::new(open_plan(10, 2, json!({})), &["a"]);
    b.store_answers = false;
    b.open("a", ShardState::New);
    b.clock("a", 1);
    b.report("a", Report::Prepared { cores: 1 });
    assert_eq!(b.orders("a").len(), 1, "the Prepare");
    let first = b.writes.clone();
    // The store was slow: the start would come too soon for the agent, so it is fixed anew.
    b.at_ns(b.now.monotonic_ns + 600 * MS);
    b.answer_write();
    assert_eq!(b.orders("a").len(), 1);
    assert_eq!((first.len(), b.writes.len()), (1, 1));
    b.answer_write();
    assert!(matches!(b.orders("a").last(), Some(Order::StartAt { .. })));
    assert!(b.start_ns() >= b.now.monotonic_ns + 500 * MS);
}

#[test]
fn a_run_that_cannot_be_prepared_fails_and_releases_the_others() {
    let check = |name: &str, spoil: fn(&mut Bench), says: &str| {
        let mut b = Bench::new(open_plan(10, 2, json!({})), &["a", "b"]);
        b.open("a", ShardState::New);
        b.report("a", Report::Prepared { cores: 1 });
        b.clock("a", 1);
        spoil(&mut b);
        assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Failed), "{name}");
        let message = b.ending().message.clone().unwrap_or_default();
        assert!(message.contains(says), "{name}: {message}");
        assert!(b.is_released("a"), "{name}");
        let metrics = &b.ending().metrics;
        assert_eq!((metrics.total_requests, metrics.validity.causes[0].code.as_str()), (0, "nothing_sent"));
    };
    check(
        "refused",
        |b| {
            let stream = b.stream("b");
            b.event(Event::Refused {
                agent: "b".into(),
                stream,
                reason: "a higher epoch".to_owned(),
                fatal: true,
            });
        },
        "`b` refused the run: a higher epoch",
    );
    check(
        "another process",
        |b| {
            let welcome = Welcome {
                incarnation: Incarnation(7),
                state: ShardState::New,
                run_time: RunTime::START,
                first_unacked: Seq(0),
                adjusted: 0,
                moved: Vec::new(),
                monotonic_ns: 0,
            };
            let stream = b.stream("b");
            b.event(Event::Opened { agent: "b".into(), stream, welcome });
        },
        "another process",
    );
    check(
        "fault",
        |b| {
            b.open("b", ShardState::New);
            b.report(
                "b",
                Report::Fault { code: "blocked".to_owned(), message: "the target is not allowed".to_owned() },
            );
        },
        "(blocked): the target is not allowed",
    );
    check("never reached", |b| b.at_ns(b.now.monotonic_ns + 31_000 * MS), "`b` (not reached)");
    check(
        "refused by whoever is at its address",
        |b| {
            let (stream, reason) = (b.stream("b"), "a wrong certificate".to_owned());
            b.event(Event::Refused { agent: "b".into(), stream, reason, fatal: false });
            b.at_ns(b.now.monotonic_ns + 31_000 * MS);
        },
        "`b` (not reached: a wrong certificate)",
    );
    check(
        "compiles for ever",
        |b| {
            b.open("b", ShardState::New);
            b.at_ns(b.now.monotonic_ns + 31_000 * MS);
        },
        "`b` (still compiling)",
    );
    check(
        "no clock",
        |b| {
            b.open("b", ShardState::New);
            b.report("b", Report::Prepared { cores: 1 });
            b.at_ns(b.now.monotonic_ns + 31_000 * MS);
            let asked = b
                .seen
                .iter()
                .filter(|a| matches!(a, Action::MeasureClock { agent } if agent.0 == "b"))
                .count();
            assert!(asked > 3, "it was asked for again: {asked}");
        },
        "clock",
    );
    check(
        "lost",
        |b| {
            b.gone("b");
        },
        "lost while",
    );
}

#[test]
fn an_agent_that_is_not_reached_at_once_is_tried_again() {
    let mut b = Bench::new(open_plan(10, 2, json!({})), &["a"]);
    for _ in 0..3 {
        let stream = b.stream("a");
        b.streams.clear();
        b.event(Event::Refused {
            agent: "a".into(),
            stream,
            reason: "connection refused".to_owned(),
            fatal: false,
        });
        b.at_ns(b.now.monotonic_ns + 3_000 * MS);
    }
    b.open("a", ShardState::New);
    b.clock("a", 1);
    // The stream breaks before the Prepared arrives; the agent goes on compiling.
    b.lost("a");
    b.at_ns(b.now.monotonic_ns + 3_000 * MS);
    b.open("a", ShardState::Prepared);
    assert!(matches!(b.orders("a").last(), Some(Order::StartAt { .. })));
}

#[test]
fn a_stop_ends_the_run_as_cancelled_in_every_state() {
    let cancelled = (RunStatus::Cancelled, StopReason::Cancelled);
    // Preparing.
    let mut b = Bench::new(open_plan(10, 60, json!({})), &["a", "b"]);
    b.open("a", ShardState::New);
    b.event(Event::StopRequested);
    assert_eq!(b.verdict(), cancelled);
    assert!(b.is_released("a"));
    b.event(Event::StopRequested);

    // The start is being made durable.
    let mut b = Bench::new(open_plan(10, 60, json!({})), &["a"]);
    b.open("a", ShardState::New);
    b.clock("a", 1);
    b.store_answers = false;
    b.report("a", Report::Prepared { cores: 1 });
    b.event(Event::StopRequested);
    b.answer_writes();
    assert_eq!(b.verdict(), cancelled);
    assert!(!b.orders("a").iter().any(|order| matches!(order, Order::StartAt { .. })));

    // Before the start's instant.
    let mut b = Bench::new(open_plan(10, 60, json!({})), &["a"]);
    b.open("a", ShardState::New);
    b.clock("a", 1);
    b.report("a", Report::Prepared { cores: 1 });
    b.event(Event::StopRequested);
    assert!(matches!(b.orders("a").last(), Some(Order::Stop { why: StopWhy::Cancelled, .. })));
    b.finished("a", 0);
    assert_eq!(b.verdict(), cancelled);

    // Running, and once more while it stops.
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    b.at_ms(1_500);
    b.event(Event::StopRequested);
    b.event(Event::StopRequested);
    assert_eq!(b.machine.status(), RunStatus::Stopping);
    let stops = b.orders("a").into_iter().filter(|o| matches!(o, Order::Stop { .. })).collect::<Vec<_>>();
    assert_eq!(stops, [Order::Stop { why: StopWhy::Cancelled, graceful: Micros::from_secs(1) }]);
    b.delta("a", 2, &delta(1_000, 1_520, 5));
    b.finished("a", 2);
    assert_eq!(b.verdict(), cancelled);
    assert_eq!((b.ending().metrics.total_requests, b.ending().metrics.missed_iterations), (15, 0));

    // In the grace after the planned end.
    let mut b = Bench::running(open_plan(10, 1, json!({})), &["a"]);
    b.at_ms(1_200);
    b.event(Event::StopRequested);
    assert!(matches!(b.orders("a").last(), Some(Order::Stop { .. })));
    b.delta("a", 1, &delta(0, 1_300, 10));
    b.finished("a", 1);
    assert_eq!(b.verdict(), cancelled);
}

#[test]
fn an_agent_that_was_cut_off_hears_of_the_stop_when_it_is_back() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    b.lost("a");
    b.event(Event::StopRequested);
    b.at_ms(500);
    b.open("a", ShardState::Running);
    assert!(matches!(b.orders("a").last(), Some(Order::Stop { why: StopWhy::Cancelled, .. })));
}

#[test]
fn the_gap_of_one_that_never_heard_of_the_stop_reaches_to_the_end_of_what_it_was_to_do() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 5));
    b.delta("b", 1, &delta(0, 1_000, 5));
    b.lost("b");
    b.event(Event::StopRequested);
    b.finished("a", 1);
    // Its registry entry is there: it may load on.
    b.at_ms(13_000);
    assert_eq!(b.verdict(), (RunStatus::Cancelled, StopReason::Cancelled));
    let gap = &b.ending().metrics.completeness.gaps[0];
    assert_eq!((gap.from_ms, gap.at_most_requests), (1_000.0, 5 * 59));
    assert!(gap.to_ms >= 60_000.0, "{gap:?}");
}

#[test]
fn a_broken_threshold_fails_the_run_at_its_end_or_at_once() {
    let mut b =
        Bench::running(open_plan(10, 1, json!({ "thresholds": ["p(95) < 1ms", "requests > 3"] })), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    b.finished("a", 1);
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Threshold));
    let ok: Vec<bool> = b.ending().metrics.thresholds.iter().map(|t| t.ok).collect();
    assert_eq!(ok, [false, true]);

    let rule = json!({ "thresholds": [{ "expr": "p(95) < 1ms", "abort": true, "grace": "2s" }] });
    let mut b = Bench::running(open_plan(10, 60, rule), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    assert_eq!(b.machine.status(), RunStatus::Running, "within its grace");
    b.at_ms(2_010);
    b.delta("a", 2, &delta(1_000, 2_000, 10));
    assert_eq!(b.machine.status(), RunStatus::Stopping);
    assert!(matches!(
        b.orders("a").iter().rev().find(|o| matches!(o, Order::Stop { .. })),
        Some(Order::Stop { why: StopWhy::Threshold, .. })
    ));
    b.finished("a", 2);
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Threshold));
    assert!(b.ending().message.as_deref().is_some_and(|message| message.contains("p(95) < 1ms")));
}

#[test]
fn every_agent_hears_of_its_leader_every_two_seconds() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    let mut last_ms = BTreeMap::from([("a", 0), ("b", 0)]);
    for ms in (0..20_000).step_by(50) {
        b.at_ms(ms);
        for action in b.seen.drain(..) {
            if let Action::Send { agent, .. } = action {
                let agent = if agent.0 == "a" { "a" } else { "b" };
                last_ms.insert(agent, ms);
            }
        }
        assert!(last_ms.values().all(|last| ms - last <= 2_000), "{ms}: {last_ms:?}");
    }
}

#[test]
fn an_agent_that_drains_leaves_the_rest_of_its_arrivals_missed() {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a", "b"]);
    b.report("b", Report::Draining);
    b.at_ms(2_100);
    let mut last = delta(0, 2_000, 10);
    last.warnings.push(Warning {
        code: "draining".to_owned(),
        message: "it leaves".to_owned(),
        since: RunTime(0),
        ..Warning::default()
    });
    b.delta("b", 1, &last);
    b.finished("b", 1);
    b.delta("a", 1, &delta(0, 2_000, 10));
    b.at_ms(10_010);
    b.delta("a", 2, &delta(2_000, 10_000, 40));
    b.finished("a", 2);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let m = &b.ending().metrics;
    assert_eq!((m.iterations, m.missed_iterations, m.completeness.complete), (60, 40, true));
}

#[test]
fn what_a_draining_agent_left_is_missed_even_where_its_last_numbers_come_late() {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a", "b"]);
    b.report("b", Report::Draining);
    b.delta("a", 1, &delta(0, 3_000, 15));
    // Two intervals were closed without it by then.
    b.at_ms(3_600);
    let mut last = delta(0, 2_000, 10);
    last.warnings.push(Warning {
        code: "draining".to_owned(),
        message: "it leaves".to_owned(),
        since: RunTime(0),
        ..Warning::default()
    });
    b.delta("b", 1, &last);
    b.finished("b", 1);
    b.at_ms(10_010);
    b.delta("a", 2, &delta(3_000, 10_000, 35));
    b.finished("a", 2);
    let m = &b.ending().metrics;
    assert_eq!((m.iterations, m.missed_iterations), (60, 40));
}

#[test]
fn an_arrival_between_an_agents_last_start_and_its_last_word_is_missed() {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a", "b"]);
    // It was told to leave at 1.7 s, and its last request took until 2.0 s: of its ten arrivals by then it started nine.
    let mut last = delta(0, 2_000, 9);
    last.warnings.push(Warning {
        code: "draining".to_owned(),
        message: "it leaves".to_owned(),
        since: RunTime(1_700_000),
        ..Warning::default()
    });
    b.at_ms(2_100);
    b.delta("b", 1, &last);
    b.finished("b", 1);
    b.at_ms(10_010);
    b.delta("a", 1, &delta(0, 10_000, 50));
    b.finished("a", 1);
    let m = &b.ending().metrics;
    assert_eq!((m.iterations, m.missed_iterations), (59, 41));
}

#[test]
fn a_slow_store_delays_the_start_and_does_not_keep_the_run_from_starting() {
    let mut b = Bench::new(open_plan(10, 2, json!({})), &["a"]);
    b.store_answers = false;
    b.open("a", ShardState::New);
    b.clock("a", 1);
    b.report("a", Report::Prepared { cores: 1 });
    // Every write takes a second.
    for _ in 0..10 {
        b.at_ns(b.now.monotonic_ns + 1_000 * MS);
        if !b.writes.is_empty() {
            b.answer_write();
        }
    }
    let is_started = b.orders("a").iter().any(|order| matches!(order, Order::StartAt { .. }));
    assert!(is_started, "{:?}", b.orders("a"));
}
