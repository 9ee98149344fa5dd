//! Changes of level from outside.

use volcanion_common::plan::Level;
use volcanion_common::units::Rate;

use super::*;

/// A plan whose rate is changed from outside, 10/s at its start.
fn controlled_plan(seconds: u64, more: Value) -> Arc<ValidPlan> {
    plan(
        json!({ "executor": "externally-controlled", "rate": "10/s", "duration": format!("{seconds}s"), "max_vus": 100 }),
        more,
    )
}

fn per_second(rate: u64) -> Level {
    Level::Rate(Rate::per_second(rate))
}

impl Bench {
    fn ask(&mut self, request: u64, level: Level) {
        self.event(Event::AdjustRequested { request, scenario: 0, level });
    }

    /// What was answered: the change's number and moment in milliseconds.
    fn answer(&self, request: u64) -> Option<Result<(u64, f64), NotAdjusted>> {
        self.seen.iter().rev().find_map(|action| match action {
            Action::Adjusted { request: answered, result } if *answered == request => {
                Some(result.clone().map(|levels| (levels[0].change, levels[0].from_ms)))
            }
            _ => None,
        })
    }

    /// Changes that were ordered from an agent: number, milliseconds, level.
    fn changes(&self, agent: &str) -> Vec<(u64, u64, Level)> {
        let orders = self.orders(agent).into_iter();
        orders
            .filter_map(|order| match order {
                Order::Adjust(change) => Some((change.number, change.at.0 / 1_000, change.level)),
                _ => None,
            })
            .collect()
    }

    fn adjusted(&mut self, agent: &str, number: u64, from_ms: u64) {
        self.report(agent, Report::Adjusted { number, from: RunTime(from_ms * 1_000) });
    }
}

#[test]
fn a_change_is_durable_then_ordered_from_all_for_one_moment_that_all_can_keep() {
    let mut b = Bench::running(controlled_plan(60, json!({})), &["a", "b"]);
    b.clock("b", 400);
    b.at_ms(1_000);
    b.store_answers = false;
    b.ask(1, per_second(300));
    assert_eq!((b.changes("a"), b.answer(1)), (vec![], None), "it is not durable yet");
    b.answer_write();
    // Four of the longest round trips, and what the store may take.
    assert_eq!(b.changes("a"), [(1, 2_750, per_second(300))]);
    assert_eq!(b.changes("b"), b.changes("a"));
    assert_eq!(b.answer(1), Some(Ok((1, 2_750.0))));
    b.ask(2, per_second(300));
    assert_eq!(b.answer(2), Some(Ok((1, 2_750.0))), "it is set to that");
    assert!(b.writes.is_empty() && b.changes("a").len() == 1);
}

#[test]
fn a_slow_store_moves_the_change_away() {
    let mut b = Bench::running(controlled_plan(60, json!({})), &["a"]);
    b.at_ms(1_000);
    b.store_answers = false;
    b.ask(1, per_second(300));
    b.ask(2, per_second(20));
    b.at_ms(1_400);
    b.answer_write();
    assert_eq!(b.changes("a"), [], "nobody hears of a moment that is too near");
    b.store_answers = true;
    b.answer_writes();
    let [(1, first, _), (2, second, level)] = b.changes("a")[..] else { panic!("{:?}", b.changes("a")) };
    assert!(first >= 1_900 && second >= first && level == per_second(20));
    assert_eq!(b.stored.changes.len(), 2);

    // One that was not stored is stored later.
    b.store_answers = false;
    b.ask(3, per_second(30));
    b.writes.clear();
    b.event(Event::ChangeFailed { change: 3, fenced: false });
    assert!(b.writes.is_empty() && b.warnings().contains(&"store".to_owned()));
    b.store_answers = true;
    b.at_ms(4_000);
    assert_eq!(b.changes("a").len(), 3);
    b.store_answers = false;
    b.ask(4, per_second(31));
    b.event(Event::ChangeFailed { change: 4, fenced: true });
    assert!(b.is_over, "another master leads");
}

#[test]
fn what_is_asked_for_before_the_start_holds_from_the_start_on() {
    let mut b = Bench::new(controlled_plan(60, json!({})), &["a", "b"]);
    b.open("a", ShardState::New);
    b.ask(1, per_second(50));
    assert_eq!(b.answer(1), Some(Ok((1, 0.0))));
    b.open("b", ShardState::New);
    for agent in ["a", "b"] {
        b.clock(agent, 1);
        assert_eq!(b.changes(agent), [], "an agent that compiles knows no scenario");
        b.report(agent, Report::Prepared { cores: 1 });
    }
    for agent in ["a", "b"] {
        let words = b.orders(agent).into_iter().skip(1).collect::<Vec<_>>();
        assert!(matches!(words[..], [Order::Adjust(_), Order::StartAt { .. }]), "{words:?}");
        assert_eq!(b.changes(agent), [(1, 0, per_second(50))]);
    }
    // The start is some hundred milliseconds ahead; what cannot be there before it comes after it.
    b.ask(2, per_second(70));
    let (_, at_ms) = b.answer(2).unwrap().unwrap();
    assert!((0.0..=150.0).contains(&at_ms), "{at_ms}");
}

