//! Samples into a core's recorder, recorders into a delta, deltas into one.

use divan::Bencher;
use divan::counter::ItemsCount;
use volcanion_agent::record::Recorder;
use volcanion_agent::send::{PhaseTimes, Sample};
use volcanion_common::delta::Delta;
use volcanion_common::series::Outcome;

/// Samples in one operation.
const SAMPLES: u64 = 10_000;
const BASE_NS: u64 = 7_000_000_000;

/// One series, or ten that come in turn.
#[divan::bench(args = [1, 10])]
fn sample(bencher: Bencher<'_, '_>, steps: u32) {
    let mut recorder = recorder();
    let samples = samples(steps);
    bencher.counter(ItemsCount::new(SAMPLES)).bench_local(|| {
        for sample in &samples {
            recorder.sample(sample, None);
        }
    });
}

#[divan::bench]
fn lag(bencher: Bencher<'_, '_>) {
    let mut recorder = recorder();
    bencher.counter(ItemsCount::new(SAMPLES)).bench_local(|| {
        for lag_ns in 0..SAMPLES {
            recorder.lag(0, lag_ns * 10);
        }
    });
}

/// Once an interval and core: ten series of 1,000 samples each.
#[divan::bench]
fn recorder_into_a_delta_of_another_core(bencher: Bencher<'_, '_>) {
    let recorder = full();
    let delta = delta_of(&recorder);
    bencher.with_inputs(|| delta.clone()).bench_local_refs(|delta| recorder.add_to(delta));
}

#[divan::bench]
fn clear_for_the_next_interval(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(full).bench_local_refs(Recorder::clear);
}

fn recorder() -> Recorder {
    Recorder::new(&super::program::of(&super::ten_steps()))
}

fn full() -> Recorder {
    let mut recorder = recorder();
    samples(10).iter().for_each(|sample| recorder.sample(sample, None));
    recorder
}

fn delta_of(recorder: &Recorder) -> Delta {
    let mut delta = Delta::default();
    recorder.add_to(&mut delta);
    delta
}

/// Service times around 5 ms with a long tail.
fn samples(steps: u32) -> Vec<Sample> {
    let mut chance = 1_000_003_u64;
    (0..SAMPLES)
        .map(|n| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (chance >> 40) as f64 / (1u64 << 24) as f64;
            let us = (5_000.0 * (1.0 / (1.0 - uniform * 0.999)).powf(0.4)) as u32;
            Sample {
                step: n as u32 % steps,
                outcome: Outcome::Status(200),
                detail: "",
                success: true,
                is_redirect: false,
                leads_on: false,
                began_ns: BASE_NS,
                sent_ns: BASE_NS,
                ended_ns: BASE_NS + u64::from(us) * 1_000,
                bytes_sent: 80,
                bytes_received: 165,
                phases: PhaseTimes { wait_us: Some(us), receive_us: Some(0), ..PhaseTimes::default() },
            }
        })
        .collect()
}
