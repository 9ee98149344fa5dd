use std::sync::Arc;

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::{Arrival, Executor, WhenBusy};
use volcanion_common::series::{ErrorKind, Outcome, SeriesKey};
use volcanion_common::units::{Rate, RunTime};

use super::cgroup::Throttled;
use super::saturation::{Saturation, Strain};
use super::*;
use crate::engine::testing;
use crate::prepare::TargetPolicy;

const BASE: u64 = 7_000_000_000;

fn recorder() -> Recorder {
    Recorder::new(&Arc::new(testing::two_steps()))
}

fn sample(outcome: Outcome) -> Sample {
    Sample {
        step: 0,
        outcome,
        detail: "",
        success: outcome == Outcome::Status(200),
        is_redirect: false,
        leads_on: false,
        began_ns: BASE,
        sent_ns: BASE + 2_000_000,
        ended_ns: BASE + 10_000_000,
        bytes_sent: 10,
        bytes_received: 20,
        phases: PhaseTimes { connect_us: Some(2_000), wait_us: Some(8_000), ..PhaseTimes::default() },
    }
}

fn delta_of(recorder: &Recorder) -> Delta {
    let mut delta = Delta::default();
    recorder.add_to(&mut delta);
    delta
}

fn series(delta: &Delta, outcome: Outcome) -> &volcanion_common::series::Series {
    &delta.series[&SeriesKey { step: 0, outcome }]
}

#[test]
fn response_time_counts_from_the_intended_start_and_service_time_from_the_first_byte() {
    let mut recorder = recorder();
    recorder.sample(&sample(Outcome::Status(200)), Some(BASE - 90_000_000));
    recorder.sample(&sample(Outcome::Status(200)), None);
    let delta = delta_of(&recorder);
    let ok = series(&delta, Outcome::Status(200));
    assert_eq!((ok.requests, ok.failed, ok.bytes_sent, ok.bytes_received), (2, 0, 20, 40));
    assert_eq!((ok.response_time.max_us(), ok.response_time.min_us()), (100_000, 10_000));
    assert_eq!((ok.service_time.max_us(), ok.service_time.min_us()), (8_000, 8_000));
    let phases = &delta.scenarios[&0].phases;
    assert_eq!((phases.connect.count(), phases.wait.count(), phases.tls.count()), (2, 2, 0));
}

#[test]
fn timeouts_have_times_and_other_failures_have_not() {
    let mut recorder = recorder();
    let timeout = Outcome::Error(ErrorKind::Timeout);
    let refused = Outcome::Error(ErrorKind::Connect);
    recorder.sample(&Sample { sent_ns: 0, detail: "connecting", ..sample(timeout) }, None);
    recorder.sample(&Sample { sent_ns: 0, detail: "refused", ..sample(refused) }, None);
    recorder.sample(&Sample { detail: "refused", ..sample(refused) }, None);
    let delta = delta_of(&recorder);
    assert_eq!(series(&delta, timeout).service_time.max_us(), 10_000);
    assert_eq!((series(&delta, refused).requests, series(&delta, refused).failed), (2, 2));
    assert!(series(&delta, refused).response_time.is_empty());
    assert_eq!(delta.errors[&(0, ErrorKind::Connect, "refused".to_owned())], 2);
    assert_eq!(delta.errors[&(0, ErrorKind::Timeout, "connecting".to_owned())], 1);
}

#[test]
fn a_target_with_hundreds_of_statuses_is_counted_exactly_and_makes_few_histograms() {
    let mut recorder = recorder();
    for status in (200..600).chain(200..600) {
        recorder.sample(&sample(Outcome::Status(status)), None);
    }
    let delta = delta_of(&recorder);
    assert_eq!((delta.series.len(), delta.requests()), (400, 800));
    assert!(delta.series.values().all(|series| series.requests == 2));
    assert!(delta.series.values().filter(|series| !series.response_time.is_empty()).count() < 30);
    assert_eq!(delta.series.values().map(|series| series.response_time.count()).sum::<u64>(), 800);
}

#[test]
fn what_was_cleared_says_nothing() {
    let mut recorder = recorder();
    recorder.started(0);
    recorder.lag(0, 5_000);
    recorder.set_vus(0, 4);
    recorder.sample(&Sample { detail: "refused", ..sample(Outcome::Error(ErrorKind::Connect)) }, None);
    assert!(!recorder.is_empty());
    recorder.clear();
    let delta = delta_of(&recorder);
    assert!(recorder.is_empty() && delta.series.is_empty() && delta.errors.is_empty());
    assert_eq!(delta.scenarios[&0], ScenarioDelta::default());
}

