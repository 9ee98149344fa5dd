use serde_json::json;
use volcanion_common::delta::{Delta, ScenarioDelta, Warning};
use volcanion_common::ids::{AgentId, Incarnation, RunId, Seq};
use volcanion_common::plan::{Plan, document as documents};
use volcanion_common::series::{Distribution, ErrorKind, Outcome, Series, SeriesKey};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::RunStatus;
use volcanion_common::view::metrics::Verdict;

use super::commits::CommitQueue;
use super::complete::Collector;
use super::document::Figures;
use super::planned::Planned;
use super::*;

fn plan(scenario: serde_json::Value) -> Plan {
    let document = json!({ "name": "t", "target": "http://127.0.0.1:1", "scenarios": { "main": scenario } });
    documents::from_json(&document).unwrap_or_else(|problems| panic!("{problems}")).plan.plan().clone()
}

fn two_steps() -> Plan {
    plan(json!({
        "executor": "constant-arrival-rate", "rate": "10/s", "duration": "10s", "max_vus": 5, "graceful_stop": "1s",
        "steps": [{ "name": "home", "get": "/" }, { "name": "login", "post": "/login" }],
    }))
}

fn add_series(
    delta: &mut Delta,
    step: u32,
    outcome: Outcome,
    requests: u64,
    failed: u64,
    millis: Option<u64>,
) {
    let (bytes_sent, bytes_received, redirects) = (requests, 2 * requests, requests / 3);
    let mut series = Series { requests, redirects, failed, bytes_sent, bytes_received, ..Series::default() };
    for _ in 0..millis.map_or(0, |_| requests) {
        series.response_time.record(Micros::from_millis(millis.unwrap_or(0)));
        series.service_time.record(Micros::from_millis(millis.unwrap_or(0)));
    }
    delta.series.insert(SeriesKey { step, outcome }, series);
}

fn at(from_ms: u64, to_ms: u64, requests: u64) -> Delta {
    let mut delta = Delta { from: RunTime(from_ms * 1_000), to: RunTime(to_ms * 1_000), ..Delta::default() };
    add_series(&mut delta, 0, Outcome::Status(200), requests, 0, Some(5));
    delta
}

fn state(name: &str) -> AgentState {
    AgentState::new(AgentId::from(name), Incarnation(1), 1)
}

#[test]
fn the_document_adds_up_and_shows_every_step() {
    let plan = two_steps();
    let mut total = at(0, 2_000, 90);
    add_series(&mut total, 0, Outcome::Status(503), 6, 6, Some(50));
    add_series(&mut total, 0, Outcome::Error(ErrorKind::Connect), 3, 3, None);
    add_series(&mut total, 0, Outcome::Error(ErrorKind::Timeout), 1, 1, Some(1_000));
    total.errors.insert((0, ErrorKind::Connect, "refused".to_owned()), 2);
    total.errors.insert((0, ErrorKind::Connect, String::new()), 1);
    total.scenarios.insert(
        0,
        ScenarioDelta { started: 100, completed: 99, interrupted: 1, dropped: 4, ..ScenarioDelta::default() },
    );
    let mut a = state("a");
    a.add(Seq(1), &mut total.clone(), &[false, false]);
    let lag = Distribution::default();
    let m = document::build(Figures {
        run: RunId::new(),
        plan: &plan,
        status: RunStatus::Running,
        stop_reason: None,
        unix_ms: 1_800_000_000_123,
        total: &total,
        current_rps: 50.0,
        agents: vec![(&a, &lag)],
        warnings: &[],
        thresholds: Vec::new(),
        start_skew_ms: Some(0.0),
    });
    assert_eq!((m.total_requests, m.success_requests, m.failed_requests), (100, 90, 10));
    assert_eq!(m.status_codes, [("200".to_owned(), 90), ("503".to_owned(), 6)].into());
    let errors = [("connect".to_owned(), 1), ("connect: refused".to_owned(), 2), ("timeout".to_owned(), 1)];
    assert_eq!(m.errors, errors.into());
    assert_eq!((m.requests_per_sec, m.current_rps, m.total_duration_ms), (50.0, 50.0, 2_000.0));
    assert_eq!((m.min_latency_ms, m.max_latency_ms, m.response_time_ms.count), (5.0, 1_000.0, 97));
    assert!((m.avg_latency_ms - (90.0 * 5.0 + 6.0 * 50.0 + 1_000.0) / 97.0).abs() < 1e-9);
    assert_eq!((m.bytes_sent, m.bytes_received, m.interrupted_iterations), (100, 200, 1));
    assert_eq!((m.redirects, m.steps[0].redirects, m.steps[1].redirects), (33, 33, 0));
    let steps: Vec<_> =
        m.steps.iter().map(|s| (s.name.as_str(), s.method.as_str(), s.requests, s.failed)).collect();
    assert_eq!(steps, [("home", "GET", 100, 10), ("login", "POST", 0, 0)]);
    assert_eq!(m.last_updated, "2027-01-15T08:00:00.123Z");
    assert_eq!(m.validity.verdict, Verdict::Degraded, "iterations were dropped");
    assert_eq!((m.agents[0].requests, m.agents[0].failed, m.agents[0].dropped_iterations), (100, 10, 4));
}

