use std::sync::Arc;

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{ErrorKind, Outcome, SeriesKey};
use volcanion_common::units::RunTime;

use super::saturation::{Saturation, Strain};
use super::*;
use crate::engine::testing;

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
fn each_weakness_is_named_once_with_its_time() {
    let mut saturation = Saturation::new(vec!["browse".to_owned()]);
    let at = |from_s: u64| {
        let mut delta = Delta::default();
        (delta.from, delta.to) = (RunTime(from_s * 1_000_000), RunTime((from_s + 1) * 1_000_000));
        delta.scenarios.insert(0, ScenarioDelta::default());
        delta
    };
    let codes = |delta: &Delta| delta.warnings.iter().map(|w| w.code.clone()).collect::<Vec<_>>();

    let mut calm = at(0);
    saturation.judge(&mut calm, &Strain { core_cpu_us_max: 800_000, ..Strain::default() });
    assert!(calm.warnings.is_empty());

    let mut strained = at(1);
    let scenario = strained.scenarios.get_mut(&0).unwrap();
    scenario.dropped = 1;
    (0..50).for_each(|_| scenario.schedule_lag.record(Micros::from_millis(30)));
    strained.errors.insert((0, ErrorKind::Connect, "no files".to_owned()), 1);
    let strain = Strain { core_cpu_us_max: 950_000, look_late_ns_max: 600_000_000, throttled: 1 };
    let mut again = strained.clone();
    saturation.judge(&mut strained, &strain);
    let all = ["schedule_lag", "dropped_iterations", "no_files", "core_use", "stalled", "throttled"];
    assert_eq!(codes(&strained), all);
    assert!(strained.warnings.iter().all(|w| w.since == RunTime(1_000_000)));
    saturation.judge(&mut again, &strain);
    assert!(again.warnings.is_empty());
}