#[test]
fn our_own_exhaustion_is_a_request_and_no_failure_of_the_target() {
    let mut recorder = recorder();
    let failed = |kind, detail| Sample { sent_ns: 0, detail, ..sample(Outcome::Error(kind)) };
    for detail in ["no ports", "no files", "no ports", "refused"] {
        recorder.sample(&failed(ErrorKind::Connect, detail), None);
    }
    recorder.sample(&failed(ErrorKind::Blocked, "target"), None);
    recorder.sample(&sample(Outcome::Status(500)), None);
    let delta = delta_of(&recorder);
    let connect = series(&delta, Outcome::Error(ErrorKind::Connect));
    assert_eq!((connect.requests, connect.failed), (4, 1));
    let failed: u64 = delta.series.values().map(|series| series.failed).sum();
    assert_eq!((delta.requests(), failed, delta.own_faults()), (6, 2, 4));
    assert_eq!(delta.errors[&(0, ErrorKind::Connect, "no ports".to_owned())], 2);
}

/// An interval from this second on.
fn interval(from_s: u64) -> Delta {
    let mut delta = Delta::default();
    (delta.from, delta.to) = (RunTime(from_s * 1_000_000), RunTime((from_s + 1) * 1_000_000));
    delta.scenarios.insert(0, ScenarioDelta::default());
    delta.process.cores = 2;
    delta
}

fn codes(delta: &Delta) -> Vec<(&str, u64, u64)> {
    delta.warnings.iter().map(|w| (w.code.as_str(), w.amount, w.worst)).collect()
}

#[test]
fn each_weakness_is_named_with_its_time_and_its_measure() {
    let saturation = Saturation::new(&testing::two_steps().scenarios, &TargetPolicy::default());
    let mut calm = interval(0);
    let calm_strain = Strain {
        core_cpu_us_max: 850_000,
        core_wait_us_max: 90_000,
        look_late_ns_max: 400_000_000,
        stolen: 40,
        ..Strain::default()
    };
    saturation.judge(&mut calm, &calm_strain);
    assert_eq!(codes(&calm), []);

    let mut strained = interval(1);
    let scenario = strained.scenarios.get_mut(&0).unwrap();
    scenario.dropped = 3;
    (0..50).for_each(|n| scenario.schedule_lag.record(Micros::from_millis(if n < 40 { 1 } else { 30 })));
    strained.errors.insert((0, ErrorKind::Connect, "no files".to_owned()), 5);
    strained.errors.insert((0, ErrorKind::Connect, "refused".to_owned()), 7);
    strained.errors.insert((0, ErrorKind::Blocked, "target".to_owned()), 2);
    let strain = Strain {
        core_cpu_us_max: 950_000,
        core_wait_us_max: 300_000,
        look_late_ns_max: 600_000_000,
        paused: 0,
        throttled: Throttled { times: 9, us: 800_000 },
        stolen: 60,
    };
    let mut unheld = strained.clone();
    saturation.judge(&mut strained, &strain);
    let lag_us = strained.scenarios[&0].schedule_lag.percentile_us(99.0);
    let all = [
        ("schedule_lag", 10, lag_us),
        ("dropped_iterations", 3, 3),
        ("no_files", 5, 5),
        ("blocked", 2, 2),
        ("core_use", 950_000, 950),
        ("cpu_steal", 60_000, 60),
        ("stalled", 600_000, 600_000),
        ("throttled", 400_000, 400_000),
    ];
    assert_eq!(codes(&strained), all);
    assert!(strained.warnings.iter().all(|w| w.until == RunTime(2_000_000) && w.since == RunTime(1_000_000)));
    assert_eq!(strained.warnings[0].scenario, Some(0));
    // Who was not throttled waited for another reason.
    saturation.judge(&mut unheld, &Strain { throttled: Throttled::default(), ..strain });
    assert!(codes(&unheld).contains(&("cpu_wait", 300_000, 300_000)));
}

#[test]
fn what_the_target_or_a_pause_did_is_not_put_down_to_busy_vus() {
    let check = |when_busy, dropped, paused, expected: &[&str]| {
        let open = OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 1, max_vus: 1, when_busy };
        let executor = Executor::ConstantArrivalRate {
            rate: Rate::per_second(50),
            duration: Micros::from_secs(1),
            open,
        };
        let mut delta = interval(0);
        let scenario = delta.scenarios.get_mut(&0).unwrap();
        scenario.dropped = dropped;
        (0..50).for_each(|_| scenario.schedule_lag.record(Micros::from_millis(30)));
        Saturation::new(&[testing::scenario(executor)], &TargetPolicy::default())
            .judge(&mut delta, &Strain { paused, ..Strain::default() });
        assert_eq!(delta.warnings.iter().map(|w| w.code.as_str()).collect::<Vec<_>>(), expected);
    };
    check(WhenBusy::Drop, 0, 0, &["schedule_lag"]);
    check(WhenBusy::Drop, 4, 4, &["schedule_lag"]);
    check(WhenBusy::Drop, 5, 4, &["schedule_lag", "dropped_iterations"]);
    // An iteration that waited for a VU is as late as the target made it.
    check(WhenBusy::Queue, 0, 0, &[]);
}
