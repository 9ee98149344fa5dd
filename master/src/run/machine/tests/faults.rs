//! Lost and repeated messages, lost agents, a store that fails.

use super::*;

#[test]
fn a_repeated_delta_counts_once_and_is_acknowledged_again() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    b.delta("a", 1, &delta(0, 1_000, 10));
    assert_eq!(b.acks("a"), [1, 1]);
    assert_eq!(b.stored.total.requests(), 10);
}

#[test]
fn a_missing_delta_breaks_the_stream_which_goes_on_after_the_last_durable_one() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    b.delta("a", 3, &delta(2_000, 3_000, 10));
    assert!(!b.streams.contains_key(&"a".into()), "it was closed");
    b.at_ms(1_300);
    assert_eq!(b.streams[&"a".into()].1.last_seq, Seq(1));
    b.open("a", ShardState::Running);
    b.delta("a", 2, &delta(1_000, 2_000, 10));
    b.delta("a", 3, &delta(2_000, 3_000, 10));
    b.at_ms(3_100);
    assert_eq!((b.acks("a").last(), b.stored.total.requests()), (Some(&3), 30));
}

#[test]
fn words_of_an_old_stream_are_not_heard() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    let old = b.stream("a");
    b.lost("a");
    b.at_ms(500);
    b.open("a", ShardState::Running);
    for event in [
        Event::StreamLost { agent: "a".into(), stream: old },
        Event::Report { agent: "a".into(), stream: old, report: Report::Finished { last_seq: Seq(0) } },
        Event::Refused { agent: "a".into(), stream: old, reason: String::new(), fatal: true },
        Event::Committed { part: 77 },
        Event::Saved { save: 77 },
    ] {
        b.event(event);
    }
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    assert_eq!(b.acks("a"), [1]);
    assert!(b.stored.ending.is_none());
}

#[test]
fn a_late_delta_becomes_one_more_part_of_its_own_time() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 5));
    b.at_ms(1_499);
    assert_eq!(b.stored.parts.len(), 0);
    b.at_ms(1_501);
    assert_eq!(b.stored.parts.len(), 1, "b is 500 ms late");
    b.delta("b", 1, &delta(0, 1_000, 5));
    b.at_ms(2_010);
    b.delta("a", 2, &delta(1_000, 2_000, 5));
    b.delta("b", 2, &delta(1_000, 2_000, 5));
    let spans: Vec<_> =
        b.stored.parts.iter().map(|p| (p.from().0 / 1_000, p.to().0 / 1_000, p.delta.requests())).collect();
    assert_eq!(spans, [(0, 1_000, 5), (0, 1_000, 5), (1_000, 2_000, 10)]);
    assert_eq!(b.acks("b"), [1, 2]);
}

#[test]
fn nothing_is_acknowledged_while_the_store_fails_and_nothing_is_lost() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a"]);
    b.store_answers = false;
    for seq in 1..=3 {
        b.at_ms(seq * 1_000 + 10);
        b.delta("a", seq, &delta((seq - 1) * 1_000, seq * 1_000, 10));
        assert_eq!(b.writes.len(), 1, "one commit in flight");
        b.writes.clear();
        b.event(Event::CommitFailed { part: 1, fenced: false });
        assert_eq!(b.writes.len(), 0, "it is tried again after a pause");
        b.at_ms(seq * 1_000 + 900);
    }
    assert_eq!(b.acks("a"), [0; 0]);
    assert_eq!(b.warnings(), ["store"]);
    b.store_answers = true;
    b.answer_writes();
    b.at_ms(9_000);
    assert_eq!((b.acks("a"), b.stored.total.requests()), (vec![1, 2, 3], 30));
}

