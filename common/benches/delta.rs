//! What a delta costs: a value into its histogram, the sum of two, its bytes out and in.
//!
//! `cargo bench -p volcanion-common --bench delta [FILTER]`. The delta is an agent's second with ten series: ten steps with 2,000 answers
//! each, service times around 5 ms with a long tail.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{Distribution, Outcome, Series, SeriesKey};
use volcanion_common::units::{Micros, RunTime};

const STEPS: u32 = 10;
const SAMPLES: u64 = 2_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn histogram_record(bencher: Bencher<'_, '_>) {
    let values = values(1);
    let mut distribution = Distribution::default();
    bencher.counter(ItemsCount::new(SAMPLES)).bench_local(|| {
        for us in &values {
            distribution.record(Micros(*us));
        }
    });
}

#[divan::bench]
fn percentile(bencher: Bencher<'_, '_>) {
    let mut distribution = Distribution::default();
    values(1).iter().for_each(|us| distribution.record(Micros(*us)));
    bencher.bench_local(|| distribution.percentile_us(black_box(99.0)));
}

#[divan::bench]
fn add(bencher: Bencher<'_, '_>) {
    let (ours, theirs) = (delta(1), delta(2));
    bencher.with_inputs(|| ours.clone()).bench_local_refs(|ours| ours.add(&theirs));
}

#[divan::bench]
fn to_bytes(bencher: Bencher<'_, '_>) {
    let delta = delta(1);
    bencher.counter(BytesCount::new(delta.to_bytes().len())).bench_local(|| delta.to_bytes());
}

#[divan::bench]
fn from_bytes(bencher: Bencher<'_, '_>) {
    let bytes = delta(1).to_bytes();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Delta::from_bytes(black_box(&bytes)).expect("written by us"));
}

fn delta(seed: u64) -> Delta {
    let mut delta = Delta { from: RunTime(0), to: RunTime(1_000_000), ..Delta::default() };
    let mut scenario = ScenarioDelta::default();
    for step in 0..STEPS {
        let mut series = Series { requests: SAMPLES, ..Series::default() };
        for us in values(seed * 100 + u64::from(step)) {
            series.service_time.record(Micros(us));
            series.response_time.record(Micros(us + us / 8));
            scenario.schedule_lag.record(Micros(us % 97));
        }
        delta.series.insert(SeriesKey { step, outcome: Outcome::Status(200) }, series);
    }
    delta.scenarios.insert(0, scenario);
    delta
}

fn values(seed: u64) -> Vec<u64> {
    let mut chance = seed * 1_000_003;
    (0..SAMPLES)
        .map(|_| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (chance >> 40) as f64 / (1u64 << 24) as f64;
            (5_000.0 * (1.0 / (1.0 - uniform * 0.999)).powf(0.4)) as u64
        })
        .collect()
}