#[test]
fn warnings_keep_the_name_of_their_agent_and_come_once() {
    let mut a = state("a");
    for seq in 1..=3 {
        let mut delta = at(0, 1_000, 1);
        delta.warnings.push(Warning {
            code: "no_ports".to_owned(),
            message: "m".to_owned(),
            since: RunTime(6_000 + seq * 1_000),
            until: RunTime(seq * 1_000_000),
            amount: seq,
            worst: seq,
            ..Warning::default()
        });
        a.add(Seq(seq), &mut delta, &[]);
        assert!(delta.warnings.is_empty());
    }
    let judge = |states: &[&AgentState]| validity::judge(&Delta::default(), states, &["main"], Some(0.1));
    let validity = judge(&[&state("b"), &a]);
    assert_eq!((validity.verdict, validity.causes.len()), (Verdict::Invalid, 1));
    let cause = &validity.causes[0];
    assert_eq!((cause.agent.as_deref(), cause.verdict), (Some("a"), Verdict::Invalid));
    assert_eq!((cause.since_ms, cause.until_ms, cause.amount, cause.worst), (7.0, Some(3_000.0), 6.0, 3.0));
    assert_eq!(judge(&[&state("b")]).verdict, Verdict::Valid);
}

#[test]
fn how_much_of_it_there_was_decides_how_grave_a_cause_is() {
    // Of 10 s, 10,000 requests and 1,000 iterations of the scenario.
    let check = |code: &str, amount: u64, expected: Verdict| {
        let mut a = state("a");
        let mut delta = at(0, 10_000, 10_000);
        delta.scenarios.insert(0, ScenarioDelta { started: 1_000, ..ScenarioDelta::default() });
        let warning =
            Warning { code: code.to_owned(), scenario: Some(0), amount, worst: amount, ..Warning::default() };
        delta.warnings.push(warning);
        a.add(Seq(1), &mut delta, &[false]);
        let validity = validity::judge(&Delta::default(), &[&a, &state("b")], &["main"], None);
        assert_eq!(validity.verdict, expected, "{code} {amount}");
        for cause in validity.causes {
            let named = (cause.verdict, cause.agent.as_deref(), cause.scenario.as_deref());
            assert_eq!(named, (expected, Some("a"), Some("main")), "{code} {amount}");
        }
    };
    for code in ["throttled", "stalled"] {
        check(code, 1_000_000, Verdict::Degraded);
        check(code, 1_000_001, Verdict::Invalid);
    }
    for code in ["no_ports", "no_files", "blocked"] {
        check(code, 10, Verdict::Degraded);
        check(code, 11, Verdict::Invalid);
    }
    check("schedule_lag", 100, Verdict::Degraded);
    check("schedule_lag", 101, Verdict::Invalid);
    // A closed loop at full speed, a slow target with few VUs, a shared machine: worth a word, and no more.
    for code in ["core_use", "cpu_wait", "cpu_steal", "dropped_iterations", "of another version"] {
        check(code, 10_000_000, Verdict::Degraded);
    }
    check("agent_fault", 0, Verdict::Invalid);
    check("draining", 0, Verdict::Valid);
}

#[test]
fn the_gravest_cause_comes_first_and_pauses_are_not_put_down_to_busy_vus() {
    let mut total = Delta::default();
    total.scenarios.insert(0, ScenarioDelta { started: 90, dropped: 10, ..ScenarioDelta::default() });
    let verdict_of = |warnings: &[(&str, u64)]| {
        let mut a = state("a");
        let mut delta = at(0, 10_000, 90);
        delta.warnings = warnings
            .iter()
            .map(|(code, amount)| Warning { code: (*code).to_owned(), amount: *amount, ..Warning::default() })
            .collect();
        a.add(Seq(1), &mut delta, &[false]);
        let validity = validity::judge(&total, &[&a], &["main"], None);
        validity.causes.into_iter().map(|cause| cause.code).collect::<Vec<_>>()
    };
    assert_eq!(verdict_of(&[]), ["dropped_iterations"]);
    assert_eq!(verdict_of(&[("core_use", 1), ("stalled", 2_000_000)]), ["stalled", "core_use"]);
}