#[test]
fn agents_may_say_their_last_when_the_store_is_back_however_long_after_the_end_that_is() {
    for is_stopped in [false, true] {
        let mut b = Bench::running(open_plan(10, 4, json!({})), &["a"]);
        b.store_answers = false;
        b.at_ms(1_010);
        b.delta("a", 1, &delta(0, 1_000, 10));
        if is_stopped {
            b.event(Event::StopRequested);
        }
        // More than the plan's end, its grace and what is awaited besides. The store refuses, or hangs.
        for at_s in 2..60 {
            b.at_ms(at_s * 1_000);
            if at_s % 10 == 0
                && let Some(at) = b.writes.iter().position(|write| matches!(write, Action::Commit(_)))
                && let Action::Commit(part) = b.writes.remove(at)
            {
                b.event(Event::CommitFailed { part: part.number, fenced: false });
            }
        }
        assert!(!b.is_released("a"));
        b.store_answers = true;
        b.answer_writes();
        b.at_ms(66_000);
        assert_eq!(b.acks("a"), [1]);
        b.delta("a", 2, &delta(1_000, 4_000, 30));
        b.finished("a", 2);
        b.at_ms(67_000);
        let wanted = if is_stopped { RunStatus::Cancelled } else { RunStatus::Completed };
        assert_eq!((b.verdict().0, b.stored.total.requests()), (wanted, 40));
        assert!(b.stored.agents[&"a".into()].gap.is_none());
        assert!(b.is_released("a"));
    }
    // An agent that says nothing though the store is well does not hold up the end.
    let mut b = Bench::running(open_plan(10, 4, json!({})), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    (2..20).for_each(|at_s| b.at_ms(at_s * 1_000));
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Lost));
}

#[test]
fn an_end_that_was_not_stored_is_stored_later() {
    let mut b = Bench::running(open_plan(10, 1, json!({})), &["a"]);
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 10));
    b.store_answers = false;
    b.finished("a", 1);
    while !matches!(b.writes.first(), Some(Action::End(_))) {
        b.answer_write();
    }
    let Action::End(ending) = b.writes.remove(0) else { panic!("the end") };
    b.event(Event::SaveFailed { save: ending.number, fenced: false });
    assert!(!b.is_released("a"));
    b.store_answers = true;
    b.at_ms(2_000);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    assert!(b.is_released("a"));
}

#[test]
fn a_master_that_was_replaced_steps_down_and_says_nothing_more() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    b.store_answers = false;
    b.at_ms(1_010);
    b.delta("a", 1, &delta(0, 1_000, 5));
    b.delta("b", 1, &delta(0, 1_000, 5));
    b.event(Event::CommitFailed { part: 1, fenced: true });
    assert!(b.is_over && b.streams.is_empty());
    assert!(matches!(b.seen.last(), Some(Action::StepDown)));
    assert!(!b.orders("a").contains(&Order::Release), "the new leader goes on with the agents");
    b.event(Event::Tick);
    b.event(Event::StopRequested);
}

#[test]
fn a_lost_stream_alone_kills_nobody() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    b.lost("b");
    b.at_ms(20_000);
    assert!(!b.warnings().contains(&"agent_lost".to_owned()));
    // The entry ran out, but the stream is back: it lives.
    b.open("b", ShardState::Running);
    b.gone("b");
    b.at_ms(21_000);
    assert!(!b.warnings().contains(&"agent_lost".to_owned()));
    // Its entry is back before its stream breaks again.
    b.event(Event::MemberBack { agent: "b".into(), incarnation: Incarnation(101) });
    b.lost("b");
    assert!(!b.warnings().contains(&"agent_lost".to_owned()));
    // Another incarnation's entry says nothing about this one.
    b.event(Event::MemberGone { agent: "b".into(), incarnation: Incarnation(55) });
    assert!(!b.warnings().contains(&"agent_lost".to_owned()));
    b.gone("b");
    // It may not know that its stream is gone, and load until it does.
    b.at_ms(24_400);
    assert!(!b.warnings().contains(&"agent_lost".to_owned()));
    b.at_ms(26_000);
    assert!(b.warnings().contains(&"agent_lost".to_owned()));
}

