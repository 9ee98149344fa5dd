//! What the master pays for a delta, from the received buffer to the merged total, against bare deserializing and adding: the goal is
//! at most 1.5.
//!
//! `cargo bench -p volcanion-master --bench merge`. Rounds of both alternate; the medians and their ratio are printed, and the ratio held against the goal, once with
//! nobody looking at the total and once with a reader that holds the newest total, as a live run has.
#![allow(clippy::print_stdout)] // a program that prints its result

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::ids::{AgentId, Incarnation, Seq};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::session::DeltaFrame;
use volcanion_common::units::{Micros, RunTime};
use volcanion_master::merge::AgentState;
use volcanion_master::merge::complete::Collector;
use volcanion_master::merge::inbox::{Inbox, Taken};

/// Deltas of a setting, spread over its agents.
const DELTAS: usize = 1_000;
const ROUNDS: usize = 15;
/// The goal, held without a reader: a copy of the total for whoever looks at it is not the merge's.
const RATIO_MAX: f64 = 1.5;

/// How many agents there are, and what each of their deltas holds.
#[derive(Clone, Copy)]
struct Setting {
    agents: usize,
    steps: u32,
    samples: u64,
}

const SETTINGS: [Setting; 4] = [
    Setting { agents: 4, steps: 10, samples: 2_000 },
    Setting { agents: 10, steps: 20, samples: 100 },
    Setting { agents: 100, steps: 20, samples: 100 },
    Setting { agents: 1_000, steps: 20, samples: 100 },
];

fn main() {
    println!("a delta, from its buffer to the total, medians of {ROUNDS} alternating rounds, microseconds");
    println!("agents  series  samples   bytes    bare    ours  ratio  ours, read  ratio");
    SETTINGS.into_iter().for_each(measure);
}

fn measure(setting: Setting) {
    let Setting { agents, steps, samples } = setting;
    let intervals = (DELTAS / agents).min(25) as u64;
    let deltas: Vec<Vec<Bytes>> = (0..agents as u64)
        .map(|agent| (0..intervals).map(|second| bytes_of(setting, agent, second)).collect())
        .collect();
    let expected = agents as u64 * intervals * u64::from(steps) * samples;
    let (mut bare_ns, mut alone_ns, mut read_ns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_ns.push(timed(expected, || bare(&deltas)));
        alone_ns.push(timed(expected, || merged(&deltas, false)));
        read_ns.push(timed(expected, || merged(&deltas, true)));
    }
    let per_delta_us = |ns: &mut Vec<u128>| median(ns) as f64 / 1e3 / (agents as u64 * intervals) as f64;
    let (bare, alone, read) =
        (per_delta_us(&mut bare_ns), per_delta_us(&mut alone_ns), per_delta_us(&mut read_ns));
    println!(
        "{agents:6}  {steps:6}  {samples:7}  {:6}  {bare:6.1}  {alone:6.1}  {:5.2}  {read:10.1}  {:5.2}",
        deltas[0][0].len(),
        alone / bare,
        read / bare
    );
    assert!(
        alone / bare <= RATIO_MAX,
        "a delta costs {:.2} times what reading and adding it does, more than {RATIO_MAX}",
        alone / bare
    );
}

fn bare(deltas: &[Vec<Bytes>]) -> u64 {
    let mut total = Delta::default();
    for second in 0..deltas[0].len() {
        for agent in deltas {
            total.add(&Delta::from_bytes(&agent[second]).expect("written by us"));
        }
    }
    total.requests()
}

fn merged(deltas: &[Vec<Bytes>], is_read: bool) -> u64 {
    let mut collector = Collector::new(Micros::from_secs(1), deltas.len());
    let mut inboxes: Vec<Inbox> = deltas.iter().map(|_| Inbox::default()).collect();
    let new = |i: usize| AgentState::new(AgentId(format!("agent-{i}")), Incarnation(1), 1);
    let mut states: Vec<AgentState> = (0..deltas.len()).map(new).collect();
    let mut reader: Option<Arc<Delta>> = None;
    for second in 0..deltas[0].len() {
        for (i, agent) in deltas.iter().enumerate() {
            let seq = Seq(second as u64 + 1);
            let frame = DeltaFrame { seq, index: 0, count: 1, body: agent[second].clone() };
            let Taken::Whole(seq, bytes) = inboxes[i].take(frame) else {
                unreachable!("frames come in order")
            };
            let mut delta = Delta::from_bytes(&bytes).expect("written by us");
            states[i].add(seq, &mut delta, &[]);
            collector.add(i, delta, &states[i]);
        }
        drop(collector.close());
        if is_read {
            reader = Some(Arc::clone(collector.total()));
        }
    }
    drop(reader);
    collector.total().requests()
}

/// One agent's delta: service times around 5 ms with a long tail.
fn bytes_of(setting: Setting, agent: u64, second: u64) -> Bytes {
    let mut chance = (agent + 1) * 1_000_003 + second;
    let mut delta = Delta {
        from: RunTime(second * 1_000_000),
        to: RunTime((second + 1) * 1_000_000),
        ..Delta::default()
    };
    let mut scenario = ScenarioDelta::default();
    for step in 0..setting.steps {
        let mut series = Series { requests: setting.samples, ..Series::default() };
        for _ in 0..setting.samples {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (chance >> 40) as f64 / (1u64 << 24) as f64;
            let us = (5_000.0 * (1.0 / (1.0 - uniform * 0.999)).powf(0.4)) as u64;
            series.service_time.record(Micros(us));
            series.response_time.record(Micros(us + us / 8));
            scenario.schedule_lag.record(Micros(us % 97));
        }
        delta.series.insert(SeriesKey { step, outcome: Outcome::Status(200) }, series);
    }
    delta.scenarios.insert(0, scenario);
    delta.to_bytes().into()
}

fn timed(expected: u64, work: impl FnOnce() -> u64) -> u128 {
    let began = Instant::now();
    let requests = work();
    assert_eq!(requests, expected);
    began.elapsed().as_nanos()
}

fn median(values: &mut [u128]) -> u128 {
    values.sort_unstable();
    values[values.len() / 2]
}