#[test]
fn only_a_run_that_goes_is_changed() {
    let mut b = Bench::running(controlled_plan(4, json!({})), &["a"]);
    b.at_ms(3_500);
    b.ask(1, per_second(20));
    assert_eq!(b.answer(1), Some(Err(NotAdjusted::ScenarioOver)));
    b.event(Event::StopRequested);
    b.ask(2, per_second(20));
    assert_eq!(b.answer(2), Some(Err(NotAdjusted::NotGoing)));

    // What the store did not take before the run was stopped is not tried again.
    let mut b = Bench::running(controlled_plan(60, json!({})), &["a"]);
    b.store_answers = false;
    b.ask(1, per_second(20));
    b.event(Event::StopRequested);
    b.event(Event::ChangeFailed { change: 1, fenced: false });
    assert_eq!(b.answer(1), Some(Err(NotAdjusted::NotGoing)));

    // More at once than anybody means.
    let mut b = Bench::running(controlled_plan(60, json!({})), &["a"]);
    b.store_answers = false;
    (1..200).for_each(|request| b.ask(request, per_second(request)));
    assert_eq!(b.answer(199), Some(Err(NotAdjusted::TooManyAtOnce)));
    b.store_answers = true;
    b.answer_writes();
    assert_eq!(b.answer(60), Some(Ok((60, b.stored.changes[&60].at.as_millis_f64()))));
}

#[test]
fn an_agent_that_was_cut_off_hears_of_what_it_missed_and_says_when_it_went_over() {
    let mut b = Bench::running(controlled_plan(10, json!({})), &["a", "b"]);
    b.at_ms(1_000);
    b.ask(1, per_second(40));
    b.adjusted("a", 1, 1_650);
    b.adjusted("b", 1, 1_650);
    b.lost("b");
    b.ask(2, per_second(80));
    b.ask(3, per_second(20));
    assert_eq!(b.changes("a").len(), 3);
    b.at_ms(3_000);
    b.open_with("b", ShardState::Running, 1);
    assert_eq!(b.changes("b").iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2, 3]);
    b.adjusted("b", 2, 3_100);
    b.adjusted("b", 3, 3_100);
    assert_eq!(b.warnings(), ["late_change", "late_change"]);
    b.adjusted("b", 99, 1);
    // Half of the lanes: 10/s until 1.65 s, then 40/s until 3.1 s, then 20/s; lost after that.
    b.at_ms(4_000);
    b.delta("a", 1, &delta(0, 1_000, 5));
    b.delta("b", 1, &delta(0, 1_000, 5));
    b.lost("b");
    b.at_ms(9_000);
    b.gone("b");
    b.at_ms(10_100);
    b.delta("a", 2, &delta(1_000, 10_000, 95));
    b.finished("a", 2);
    let m = &b.ending().metrics;
    // Arrivals of 1 s to 9 s by these rates: 7 of ten a second (with those at 0 s and 1.65 s), 58 of forty, 118 of twenty, half of each.
    let in_gap = m.completeness.gaps[0].at_most_requests;
    assert!((90..=94).contains(&in_gap), "{in_gap}");
    assert!(!m.completeness.gaps[0].estimate);
    // From 9 s to 10 s at 20/s, half of it.
    assert!((9..=11).contains(&m.missed_iterations), "{}", m.missed_iterations);
}

#[test]
fn per_agent_levels_are_ordered_so_many_times_as_much() {
    let mut b = Bench::running(controlled_plan(60, json!({ "load": "per_agent" })), &["a", "b", "c"]);
    b.ask(1, per_second(20));
    assert_eq!(b.changes("c").iter().map(|(.., level)| *level).collect::<Vec<_>>(), [per_second(60)]);
    assert_eq!(b.stored.changes[&1].level, per_second(20), "kept as it was asked for");
    b.ask(2, per_second(20));
    assert_eq!(b.changes("c").len(), 1);
}

#[test]
fn the_next_master_orders_what_was_durable_and_not_heard() {
    let mut old = Bench::running(controlled_plan(60, json!({})), &["a", "b"]);
    old.at_ms(1_000);
    old.ask(1, per_second(40));
    old.adjusted("a", 1, 1_650);
    old.adjusted("b", 1, 1_650);
    // Made durable; nobody heard of it before the master was gone.
    old.store_answers = false;
    old.ask(2, per_second(80));
    let Action::SaveChange(save) = old.writes.remove(0) else { panic!("a change") };
    old.stored.changes.insert(2, save.change);

    let mut b = old.taken_over(200);
    b.open_with("a", ShardState::Running, 1);
    b.open_with("b", ShardState::Running, 1);
    for agent in ["a", "b"] {
        assert_eq!(b.changes(agent), [(2, 1_650, per_second(80))]);
    }
    b.ask(3, per_second(20));
    let [_, (3, at_ms, level)] = b.changes("a")[..] else { panic!("{:?}", b.changes("a")) };
    assert!(at_ms >= 1_700 && level == per_second(20), "{at_ms}");

    // An agent that was late says so once more to a new leader.
    let mut b = old.taken_over(3_000);
    b.open_with("a", ShardState::Running, 2);
    b.adjusted("a", 2, 2_500);
    assert_eq!(b.changes("a"), []);
    assert_eq!(b.warnings(), ["late_change"]);
}