#[test]
fn a_dead_agents_gap_is_exact_for_an_open_loop_and_the_rest_is_missed() {
    let mut b = Bench::running(open_plan(10, 10, json!({})), &["a", "b"]);
    b.at_ms(2_010);
    b.delta("a", 1, &delta(0, 2_000, 10));
    // One of its iterations was still going.
    let mut last = delta(0, 2_000, 9);
    last.scenarios.get_mut(&0).unwrap().started = 10;
    b.delta("b", 1, &last);
    b.at_ms(2_500);
    b.lost("b");
    b.at_ms(5_000);
    b.gone("b");
    b.at_ms(10_010);
    b.delta("a", 2, &delta(2_000, 10_000, 40));
    b.finished("a", 2);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let m = &b.ending().metrics;
    let gap = &m.completeness.gaps[0];
    assert_eq!(
        (gap.agent.as_str(), gap.from_ms, gap.to_ms),
        ("b", 2_000.0, 6_850.0),
        "4.5 s after our last sign of life"
    );
    assert_eq!(
        (gap.at_most_requests, gap.estimate),
        (25, false),
        "24 arrivals of 4.85 s, and the one that was going"
    );
    assert_eq!((m.iterations, m.missed_iterations), (60, 16));
    assert_eq!(m.iterations + m.missed_iterations + 24, 100, "planned = started + missed + in the gap");
    assert!(!m.completeness.complete);
    assert_eq!(m.agents.iter().map(|agent| agent.state.as_str()).collect::<Vec<_>>(), ["finished", "lost"]);
    assert_ne!(m.validity.verdict, volcanion_common::view::metrics::Verdict::Valid);
}

#[test]
fn a_dead_agents_gap_is_an_estimate_for_a_closed_loop() {
    let mut b = Bench::running(closed_plan(10, json!({})), &["a", "b"]);
    b.at_ms(2_010);
    b.delta("a", 1, &delta(0, 2_000, 300));
    b.delta("b", 1, &delta(0, 2_000, 200));
    b.lost("b");
    b.at_ms(7_000);
    b.gone("b");
    b.finished("a", 1);
    let gap = &b.ending().metrics.completeness.gaps[0];
    assert_eq!((gap.at_most_requests, gap.estimate), (500, true), "100 a second for five seconds");
}

#[test]
fn a_run_without_agents_left_fails_as_lost() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    for agent in ["a", "b"] {
        b.at_ms(3_000);
        b.gone(agent);
        b.lost(agent);
    }
    b.at_ms(8_000);
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Lost));
    assert_eq!(b.ending().metrics.completeness.gaps.len(), 2);
}

#[test]
fn a_lost_agent_ends_the_run_where_the_plan_says_so() {
    let mut b = Bench::running(open_plan(10, 60, json!({ "on_agent_loss": "abort" })), &["a", "b"]);
    b.at_ms(1_000);
    b.gone("b");
    b.lost("b");
    b.at_ms(6_000);
    assert!(matches!(b.orders("a").last(), Some(Order::Stop { why: StopWhy::Failed, .. })));
    b.delta("a", 1, &delta(0, 1_000, 5));
    b.finished("a", 1);
    assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Failed));
    assert!(b.ending().message.as_deref().is_some_and(|message| message.contains("`b` was lost")));
}

#[test]
fn an_agent_that_forgot_the_run_is_lost_with_a_gap() {
    let mut b = Bench::running(open_plan(10, 4, json!({})), &["a", "b"]);
    b.at_ms(1_010);
    b.delta("b", 1, &delta(0, 1_000, 5));
    b.lost("b");
    b.at_ms(2_000);
    b.open("b", ShardState::New);
    assert!(b.is_released("b"));
    b.delta("a", 1, &delta(0, 4_000, 20));
    b.finished("a", 1);
    let gap = &b.ending().metrics.completeness.gaps[0];
    assert_eq!((gap.from_ms, gap.to_ms, gap.at_most_requests), (1_000.0, 2_000.0, 5));
}