#[test]
fn what_failed_by_our_own_fault_is_neither_a_success_nor_a_failure() {
    let plan = two_steps();
    let mut total = at(0, 1_000, 5);
    // Three had no port, two were refused.
    add_series(&mut total, 0, Outcome::Error(ErrorKind::Connect), 5, 2, None);
    total.errors.insert((0, ErrorKind::Connect, "no ports".to_owned()), 3);
    total.errors.insert((0, ErrorKind::Connect, "refused".to_owned()), 2);
    let mut a = state("a");
    a.add(Seq(1), &mut total.clone(), &[false, false]);
    let lag = Distribution::default();
    let m = document::build(Figures {
        run: RunId::new(),
        plan: &plan,
        status: RunStatus::Running,
        stop_reason: None,
        unix_ms: 0,
        total: &total,
        current_rps: 0.0,
        agents: vec![(&a, &lag)],
        warnings: &[],
        thresholds: Vec::new(),
        start_skew_ms: None,
    });
    assert_eq!((m.total_requests, m.success_requests, m.failed_requests, m.own_faults), (10, 5, 2, 3));
    assert_eq!((m.steps[0].requests, m.steps[0].failed, m.steps[0].own_faults), (10, 2, 3));
    assert_eq!((m.agents[0].requests, m.agents[0].failed, m.agents[0].own_faults), (10, 2, 3));
    assert_eq!(m.errors["connect: no ports"], 3);
}

#[test]
fn an_agents_state_survives_the_store() {
    let mut a = state("a");
    let mut delta = at(0, 1_000, 10);
    delta.process.cores = 2;
    delta.process.cpu_us = 500_000;
    a.add(Seq(1), &mut delta, &[true]);
    a.gap = Some(Gap { from: RunTime(1), to: RunTime(2), at_most_requests: 3, estimate: true });
    assert_eq!((a.closed_rate_max, a.cpu), (10.0, 0.25));
    let read: AgentState = serde_json::from_slice(&serde_json::to_vec(&a).unwrap()).unwrap();
    assert_eq!(read, a);
}

#[test]
fn parts_leave_in_the_order_of_each_agents_deltas() {
    let mut collector = Collector::new(Micros::from_secs(1), 2);
    let (mut a, mut b) = (state("a"), state("b"));
    let mut add = |collector: &mut Collector, i: usize, mut delta: Delta| {
        let state = if i == 0 { &mut a } else { &mut b };
        state.add(state.seq.next(), &mut delta, &[]);
        collector.add(i, delta, state);
    };
    add(&mut collector, 0, at(0, 1_000, 1));
    add(&mut collector, 0, at(1_000, 2_000, 2));
    add(&mut collector, 1, at(0, 1_000, 4));
    assert!(collector.is_due(RunTime(1_100_000), RunTime(1_000_000)));
    assert!(!collector.is_due(RunTime(1_100_000), RunTime(999_999)));
    assert!(collector.is_due(RunTime(1_500_000), RunTime(0)));
    let first = collector.close();
    assert_eq!((first.len(), first[0].number, first[0].delta.requests()), (1, 1, 5));
    assert_eq!(first[0].agents.iter().map(|s| s.seq.0).collect::<Vec<_>>(), [1, 1], "states as of this part");
    assert_eq!(collector.current_rps(), 5.0);
    // One that was cut off sends three intervals in one: it is counted where it ends.
    let second = collector.close();
    assert_eq!(second[0].delta.requests(), 2);
    add(&mut collector, 1, at(1_000, 4_000, 8));
    assert!(collector.close().is_empty());
    let fourth = collector.close();
    assert_eq!(
        (fourth[0].from(), fourth[0].to(), fourth[0].number),
        (RunTime(1_000_000), RunTime(4_000_000), 3)
    );
    add(&mut collector, 0, at(2_000, 3_000, 16));
    collector.note(1, &state("b"));
    let rest: Vec<_> = collector
        .flush()
        .iter()
        .map(|part| (part.number, part.delta.requests(), part.agents.len()))
        .collect();
    assert_eq!(rest, [(4, 16, 1), (5, 0, 1)]);
    assert_eq!((collector.total().requests(), collector.total().to), (31, RunTime(4_000_000)));
}

