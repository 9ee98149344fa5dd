//! Deltas that were encoded before anybody asks for them.

use bytes::{BufMut, Bytes, BytesMut};
use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::units::{Micros, RunTime};

/// Different ones, that agents take in turns.
const VARIANTS: u64 = 16;

/// The deltas of all agents.
pub struct Deltas {
    /// Without their span.
    bodies: Vec<Bytes>,
    /// What each counts.
    pub requests: u64,
}

impl Deltas {
    /// Deltas of so many series with so many answers each.
    pub fn new(series: u32, samples: u64) -> Self {
        let bodies = (0..VARIANTS).map(|variant| delta(series, samples, variant).to_bytes().into()).collect();
        Self { bodies, requests: u64::from(series) * samples }
    }

    /// An agent's delta of a span. A message's fields may come in any order and from several pieces, so the span is appended.
    pub fn of(&self, agent: u32, number: u64, from: RunTime, to: RunTime) -> Bytes {
        let body = &self.bodies[(u64::from(agent) + number) as usize % self.bodies.len()];
        let span = Delta { from, to, ..Delta::default() }.to_bytes();
        let mut bytes = BytesMut::with_capacity(body.len() + span.len());
        bytes.put_slice(body);
        bytes.put_slice(&span);
        bytes.freeze()
    }
}

/// An agent's interval: service times around 5 ms with a long tail.
fn delta(steps: u32, samples: u64, variant: u64) -> Delta {
    let mut chance = (variant + 1) * 1_000_003;
    let mut delta = Delta::default();
    let mut scenario =
        ScenarioDelta { started: samples, completed: samples, vus: 1, ..ScenarioDelta::default() };
    for step in 0..steps {
        let mut series = Series { requests: samples, ..Series::default() };
        for _ in 0..samples {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (chance >> 40) as f64 / (1u64 << 24) as f64;
            let us = (5_000.0 * (1.0 / (1.0 - uniform * 0.999)).powf(0.4)) as u64;
            series.service_time.record(Micros(us));
            series.response_time.record(Micros(us + us / 8));
            scenario.schedule_lag.record(Micros(us % 97));
            scenario.phases.wait.record(Micros(us));
            scenario.phases.receive.record(Micros(us % 31));
        }
        delta.series.insert(SeriesKey { step, outcome: Outcome::Status(200) }, series);
    }
    delta.scenarios.insert(0, scenario);
    delta
}