#[test]
fn an_agent_that_failed_is_lost_once_its_last_numbers_are_in() {
    let mut b = Bench::running(open_plan(10, 4, json!({})), &["a", "b"]);
    b.at_ms(1_500);
    b.report("b", Report::Fault { code: "engine".to_owned(), message: "a core died".to_owned() });
    b.delta("b", 1, &delta(0, 1_400, 7));
    b.finished("b", 1);
    b.at_ms(4_010);
    b.delta("a", 1, &delta(0, 4_000, 20));
    b.finished("a", 1);
    let m = &b.ending().metrics;
    assert_eq!((m.total_requests, m.completeness.gaps.len()), (27, 1));
    assert_eq!(m.validity.verdict, volcanion_common::view::metrics::Verdict::Invalid);
    assert_eq!(m.iterations + m.missed_iterations, 40, "nothing lies in the gap");
}

#[test]
fn numbers_that_cannot_be_read_end_the_agents_part() {
    for wrong in [
        frames(1, &delta(0, 500_000_000, 1)).remove(0),
        frames(1, &{
            let mut alien = delta(0, 1_000, 1);
            let series = alien.series.pop_first().unwrap().1;
            alien.series.insert(SeriesKey { step: 9, outcome: Outcome::Status(200) }, series);
            alien
        })
        .remove(0),
        Report::Delta(DeltaFrame { seq: Seq(1), index: 0, count: 1, body: b"nonsense".to_vec().into() }),
    ] {
        let mut b = Bench::running(open_plan(10, 4, json!({})), &["a"]);
        b.at_ms(500);
        b.report("a", wrong);
        assert_eq!(b.verdict(), (RunStatus::Failed, StopReason::Lost));
        assert!(b.is_released("a"));
    }
}

#[test]
fn whoever_is_silent_at_the_end_is_a_gap_and_the_run_ends() {
    let mut b = Bench::running(open_plan(10, 4, json!({})), &["a", "b"]);
    b.at_ms(4_100);
    b.delta("a", 1, &delta(0, 4_000, 20));
    b.finished("a", 1);
    b.at_ms(15_000);
    assert_eq!(b.machine.status(), RunStatus::Stopping);
    b.at_ms(17_000);
    assert_eq!(b.verdict(), (RunStatus::Completed, StopReason::Completed));
    let gap = &b.ending().metrics.completeness.gaps[0];
    assert_eq!((gap.agent.as_str(), gap.to_ms, gap.at_most_requests), ("b", 6_000.0, 20));
}

#[test]
fn a_start_order_that_was_lost_is_sent_again() {
    let mut b = Bench::new(open_plan(10, 4, json!({})), &["a"]);
    b.open("a", ShardState::New);
    b.clock("a", 1);
    b.report("a", Report::Prepared { cores: 1 });
    b.lost("a");
    b.seen.clear();
    b.at_ns(b.now.monotonic_ns + 300 * MS);
    b.open("a", ShardState::Prepared);
    assert!(matches!(b.orders("a")[..], [Order::StartAt { .. }]));
}

#[test]
fn an_agent_that_was_taken_for_dead_and_comes_back_is_told_to_stop() {
    let mut b = Bench::running(open_plan(10, 60, json!({})), &["a", "b"]);
    b.at_ms(1_000);
    b.gone("b");
    b.lost("b");
    b.at_ms(5_000);
    assert!(!b.streams.contains_key(&"b".into()), "nobody looks for the dead");
    b.back("b");
    b.seen.clear();
    // It has lost what it knew of the run.
    b.open("b", ShardState::New);
    assert_eq!(b.orders("b"), [Order::Release]);
    assert!(!b.streams.contains_key(&"b".into()));
    b.back("b");
    b.at_ms(8_000);
    assert!(!b.streams.contains_key(&"b".into()), "once is enough");

    // Another process under its name has nothing of this run.
    b.event(Event::MemberGone { agent: "b".into(), incarnation: Incarnation(101) });
    b.event(Event::MemberBack { agent: "b".into(), incarnation: Incarnation(999) });
    assert!(!b.streams.contains_key(&"b".into()));
}