#[test]
fn every_half_minute_a_part_carries_the_total() {
    let mut collector = Collector::new(Micros::from_secs(1), 1);
    let mut a = state("a");
    let mut with_total = Vec::new();
    for second in 0..70 {
        let mut delta = at(second * 1_000, (second + 1) * 1_000, 1);
        a.add(a.seq.next(), &mut delta, &[]);
        collector.add(0, delta, &a);
        let part = collector.close().remove(0);
        with_total.extend(part.checkpoint.as_ref().map(|total| (part.number, total.requests())));
    }
    assert_eq!(with_total, [(30, 30), (60, 60)]);
}

#[test]
fn one_part_is_committed_at_a_time_and_again_after_a_failure() {
    let part = |number| {
        Arc::new(Part { number, delta: Arc::default(), agents: Vec::new(), checkpoint: None, warnings: None })
    };
    let mut queue = CommitQueue::default();
    queue.extend(vec![part(1), part(2)]);
    assert_eq!(queue.begin_next().map(|p| p.number), Some(1));
    assert!(queue.begin_next().is_none() && queue.committed(2).is_none());
    assert!(!queue.failed(2) && queue.failed(1));
    assert!(queue.committed(1).is_none(), "a late answer to the failed attempt is not believed");
    assert_eq!(queue.begin_next().map(|p| p.number), Some(1));
    assert!(queue.committed(1).is_some() && queue.committed(1).is_none());
    assert_eq!(queue.begin_next().map(|p| p.number), Some(2));
}

#[test]
fn a_gap_holds_what_was_planned_and_not_heard_of() {
    let share = [ScenarioShare { lanes: 5, owned: vec![1, 3] }];
    let planned = Planned::new(&two_steps(), &share);
    // Of 100 arrivals, every fifth from 1 and from 3: numbers 1, 3, 6, 8 … due at 0.1 s, 0.3 s, 0.6 s, 0.8 s …
    let arrivals = |from_ms: u64, to_ms: u64| -> u64 {
        planned.arrivals(RunTime(from_ms * 1_000), RunTime(to_ms * 1_000)).map(|(_, s)| s.missed).sum()
    };
    assert_eq!(
        (arrivals(0, 10_000), arrivals(0, 300), arrivals(300, 301), arrivals(10_000, 20_000)),
        (40, 1, 1, 0)
    );

    let mut a = state("a");
    a.seq = Seq(1);
    a.reported_to = RunTime(2_000_000);
    // 8 were due; one was dropped, two wait (a queue), one of the five started is still going.
    a.scenarios[0] = ScenarioCounts { started: 5, completed: 4, dropped: 1, ..ScenarioCounts::default() };
    let gap = planned.gap(&a, RunTime(4_000_000), 0.0);
    assert_eq!(
        gap,
        Gap { from: RunTime(2_000_000), to: RunTime(4_000_000), at_most_requests: 22, estimate: false }
    );
    // After the last moment of the plan nothing is sent.
    assert_eq!(planned.gap(&a, RunTime(99_000_000), 0.0).to, RunTime(11_000_000));
}

#[test]
fn a_gap_of_counted_iterations_is_bounded_by_their_number() {
    let share = [ScenarioShare { lanes: 4, owned: vec![0, 2] }];
    let scenario = |executor: &str| {
        plan(json!({
            "executor": executor, "vus": 4, "iterations": 10, "max_duration": "1h",
            "steps": [{ "name": "home", "get": "/" }],
        }))
    };
    let gap = |plan: &Plan| Planned::new(plan, &share).gap(&state("a"), RunTime(5_000_000), 77.0);
    assert_eq!(
        (gap(&scenario("per-vu-iterations")).at_most_requests, gap(&scenario("per-vu-iterations")).estimate),
        (20, false)
    );
    assert_eq!(gap(&scenario("shared-iterations")).at_most_requests, 5, "0, 2, 4, 6 and 8 of ten");
    let steps: Vec<_> = (0..20).map(|i| json!({ "name": format!("s{i}"), "get": "/" })).collect();
    let greatest = plan(json!({
        "executor": "per-vu-iterations", "vus": 10_000_000, "iterations": 1_000_000_000_000u64, "steps": steps,
    }));
    assert_eq!(gap(&greatest).at_most_requests, u64::MAX, "held at the greatest number");
}
